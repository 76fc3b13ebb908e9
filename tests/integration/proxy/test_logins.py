"""Who may log in: throttled failures, bounds by address, verifiers by auth query. Addresses come in through the PROXY protocol."""
import time
import unittest

import fixture
import wire_client
from fixture import wait_for
from test_doors import v4_header, v6_header
from wire_client import ServerError, Wire

FAILURES_MAX = 4
WINDOW_MS = 3000
LOGINS_MAX = 5
# What pg_authid says about each, for a proxy that has a verifier of none of them.
ROLES = {'current': "LOGIN PASSWORD 'pw' VALID UNTIL '2099-01-01'", 'expired': "LOGIN PASSWORD 'pw' VALID UNTIL '2001-01-01'",
         'forever': "LOGIN PASSWORD 'pw'", 'no_password': 'LOGIN', 'no_login': "NOLOGIN PASSWORD 'pw'"}


def setUpModule():
    global workspace, server, proxy, proxy_port
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy_port = fixture.free_port()
    proxy = fixture.Pgporter(workspace, server, limits={'auth_failures_max': FAILURES_MAX, 'auth_failure_window_ms': WINDOW_MS,
                                                         'logins_per_address_max': LOGINS_MAX})
    proxy.config['listen'].append({'address': '127.0.0.1', 'port': proxy_port, 'proxy_protocol': 'required'})
    proxy.start()
    proxy.apply(fixture.document({'main': server}, {'acme': {}, 'globex': {}}))


def tearDownModule():
    workspace.close()


def attempt(address, password=None, user='app', instance=None, port=None):
    """'in', or the error's fields."""
    before = v6_header(address) if ':' in address else v4_header(address)
    wire = Wire(port or proxy_port, before=before)
    try:
        wire.login(user, password or fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=acme'})
        return 'in'
    except ServerError as error:
        return error.fields
    finally:
        wire.close()


def state(outcome):
    return outcome if outcome == 'in' else outcome['C']


class Throttle(unittest.TestCase):
    def fail(self, address, times=FAILURES_MAX, user='app'):
        for _ in range(times):
            self.assertEqual(state(attempt(address, 'wrong', user)), '28P01')

    def test_after_failures_even_the_right_password_waits_for_the_window(self):
        began = time.monotonic()
        self.fail('192.0.2.1')
        throttled = proxy.metric('pgporter_logins_throttled_total')
        refused = attempt('192.0.2.1')
        self.assertLess(time.monotonic() - began, WINDOW_MS / 1000, 'too slow to prove anything')
        self.assertEqual((refused['C'], refused['S']), ('28000', 'FATAL'))
        self.assertIn('too many failed logins for user "app"', refused['M'])
        self.assertEqual(proxy.metric('pgporter_logins_throttled_total'), throttled + 1)
        # Elsewhere nobody notices.
        self.assertEqual(attempt('192.0.2.2'), 'in')
        self.assertEqual(attempt('2001:db8::1'), 'in')
        proxy.wire().close()
        wait_for(lambda: attempt('192.0.2.1') == 'in', 'the window is over', interval=0.2)
        self.assertGreaterEqual(time.monotonic() - began, WINDOW_MS / 1000)

    def test_success_in_between_forgets(self):
        for _ in range(3):
            self.fail('192.0.2.3', FAILURES_MAX - 1)
            self.assertEqual(attempt('192.0.2.3'), 'in')

    def test_an_unknown_user_looks_alike(self):
        self.fail('192.0.2.4', user='app')
        self.fail('192.0.2.4', user='nobody')
        known, unknown = attempt('192.0.2.4'), attempt('192.0.2.4', user='nobody')
        self.assertEqual({k: v.replace('app', 'X') for k, v in known.items()}, {k: v.replace('nobody', 'X') for k, v in unknown.items()})
        self.assertEqual(state(attempt('192.0.2.4', user='third')), '28P01')

    def test_an_ipv6_network_is_one_client(self):
        for last in range(FAILURES_MAX):
            self.assertEqual(state(attempt('2001:db8:0:1::%d' % (last + 1), 'wrong')), '28P01')
        self.assertEqual(state(attempt('2001:db8:0:1:ffff::1')), '28000')
        self.assertEqual(attempt('2001:db8:0:2::1'), 'in')

    def test_attempts_that_began_together_count_too(self):
        """All are past the first look before one has failed: the bound is looked at again when the proof comes."""
        packet = wire_client.startup({'user': 'app', 'database': 'app', 'options': '-c pgporter.tenant=acme'})
        begun, outcomes = [], []
        for round_number in range(2):
            for _ in range(LOGINS_MAX - 1):
                wire = Wire(proxy_port, before=v4_header('192.0.2.6'))
                wire.send(packet)
                kind, body = wire.recv()
                if kind == 'E':  # the second round: the first one's failures count
                    outcomes.append(wire_client.error_fields(body)['C'])
                    wire.close()
                    continue
                wire.buffer[:0] = kind.encode() + (len(body) + 4).to_bytes(4, 'big') + body
                begun.append(wire)
            for wire in begun:
                with self.assertRaises(ServerError) as caught:
                    wire.authenticate('wrong')
                outcomes.append(caught.exception.sqlstate)
                wire.close()
            begun = []
            if round_number == 0:
                self.assertEqual(outcomes, ['28P01'] * (LOGINS_MAX - 1))
        self.assertEqual(outcomes[LOGINS_MAX - 1:], ['28000'] * (LOGINS_MAX - 1))

    def test_a_login_that_began_before_the_others_failed(self):
        packet = wire_client.startup({'user': 'app', 'database': 'app', 'options': '-c pgporter.tenant=acme'})
        early = Wire(proxy_port, before=v4_header('192.0.2.7'))
        early.send(packet)
        kind, body = early.recv()
        self.assertEqual(kind, 'R')
        early.buffer[:0] = kind.encode() + (len(body) + 4).to_bytes(4, 'big') + body
        self.fail('192.0.2.7')
        with self.assertRaises(ServerError) as caught:
            early.authenticate(fixture.PASSWORDS['app'])
        self.assertEqual(caught.exception.sqlstate, '28000')


class LoginsByAddress(unittest.TestCase):
    def test_one_address_takes_its_own_places_only(self):
        waiting = [Wire(proxy_port, before=v4_header('192.0.2.9')) for _ in range(LOGINS_MAX)]
        wait_for(lambda: proxy.metric('pgporter_logins') >= LOGINS_MAX, 'they log in')

        def refused():
            outcome = attempt('192.0.2.9')
            return outcome != 'in' and outcome
        outcome = wait_for(refused, 'the address has no place left')
        self.assertEqual(outcome['C'], '53300')
        self.assertIn('from this address', outcome['M'])
        self.assertGreater(proxy.metric('pgporter_logins_refused_by_address_total'), 0)
        self.assertEqual(attempt('192.0.2.10'), 'in')
        for wire in waiting:
            wire.close()
        wait_for(lambda: attempt('192.0.2.9') == 'in', 'the places are free again')

    def test_sessions_that_are_logged_in_take_no_place(self):
        sessions = []
        for _ in range(LOGINS_MAX + 3):
            wire = Wire(proxy_port, before=v4_header('192.0.2.11'))
            sessions.append(wire.login('app', fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=acme'}))
        for wire in sessions:
            wire.close()


class AuthQuery(unittest.TestCase):
    """Pitfall 7: every way in which a look-up gives no password must be a wrong password, and nothing else."""

    @classmethod
    def setUpClass(cls):
        for role, rights in ROLES.items():
            server.sql('CREATE ROLE %s %s' % (role, rights))
            server.sql('GRANT app TO ' + role)
        cls.asking = cls.instance('asking')
        cls.two_rows = cls.instance('two-rows', 'SELECT rolname, rolpassword FROM pg_authid, generate_series(1, 2) WHERE rolname = $1')
        cls.broken = cls.instance('broken', 'SELECT rolname, rolpassword FROM no_such_table WHERE rolname = $1')
        # Whatever is asked for, it answers with the asking user's own password.
        cls.itself = cls.instance('itself', "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = 'mover' OR rolname = $1 AND false")
        cls.plain = cls.instance('plain', "SELECT $1::text, 'pw'::text")

    @classmethod
    def instance(cls, name, query=None, tenants='all'):
        asking = fixture.Pgporter(workspace, server, 'auth-' + name, limits={'auth_failures_max': 0})
        asking.config['auth_query'] = dict({'cluster': 'main', 'database': 'postgres', 'user': 'mover', 'cache_ms': 60000, 'tenants': tenants},
                                           **({'query': query} if query else {}))
        asking.start()
        wait_for(lambda: cls.knows(asking), 'the instance knows the tenants')
        return asking

    @classmethod
    def knows(cls, instance):
        try:
            instance.wire().close()
            return True
        except ServerError:
            return False

    def outcome(self, instance, user, password='pw'):
        try:
            instance.wire('acme', user=user, password=password).close()
            return 'in'
        except ServerError as error:
            return (error.sqlstate, error.fields['M'].replace(user, 'USER'))

    REFUSED = ('28P01', 'password authentication failed for user "USER"')

    def test_a_user_of_postgresql_alone_speaks_for_no_tenant(self):
        unless_told = self.instance('unless-told', tenants='none')
        state, text = self.outcome(unless_told, 'current')
        self.assertEqual((state, text), ('3D000', 'tenant "acme" doesn\'t exist or user "USER" may not speak for it'))
        self.assertEqual(self.outcome(unless_told, 'current', 'wrong'), self.REFUSED)

    def test_pitfall_7_valid_until(self):
        self.assertEqual(self.outcome(self.asking, 'current'), 'in')
        self.assertEqual(self.outcome(self.asking, 'forever'), 'in')
        self.assertEqual(self.outcome(self.asking, 'expired'), self.REFUSED)

    def test_pitfall_7_no_password_no_login_no_user(self):
        for user in ('no_password', 'no_login', 'never_heard_of', "x' OR true --"):
            for password in ('pw', ' ', 'mover-secret'):
                self.assertEqual(self.outcome(self.asking, user, password), self.REFUSED, (user, password))

    def test_pitfall_7_several_rows(self):
        self.assertEqual(self.outcome(self.two_rows, 'current'), self.REFUSED)

    def test_pitfall_7_a_failed_look_up_is_not_the_auth_user(self):
        state, text = self.outcome(self.broken, 'current')
        self.assertEqual(state, '57P03')
        self.assertNotIn('no_such_table', text)
        for password in ('pw', fixture.PASSWORDS['mover']):
            self.assertEqual(self.outcome(self.itself, 'current', password), self.REFUSED)

    def test_pitfall_7_what_is_no_verifier_lets_nobody_in(self):
        self.assertEqual(self.outcome(self.plain, 'current'), self.REFUSED)

    def test_pitfall_7_a_changed_password_is_known_after_one_failure(self):
        server.sql("CREATE ROLE changing LOGIN PASSWORD 'pw'; GRANT app TO changing")
        self.assertEqual(self.outcome(self.asking, 'changing'), 'in')
        server.sql("ALTER ROLE changing PASSWORD 'new'")
        self.assertEqual(self.outcome(self.asking, 'changing', 'new'), self.REFUSED)  # by the verifier that was kept; which is forgotten now
        self.assertEqual(self.outcome(self.asking, 'changing', 'new'), 'in')
        self.assertEqual(self.outcome(self.asking, 'changing', 'pw'), self.REFUSED)

    def test_pitfall_6_startup_parameters_stay_away_from_the_auth_connection(self):
        with self.assertRaises(ServerError) as caught:
            self.asking.wire('acme', user='never_heard_of', password='pw', params={'search_path': 'acme', 'role': 'app'})
        self.assertEqual(caught.exception.sqlstate, '28P01')
        self.assertEqual(self.outcome(self.asking, 'forever'), 'in')


if __name__ == '__main__':
    fixture.main(__name__)
