"""A small shop on Django: a middleware knows the tenant by the request's host name and names it in SQL."""
