"""Tenants named in SQL: what fails closed, with which SQLSTATE and words, what a session without a tenant may do, and where it runs."""

import fixture
import naming_case
import naming_world
import wire_client as w
from conversation import q, run, x
from wire_client import ServerError


def setUpModule():
    naming_case.start(globals())


def tearDownModule():
    naming_case.end()


class FailClosed(naming_case.Base):
    def test_two_tenants_in_one_path(self):
        for path in ('acme, globex', 'acme, public, umbrella', "'globex','acme'"):
            for login in (None, 'initech'):
                wire = self.wire(login)
                self.refused(wire, 'SET search_path TO ' + path, '0A000', 'two tenants')
                if login:
                    self.assertEqual(self.who(wire), login)
                else:
                    self.assertEqual(self.who_is_nobody(wire), '0A000')
        wire = self.wire()
        self.refused(wire, "SELECT set_config('search_path', $1, false)", '0A000', '"acme"', '"globex"', prepared=True, values=['acme, globex'])
        wire.run('SET search_path TO umbrella')
        self.assertEqual(self.who(wire), 'umbrella')

    def test_unknown_schema_without_a_tenant_of_the_login(self):
        wire = self.wire()
        for sql in ('SET search_path TO nosuch', "SET search_path = 'nosuch','public'", 'SET search_path TO acme, nosuch',
            'SET search_path TO nosuch, acme',
                    "SET SCHEMA 'nosuch'", "SELECT set_config('search_path', 'nosuch', false)", 'SET search_path TO "ACME"'):
            self.refused(wire, sql, '3F000', 'search_path', '"ACME"' if 'ACME' in sql else '"nosuch"')
            self.refused(wire, sql, '3F000', prepared=True)
        self.refused(wire, 'SHOW search_path', '3F000', '"ACME"')
        wire.run('RESET search_path')
        self.assertEqual(wire.run('SHOW search_path'), [('"$user", public',)])
        wire.run('SET search_path TO acme')
        self.refused(wire, 'SET search_path TO nosuch', '3F000')
        self.assertEqual(self.who_is_nobody(wire), '3F000')
        wire.run('SET search_path TO acme')
        self.assertEqual(self.who(wire), 'acme')

    def test_nobody_reads_on_behind_a_refused_naming(self):
        """PostgreSQL would have obeyed. A framework that takes no notice of our refusal (django-tenants) must not read on as the tenant before."""
        refused = (('SET search_path TO nosuch', '3F000'), ("SET SCHEMA 'nosuch'", '3F000'),
                   ("SELECT set_config('search_path', 'nosuch', false)", '3F000'), ('SET search_path TO acme, globex', '0A000'),
                   ("SET app.tenant = 'nosuch'", '3D000'), ("SET pgporter.tenant = 'nosuch'", '3D000'),
                   ("SELECT set_config('search_path', 'glo' || 'bex', false)", '0A000'),
                   ('SET statement_timeout = 0; SET search_path TO nosuch', '3F000'))
        for sql, state in refused:
            for prepared in (False, True):
                if prepared and ';' in sql:
                    continue
                with self.subTest(sql, prepared=prepared):
                    self.refuse_and_read(sql, state, prepared)

    def refuse_and_read(self, sql, state, prepared):
        wire = self.wire()
        wire.run('SET search_path TO acme')
        self.assertEqual(self.who(wire), 'acme')
        self.refused(wire, sql, state, prepared=prepared)
        self.assertEqual(self.who_is_nobody(wire), state)
        with self.assertRaises(ServerError):
            wire.run_prepared('SELECT tenant FROM whoami')
        wire.run('BEGIN')
        self.assertEqual(self.who_is_nobody(wire), state)
        wire.run('ROLLBACK')
        wire.run('SET search_path TO globex')
        if 'tenant = ' in sql:  # names nobody still
            self.assertEqual(self.who_is_nobody(wire), state)
            wire.run('RESET ALL')
            wire.run('SET search_path TO globex')
        self.assertEqual(self.who(wire), 'globex')
        wire.close()

    def test_a_transaction_names_its_own_behind_a_refused_naming(self):
        wire = self.wire()
        wire.run('SET search_path TO acme')
        self.refused(wire, 'SET search_path TO nosuch', '3F000')
        for end in ('COMMIT', 'ROLLBACK'):
            wire.run('BEGIN')
            wire.run('SET LOCAL search_path TO globex')
            self.assertEqual(self.who(wire), 'globex')
            wire.run(end)
            self.assertEqual(self.who_is_nobody(wire), '3F000')
        wire.run('BEGIN')
        wire.run('SET search_path TO globex')
        wire.run('ROLLBACK')
        self.assertEqual(self.who_is_nobody(wire), '3F000')

    def test_several_names_in_one_literal_are_one_schema(self):
        """SET SCHEMA 'a,b' and SET search_path = 'a,b' name one schema with a comma in it: nobody's."""
        wire = self.wire()
        self.refused(wire, "SET SCHEMA 'acme,public'", '3F000', '"acme,public"')
        self.refused(wire, "SET search_path = 'acme,public'", '3F000', '"acme,public"')
        self.refused(wire, "SET search_path TO 'acme, globex'", '3F000')
        wire.run("SELECT set_config('search_path', 'acme,public', false)")  # here it is a list
        self.assertEqual(self.who(wire), 'acme')

    def test_unknown_tenant_of_a_setting(self):
        for name in naming_world.SETTINGS:
            wire = self.wire()
            error = self.refused(wire, "SET %s = 'nosuch'" % name, '3D000')
            self.assertEqual(error.fields['M'], 'tenant "nosuch" doesn\'t exist or user "app" may not speak for it')
            self.refused(wire, 'SELECT set_config($1, $2, false)', '3D000', '"nosuch"', prepared=True, values=[name, 'nosuch'])
            self.refused(wire, 'SELECT 1', '3D000', '"nosuch"')
            wire.run('RESET ' + name)
            self.assertEqual(wire.run('SELECT 1'), [('1',)])
        wire = self.wire()
        self.refused(wire, "SELECT set_config('request.jwt.claims', '{\"app_metadata\": {\"tenant_id\": \"nosuch\"}}', false)", '3D000', '"nosuch"')
        self.refused(wire, "SELECT set_config('request.jwt.claims', '{broken', false)", '22023', 'request.jwt.claims')

    def test_forbidden_looks_like_unknown(self):
        wire = self.wire(user='other')
        for sql in ("SET app.tenant = '%s'", "SET pgporter.tenant = '%s'", "SELECT set_config('rls.tenant_id', '%s', false)",
                    'SET search_path TO %s', "SET SCHEMA '%s'", "SELECT set_config('search_path', '%s', false)", 'SET search_path TO %s; SELECT 1',
                    "SELECT set_config('request.jwt.claims', '{\"app_metadata\": {\"tenant_id\": \"%s\"}}', false)"):
            state = '3F000' if 'search_path' in sql or 'SCHEMA' in sql else '3D000'
            forbidden = self.refused(wire, sql % 'acme', state)
            elsewhere = self.refused(wire, sql % 'umbrella', state)
            unknown = self.refused(wire, sql % 'nosuch', state)
            texts = {str(sorted(e.fields.items())).replace(n, 'X') for e, n in ((forbidden, 'acme'), (elsewhere, 'umbrella'), (unknown, 'nosuch'))}
            self.assertEqual(len(texts), 1, texts)
            wire.run('DISCARD ALL')
        wire.run('SET search_path TO globex')
        self.assertEqual(self.who(wire), 'globex')
        self.refused(wire, 'SET search_path TO acme', '3F000')
        self.assertEqual(self.who_is_nobody(wire), '3F000')
        wire.run('SET search_path TO globex')
        self.assertEqual(self.who(wire), 'globex')

    def test_forbidden_with_a_tenant_of_the_login(self):
        wire = self.wire('globex', user='other')
        for sql in ('SET search_path TO acme, public', "SET app.tenant = 'acme'", 'SET search_path TO globex, acme', "SET SCHEMA 'umbrella'"):
            with self.subTest(sql):
                with self.assertRaises(ServerError) as caught:
                    wire.run(sql)
                self.assertIn(caught.exception.sqlstate, ('3F000', '3D000', '0A000'))
            self.assertEqual(self.who(wire), 'globex', sql)

    def test_computed_values(self):
        """pgporter can't know what comes out, so it doesn't let it happen, at home and for a tenant."""
        for login in (None, 'acme', 'umbrella'):
            wire = self.wire(login)
            for sql in ("SELECT set_config('search_path', (SELECT 'globex'), false)", "SELECT set_config('search_path', 'glo' || 'bex', false)",
                        "SELECT set_config('app.tenant', lower('GLOBEX'), true)", "SELECT set_config('pgporter.tenant', current_user, false)",
                        "SELECT 1, set_config('search_path', 'globex', false)",
                        "SELECT set_config('search_path', n, false) FROM (VALUES ('globex')) v(n)",
                        'SET search_path TO U&"glob\\0065x"', "SELECT set_config('search_path', U&'globex', false)"):
                with self.assertRaises(ServerError, msg=sql) as caught:
                    wire.run(sql)
                self.assertIn(caught.exception.sqlstate, ('0A000',), sql)
                with self.assertRaises(ServerError, msg=sql) as caught:
                    wire.run_prepared(sql)
                self.assertIn(caught.exception.sqlstate, ('0A000',), sql)
                if login:
                    self.assertEqual(self.who(wire), login, sql)
            self.refused(wire, "BEGIN; SELECT 1; SELECT set_config('search_path', (SELECT 'globex'), true)", '0A000')
            self.assertEqual(wire.status, 'E')
            wire.run('ROLLBACK')

    def test_names_that_are_computed_too(self):
        """PostGraphile's list: the names come out of JSON. Refused, or served right; never in silence for nobody or somebody else."""
        for tenant in naming_world.TENANTS:
            for login in (None, 'initech'):
                wire = self.wire(login)
                wire.run('BEGIN')
                seen = None
                try:
                    wire.run_prepared('select set_config(el->>0, el->>1, true) from json_array_elements($1::json) el',
                                      ['[["search_path", "%s"], ["app.tenant", "%s"]]' % (tenant, tenant)])
                    seen = wire.run('SELECT tenant FROM public.rls_items') + wire.run('SELECT tenant FROM whoami')
                except ServerError as error:
                    self.assertIn(error.sqlstate, ('0A000', '42P01'))
                self.assertIn(seen, (None, [(tenant,), (tenant,)]))
                wire.run('ROLLBACK')
                if login:
                    self.assertEqual(self.who(wire), login)

    def test_null_and_missing_values(self):
        wire = self.wire('acme')
        self.assertEqual(wire.run_prepared("SELECT set_config('app.tenant', $1, false)", [None]), [('',)])
        self.assertEqual(self.who(wire), 'acme')
        wire.run("SET app.tenant = ''")
        self.assertEqual(self.who(wire), 'acme')
        self.both('set_config with NULL', [
            x(run("SELECT set_config('search_path', $1, false)", [None])), q('SHOW search_path'),
                x(run('SELECT set_config($1, $2, false)', [None, 'acme'])),
            x(run("SELECT set_config('search_path', 'acme', $1)", [None])), q("SELECT set_config('search_path', NULL, false)"),
            x(run("SELECT set_config('search_path', 'acme', $1)", ['maybe'])), x(run("SELECT set_config('search_path', $1, false)", []))])

    def test_contradictions(self):
        wire = self.wire()
        wire.run("SET app.tenant = 'acme'")
        with self.assertRaises(ServerError) as caught:
            wire.run('SET search_path TO umbrella')
            wire.run('SELECT tenant FROM whoami')
        self.assertIn(caught.exception.sqlstate, ('28000', '0A000'))
        self.assertIn('"acme"', caught.exception.fields['M'])
        self.assertIn('"umbrella"', caught.exception.fields['M'])
        with self.assertRaises(ServerError):
            wire.run('SELECT tenant FROM public.rls_items')
        wire.run('RESET app.tenant')
        self.assertEqual(self.who(wire), 'umbrella')
        wire.run("SET my.current_tenant = 'umbrella'")
        self.assertEqual(self.who(wire), 'umbrella')
        wire.run("SELECT set_config('app.tenant', 'umbrella', false), set_config('search_path', 'umbrella', false)")
        self.assertEqual(self.who(wire), 'umbrella')

    def test_no_tenant_reads_nothing(self):
        wire = self.wire()
        self.assertEqual(wire.run('SELECT tenant FROM public.rls_items'), [])
        self.refused(wire, 'SELECT tenant FROM whoami', '42P01', 'whoami')
        wire.run("SET my.current_tenant = 'acme'")
        self.assertEqual(wire.run('SELECT tenant FROM public.rls_items'), [('acme',)])
        wire.run('RESET my.current_tenant')
        self.assertEqual(wire.run('SELECT tenant FROM public.rls_items'), [])

    def test_suspended_tenant(self):
        proxy.apply({'tenants': [{'name': 'initech', 'state': 'suspended',
                                  'placement': {'kind': 'schema', 'cluster': 'main', 'database': 'app', 'schema': 'initech'}}]})
        try:
            wire = self.wire()
            with self.assertRaises(ServerError) as caught:
                wire.run('SET search_path TO initech')
                wire.run('SELECT tenant FROM whoami')
            self.assertEqual(caught.exception.sqlstate, '57P03')
            wire.run('SET search_path TO acme')
            self.assertEqual(self.who(wire), 'acme')
        finally:
            proxy.apply({'tenants': [{'name': 'initech', 'state': 'active',
                                      'placement': {'kind': 'schema', 'cluster': 'main', 'database': 'app', 'schema': 'initech'}}]})


class Identity(naming_case.Base):
    def test_home_is_no_tenant(self):
        self.assertEqual(self.wire().run('SELECT current_database()'), [('app',)])

    def test_placement_follows_the_name(self):
        wire = self.wire()
        for name in ('acme', 'umbrella', 'acme'):
            wire.run('SET search_path TO ' + name)
            self.assertEqual(wire.run('SELECT current_database(), tenant FROM whoami'), [(naming_world.DATABASE_OF[name], name)])
        wire.run('RESET search_path')
        self.assertEqual(wire.run('SELECT current_database()'), [('app',)])

    def test_settings_follow_the_session(self):
        wire = self.wire()
        wire.run("SET DateStyle = 'German'; SET app.x = 'mine'; SET statement_timeout = '33s'")
        for name in ('acme', 'umbrella', 'globex'):
            wire.run('SET search_path TO ' + name)
            self.assertEqual(wire.run("SELECT current_setting('DateStyle'), current_setting('app.x'), current_setting('statement_timeout')"),
                             [('German, DMY', 'mine', '33s')])

    def test_pinned_session_is_told(self):
        """LISTEN keeps the server connection: a tenant who lives elsewhere can't be served on it."""
        wire = self.wire()
        wire.run('SET search_path TO acme')
        wire.run('LISTEN something')
        with self.assertRaises(ServerError) as caught:
            wire.run('SET search_path TO umbrella')
            wire.run('SELECT tenant FROM whoami')
        self.assertEqual(caught.exception.sqlstate, '0A000')
        wire.run('UNLISTEN *')
        wire.run('DISCARD ALL')
        wire.run('SET search_path TO umbrella')
        self.assertEqual(self.who(wire), 'umbrella')

    def test_without_home(self):
        """No home: a session must name its tenant before its first statement."""
        lone = fixture.Pgporter(workspace, server, 'without-home')
        lone.start()
        try:
            with self.assertRaises(ServerError) as caught:
                wire = lone.wire(None)
                wire.run('SELECT 1')
            self.assertEqual(caught.exception.sqlstate, '3D000')
        finally:
            lone.stop()


if __name__ == '__main__':
    fixture.main(__name__)
