"""Names the request's tenant in SQL, in one of the ways that people use. Which one: the header X-Naming."""
from django.conf import settings
from django.db import connection


def run(text, values=None):
    with connection.cursor() as cursor:
        cursor.execute(text, values)


class TenantMiddleware:
    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        request.tenant = request.get_host().split('.')[0]
        request.naming = request.headers['X-Naming']
        begin, end = getattr(self, request.naming)(request)
        begin()
        try:
            return self.get_response(request)
        finally:
            end()

    # The schemas' ways.
    @staticmethod
    def every_cursor(request):
        return lambda: connection.set_tenant(request.tenant, True), lambda: connection.set_tenant(None, True)

    @staticmethod
    def limited(request):
        return lambda: connection.set_tenant(request.tenant, False), lambda: connection.set_tenant(None, True)

    @staticmethod
    def request(request):
        return lambda: run("SET search_path = '%s','public'" % request.tenant), lambda: run("SET search_path = 'public'")

    # The ways with row-level security.
    @staticmethod
    def setting(request):
        name = settings.TENANT_SETTING
        return lambda: run('SET %s = %%s' % name, [request.tenant]), lambda: run('RESET ' + name)

    @staticmethod
    def set_config(request):
        name = settings.TENANT_SETTING
        return lambda: run('SELECT set_config(%s, %s, false)', [name, request.tenant]), lambda: run("SELECT set_config(%s, '', false)", [name])

    @staticmethod
    def atomic(request):
        """Each transaction names it: see views.transaction_of."""
        return lambda: None, lambda: None
