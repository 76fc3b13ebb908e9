"""Isolation modes app, role and login: tenants that are rows of shared tables, kept apart by the policies that docs/isolation.md shows, which
are run from that page as they stand there. And the doctor: silent on a sound database, and it finds each planted defect."""
import contextlib
import json
import os
import re
import struct
import unittest

import psycopg2

import fixture
import wire_client
from wire_client import ServerError

DATABASES = {'app': 'crm', 'role': 'crm_role', 'login': 'crm_login'}
KEYS = {'acme': '42', 'globex': '43'}
ROLES = {'app': '', 'role': 'crm_%s', 'login': 'crm_login_%s'}


def documented_sql():
    """The page's SQL: of the heading before the first mode, and of each mode."""
    with open(os.path.join(fixture.REPOSITORY, 'docs', 'isolation.md'), encoding='utf-8') as page:
        text = page.read()
    blocks = {}
    for title, body in re.findall(r'^#+ (.*?)\n(.*?)(?=^#|\Z)', text, re.M | re.S):
        for block in re.findall(r'^```sql\n(.*?)^```', body, re.M | re.S):
            blocks[title] = block
    return blocks


def tenant(mode, name):
    entry = {'name': '%s-%s' % (name, mode), 'key': KEYS[name], 'placement': {'kind': 'rows', 'cluster': 'main', 'database': DATABASES[mode]}}
    if ROLES[mode]:
        entry['role'] = ROLES[mode] % KEYS[name]
    # One key is one tenant's in the whole catalog: each mode has a catalog of its own.
    return entry


def document(modes=('app', 'role', 'login')):
    """A catalog for each mode alone: the same keys in each."""
    tenants = [tenant(mode, name) for mode in modes for name in KEYS]
    databases = [{'cluster': 'main', 'name': DATABASES[mode], 'isolation': mode, 'tenant_setting': 'app.tenant', 'tenant_column': 'tenant_id',
                  'server_connections_max': 1} for mode in modes]
    result = fixture.document({'main': server}, {}, databases=databases)
    result['tenants'] = tenants
    return result


def setUpModule():
    global workspace, server, proxies
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    sql = documented_sql()
    common = next(body for body in sql.values() if 'CREATE TABLE orders' in body)
    for mode, database in DATABASES.items():
        server.sql('CREATE DATABASE %s' % database)
        server.sql('CREATE FUNCTION hidden_set(name text, value text) RETURNS text LANGUAGE plpgsql AS '
                   "$$ BEGIN PERFORM set_config(name, value, false); RETURN 'done'; END $$", database)
        server.sql(common, database)
        server.sql(sql[mode], database)
        for key in KEYS.values():
            server.sql("INSERT INTO orders (tenant_id, item) SELECT %s, 'item ' || i FROM generate_series(1, 5) i", database, (key,))
    proxies = {}
    for mode in DATABASES:
        server.sql('CREATE DATABASE catalog_%s OWNER catalog' % mode)
        proxy = proxies[mode] = fixture.Pgporter(workspace, server, name='pgporter-' + mode)
        proxy.config['catalog']['dsn'] = proxy.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=catalog_' + mode)
        proxy.config['identify'] = {'sql': False}
        secret = proxy.write('login.password', 'a secret\n', 0o600)
        proxy.config['server_logins'] += [{'cluster': 'main', 'user': 'crm_login_' + key, 'password_file': secret} for key in KEYS.values()]
        proxy.start()
        proxy.apply(document([mode]))


def tearDownModule():
    workspace.close()


def connect(mode, name, **more):
    return proxies[mode].psycopg2('%s-%s' % (name, mode), dbname=DATABASES[mode], **more)


def wire(mode, name, **params):
    options = '-c pgporter.tenant=%s-%s' % (name, mode) + ''.join(' -c %s=%s' % item for item in params.items())
    return proxies[mode].wire(None, database=DATABASES[mode], params={'options': options})


def rows(cursor, sql, values=None):
    cursor.execute(sql, values)
    return cursor.fetchall()


class EachMode(unittest.TestCase):
    def test_rows_of_the_own_tenant_only(self):
        """By turns on one server connection (in mode login: on the one place that the cap leaves), in simple and extended protocol."""
        for mode in DATABASES:
            sessions = {name: connect(mode, name).cursor() for name in KEYS}
            pids = {name: set() for name in KEYS}
            for _ in range(4):
                for name, cursor in sessions.items():
                    with self.subTest(mode=mode, tenant=name):
                        self.assertEqual(rows(cursor, 'SELECT DISTINCT tenant_id FROM orders'), [(KEYS[name],)])
                        self.assertEqual(rows(cursor, "SELECT current_setting('app.tenant')"), [(KEYS[name],)])
                        self.assertEqual(rows(cursor, "SELECT count(*) FROM orders WHERE tenant_id <> %s", (KEYS[name],)), [(0,)])
                        pids[name].add(rows(cursor, 'SELECT pg_backend_pid()')[0][0])
            if mode != 'login':
                self.assertEqual(pids['acme'], pids['globex'], 'the sessions never shared a server connection')

    def test_writes_stay_with_the_tenant(self):
        for mode in DATABASES:
            with self.subTest(mode=mode):
                acme, globex = (connect(mode, name).cursor() for name in KEYS)
                acme.execute("INSERT INTO orders (item) VALUES ('new')")
                with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
                    acme.execute("INSERT INTO orders (tenant_id, item) VALUES ('43', 'stolen')")
                globex.execute("UPDATE orders SET item = 'changed'")
                globex.execute('DELETE FROM orders WHERE tenant_id = %s', ('42',))
                self.assertEqual(globex.rowcount, 0)
                self.assertEqual(rows(acme, "SELECT count(*) FILTER (WHERE item = 'changed'), count(*) FROM orders"), [(0, 6)])
                acme.execute("DELETE FROM orders WHERE item = 'new'")

    def test_who_the_session_is(self):
        for mode, expected in (('app', ('app', 'app', 'none')), ('role', ('app', 'crm_42', 'crm_42')),
                               ('login', ('crm_login_42', 'crm_login_42', 'none'))):
            cursor = connect(mode, 'acme').cursor()
            self.assertEqual(rows(cursor, "SELECT session_user::text, current_user::text, current_setting('role')"), [expected], mode)

    def test_startup_settings_that_contradict_the_tenant(self):
        for mode, name, value, sqlstate in (('app', 'app.tenant', '43', '28000'), ('role', 'app.tenant', '43', '28000'),
                                            ('role', 'role', 'crm_43', '42501'), ('role', 'role', 'none', '42501'), ('role', 'standard_conforming_strings', 'off', '42501')):
            with self.subTest(mode=mode, name=name), self.assertRaises(ServerError) as caught:
                wire(mode, 'acme', **{name: value})
            self.assertEqual(caught.exception.sqlstate, sqlstate)
        wire('role', 'acme', role='crm_42').close()

    def test_discard_and_reset_keep_the_tenant(self):
        for mode in DATABASES:
            cursor = connect(mode, 'acme').cursor()
            before = rows(cursor, "SELECT current_user, current_setting('app.tenant')")
            for statement in ('DISCARD ALL', 'RESET ALL', 'RESET app.tenant'):
                with self.subTest(mode=mode, statement=statement):
                    cursor.execute(statement)
                    self.assertEqual(rows(cursor, "SELECT current_user, current_setting('app.tenant')"), before)
                    self.assertEqual(rows(cursor, 'SELECT DISTINCT tenant_id FROM orders'), [('42',)])

    def test_discard_and_reset_in_a_pipeline(self):
        """In the extended protocol what follows runs in the same batch: nobody's rows, or the own ones."""
        for mode, own in (('app', []), ('role', None), ('login', [('crm_login_42', '42')])):
            for first in ('DISCARD ALL', 'RESET ALL', 'RESET app.tenant'):
                with self.subTest(mode=mode, first=first):
                    session = wire(mode, 'acme')
                    session.send(b''.join(wire_client.parse('', text) + wire_client.bind() + wire_client.execute() for text in (
                        first, 'SELECT DISTINCT current_user::text, tenant_id FROM orders')) + wire_client.sync())
                    answer = session.recv_until('Z')
                    if mode == 'role' and first == 'DISCARD ALL':
                        self.assertEqual([kind for kind, _ in answer], ['E', 'Z'])
                        self.assertIn(b'C42501\0', answer[0][1])
                    else:
                        self.assertEqual(session._rows(answer), [('crm_42', '42')] if own is None else own)
                    self.assertEqual(session.run("SELECT tenant_id, current_setting('app.tenant') FROM orders LIMIT 1"), [('42', '42')])
                    session.close()


class RoleMode(unittest.TestCase):
    LEAVING = ('RESET ROLE', 'SET ROLE none', 'SET ROLE crm_43', 'SET LOCAL ROLE crm_43', 'SET SESSION AUTHORIZATION DEFAULT',
               "SELECT set_config('role', 'crm_43', false)", "SELECT set_config('ro' || 'le', 'crm_43', false)", 'SELECT 1; RESET ROLE; SELECT 2',
               "UPDATE pg_settings SET setting = 'crm_43' WHERE name = 'role'", 'SET standard_conforming_strings = off')

    def test_the_role_is_not_left_by_sql(self):
        cursor = connect('role', 'acme').cursor()
        for statement in self.LEAVING:
            with self.subTest(statement=statement):
                with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
                    cursor.execute(statement)
                self.assertEqual(rows(cursor, 'SELECT current_user::text, count(*) FROM orders GROUP BY 1'), [('crm_42', 5)])

    def test_the_role_is_not_left_by_prepared_statements(self):
        for statement in self.LEAVING:
            for name in ('', 'named'):
                with self.subTest(statement=statement, name=name):
                    session = wire('role', 'acme')
                    session.send(wire_client.parse(name, statement) + wire_client.sync())
                    answer = session.recv_until('Z')
                    self.assertEqual([kind for kind, _ in answer], ['E', 'Z'])
                    self.assertIn(b'C42501\0', answer[0][1])
                    self.assertEqual(session.run('SELECT current_user::text'), [('crm_42',)])
                    session.close()

    def test_in_a_transaction_the_refusal_fails_it(self):
        connection = connect('role', 'acme', autocommit=False)
        cursor = connection.cursor()
        cursor.execute('SELECT 1')
        with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute('RESET ROLE')
        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute('SELECT 1')
        connection.rollback()
        self.assertEqual(rows(cursor, 'SELECT current_user::text'), [('crm_42',)])
        connection.close()

    def test_a_session_that_left_its_role_in_a_block_is_ended(self):
        for begin in ('SELECT 1', 'BEGIN'):
            with self.subTest(begin=begin):
                session = wire('role', 'acme')
                session.run(begin)
                with self.assertRaises(Exception) as caught:
                    session.run("DO $$ BEGIN EXECUTE 'SET ROLE crm_43'; END $$")
                    session.run('SELECT tenant_id FROM orders')
                session.close()
                self.assertIn('left its tenant', str(caught.exception))
                self.assertEqual(rows(connect('role', 'globex').cursor(), 'SELECT DISTINCT tenant_id FROM orders'), [('43',)])

    def test_a_session_that_reset_its_role_in_a_block_has_it_again(self):
        for begin in ('SELECT 1', 'BEGIN'):
            with self.subTest(begin=begin):
                session = wire('role', 'acme')
                session.run(begin)
                session.run("DO $$ BEGIN EXECUTE 'RESET ' || 'ROLE'; END $$")
                self.assertEqual(session.run('SELECT current_user::text, count(*) FROM orders GROUP BY 1'), [('crm_42', '5')])
                session.close()

    def test_function_calls_by_number_are_refused(self):
        number = server.sql("SELECT 'pg_catalog.set_config'::regproc::oid", DATABASES['role'])[0][0]
        session = wire('role', 'acme')
        values = b''.join(struct.pack('!I', len(a)) + a for a in (b'role', b'crm_43', b'f'))
        body = struct.pack('!IHHH', number, 1, 0, 3) + values + struct.pack('!H', 0)
        session.send(b'F' + struct.pack('!I', len(body) + 4) + body)
        answer = session.recv_until('E')
        self.assertIn(b'C42501\0', answer[-1][1])

    def test_saying_the_same_role_again_is_allowed(self):
        cursor = connect('role', 'acme').cursor()
        cursor.execute('SET ROLE crm_42')
        self.assertEqual(rows(cursor, 'SELECT DISTINCT tenant_id FROM orders'), [('42',)])


class Settings(unittest.TestCase):
    def test_the_setting_is_not_changed_by_sql(self):
        for mode in DATABASES:
            cursor = connect(mode, 'acme').cursor()
            for statement in ("SET app.tenant = '43'", "SET LOCAL App.Tenant TO '43'", "SELECT set_config('app.tenant', '43', false)"):
                with self.subTest(mode=mode, statement=statement):
                    with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
                        cursor.execute(statement)
                    self.assertEqual(rows(cursor, 'SELECT DISTINCT tenant_id FROM orders'), [('42',)])
            cursor.execute("SET app.tenant = '42'")

    def test_in_mode_login_a_hidden_change_shows_nothing_of_others(self):
        for statement in ("SELECT hidden_set('app.tenant', '43'), (SELECT string_agg(DISTINCT tenant_id, ',') FROM orders)",
                          "SELECT hidden_set('role', 'none'), (SELECT string_agg(DISTINCT tenant_id, ',') FROM orders)"):
            cursor = connect('login', 'acme').cursor()
            self.assertEqual(rows(cursor, statement), [('done', '42')])
        with self.assertRaises(psycopg2.Error):
            rows(cursor, "SELECT hidden_set('role', 'crm_login_43')")

    def test_a_hidden_change_reaches_no_other_session(self):
        for mode in DATABASES:
            session = connect(mode, 'acme').cursor()
            with contextlib.suppress(psycopg2.Error):
                rows(session, "SELECT hidden_set('app.tenant', '43')")
            self.assertEqual(rows(connect(mode, 'globex').cursor(), "SELECT current_setting('app.tenant')"), [('43',)])
            self.assertEqual(rows(connect(mode, 'acme').cursor(), "SELECT current_setting('app.tenant')"), [('42',)], mode)

    def test_a_session_that_changed_it_in_a_block_is_ended(self):
        session = wire('app', 'acme')
        with self.assertRaises(Exception) as caught:
            session.run("DO $$ BEGIN PERFORM set_config('app.' || 'tenant', '43', false); END $$")
            session.run('SELECT tenant_id FROM orders')
        self.assertIn('changed app.tenant', str(caught.exception))


class Catalog(unittest.TestCase):
    def test_apply_refuses_what_the_mode_can_not_keep_apart(self):
        entry = document(['role'])
        del entry['tenants'][1]['role']
        proxies['role'].write('bad.yaml', fixture.yaml_text(entry))
        done = proxies['role'].command('apply', '-f', os.path.join(proxies['role'].folder, 'bad.yaml'))
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r'bad\.yaml:\d+: tenants\[1\]\.role: tenant "globex-role": .* needs a role of its own')

    def test_a_tenant_whose_role_has_no_password_is_not_served(self):
        proxy = proxies['login']
        server.sql('CREATE ROLE crm_login_44 LOGIN')
        more = document(['login'])
        more['tenants'] = [{'name': 'third', 'key': '44', 'role': 'crm_login_44', 'placement': more['tenants'][0]['placement']}]
        proxy.apply(more)
        try:
            with self.assertRaises(ServerError) as caught:
                proxy.wire('third', database=DATABASES['login'])
            self.assertEqual(caught.exception.sqlstate, '58000')
            self.assertIn('no password for the tenant\'s role "crm_login_44"', str(caught.exception))
        finally:
            self.assertEqual(proxy.command('forget', 'third').returncode, 0)
            server.sql('DROP ROLE crm_login_44')

    def test_sessions_go_on_when_the_mode_becomes_stricter(self):
        """Unless they have prepared what the new mode refuses."""
        proxy = proxies['app']
        server.sql('CREATE DATABASE changing OWNER app')
        entry = {'clusters': document(['app'])['clusters'], 'databases': [{'cluster': 'main', 'name': 'changing'}],
                 'tenants': [{'name': 'late', 'role': 'app', 'placement': {
                     'kind': 'schema', 'cluster': 'main', 'database': 'changing', 'schema': 'late'}}]}
        proxy.apply(entry)
        cursor = proxy.psycopg2('late', dbname='changing').cursor()
        self.assertEqual(rows(cursor, 'SELECT 1'), [(1,)])
        prepared = proxy.wire('late', database='changing')
        prepared.send(wire_client.parse('leave', 'RESET ROLE') + wire_client.sync())
        self.assertEqual([kind for kind, _ in prepared.recv_until('Z')], ['1', 'Z'])
        entry['databases'][0]['isolation'] = 'role'
        proxy.apply(entry)
        self.assertEqual(rows(cursor, "SELECT current_setting('role')"), [('app',)])
        with self.assertRaises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute('RESET ROLE')
        prepared.send(wire_client.bind('', 'leave') + wire_client.execute() + wire_client.sync())
        answer = prepared.recv_until('Z')
        self.assertEqual([kind for kind, _ in answer], ['E', 'Z'])
        self.assertIn(b'C42501\0', answer[0][1])
        done = proxy.command('promote', 'late', '--to', 'main/elsewhere', '--dry-run', '--json')
        self.assertEqual([b['code'] for b in json.loads(done.stdout)['blockers']], ['isolation'])


if __name__ == '__main__':
    fixture.main(__name__)
