"""What the driver tests run against: two tenants in one shared database and a pool of two server connections. With
PGPORTER_TEST_DIRECT=1 it is PostgreSQL itself, which the tests must pass too (only the naming by search_path exists there).
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, 'proxy'))

import fixture  # noqa: E402  (found through the path above)

DIRECT = os.environ.get('PGPORTER_TEST_DIRECT') == '1'
TENANTS = ('acme', 'globex')
PASSWORD = fixture.PASSWORDS['app']


class World:
    def __init__(self):
        self.workspace = fixture.Workspace()
        self.server = fixture.Postgres(self.workspace)
        self.server.make_roles()
        self.server.make_world()
        self.port = self.server.port
        if not DIRECT:
            self.proxy = fixture.Pgporter(self.workspace, self.server).start()
            self.proxy.apply(fixture.document({'main': self.server}, {name: {} for name in TENANTS},
                                              databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 2}]))
            self.port = self.proxy.port

    def close(self):
        self.workspace.close()

    @staticmethod
    def ways(tenant):
        """Each way to name the tenant: (name, user, database, options, startup parameters)."""
        found = [('search_path option', 'app', 'app', '-c search_path=%s,public' % tenant, {}),
                 ('search_path parameter', 'app', 'app', '', {'search_path': tenant + ', public'})]
        if not DIRECT:
            found += [('option', 'app', 'app', '-c pgporter.tenant=' + tenant, {}), ('parameter', 'app', 'app', '', {'pgporter.tenant': tenant}),
                      ('user', 'app.' + tenant, 'app', '', {}), ('database', 'app', tenant, '', {}), ('database@', 'app', 'app@' + tenant, '', {})]
        return found
