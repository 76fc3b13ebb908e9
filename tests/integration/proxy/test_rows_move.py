"""Tenants that are rows of shared tables are promoted, rolled back, promoted for good and demoted while they work, in each isolation mode: the
application changes nothing, sees what it saw, and its neighbours notice nothing. One client names its tenant at login, one in SQL. The policies are those of docs/isolation.md."""
import contextlib
import signal
import threading
import time
import unittest

import psycopg2

import fixture
from fixture import wait_for
from test_isolation_modes import KEYS, ROLES, documented_sql

MODES = ('app', 'role', 'login')


def setUpModule():
    global workspace, server, proxies
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    sql = documented_sql()
    common = next(body for body in sql.values() if 'CREATE TABLE orders' in body)
    proxies = {}
    for mode in MODES:
        database = 'crm_' + mode
        server.sql('CREATE DATABASE %s' % database)
        server.sql(common, database)
        server.sql(sql[mode], database)
        server.sql('CREATE INDEX ON orders (tenant_id)', database)
        for key in KEYS.values():
            server.sql("INSERT INTO orders (tenant_id, item) SELECT %s, 'item ' || i FROM generate_series(1, 500) i", database, (key,))
        server.sql('CREATE DATABASE catalog_%s OWNER catalog' % mode)
        proxy = proxies[mode] = fixture.Pgporter(workspace, server, name='pgporter-' + mode)
        proxy.config['catalog']['dsn'] = proxy.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=catalog_' + mode)
        proxy.config['home'] = {'cluster': 'main', 'database': database}
        proxy.config['identify'] = {'sql': True, 'tenant_settings': ['app.tenant']}
        secret = proxy.write('login.password', 'a secret\n', 0o600)
        proxy.config['server_logins'] += [{'cluster': '*', 'user': 'crm_login_' + key, 'password_file': secret} for key in KEYS.values()]
        proxy.config['mover'].update({'late_writer_ms': 500, 'instance_silent_ms_max': 1500})
        proxy.config['limits']['server_idle_ms_max'] = 2000  # a complete waits for connections that nobody has used since the flip
        proxy.start()
        result = fixture.document({'main': server}, {}, databases=[
            {'cluster': 'main', 'name': database, 'isolation': mode, 'tenant_setting': 'app.tenant', 'tenant_column': 'tenant_id'}])
        result['tenants'] = []
        for name, key in KEYS.items():
            entry = {'name': name, 'key': key, 'placement': {'kind': 'rows', 'cluster': 'main', 'database': database}}
            if ROLES[mode]:
                entry['role'] = ROLES[mode] % key
            result['tenants'].append(entry)
        proxy.apply(result)


def tearDownModule():
    workspace.close()


class Client(threading.Thread):
    """Inserts numbered orders, each in a transaction that reads too, and remembers what was acknowledged and where."""

    def __init__(self, mode, name, in_sql):
        super().__init__(daemon=True)
        self.mode, self.tenant, self.in_sql = mode, name, in_sql
        self.mark = '%s-%s' % (name, 'sql' if in_sql else 'login')
        self.count, self.errors, self.places, self.slowest, self.over = 0, [], [], 0.0, False

    def run(self):
        try:
            connection = proxies[self.mode].psycopg2(None if self.in_sql else self.tenant, dbname='crm_' + self.mode, autocommit=False)
            cursor = connection.cursor()
            while not self.over:
                began = time.monotonic()
                if self.in_sql:
                    cursor.execute('SET LOCAL app.tenant = %s', (KEYS[self.tenant],))
                cursor.execute('SELECT current_database(), count(DISTINCT tenant_id), max(tenant_id) FROM orders')
                place, tenants, whose = cursor.fetchone()
                cursor.execute('INSERT INTO orders (item) VALUES (%s) RETURNING tenant_id', ('%s %d' % (self.mark, self.count + 1),))
                assert (tenants, whose, cursor.fetchone()[0]) == (1, KEYS[self.tenant], KEYS[self.tenant]), (tenants, whose)
                connection.commit()
                self.count += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
                if not self.places or self.places[-1] != place:
                    self.places.append(place)
                time.sleep(0.002)
        except Exception as error:  # pylint: disable=broad-except
            self.errors.append(repr(error))


class RowsMove(unittest.TestCase):
    def promote(self, mode):
        proxy = proxies[mode]
        status, report = proxy.http('POST', '/v1/tenants/acme:promote', {'to': {'cluster': 'main', 'database': 'acme_' + mode}, 'dry_run': True})
        self.assertEqual((status, report['blockers']), (200, []), report)
        status, move = proxy.http('POST', '/v1/tenants/acme:promote', {'to': {'cluster': 'main', 'database': 'acme_' + mode}})
        self.assertEqual(status, 202, move)
        return self.wait_state(mode, move['id'], 'reversing')

    def act(self, mode, move, verb, state):
        status, body = proxies[mode].http('POST', '/v1/moves/%s:%s' % (move['id'], verb), {})
        self.assertEqual(status, 202, body)
        return self.wait_state(mode, move['id'], state)

    def wait_state(self, mode, id_, state):
        def reached():
            body = proxies[mode].http('GET', '/v1/moves/%s' % id_)[1]
            if body['state'] != state and body['finished']:
                raise AssertionError('%s: %s' % (body['state'], body['error']))
            return body if body['state'] == state else None
        return wait_for(reached, lambda: '%s: %s' % (state, proxies[mode].http('GET', '/v1/moves/%s' % id_)[1]), 60, 0.05)

    def one_mode(self, mode):
        # In SQL nobody becomes another tenant where the role or the login keeps tenants apart: there each names its own at login.
        clients = [Client(mode, name, in_sql) for name in KEYS for in_sql in ((False, True) if mode == 'app' else (False, False))]
        for number, client in enumerate(clients):
            client.mark += str(number)
            client.start()

        def busy(more):
            goal = {c: c.count + more for c in clients}
            wait_for(lambda: all(c.errors or c.count >= goal[c] for c in clients), lambda: [(c.mark, c.count, c.errors) for c in clients], 30)
        try:
            busy(20)
            first = self.promote(mode)
            busy(20)
            back = self.act(mode, first, 'rollback', 'rolled_back')
            busy(20)
            opened = self.promote(mode)
            busy(20)
        finally:
            for client in clients:
                client.over = True
            for client in clients:
                client.join(20)
        print('%s: pause %.1f ms, back %.1f ms, slowest transaction of acme %.0f ms, of globex %.0f ms' % (
            mode, opened['progress']['pause_ms'], back['progress']['pause_ms'], max(c.slowest for c in clients if c.tenant == 'acme') * 1000,
            max(c.slowest for c in clients if c.tenant == 'globex') * 1000))
        for client in clients:
            self.assertEqual(client.errors, [], client.mark)
            old, new = 'crm_' + mode, 'acme_' + mode
            self.assertEqual(client.places, [old, new, old, new] if client.tenant == 'acme' else [old], client.mark)
            where = new if client.tenant == 'acme' else old
            found = server.sql("SELECT count(*), count(DISTINCT item), bool_and(tenant_id = %s) FROM orders WHERE item LIKE %s", where,
                               (KEYS[client.tenant], client.mark + ' %'))
            self.assertEqual(found, [(client.count, client.count, True)], client.mark)
        self.assertEqual(server.sql('SELECT DISTINCT tenant_id FROM orders', 'acme_' + mode), [('42',)])
        with self.assertRaises(psycopg2.Error) as caught:
            server.sql("UPDATE orders SET item = 'behind the back' WHERE tenant_id = '42'", 'crm_' + mode)
        self.assertEqual(caught.exception.pgcode, 'PP001')
        self.neighbour_meets_the_fence(mode)
        before = server.sql("SELECT count(*), min(item), max(item) FROM orders WHERE tenant_id = '43'", 'crm_' + mode)
        self.act(mode, opened, 'complete', 'completed')
        self.assertEqual(server.sql("SELECT count(*), min(item), max(item) FROM orders", 'crm_' + mode), before)
        self.assertEqual(server.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgporter%%'", 'crm_' + mode), [(0,)])
        self.home_again(mode)

    def home_again(self, mode):
        """Demoted into the tables it came from, while it works."""
        rows = server.sql('SELECT count(*) FROM orders', 'acme_' + mode)[0][0]
        clients = [Client(mode, name, False) for name in KEYS]
        for client in clients:
            client.mark = 'home ' + client.mark
            client.start()
        try:
            wait_for(lambda: all(c.errors or c.count > 10 for c in clients), lambda: [c.errors for c in clients], 30)
            status, move = proxies[mode].http('POST', '/v1/tenants/acme:demote', {'to': {'cluster': 'main', 'database': 'crm_' + mode}})
            self.assertEqual(status, 202, move)
            moved = self.wait_state(mode, move['id'], 'reversing')
            goal = {c: c.count + 20 for c in clients}
            wait_for(lambda: all(c.errors or c.count > goal[c] for c in clients), lambda: [c.errors for c in clients], 30)
        finally:
            for client in clients:
                client.over = True
            for client in clients:
                client.join(20)
        acme = clients[list(KEYS).index('acme')]
        for client in clients:
            self.assertEqual(client.errors, [], client.mark)
        self.assertEqual(acme.places, ['acme_' + mode, 'crm_' + mode])
        self.act(mode, moved, 'complete', 'completed')
        self.assertEqual(server.sql("SELECT count(*), count(DISTINCT item) FILTER (WHERE item LIKE %s) FROM orders WHERE tenant_id = '42'",
                                    'crm_' + mode, (acme.mark + ' %',)), [(rows + acme.count, acme.count)])
        self.assertEqual(server.sql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgporter%%'", 'crm_' + mode), [(0,)])

    def neighbour_meets_the_fence(self, mode):
        """Who touches the rows of a tenant that has moved is told so; it isn't itself taken for the one that moves."""
        server.sql('GRANT TRUNCATE ON orders TO PUBLIC', 'crm_' + mode)
        met = proxies[mode].metric('pgporter_fences_met_total')
        with contextlib.closing(proxies[mode].psycopg2('globex', dbname='crm_' + mode, autocommit=True)) as connection:
            with self.assertRaises(psycopg2.Error) as caught:
                connection.cursor().execute('TRUNCATE orders')
            self.assertEqual((caught.exception.pgcode, caught.exception.diag.message_detail),
                             ('PP001', 'Rows of a tenant that has moved are in the table.'))
        self.assertEqual(proxies[mode].metric('pgporter_fences_met_total'), met)

    def test_app(self):
        self.one_mode('app')

    def test_role(self):
        self.one_mode('role')

    def test_login(self):
        self.one_mode('login')


class WhenCutOff(unittest.TestCase):
    """After the others: another tenant moves away."""

    def test_an_instance_that_hears_nothing_asks_the_gate(self):
        """It has the catalog no more when the tenant moves; some seconds later it reads the old rows no longer. Its neighbours' it does."""
        server.sql("CREATE ROLE catalog_two LOGIN PASSWORD 'of two' IN ROLE catalog")
        two = fixture.Pgporter(workspace, server, name='pgporter-two')
        two.config.update({key: proxies['app'].config[key] for key in ('home', 'identify', 'server_logins')})
        two.config['catalog']['dsn'] = two.config['catalog']['dsn'].replace('dbname=catalog user=catalog', 'dbname=catalog_app user=catalog_two')
        two.config['catalog']['password_file'] = two.write('two.password', 'of two\n', 0o600)
        two.start()

        def place(name):
            with contextlib.closing(two.psycopg2(name, dbname='crm_app', autocommit=True)) as connection:
                cursor = connection.cursor()
                cursor.execute('SELECT current_database()')
                return cursor.fetchone()[0]
        wait_for(lambda: two.metric('pgporter_instances') == 2, 'both instances know of each other', 20)
        server.sql('ALTER ROLE catalog_two NOLOGIN')
        wait_for(lambda: not server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'catalog_two'"), 'it is cut off', 20)
        self.assertEqual(place('globex'), 'crm_app')
        mover = RowsMove()
        status, move = proxies['app'].http('POST', '/v1/tenants/globex:promote', {'to': {'cluster': 'main', 'database': 'globex_app'}})
        self.assertEqual(status, 202, move)
        mover.wait_state('app', move['id'], 'reversing')
        flipped = time.monotonic()

        def notices():
            try:
                return place('globex') != 'crm_app'
            except psycopg2.Error as error:
                return error.pgcode == '40001' or 'is being moved' in str(error)
        wait_for(notices, 'the gate is asked', 10)
        print('cut off: old rows were read for %.1f s' % (time.monotonic() - flipped))
        self.assertGreater(two.metric('pgporter_fences_met_total'), 0)
        # Nor does it write there when the rows and the fence's triggers are gone.
        mover.act('app', move, 'complete', 'completed')
        self.assertEqual(server.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgporter%%'", 'crm_app'), [(0,)])
        until = time.monotonic() + 4
        while time.monotonic() < until:
            with self.assertRaises(psycopg2.Error):
                with contextlib.closing(two.psycopg2('globex', dbname='crm_app', autocommit=True)) as connection:
                    connection.cursor().execute("INSERT INTO orders (item) VALUES ('late')")
            time.sleep(0.3)
        self.assertEqual(server.sql("SELECT count(*) FROM orders WHERE tenant_id = '43'", 'crm_app'), [(0,)])
        server.sql('ALTER ROLE catalog_two LOGIN')
        wait_for(lambda: two.metric('pgporter_instances') == 2, 'it is back', 20)

        def knows():
            with contextlib.suppress(psycopg2.Error):
                return place('globex') == 'globex_app'
        wait_for(knows, 'it knows the new place', 20)


class WhenStopped(unittest.TestCase):
    """After the others, too."""

    def test_an_instance_that_wakes_after_complete_writes_nothing_there(self):
        two = fixture.Pgporter(workspace, server, name='pgporter-three')
        two.config.update({key: proxies['role'].config[key] for key in ('home', 'identify', 'server_logins', 'mover')})
        two.config['catalog']['dsn'] = proxies['role'].config['catalog']['dsn']
        two.config['limits']['server_idle_ms_max'] = 2000  # or complete waits for what it doesn't use any more when it has heard first
        two.start()
        wait_for(lambda: two.metric('pgporter_instances') == 2, 'both instances know of each other', 20)
        mover = RowsMove()
        outcome = []
        with contextlib.closing(two.psycopg2('globex', dbname='crm_role', autocommit=True)) as connection:
            cursor = connection.cursor()
            cursor.execute('SELECT current_database()')
            self.assertEqual(cursor.fetchone()[0], 'crm_role')
            two.process.send_signal(signal.SIGSTOP)
            try:
                status, move = proxies['role'].http('POST', '/v1/tenants/globex:promote', {'to': {'cluster': 'main', 'database': 'globex_role'}})
                self.assertEqual(status, 202, move)
                mover.wait_state('role', move['id'], 'reversing')
                self.assertEqual(proxies['role'].http('POST', '/v1/moves/%s:complete' % move['id'], {})[0], 202)
                wait_for(lambda: 'silent since the flip' in proxies['role'].http('GET', '/v1/moves/%s' % move['id'])[1]['progress']['note'],
                         lambda: proxies['role'].http('GET', '/v1/moves/%s' % move['id'])[1], 30, 0.05)
                self.assertEqual(server.sql("SELECT count(*) FROM orders WHERE tenant_id = '43'", 'crm_role'), [(0,)])

                def write():
                    try:
                        cursor.execute("INSERT INTO orders (item) VALUES ('late')")
                        outcome.append('written')
                    except psycopg2.Error as error:
                        outcome.append(error.pgcode)
                writer = threading.Thread(target=write, daemon=True)
                writer.start()
            finally:
                two.process.send_signal(signal.SIGCONT)
            writer.join(30)
        mover.wait_state('role', move['id'], 'completed')
        there = server.sql("SELECT count(*) FROM orders WHERE item = 'late'", 'globex_role')[0][0]
        print('woken after complete: the late write was answered with %s' % outcome)
        self.assertEqual((outcome in (['written'], ['40001']), there), (True, 1 if outcome == ['written'] else 0), outcome)
        self.assertEqual(server.sql("SELECT count(*) FROM orders WHERE tenant_id = '43'", 'crm_role'), [(0,)])


if __name__ == '__main__':
    fixture.main(__name__)
