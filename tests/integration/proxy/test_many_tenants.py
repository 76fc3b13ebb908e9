"""Many tenants on few server connections: each comes back to where it has been, they spread, and a connection that has seen very many is renewed."""
import threading
import unittest

import fixture

TENANTS = ['t%02d' % number for number in range(40)]
CONNECTIONS, SEEN_MAX = 4, 8  # together they can't know all tenants


def setUpModule():
    global workspace, server, roomy, narrow
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.sql('CREATE DATABASE app OWNER app')
    for tenant in TENANTS:
        server.sql("CREATE SCHEMA {0} AUTHORIZATION app; CREATE TABLE {0}.whoami AS SELECT '{0}'::text AS tenant; "
                   'ALTER TABLE {0}.whoami OWNER TO app'.format(tenant), 'app')
    roomy = start('roomy', {})
    narrow = start('narrow', {'server_tenants_max': SEEN_MAX})


def start(name, limits):
    server.sql('CREATE DATABASE catalog_%s OWNER catalog' % name)
    proxy = fixture.Pgporter(workspace, server, name, limits=limits)
    proxy.config['catalog']['dsn'] = proxy.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=catalog_' + name)
    proxy.start()
    proxy.apply(fixture.document({'main': server}, {tenant: {} for tenant in TENANTS},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': CONNECTIONS}]))
    return proxy


def tearDownModule():
    workspace.close()


class Base(unittest.TestCase):
    def open_all(self, proxy):
        """Every server connection that there may be, idle."""
        holders = [proxy.wire(TENANTS[0]) for _ in range(CONNECTIONS)]
        for wire in holders:
            wire.run('BEGIN; SELECT 1')
        for wire in holders:
            wire.run('COMMIT')
            wire.close()

    def serve(self, wire, tenant):
        """Which server process served it."""
        rows = wire.run('SELECT tenant, pg_backend_pid()::text FROM whoami')
        self.assertEqual([row[0] for row in rows], [tenant])
        return rows[0][1]


class Affinity(Base):
    def test_tenants_spread_and_come_back(self):
        self.open_all(roomy)
        places = {}
        for tenant in TENANTS[1:]:
            wire = roomy.wire(tenant)
            places[tenant] = self.serve(wire, tenant)
            wire.close()
        by_place = {pid: sum(other == pid for other in places.values()) for pid in places.values()}
        self.assertEqual(len(by_place), CONNECTIONS, by_place)
        # Each of the four begins with the one tenant that opened it.
        self.assertLessEqual(max(by_place.values()) - min(by_place.values()), 1, by_place)
        for tenant in reversed(TENANTS[1:]):
            wire = roomy.wire(tenant)  # another session
            self.assertEqual(self.serve(wire, tenant), places[tenant])
            wire.close()
        self.assertEqual(roomy.metric('pgporter_server_connections_renewed_total'), 0)

    def test_nobody_waits_for_his_own(self):
        """Where a tenant has been is a wish: while it is busy, another serves."""
        self.open_all(roomy)
        one, other = roomy.wire(TENANTS[1]), roomy.wire(TENANTS[1])
        busy = self.serve(one, TENANTS[1])
        one.run('BEGIN; SELECT 1')
        self.assertNotEqual(self.serve(other, TENANTS[1]), busy)
        one.run('COMMIT')
        one.close()
        other.close()


class Renewal(Base):
    def test_bound(self):
        """However many work at once, no server process serves more tenants than server_tenants_max; and nobody fails for it."""
        lock, seen, failures = threading.Lock(), {}, []

        def work(number):
            try:
                for turn in range(3):
                    for tenant in TENANTS[number::8]:
                        wire = narrow.wire(tenant)
                        pid = self.serve(wire, tenant)
                        wire.close()
                        with lock:
                            seen.setdefault(pid, set()).add(tenant)
            except Exception as error:
                failures.append(error)
        workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(100)
        self.assertEqual(failures, [])
        self.assertLessEqual(max(map(len, seen.values())), SEEN_MAX)
        renewed = narrow.metric('pgporter_server_connections_renewed_total')
        self.assertGreaterEqual(renewed, sum(len(tenants) == SEEN_MAX for tenants in seen.values()))
        self.assertLessEqual(len(server.backends()), 2 * CONNECTIONS)

    def test_renewed_one_by_one(self):
        before = narrow.metric('pgporter_server_connections_renewed_total')
        pids = []
        for tenant in TENANTS * 2:
            wire = narrow.wire(tenant)
            pids.append(self.serve(wire, tenant))
            wire.close()
        self.assertGreater(narrow.metric('pgporter_server_connections_renewed_total'), before)
        self.assertGreater(len(set(pids)), len(TENANTS) // SEEN_MAX)


if __name__ == '__main__':
    fixture.main(__name__)
