"""The doctor: it says nothing of a sound database, finds each planted defect, and its self-test fails when sessions see what isn't theirs.
Every defect is planted alone and taken back."""
import contextlib
import json
import os
import unittest
import unittest.mock

import doctor_defects
import fixture
import test_isolation_modes as modes

# SQL that makes the defect, SQL that takes it back, the finding's code, severity, and a part of its object.
ROWS_DEFECTS = [
    ('ALTER ROLE app SUPERUSER', 'ALTER ROLE app NOSUPERUSER', 'login_superuser', 'blocker', 'app'),
    ('ALTER ROLE app BYPASSRLS', 'ALTER ROLE app NOBYPASSRLS', 'login_bypassrls', 'blocker', 'app'),
    ('ALTER TABLE orders DISABLE ROW LEVEL SECURITY', 'ALTER TABLE orders ENABLE ROW LEVEL SECURITY', 'rls_disabled', 'blocker', 'public.orders'),
    ('ALTER TABLE orders NO FORCE ROW LEVEL SECURITY', 'ALTER TABLE orders FORCE ROW LEVEL SECURITY', 'rls_not_forced', 'warning', 'public.orders'),
    ('ALTER TABLE orders NO FORCE ROW LEVEL SECURITY; ALTER TABLE orders OWNER TO app',
     'ALTER TABLE orders FORCE ROW LEVEL SECURITY; ALTER TABLE orders OWNER TO postgres; GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app',
     'owner_not_forced', 'blocker', 'public.orders'),
    ('ALTER TABLE orders OWNER TO app', 'ALTER TABLE orders OWNER TO postgres; GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app',
     'login_owns_table', 'warning', 'public.orders'),
    ('CREATE TABLE bare (tenant_id text); ALTER TABLE bare ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', 'DROP TABLE bare', 'no_policy',
     'blocker', 'public.bare'),
    ('CREATE TABLE countries (name text)', 'DROP TABLE countries', 'table_without_column', 'warning', 'public.countries'),
    ("CREATE TABLE countries (name text); COMMENT ON TABLE countries IS 'pgporter: global'", 'DROP TABLE countries', None, None, None),
]
ROLE_DEFECTS = [
    ('ALTER ROLE crm_42 SUPERUSER', 'ALTER ROLE crm_42 NOSUPERUSER', 'role_superuser', 'blocker', 'acme-role'),
    ('ALTER ROLE crm_42 BYPASSRLS', 'ALTER ROLE crm_42 NOBYPASSRLS', 'role_bypassrls', 'blocker', 'acme-role'),
    ('GRANT crm_43 TO crm_42', 'REVOKE crm_43 FROM crm_42', 'role_is_member', 'blocker', 'acme-role'),
    ('REVOKE crm_43 FROM app', 'GRANT crm_43 TO app', 'role_not_granted', 'blocker', 'globex-role'),
    ('ALTER ROLE app INHERIT', 'ALTER ROLE app NOINHERIT', 'login_inherits_role', 'warning', 'acme-role'),
    ('ALTER ROLE app CREATEROLE', 'ALTER ROLE app NOCREATEROLE', 'login_createrole', 'warning', 'app'),
    ('ALTER ROLE crm_42 RENAME TO crm_x', 'ALTER ROLE crm_x RENAME TO crm_42', 'role_missing', 'blocker', 'acme-role'),
]
LOGIN_DEFECTS = [
    ('ALTER ROLE crm_login_42 NOLOGIN', 'ALTER ROLE crm_login_42 LOGIN', 'role_cannot_login', 'blocker', 'acme-login'),
    ('ALTER ROLE crm_login_42 BYPASSRLS', 'ALTER ROLE crm_login_42 NOBYPASSRLS', 'role_bypassrls', 'blocker', 'acme-login'),
    ('GRANT crm_login_43 TO crm_login_42', 'REVOKE crm_login_43 FROM crm_login_42', 'role_is_member', 'blocker', 'acme-login'),
]
SCHEMA_DEFECTS = [
    ('ALTER SCHEMA s_acme RENAME TO gone', 'ALTER SCHEMA gone RENAME TO s_acme', 'schema_missing', 'blocker', 's-acme'),
    ('GRANT USAGE ON SCHEMA s_acme TO s_globex', 'REVOKE USAGE ON SCHEMA s_acme FROM s_globex', 'role_reaches_tenant', 'blocker', 's-globex'),
    ('GRANT USAGE ON SCHEMA s_globex TO PUBLIC', 'REVOKE USAGE ON SCHEMA s_globex FROM PUBLIC', 'role_reaches_tenant', 'blocker', 's-acme'),
    ('REVOKE USAGE ON SCHEMA s_acme FROM s_acme', 'GRANT USAGE ON SCHEMA s_acme TO s_acme', 'role_without_schema', 'blocker', 's-acme'),
]


def setUpModule():
    modes.setUpModule()
    modes.server.sql('CREATE DATABASE schemas')
    for name in ('s_acme', 's_globex'):
        modes.server.sql('CREATE ROLE {0}; GRANT {0} TO app; CREATE SCHEMA {0}; GRANT USAGE ON SCHEMA {0} TO {0}'.format(name), 'schemas')
    document = modes.document(['role'])
    document['databases'] = [{'cluster': 'main', 'name': 'schemas', 'isolation': 'role'}]
    document['tenants'] = [{'name': name.replace('_', '-'), 'role': name, 'placement': {
        'kind': 'schema', 'cluster': 'main', 'database': 'schemas', 'schema': name}} for name in ('s_acme', 's_globex')]
    modes.proxies['role'].apply(document)


def tearDownModule():
    modes.tearDownModule()


def doctor(mode, *arguments, database=None):
    """(exit code, the report)."""
    done = modes.proxies[mode].command('doctor', 'main/' + (database or modes.DATABASES[mode]), '--json', *arguments)
    if not done.stdout.startswith('{'):
        raise AssertionError('no report (%d): %s%s' % (done.returncode, done.stdout, done.stderr))
    return done.returncode, json.loads(done.stdout)


class Doctor(unittest.TestCase):
    def test_a_sound_database_has_no_findings(self):
        for mode in modes.DATABASES:
            code, report = doctor(mode)
            with self.subTest(mode=mode):
                self.assertEqual(report['findings'], [])
                self.assertTrue(report['ok'])
                self.assertEqual(code, 0)
                self.assertEqual((report['isolation'], report['tenants'], report['tables']), (mode, 2, 1))
                trial = report['self_test'][0]
                self.assertEqual((trial['way'], trial['ran'], trial['ok'], trial['rounds'], trial['failures']), ('login', True, True, 20, []))
                self.assertEqual(trial['tables_read'], 1)
                self.assertEqual(trial['shared_backends'], 0 if mode == 'login' else 1)
                self.assertEqual(report['self_test'][1]['note'], 'identify.sql is off')
                if mode != 'login':
                    none = report['self_test'][2]
                    self.assertEqual((none['way'], none['ran'], none['failures'], none['tables_read']), ('none', True, [], 1 if mode == 'app' else 0))
        self.assertEqual(doctor('role', database='schemas')[1]['findings'], [])

    def find(self, mode, defects, database=None):
        before = doctor(mode, '--no-self-test', database=database)[1]['findings']
        self.assertEqual(before, [])
        for plant, take_back, code, severity, thing in defects:
            with self.subTest(plant=plant):
                modes.server.sql(plant, database or modes.DATABASES[mode])
                try:
                    status, report = doctor(mode, '--no-self-test', database=database)
                finally:
                    modes.server.sql(take_back, database or modes.DATABASES[mode])
                found = [(f['code'], f['severity'], f['object']) for f in report['findings']]
                if code is None:
                    self.assertEqual(found, [])
                    continue
                self.assertIn((code, severity, thing), found)
                self.assertEqual(status, 1 if any(f['severity'] == 'blocker' for f in report['findings']) else 0)
                self.assertEqual(report['ok'], status == 0)
                for finding in report['findings']:
                    self.assertTrue(finding['reason'] and finding['remedy'], finding)

    def test_each_defect_of_shared_tables(self):
        self.find('app', ROWS_DEFECTS)

    def test_each_way_around_policies(self):
        self.find('app', doctor_defects.FOOLING)

    def test_each_defect_of_roles(self):
        self.find('role', ROLE_DEFECTS)

    def test_each_defect_of_logins(self):
        self.find('login', LOGIN_DEFECTS)

    def test_each_defect_of_schemas(self):
        self.find('role', SCHEMA_DEFECTS, 'schemas')

    def test_a_password_that_is_missing(self):
        proxy = modes.proxies['login']
        modes.server.sql('CREATE ROLE crm_login_44 LOGIN IN ROLE crm_logins')
        document = modes.document(['login'])
        document['tenants'] = [{'name': 'third', 'key': '44', 'role': 'crm_login_44', 'placement': document['tenants'][0]['placement']}]
        proxy.apply(document)
        try:
            status, report = doctor('login', '--no-self-test')
            self.assertEqual(status, 1)
            self.assertEqual([(f['code'], f['object']) for f in report['findings']], [('server_login_missing', 'third')])
        finally:
            proxy.command('forget', 'third')
            modes.server.sql('DROP ROLE crm_login_44')

    def test_text_and_refusals(self):
        proxy = modes.proxies['app']
        done = proxy.command('doctor', 'main/crm')
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn('nothing found', done.stdout)
        self.assertIn('self-test, tenants named by login: passed, 20 rounds, 1 tables read', done.stdout)
        self.assertEqual(proxy.command('doctor', 'main/nowhere').returncode, 1)
        self.assertEqual(proxy.command('doctor', 'crm').returncode, 2)
        status, problem = proxy.http('POST', '/v1/clusters/main/databases/crm:check', {'pasword': 'x'})
        self.assertEqual(status, 400, problem)
        for name in (proxy.log(), done.stdout, done.stderr):
            self.assertNotIn(fixture.PASSWORDS['app'], name)

    def test_the_self_test_names_tenants_by_sql_too(self):
        """Where identify.sql is on: either both tenants are seen by turns on one connection, or it says why that isn't tried."""
        proxy = fixture.Pgporter(modes.workspace, modes.server, name='pgporter-sql')
        proxy.config['catalog']['dsn'] = proxy.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=catalog_app')
        proxy.start()
        modes.proxies['sql'] = proxy
        try:
            status, report = doctor('sql', database=modes.DATABASES['app'])
        finally:
            del modes.proxies['sql']
            proxy.stop()
        trial = report['self_test'][1]
        self.assertEqual((status, trial['way'], trial['failures']), (0, 'sql', []), report)
        self.assertTrue(trial['ran'] or "can't name a tenant by SQL" in trial['note'], trial)

    def test_the_self_test_finds_what_no_look_at_the_catalogs_shows(self):
        """A policy that calls a function which lets everybody in; one that lets in who is empty; a view and a function's rows."""
        setting = doctor_defects.SETTING
        for plant, take_back, failure in (
                ("CREATE FUNCTION open_to(text) RETURNS boolean LANGUAGE sql AS 'SELECT $1 IS NOT NULL'; CREATE POLICY odd ON orders USING (open_to(tenant_id))",
                 'DROP POLICY odd ON orders; DROP FUNCTION open_to(text)', 'tenant acme-app sees rows of others in public.orders'),
                ("CREATE FUNCTION who() RETURNS text LANGUAGE sql AS $$SELECT coalesce(nullif(%s, ''), '42')$$; "
                 'CREATE POLICY odd ON orders USING (tenant_id = who())' % setting, 'DROP POLICY odd ON orders; DROP FUNCTION who()',
                 'app, with app.tenant empty, sees rows in public.orders'),
                ('CREATE VIEW shown AS SELECT * FROM orders; GRANT SELECT ON shown TO app', 'DROP VIEW shown',
                 'tenant globex-app sees rows of others in public.shown'),
                ('CREATE MATERIALIZED VIEW kept AS SELECT * FROM orders; GRANT SELECT ON kept TO app', 'DROP MATERIALIZED VIEW kept',
                 "app, with app.tenant nobody's key, sees rows in public.kept")):
            with self.subTest(plant=plant):
                modes.server.sql(plant, modes.DATABASES['app'])
                try:
                    status, report = doctor('app')
                finally:
                    modes.server.sql(take_back, modes.DATABASES['app'])
                self.assertEqual(status, 1)
                self.assertIn(failure, [text for trial in report['self_test'] for text in trial['failures']])

    def test_the_self_test_fails_on_a_leak(self):
        """A policy that lets everybody see everything: rows of others. And a wrong password: no login."""
        modes.server.sql('CREATE POLICY everybody ON orders USING (true)', modes.DATABASES['app'])
        try:
            status, report = doctor('app')
        finally:
            modes.server.sql('DROP POLICY everybody ON orders', modes.DATABASES['app'])
        self.assertEqual(status, 1)
        self.assertIn('tenant acme-app sees rows of others in public.orders', report['self_test'][0]['failures'])
        none = report['self_test'][2]
        self.assertEqual((none['way'], none['ran'], none['ok'], none['rounds']), ('none', True, False, 3))
        self.assertIn('app, with app.tenant unset, sees rows in public.orders', none['failures'])
        environment = {'PGPORTER_DOCTOR_PASSWORD': 'wrong'}
        with unittest.mock.patch.dict(os.environ, environment):
            status, report = doctor('app')
        self.assertEqual(status, 1)
        self.assertFalse(report['self_test'][0]['ran'])
        self.assertIn('password authentication failed', report['self_test'][0]['failures'][0])


if __name__ == '__main__':
    with contextlib.suppress(KeyboardInterrupt):
        fixture.main(__name__)
