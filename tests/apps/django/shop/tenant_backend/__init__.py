"""A database backend, as Django finds it: the module base."""
