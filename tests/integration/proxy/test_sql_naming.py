"""The tenant named in SQL, as each framework does it: pgporter must answer byte for byte as PostgreSQL does in a database where all tenants
live, and every SELECT must read the tenant's rows, although one tenant lives elsewhere and there is one server connection for a database.
PGPORTER_TEST_DIRECT=1 plays both sides with PostgreSQL.
"""
import os
import threading
import time
import unittest

import conversation
import fixture
import naming_world
import sql_naming_cases
import wire_client
from wire_client import ServerError

DIRECT_ONLY = os.environ.get('PGPORTER_TEST_DIRECT') == '1'
CASES = list(sql_naming_cases.cases())


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    naming_world.make(server)
    proxy = None if DIRECT_ONLY else naming_world.start(workspace, server)


def tearDownModule():
    workspace.close()


def direct(tenant=''):
    return naming_world.direct(server, tenant)


def proxied(tenant=''):
    return direct(tenant) if DIRECT_ONLY else proxy.wire(tenant)


class Interloper:
    """Sessions of other tenants that use the same server connections in between and leave their own settings there."""

    def __init__(self):
        self.sessions = [(name, proxied(name)) for name in ('initech', 'umbrella')] + [(None, proxied())]
        self.round = 0

    def __call__(self):
        self.round += 1
        for name, wire in self.sessions:
            tenant = name or ('globex', 'umbrella')[self.round % 2]
            wire.run('RESET app.workspace_id')
            wire.run("SET search_path TO %s, public" % tenant)
            wire.run("SET DateStyle = 'German'; SET app.x = 'theirs'")
            if not DIRECT_ONLY:
                wire.run("SET app.workspace_id = '%s'" % tenant)
            rows = wire.run('SELECT tenant FROM whoami')
            if rows != [(tenant,)]:
                raise AssertionError('the session in between asked for %s and read %s' % (tenant, rows))

    def close(self):
        for _, wire in self.sessions:
            wire.close()


class Frameworks(unittest.TestCase):
    """One test for each group of cases and way to play it; made below."""
    maxDiff = None

    def agree(self, group, mode):
        failures, between = [], None
        played = [case for name, case in CASES if name == group]
        self.assertTrue(played)
        if mode == 'shared':
            between = Interloper()
        try:
            for case in played:
                found = self.one(case, mode, between)
                if found:
                    failures.append('%s [%s]\n%s' % (case.conversation.name, mode, found))
        finally:
            if between:
                between.close()
        if failures:
            self.fail('%d of %d differ:\n\n%s' % (len(failures), len(played), '\n\n'.join(failures)))
        if not DIRECT_ONLY:
            self.assertLessEqual(max(naming_world.backends(server).values(), default=0), 1)

    def one(self, case, mode, between):
        try:
            expected = None
            if not case.whoami_by_setting:
                wire = direct(case.login)
                expected = conversation.play(wire, case.conversation, 'whole' if mode == 'shared' else mode)
                wire.close()
                self.assertEqual(naming_world.tenants_read(expected), case.reads, 'PostgreSQL itself: ' + case.conversation.name)
            wire = proxied(case.login or None)
            wire.timeout = 6.0
            try:
                got = conversation.play(wire, case.conversation, mode, between)
            finally:
                wire.close()
        except (wire_client.WireError, ServerError) as error:
            return '%s: %s' % (type(error).__name__, error)
        found = conversation.difference(*map(naming_world.without_table_oids, (expected, got))) if expected else ''
        reads = naming_world.tenants_read(got)
        if reads != case.reads and not (DIRECT_ONLY and case.whoami_by_setting):
            found += '\n  read %s, not %s' % (reads, case.reads)
        return found


def make_tests():
    for group in dict.fromkeys(name for name, _ in CASES):
        for mode in ('whole', 'dribble', 'coalesced', 'shared'):
            def test(self, group=group, mode=mode):
                self.agree(group, mode)
            setattr(Frameworks, 'test_%s_%s' % (group, mode), test)


make_tests()


class Startup(unittest.TestCase):
    """Frameworks that name their tenant when they connect: by database, by startup parameter."""

    def reads(self, tenant, **login):
        params = {key.replace('__', '.'): value for key, value in login.items() if key not in ('user', 'database')}
        wire = wire_client.Wire(proxy.port).login(login.get('user', 'app'), fixture.PASSWORDS['app'], login.get('database', 'app'), params)
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [(tenant,)])
        wire.run('SET search_path TO globex, public')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('globex',)])
        wire.run('DISCARD ALL')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [(tenant,)])
        wire.close()

    def test_each(self):
        for tenant in naming_world.TENANTS:
            with self.subTest(tenant):
                self.reads(tenant, database=tenant)                            # spatie, Finbuckle, Apartment and archtechx: a database a tenant
                self.reads(tenant, search_path=tenant)                         # Npgsql Search Path=
                self.reads(tenant, search_path='"%s", public' % tenant)        # asyncpg server_settings
                self.reads(tenant, options='-c search_path=' + tenant)         # TypeORM extra.options, PGOPTIONS
                self.reads(tenant, options='-c app.tenant=' + tenant)          # acts_as_tenant and others, with one changed line
                self.reads(tenant, user='app.' + tenant)
                self.reads(tenant, app__current_tenant=tenant)


class Traffic(unittest.TestCase):
    def test_many_sessions_at_once(self):
        """Each request names another tenant; every row read and written is of the one that was named last."""
        failures, counted = [], [0] * 8

        def work(number):
            import random
            chance = random.Random(number)
            wire = proxied()
            deadline = time.monotonic() + float(os.environ.get('PGPORTER_TEST_TRAFFIC_SECONDS', '4'))
            try:
                while time.monotonic() < deadline and not failures:
                    tenant = chance.choice(naming_world.TENANTS)
                    form = chance.randrange(4)
                    if form == 0:
                        wire.run("SET search_path = '%s','public'" % tenant)
                        rows = wire.run('SELECT tenant FROM whoami')
                    elif form == 1:
                        rows = wire.run('SET search_path TO %s; SELECT tenant FROM whoami' % tenant)
                    elif form == 2:
                        wire.run('BEGIN')
                        wire.run_prepared("SELECT set_config('search_path', $1, true)", [tenant])
                        rows = wire.run_prepared("INSERT INTO ledger (id) VALUES ('t%d-%d') RETURNING tenant" % (number, counted[number]))
                        wire.run(chance.choice(('COMMIT', 'ROLLBACK')))
                    else:
                        wire.send(wire_client.parse('', 'BEGIN') + wire_client.bind() + wire_client.execute() +
                                  wire_client.parse('', "SET SESSION search_path TO '%s'" % tenant) + wire_client.bind() + wire_client.execute() +
                                  wire_client.parse('', 'SELECT tenant FROM whoami') + wire_client.bind() + wire_client.execute() +
                                  wire_client.parse('', 'COMMIT') + wire_client.bind() + wire_client.execute() + wire_client.sync())
                        rows = wire._rows(wire.recv_until('Z'))
                    if rows != [(tenant,)]:
                        failures.append('form %d asked for %s and got %s' % (form, tenant, rows))
                    counted[number] += 1
            except Exception as error:
                failures.append('%d: %r' % (number, error))
            wire.close()
        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(failures, [])
        print('%d requests' % sum(counted))
        for database in ('reference',) if DIRECT_ONLY else ('app', 'umbrella'):
            for tenant in [n for n in naming_world.TENANTS if DIRECT_ONLY or naming_world.DATABASE_OF[n] == database]:
                self.assertEqual(server.sql("SELECT count(*) FROM %s.ledger WHERE tenant <> '%s'" % (tenant, tenant), database), [(0,)])
        if not DIRECT_ONLY:
            self.assertLessEqual(max(naming_world.backends(server).values()), 1)


if __name__ == '__main__':
    fixture.main(__name__)
