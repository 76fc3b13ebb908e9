"""The isolation oracle on one shared server connection: pgporter must pass it, and PgBouncer, the control, must fail it."""
import os
import subprocess
import threading
import unittest

import psycopg2

import fixture
import isolation_oracle
import naming_oracle
import naming_world
import wire_client

ROUNDS = int(os.environ.get('PGPORTER_TEST_ROUNDS', '250'))
NAMING_ROUNDS = int(os.environ.get('PGPORTER_TEST_NAMING_ROUNDS', '500'))  # of each seed
SEEDS = [int(s) for s in os.environ.get('PGPORTER_TEST_SEEDS', '1,2,3').split(',')]


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = None
    if os.environ.get('PGPORTER_TEST_DIRECT') != '1':
        proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 4000}).start()
        proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                     databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))


def tearDownModule():
    workspace.close()


class PgBouncer:
    """The control: Debian's PgBouncer in transaction mode, one server connection."""

    def __init__(self, target=None, database='app'):
        self.port = fixture.free_port()
        self.folder = os.path.join(workspace.path, 'pgbouncer-' + database)
        os.mkdir(self.folder, 0o755)
        with open(os.path.join(self.folder, 'users'), 'w', encoding='utf-8') as out:
            out.write('"app" "%s"\n' % fixture.PASSWORDS['app'])
        with open(os.path.join(self.folder, 'ini'), 'w', encoding='utf-8') as out:
            out.write('[databases]\napp = host=127.0.0.1 port=%d dbname=%s\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\n'
                      'auth_type = scram-sha-256\nauth_file = users\npool_mode = transaction\ndefault_pool_size = 1\n'
                      'server_reset_query = DISCARD ALL\nunix_socket_dir =\nquery_wait_timeout = 10\n' % ((target or server).port, database,
                          self.port))
        with open(os.path.join(self.folder, 'log'), 'wb') as log:
            self.process = subprocess.Popen([os.environ.get('PGPORTER_PGBOUNCER', '/usr/sbin/pgbouncer'), 'ini'], cwd=self.folder, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, **fixture.run_as_postgres())
        workspace.servers.append(self)

        def ready():
            try:
                self.connect('acme').close()
                return True
            except psycopg2.OperationalError:
                return False
        fixture.wait_for(ready, lambda: 'PgBouncer accepts connections: ' + open(os.path.join(self.folder, 'log'), encoding='utf-8').read())

    def wire(self, login):
        return wire_client.Wire(self.port).login('app', fixture.PASSWORDS['app'], 'app')

    def connect(self, tenant):
        connection = psycopg2.connect(host='127.0.0.1', port=self.port, user='app', password=fixture.PASSWORDS['app'], dbname='app')
        connection.autocommit = True
        connection.cursor().execute('SET search_path TO %s, public' % tenant)
        return connection

    def stop(self, mode='fast'):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def run_oracle(connect, seed, rounds, needs_path, sessions=6):
    isolation_oracle.Session.oracle_needs_path = lambda self: needs_path
    oracle = isolation_oracle.Oracle(connect, seed, sessions)
    oracle.run(rounds)
    shared = max(len(names) for names in oracle.pids.values())
    print('seed %d: %d operations, %d server connections, one of them used by %d of %d sessions, %d violations' % (
        seed, oracle.operations, len(oracle.pids), shared, sessions, len(oracle.violations)))
    return oracle, shared


class Isolation(unittest.TestCase):
    def hold(self, connect, needs_path, seeds=SEEDS[:1]):
        for seed in seeds:
            oracle, shared = run_oracle(connect, seed, ROUNDS, needs_path)
            self.assertEqual(oracle.violations[:10], [], 'seed %d' % seed)
            self.assertEqual(shared, 6, 'the sessions never shared a server connection: the test proves nothing')

    def test_tenant_named_at_startup(self):
        self.hold(lambda tenant: proxy.psycopg2(tenant), False, SEEDS)

    def test_tenant_named_by_search_path_at_startup(self):
        self.hold(lambda tenant: proxy.psycopg2(None, options='-c search_path=%s,public' % tenant), False)

    def test_tenant_named_in_sql(self):
        """As an application does that knows nothing of pgporter: it logs in for one tenant and sets the path in SQL."""
        def connect(tenant):
            connection = proxy.psycopg2('initech')
            connection.cursor().execute('SET search_path TO %s, public' % tenant)
            return connection
        self.hold(connect, True)

    def test_prepared_statements_of_one_name(self):
        """Every session has a statement of the same name with another text, and one with the same text in another tenant."""
        wires = [proxy.wire(tenant) for tenant in fixture.TENANTS for _ in range(2)]
        for number, wire in enumerate(wires):
            wire.send(wire_client.parse('mine', 'SELECT %d' % number) + wire_client.parse('where', 'SELECT tenant FROM whoami') +
                      wire_client.parse('', "SELECT 'unnamed of %d'" % number) + wire_client.sync())
            self.assertEqual([k for k, _ in wire.recv_until('Z')], ['1', '1', '1', 'Z'])
        for _ in range(3):
            for number, wire in enumerate(wires):
                wire.send(b''.join(wire_client.bind('', name) + wire_client.execute() for name in ('mine', 'where')) + wire_client.sync())
                rows = wire_client.Wire._rows(wire, wire.recv_until('Z'))
                self.assertEqual(rows, [(str(number),), (fixture.TENANTS[number // 2],)])
        for number, wire in enumerate(wires):
            wire.send(wire_client.bind() + wire_client.execute() + wire_client.sync())
            self.assertEqual(wire._rows(wire.recv_until('Z')), [('unnamed of %d' % number,)])
            wire.close()

    def test_threads(self):
        """The same, all at once: every row read and written is the reader's own."""
        wrong, done = [], [0]

        def work(number):
            tenant = fixture.TENANTS[number % 3]
            try:
                connection = proxy.psycopg2(tenant)
                cursor = connection.cursor()
                for round_ in range(60):
                    if round_ % 7 == 0:
                        cursor.execute("SELECT hidden_path('%s, public')" % fixture.TENANTS[(number + 1) % 3])
                        cursor.execute('DISCARD ALL')
                    if round_ % 5 == 0:
                        cursor.execute("SET app.user_id = '%d'" % number)
                    cursor.execute("SELECT tenant, current_setting('app.user_id', true) FROM whoami")
                    tenant_seen, user = cursor.fetchone()
                    if tenant_seen != tenant or user not in (str(number), '', None):
                        wrong.append((number, tenant, tenant_seen, user))
                    done[0] += 1
                connection.close()
            except Exception as error:
                wrong.append((number, repr(error)))
        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(wrong[:5], [])
        self.assertEqual(done[0], 9 * 60)


def run_naming_oracle(connect, seed, logins, rounds=NAMING_ROUNDS, **more):
    oracle = naming_oracle.Oracle(connect, seed, logins, **more)
    oracle.run(rounds)
    shared = max(len(names) for names in oracle.pids.values())
    print('tenants in SQL, seed %d: %d operations, %d statements, one server connection was used by %d of %d sessions, %d violations' % (
        seed, oracle.operations, oracle.statements, shared, len(logins), len(oracle.violations)))
    return oracle, shared


class NamedInSql(unittest.TestCase):
    maxDiff = None
    """Tenants named in SQL by every way there is: four tenants, one of them with a database of its own, one server connection a database."""
    LOGINS = (None, None, None, 'acme', 'umbrella', 'globex')

    @classmethod
    def setUpClass(cls):
        cls.server = fixture.Postgres(workspace, 'naming-server')
        naming_world.make(cls.server)
        cls.proxy = naming_world.start(workspace, cls.server, name='naming-pgporter')

    def test_oracle(self):
        for seed in SEEDS:
            oracle, shared = run_naming_oracle(self.proxy.wire, seed, self.LOGINS)
            self.assertFalse(oracle.violations, 'seed %d:\n%s' % (seed, '\n'.join(oracle.violations[:6])))
            self.assertGreaterEqual(shared, 4, 'the sessions never shared a server connection: the test proves nothing')
        self.assertLessEqual(max(naming_world.backends(self.server).values()), 1)

    def one_database(self, connect, seed, interleaved):
        return run_naming_oracle(connect, seed, ('acme', 'globex', 'initech', 'umbrella', 'acme', 'umbrella'), settings=(),
            database_of=lambda tenant: 'one',
                                 home='one', interleaved=interleaved, path_at_connect=True)

    def test_control_own_connections_pass(self):
        """PostgreSQL itself with a connection for each session: the oracle asks for nothing impossible."""
        oracle, _ = self.one_database(lambda login: naming_world.direct(self.server), 1, True)
        self.assertFalse(oracle.violations, '\n'.join(oracle.violations[:6]))

    def test_control_pgbouncer_fails(self):
        bouncer = PgBouncer(self.server, 'reference')
        oracle, _ = self.one_database(bouncer.wire, 1, False)
        leaks = [v for v in oracle.violations if 'it reads or writes' in v]
        self.assertTrue(leaks, "PgBouncer never showed another tenant's rows: the oracle is blind; it said %s" % oracle.violations[:3])
        print('PgBouncer, the control: %d violations, %d of them rows of another tenant; the first: %s' % (len(oracle.violations), len(leaks),
            leaks[0]))


class Control(unittest.TestCase):
    def test_pgbouncer_fails_the_oracle(self):
        """If this one passed, the oracle could not fail."""
        bouncer = PgBouncer()
        oracle, shared = run_oracle(bouncer.connect, 1, ROUNDS, True)
        self.assertEqual(shared, 6)
        rows = [v for v in oracle.violations if 'read rows of' in v or 'wrote into a table of' in v]
        self.assertTrue(rows, "PgBouncer never showed another tenant's rows: the oracle is blind; it said %s" % oracle.violations[:3])
        print('PgBouncer, the control: %d violations, %d of them rows of another tenant; the first: %s' % (
            len(oracle.violations), len(rows), rows[0]))

    def test_own_connections_pass_the_oracle(self):
        """PostgreSQL itself, a connection for each session: the oracle asks for nothing impossible."""
        def connect(tenant):
            connection = psycopg2.connect(host='127.0.0.1', port=server.port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                          options='-c search_path=%s,public' % tenant)
            connection.autocommit = True
            return connection
        oracle, _ = run_oracle(connect, 1, ROUNDS, False)
        self.assertEqual(oracle.violations[:10], [])


if __name__ == '__main__':
    fixture.main(__name__)
