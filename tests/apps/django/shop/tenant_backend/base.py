"""PostgreSQL with a schema for each tenant, named as django-tenants does it: before every cursor, or once until something undoes it."""
import psycopg2
from django.db import DatabaseError
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    tenant = None
    every_cursor = True
    is_named = False

    def set_tenant(self, tenant, every_cursor):
        self.tenant, self.every_cursor, self.is_named = tenant, every_cursor, False

    def _cursor(self, name=None):
        cursor = super()._cursor(name)
        if self.tenant and (self.every_cursor or not self.is_named):
            # A cursor on the server can't be used for anything else.
            plain = self.connection.cursor() if name else cursor
            try:
                plain.execute("SET search_path = '%s','public'" % self.tenant)
                self.is_named = True
            except (DatabaseError, psycopg2.Error):
                self.is_named = False  # a failed transaction; what comes now is its rollback
            if name:
                plain.close()
        return cursor

    def _rollback(self):
        self.is_named = False
        return super()._rollback()
