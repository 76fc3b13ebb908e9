"""The catalog: it may be down, changes are routed at once, mistakes in files are named, and start-up failures say what is wrong."""
import os
import socket
import time
import unittest

import psycopg2

import fixture
import wire_client
from fixture import wait_for
from wire_client import ServerError


def setUpModule():
    global workspace, server, catalog_server
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world(tenants=fixture.TENANTS + ('umbrella', 'hooli'))
    catalog_server = fixture.Postgres(workspace, 'catalog-server')
    catalog_server.make_roles()


def tearDownModule():
    workspace.close()


class Catalog(unittest.TestCase):
    def setUp(self):
        database = 'catalog_' + self._testMethodName[5:35]
        catalog_server.sql('CREATE DATABASE %s OWNER catalog' % database)
        self.proxy = fixture.Pgporter(workspace, catalog_server, 'pgporter-' + self._testMethodName)
        self.proxy.config['catalog']['dsn'] = self.proxy.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=' + database)
        self.tenants = {'acme': {}, 'globex': {}}

    def tearDown(self):
        self.proxy.stop()

    def apply(self, **more):
        return self.proxy.apply(fixture.document({'main': server}, {k: dict(v) for k, v in dict(self.tenants, **more).items()}))

    def who(self, tenant):
        wire = self.proxy.wire(tenant)
        try:
            return wire.run('SELECT tenant FROM whoami')[0][0]
        finally:
            wire.close()

    def test_catalog_down(self):
        self.proxy.start()
        self.apply()
        wire = self.proxy.wire('acme')
        wait_for(lambda: os.path.exists(self.proxy.config['catalog']['snapshot_file']), 'the snapshot is saved')
        catalog_server.stop('immediate')
        try:
            for _ in range(10):
                self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                self.assertEqual(self.who('globex'), 'globex')
            self.assertEqual(self.proxy.http('GET', '/healthz')[0], 200)
            self.assertEqual(self.proxy.http('GET', '/readyz')[0], 200)
            done = self.proxy.command('apply', '-f', self.proxy.write('more.yaml', 'tenants: []\n'))
            self.assertNotEqual(done.returncode, 0)
            # A restarted one starts from its snapshot.
            wire.close()
            self.proxy.stop()
            self.proxy.start()
            self.assertEqual(self.who('acme'), 'acme')
            self.assertEqual(self.who('globex'), 'globex')
            with self.assertRaises(ServerError):
                self.who('hooli')
        finally:
            catalog_server.start()
        # And follows again when the catalog is back.

        def applied():
            path = self.proxy.write('again.yaml', fixture.yaml_text(fixture.document({'main': server}, dict(self.tenants, hooli={}))))
            return self.proxy.command('apply', '-f', path).returncode == 0
        wait_for(applied, 'apply works again', 20)
        wait_for(lambda: self.proxy.http('GET', '/v1/tenants/hooli')[0] == 200, 'the new tenant is routed', 20)
        self.assertEqual(self.who('hooli'), 'hooli')

    def test_damaged_snapshot_is_not_used(self):
        self.proxy.start()
        self.apply()
        path = self.proxy.config['catalog']['snapshot_file']
        wait_for(lambda: os.path.exists(path), 'the snapshot is saved')
        self.proxy.stop()
        with open(path, 'r+b') as file:
            size = os.path.getsize(path)
            file.truncate(size // 2)
        self.proxy.start()
        self.assertEqual(self.who('acme'), 'acme')  # from the catalog

    def test_apply_is_routed_at_once(self):
        self.proxy.start()
        self.apply()
        for number, tenant in enumerate(('initech', 'umbrella', 'hooli')):
            with self.assertRaises(ServerError) as caught:
                self.who(tenant)
            self.assertEqual(caught.exception.sqlstate, '3D000')
            self.tenants[tenant] = {}
            text = self.apply()
            self.assertIn(tenant, text, 'apply reports what it made')
            self.assertEqual(self.who(tenant), tenant, number)
        self.assertNotIn('hooli', self.apply(), 'a second apply changes nothing')

    def test_suspend_and_settings_at_once(self):
        self.proxy.start()
        self.apply()
        wire = self.proxy.wire('acme')
        self.assertEqual(wire.run('SELECT 1'), [('1',)])
        self.apply(acme={'state': 'suspended'})
        with self.assertRaises(ServerError) as caught:
            self.who('acme')
        self.assertEqual(caught.exception.sqlstate, '57P03')

        def refused():
            try:
                wire.run('SELECT 1')
                return False
            except ServerError as error:
                return error.sqlstate == '57P03'
        wait_for(refused, 'the open session is refused too', 5)
        self.assertEqual(self.who('globex'), 'globex')
        self.apply(acme={'state': 'active', 'settings': {'app.plan': 'gold'}})
        again = self.proxy.wire('acme')
        self.assertEqual(again.run("SELECT current_setting('app.plan', true)"), [('gold',)])
        again.close()
        wire.close()

    def test_change_made_by_another_instance(self):
        """Two instances of one catalog: what one applies, the other follows."""
        self.proxy.start()
        self.apply()
        other = fixture.Pgporter(workspace, catalog_server, 'pgporter-second-instance')
        other.config['catalog']['dsn'] = self.proxy.config['catalog']['dsn']
        other.start()
        try:
            with self.assertRaises(ServerError):
                other.wire('hooli')
            self.apply(hooli={})

            def followed():
                try:
                    wire = other.wire('hooli')
                    rows = wire.run('SELECT tenant FROM whoami')
                    wire.close()
                    return rows == [('hooli',)]
                except ServerError:
                    return False
            wait_for(followed, 'the other instance follows', 5)
        finally:
            other.stop()

    def test_mistakes_in_tenants_yaml(self):
        self.proxy.start()
        good = fixture.yaml_text(fixture.document({'main': server}, {'acme': {}}))
        for name, text, words in (
                ('unknown key', good.replace('  schema:', '  shcema:'), ['shcema']),
                ('unknown top key', good + 'tennants: []\n', ['tennants']),
                ('wrong type', good.replace('port: %d' % server.port, 'port: "many"'), ['port']),
                ('unknown cluster', good.replace('cluster: "main"', 'cluster: "mian"'), ['mian']),
                ('bad tenant name', good.replace('name: "acme"', 'name: "Ac me"'), ['name']),
                ('broken YAML', good + '  - [\n', ['tenants.yaml'])):
            with self.subTest(name):
                self.assertNotEqual(text, good)
                path = self.proxy.write('tenants.yaml', text)
                done = self.proxy.command('apply', '-f', path)
                said = done.stdout + done.stderr
                self.assertNotEqual(done.returncode, 0, said)
                for word in words:
                    self.assertIn(word, said)
                if name not in ('unknown cluster',):
                    line = next((n for n, (a, b) in enumerate(zip(text.splitlines(), good.splitlines()), 1) if a != b), None)
                    if line and name != 'broken YAML':
                        self.assertIn(':%d' % line, said, 'the line is named')
        self.assertEqual(self.proxy.http('GET', '/v1/tenants')[1]['total'], 0)

    def test_apply_never_moves_a_tenant(self):
        self.proxy.start()
        self.apply()
        path = self.proxy.write('moved.yaml', fixture.yaml_text(fixture.document({'main': server}, {'acme': {'placement': {'schema': 'globex2'}}})))
        done = self.proxy.command('apply', '-f', path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('acme', done.stdout + done.stderr)
        self.assertEqual(self.who('acme'), 'acme')


class Start(unittest.TestCase):
    def setUp(self):
        self.proxy = fixture.Pgporter(workspace, catalog_server, 'start-' + self._testMethodName)

    def tearDown(self):
        self.proxy.stop()

    def fails(self, *words):
        self.proxy.launch()
        wait_for(lambda: self.proxy.process.poll() is not None, lambda: 'pgporter ends: ' + self.proxy.log(), 20)
        self.assertNotIn(self.proxy.process.returncode, (0, -6, -11), self.proxy.log())
        for word in words:
            self.assertIn(word, self.proxy.log())
        for secret in fixture.PASSWORDS.values():
            self.assertNotIn(secret, self.proxy.log())

    def test_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            self.proxy.config['listen'][0]['port'] = taken.getsockname()[1]
            self.fails(str(taken.getsockname()[1]), 'in use')

    def test_admin_port_in_use(self):
        with socket.socket() as taken:
            taken.bind(('127.0.0.1', 0))
            taken.listen()
            self.proxy.config['admin']['port'] = taken.getsockname()[1]
            self.fails(str(taken.getsockname()[1]), 'in use')

    def test_unknown_key(self):
        self.proxy.config['limits']['sesions_max'] = 5
        self.fails('pgporter.yaml:', 'sesions_max', 'sessions_max')

    def test_wrong_type(self):
        self.proxy.config['limits']['sessions_max'] = 'many'
        self.fails('pgporter.yaml:', 'sessions_max')

    def test_missing_secret_file(self):
        self.proxy.config['admin']['token_file'] = '/no/such/file'
        self.fails('/no/such/file')

    def test_missing_configuration(self):
        done = self.proxy.command('serve', '-c', '/no/such/pgporter.yaml')
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('/no/such/pgporter.yaml', done.stdout + done.stderr)

    def test_catalog_unreachable_without_a_snapshot(self):
        """It says so, doesn't let anybody in, isn't ready, and goes on by itself when the catalog appears; or it ends with a message."""
        late_port = fixture.free_port()
        self.proxy.config['catalog']['dsn'] = 'host=127.0.0.1 port=%d dbname=catalog user=catalog' % late_port
        self.proxy.config['catalog']['connect_timeout_ms'] = 1000
        self.proxy.launch()
        wait_for(lambda: 'catalog' in self.proxy.log(), lambda: 'a message about the catalog: ' + self.proxy.log(), 10)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline and self.proxy.process.poll() is None:
            try:
                self.assertNotEqual(self.proxy.http('GET', '/readyz')[0], 200)
            except OSError:
                pass
            try:
                self.proxy.wire('acme', timeout=3).close()
                self.fail('somebody was let in without a catalog')
            except (ServerError, wire_client.WireError, OSError) as error:
                if isinstance(error, ServerError):
                    self.assertEqual(error.sqlstate, '57P03')
            time.sleep(0.1)
        self.assertNotIn(self.proxy.process.poll(), (0, -6, -11), self.proxy.log())
        self.assertNotIn(fixture.PASSWORDS['catalog'], self.proxy.log())

    def test_terminates_cleanly(self):
        self.proxy.start()
        self.proxy.apply(fixture.document({'main': server}, {'acme': {}}))
        busy, idle = self.proxy.wire('acme'), self.proxy.wire('acme')
        busy.run('BEGIN; SELECT 1')
        self.proxy.process.terminate()
        errors = [wire_client.error_fields(b)['C'] for k, b in idle.expect_eof(10) if k == 'E']
        self.assertEqual(errors, ['57P01'])
        self.assertEqual(busy.run('SELECT 2'), [('2',)], 'a transaction may finish')
        busy.run('COMMIT')
        wait_for(lambda: self.proxy.process.poll() is not None, 'pgporter ends', 15)
        self.assertEqual(self.proxy.process.returncode, 0)
        with self.assertRaises((psycopg2.OperationalError, OSError)):
            self.proxy.psycopg2('acme')


if __name__ == '__main__':
    fixture.main(__name__)
