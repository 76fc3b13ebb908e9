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
            # A Query is judged whole, as PostgreSQL parses it whole: nothing of it has run.
            wire.send(w.query("BEGIN; SELECT 1; SELECT set_config('search_path', (SELECT 'globex'), true)"))
            self.assertEqual([kind for kind, _ in wire.recv_until('Z')], ['E', 'Z'])
            self.assertEqual(wire.status, 'I')
            wire.run('RESET ALL')

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


class NoOracle(naming_case.Base):
    """User `other` may speak for globex only: who it may not speak for looks to it like what doesn't exist, whatever way is tried."""

    def answer(self, attempt, name):
        """What is seen of an attempt that names somebody, without the name."""
        try:
            seen = attempt(name)
        except ServerError as error:
            seen = (error.sqlstate, error.fields['M'], error.fields.get('D'), error.fields.get('H'))
        return repr(seen).replace(name, '*')

    def same(self, attempt, names=('acme', 'umbrella')):
        for name in names:
            self.assertEqual(self.answer(attempt, name), self.answer(attempt, 'nobody'))

    def test_at_login(self):
        def sees(**more):
            wire = proxy.wire(**dict({'tenant': None, 'user': 'other'}, **more))
            seen = wire.run('SHOW search_path')
            wire.close()
            return seen
        password = fixture.PASSWORDS['other']
        for attempt in (lambda name: sees(tenant=name), lambda name: sees(database=name), lambda name: sees(database='app@' + name),
                        lambda name: sees(user='other.' + name, password=password), lambda name: sees(params={'app.tenant': name}),
                        lambda name: sees(params={'search_path': name}), lambda name: sees(params={'search_path': 'public, ' + name}),
                        lambda name: sees(tenant='globex', params={'search_path': name}), lambda name: sees(tenant='globex', database=name),
                        lambda name: sees(tenant='globex', params={'app.tenant': name})):
            self.same(attempt)
        # And nobody's row is seen by what couldn't name its owner.
        claims = '{"app_metadata": {"tenant_id": "acme"}}'
        for more, sqlstate in (({'search_path': 'acme'}, '3F000'), ({'search_path': 'public, acme'}, '3F000'), ({'app.tenant': 'acme'}, '3D000'),
                               ({'APP.Tenant': 'acme'}, '3D000'), ({'request.jwt.claims': claims}, '3D000'), ({'pgporter.tenant': 'acme'}, None),
                               ({'options': '-c pgporter.tenant=globex -c app.tenant=acme'}, '3D000')):
            for tenant in ('globex', None):
                with self.assertRaises(ServerError) as caught:
                    sees(tenant=tenant, params=more)
                self.assertIn(caught.exception.sqlstate, (sqlstate,) if sqlstate else ('3D000', '28000'), more)

    def test_claims_at_login_name_the_tenant(self):
        """As in SQL: row-level security reads them, so they aren't let through unread."""
        claims = '{"app_metadata": {"tenant_id": "%s"}}'
        wire = proxy.wire(None, params={'request.jwt.claims': claims % 'acme'})
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        self.same(lambda name: proxy.wire(None, user='other', params={'request.jwt.claims': claims % name}).run('SELECT tenant FROM rls_items'))
        with self.assertRaises(ServerError) as caught:
            proxy.wire(None, user='other', params={'request.jwt.claims': claims % 'acme'})
        self.assertEqual(caught.exception.sqlstate, '3D000')
        with self.assertRaises(ServerError) as caught:
            proxy.wire('globex', params={'request.jwt.claims': claims % 'acme'})
        self.assertEqual(caught.exception.sqlstate, '28000')
        with self.assertRaises(ServerError) as caught:
            proxy.wire(None, params={'request.jwt.claims': 'no JSON'})
        self.assertEqual(caught.exception.sqlstate, '22023')

    def test_in_sql(self):
        for login in (None, 'globex'):
            for sql in ('SET search_path TO %s', "SET search_path TO public, '%s'", "SELECT set_config('search_path', '%s, public', false)", "SET app.tenant = '%s'",
                        "SET pgporter.tenant = '%s'", """SET request.jwt.claims = '{"app_metadata": {"tenant_id": "%s"}}'"""):
                for inside in (False, True):
                    def attempt(name, sql=sql, inside=inside, login=login):
                        wire = self.wire(login, user='other')
                        try:
                            if inside:
                                wire.run('BEGIN')
                                if login:
                                    wire.run('SELECT 1')
                            seen = wire.run(sql % name)
                            return (seen, wire.run('SHOW search_path'), wire.run("SELECT current_user")) if login else seen
                        finally:
                            wire.close()
                    self.same(attempt)

    def test_before_the_password_is_known(self):
        """An unknown user's salt is as stable as a known one's: at every instance, and after a restart."""
        def first_answer(to, user):
            wire = w.Wire(to.port)
            wire.send(w.startup({'user': user, 'database': 'app'}))
            offer = wire.recv()
            scram = w.Scram('guess', nonce='fyko+d2lbbFgONRv9qkxdawL')
            first = scram.client_first()
            wire.send(w.message('p', w.zero('SCRAM-SHA-256') + len(first).to_bytes(4, 'big') + first))
            kind, body = wire.recv()
            parts = dict(part.split('=', 1) for part in body[4:].decode().split(','))
            wire.send(w.message('p', scram.client_final(body[4:])))
            refusal = [(k, b.replace(user.encode(), b'*')) for k, b in wire.recv_until('E')]
            wire.close()
            return offer, kind, len(body), parts['s'], parts['i'], refusal
        second = fixture.Pgporter(workspace, server, 'second').start()
        self.addCleanup(second.stop)
        unknown = first_answer(proxy, 'nobody')
        self.assertEqual(first_answer(proxy, 'nobody'), unknown)
        self.assertEqual(first_answer(second, 'nobody'), unknown)
        second.stop()
        second.start()
        self.assertEqual(first_answer(second, 'nobody'), unknown)
        self.assertNotEqual(first_answer(proxy, 'nobody2')[3], unknown[3])
        known = first_answer(proxy, 'app')
        self.assertEqual(known[:3] + known[4:], unknown[:3] + unknown[4:])


if __name__ == '__main__':
    fixture.main(__name__)
