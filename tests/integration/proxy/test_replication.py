"""Replication connections: PostgreSQL's own programs through pgporter, who may open them, and how they end."""
import os
import signal
import subprocess
import unittest

import fixture
import wire_client
from fixture import wait_for
from wire_client import ServerError, Wire

USERS = [{'name': 'app', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['app']), 'tenants': '*'},
         {'name': 'other', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['other']), 'tenants': ['acme']}]


def setUpModule():
    global workspace, server, proxy, port
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.sql('ALTER ROLE app REPLICATION; ALTER ROLE other REPLICATION')
    port = fixture.free_port()
    proxy = start('pgporter', port)


def tearDownModule():
    workspace.close()


def start(name, replication_port):
    instance = fixture.Pgporter(workspace, server, name, limits={'wait_ms_max': 1500, 'shutdown_ms_max': 3000})
    instance.config['listen'].append({'address': '127.0.0.1', 'port': replication_port, 'replication': True})
    instance.start()
    instance.apply(catalog_document({'acme': {}, 'globex': {'server_connections_max': 1}}, USERS))
    return instance


def catalog_document(tenants, users):
    return fixture.document({'main': dict(port=server.port, server_connections_max=8)}, tenants, users=users)


def log_in(mode='database', user='app', tenant='acme', at=None):
    wire = Wire(at or port)
    return wire.login(user, fixture.PASSWORDS[user], 'app', {'options': '-c pgporter.tenant=' + tenant, 'replication': mode})


def walsenders():
    return server.sql("SELECT pid, usename, application_name FROM pg_stat_activity WHERE backend_type = 'walsender'")


def refusal(**how):
    try:
        log_in(**how).close()
    except ServerError as error:
        return error.sqlstate
    return 'in'


class Program:
    """One of PostgreSQL's programs in the background; its output goes to a file."""

    def __init__(self, name, arguments, at=None):
        self.output = os.path.join(workspace.path, '%s-%d' % (name, len(os.listdir(workspace.path))))
        dsn = "host=127.0.0.1 port=%d user=app dbname=app options='-c pgporter.tenant=acme' application_name=%s" % (at or port, name)
        with open(self.output, 'wb') as out:
            self.process = subprocess.Popen(fixture.ends_with_us('KILL') + [os.path.join(fixture.PG_BIN, name), '-d', dsn] + arguments, stdout=out,
                                            stderr=out, stdin=subprocess.DEVNULL, env=dict(os.environ, PGPASSWORD=fixture.PASSWORDS['app']))

    def text(self):
        with open(self.output, encoding='utf-8', errors='replace') as source:
            return source.read()

    def end(self, signal_number=signal.SIGINT):
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(15)


class Replication(unittest.TestCase):
    def tearDown(self):
        wait_for(lambda: not walsenders(), lambda: 'no walsender is left: %s' % walsenders())
        wait_for(lambda: proxy.metric('pgporter_pinned_sessions', reason='replication') == 0, 'none is counted')

    def test_pg_recvlogical(self):
        self.assertEqual(Program('pg_recvlogical', ['--slot', 'through', '--create-slot', '--plugin', 'test_decoding']).process.wait(15), 0)
        stream = Program('pg_recvlogical', ['--slot', 'through', '--start', '-f', '-', '--no-loop', '--fsync-interval=0'])
        wait_for(lambda: walsenders() and proxy.metric('pgporter_pinned_sessions', reason='replication') == 1, lambda: 'it streams: ' + stream.text())
        client = proxy.wire('acme')
        for number in range(50):
            client.run("INSERT INTO items (payload) VALUES ('replicated %d %s')" % (number, 'x' * 20000))
        wait_for(lambda: stream.text().count('replicated ') == 50, lambda: 'every row came: %d' % stream.text().count('replicated '))
        self.assertEqual(stream.end(), 0, stream.text()[-500:])
        client.close()
        self.assertEqual(Program('pg_recvlogical', ['--slot', 'through', '--drop-slot']).process.wait(15), 0)

    def test_pg_receivewal(self):
        folder = os.path.join(workspace.path, 'wal')
        os.mkdir(folder)
        stream = Program('pg_receivewal', ['-D', folder, '--no-loop', '--verbose', '--no-sync'])
        wait_for(lambda: walsenders(), lambda: 'it streams: ' + stream.text())
        client = proxy.wire('acme')
        client.run("INSERT INTO items (payload) VALUES (repeat('x', 10000))")
        client.close()
        server.sql('SELECT pg_switch_wal()')
        wait_for(lambda: [n for n in os.listdir(folder) if not n.endswith('.partial')], lambda: 'a whole file came: ' + stream.text())
        stream.end()

    def test_commands_sql_and_cancel(self):
        wire = log_in()
        self.assertEqual(len(wire.run('IDENTIFY_SYSTEM')[0]), 4)
        self.assertEqual(wire.run('SELECT current_database()'), [('app',)])
        wire.send(wire_client.query('SELECT pg_sleep(20) /* walsender */'))
        wait_for(lambda: server.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%%walsender */' AND state = 'active' "
                                    "AND backend_type = 'walsender'"), 'it runs')
        self.assertEqual(wire.cancel(), b'')
        self.assertIn('57014', [wire_client.error_fields(b).get('C') for k, b in wire.recv_until('Z') if k == 'E'])
        wire.close()

    def test_default_is_refused(self):
        for mode in ('database', 'true', 'on', '1'):
            self.assertEqual(refusal(mode=mode, at=proxy.port), '0A000')
        for mode in ('false', 'off', '0'):
            wire = log_in(mode=mode, at=proxy.port)
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
            wire.close()
        self.assertEqual(refusal(mode='sometimes'), '22023')

    def test_only_users_of_all_tenants(self):
        self.assertEqual(refusal(user='other'), '42501')

    def test_postgresql_has_the_last_word(self):
        server.sql('ALTER ROLE app NOREPLICATION')
        self.assertEqual(refusal(), '42501')
        server.sql('ALTER ROLE app REPLICATION')
        self.assertEqual(refusal(), 'in')

    def test_what_the_catalog_takes_back_ends(self):
        for change in ({'users': [{'name': 'app', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['app']), 'tenants': ['acme']}]},
                       {'tenants': {'acme': {'state': 'suspended'}}}):
            wire, client = log_in(), proxy.wire('globex')
            tenants = dict({'acme': {}, 'globex': {'server_connections_max': 1}}, **change.get('tenants', {}))
            try:
                proxy.apply(catalog_document(tenants, change.get('users', USERS)))
                self.assertEqual([wire_client.error_fields(b).get('C') for k, b in wire.expect_eof() if k == 'E'], ['57P01'], change)
                if 'tenants' in change:
                    self.assertEqual(client.run('SELECT tenant FROM whoami'), [('globex',)])  # nobody else noticed
            finally:
                proxy.apply(catalog_document({'acme': {}, 'globex': {'server_connections_max': 1}}, USERS))
            client.close()
            wait_for(lambda: refusal() == 'in', 'the old rights are back')

    def test_a_move_ends_it_and_leads_the_next_one_to_the_new_place(self):
        dedicated = fixture.Postgres(workspace, 'dedicated')
        dedicated.make_roles()
        dedicated.sql('ALTER ROLE app REPLICATION')
        proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=8), 'dedicated': dedicated}, {'initech': {}}, users=USERS))
        wait_for(lambda: refusal(tenant='initech') == 'in', 'the tenant is known')
        moved, stays = log_in(tenant='initech'), log_in(tenant='acme')
        self.assertEqual(moved.run('SELECT current_database()'), [('app',)])
        status, body = proxy.http('POST', '/v1/tenants/initech:promote', {'to': {'cluster': 'dedicated', 'database': 'initech'}})
        self.assertEqual(status, 202, body)
        self.assertEqual([wire_client.error_fields(b).get('C') for k, b in moved.expect_eof(60) if k == 'E'], ['57P01'])
        again = log_in(tenant='initech')
        self.assertEqual(again.run('SELECT current_database()'), [('initech',)])
        self.assertEqual(stays.run('SELECT current_database()'), [('app',)])
        again.close()
        stays.close()
        def move():
            return proxy.http('GET', '/v1/moves/%s' % body['id'])[1]
        wait_for(lambda: move()['state'] in ('opened', 'reversing'), move, 30)
        self.assertEqual(proxy.http('POST', '/v1/moves/%s:complete' % body['id'], {})[0], 202)
        wait_for(lambda: move()['finished'], move, 30)  # and the mover's own streams have ended

    def test_it_counts_under_the_caps(self):
        first = log_in(tenant='globex')
        self.assertEqual(refusal(tenant='globex'), '53300')  # the tenant's own cap
        client = proxy.wire('acme')
        more = [log_in() for _ in range(7)]  # idle pooled connections make way
        self.assertEqual(refusal(), '53300')
        with self.assertRaises(ServerError) as caught:
            client.run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate, '53300')
        for wire in [first] + more:
            wire.close()
        wait_for(lambda: not walsenders(), 'they have ended')
        self.assertEqual(proxy.wire('globex').run('SELECT 1'), [('1',)])
        client.close()

    def test_the_server_goes_first(self):
        wire = log_in()
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender'")
        self.assertEqual([wire_client.error_fields(b).get('C') for k, b in wire.expect_eof() if k == 'E'], ['57P01'])

    def test_drain_ends_it(self):
        drained = start('drained', fixture.free_port())
        wire = log_in(at=drained.config['listen'][1]['port'])
        drained.process.send_signal(signal.SIGTERM)
        self.assertEqual([wire_client.error_fields(b).get('C') for k, b in wire.expect_eof() if k == 'E'], ['57P01'])
        self.assertEqual(drained.process.wait(10), 0)


if __name__ == '__main__':
    fixture.main(__name__)
