"""How a client names its tenant at startup, what is refused and with which SQLSTATE, and what happens to startup packets that are hostile."""
import base64
import struct
import time
import unittest

import fixture
import wire_client
from wire_client import GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST, ServerError, Wire, WireError

LOGIN_MS_MAX = 1500


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.sql('GRANT USAGE ON SCHEMA globex TO other; GRANT SELECT ON globex.whoami TO other', 'app')
    proxy = fixture.Pgporter(workspace, server, limits={'login_ms_max': LOGIN_MS_MAX, 'logins_max': 20}).start()
    verifier = wire_client.scram_verifier
    proxy.apply(fixture.document({'main': server}, {'acme': {}, 'globex': {}, 'initech': {'state': 'suspended'}}, users=[
        {'name': 'app', 'scram_verifier': verifier(fixture.PASSWORDS['app']), 'tenants': '*'},
        {'name': 'other', 'scram_verifier': verifier(fixture.PASSWORDS['other']), 'tenants': ['globex']}]))


def tearDownModule():
    workspace.close()


def who(wire):
    try:
        return wire.run('SELECT tenant FROM whoami')[0][0]
    finally:
        wire.close()


def login(user='app', database='app', password=fixture.PASSWORDS['app'], **params):
    params = {name.replace('__', '.'): value for name, value in params.items()}
    return Wire(proxy.port).login(user, password, database, params)


class Naming(unittest.TestCase):
    def refused(self, sqlstate, **arguments):
        try:
            login(**arguments).close()
        except ServerError as error:
            self.assertEqual(error.sqlstate, sqlstate, '%s for %s' % (error, arguments))
            self.assertEqual(error.fields['S'], 'FATAL')
            self.assertEqual(error.fields['V'], 'FATAL')
            return error
        self.fail('let in: %s' % arguments)

    def test_each_way(self):
        ways = [dict(options='-c pgporter.tenant=globex'), dict(options='--pgporter.tenant=globex'), dict(options='-cpgporter.tenant=globex'),
                dict(options='-c statement_timeout=5s -c pgporter.tenant=globex'), dict(pgporter__tenant='globex'),
                dict(user='app.globex'), dict(database='globex'), dict(database='app@globex'), dict(search_path='globex,public'),
                dict(search_path='"globex", public'), dict(options='-c search_path=globex,public'), dict(options='-c search_path=globex,\\ public')]
        for way in ways:
            with self.subTest(way):
                self.assertEqual(who(login(**way)), 'globex')

    def test_agreeing_ways(self):
        self.assertEqual(who(login(user='app.globex', database='globex', options='-c pgporter.tenant=globex', pgporter__tenant='globex',
                                   search_path='globex, public')), 'globex')

    def test_startup_options_take_effect(self):
        wire = login(options='-c pgporter.tenant=acme -c statement_timeout=7s -c app.user_id=5', application_name='n a m e')
        self.assertEqual(wire.run("SELECT current_setting('statement_timeout'), current_setting('app.user_id'), "
                                  "current_setting('application_name'), current_user"), [('7s', '5', 'n a m e', 'app')])
        wire.run('DISCARD ALL')
        self.assertEqual(wire.run('SHOW statement_timeout'), [('7s',)])
        wire.close()

    def test_a_wrong_startup_option_is_refused_as_postgresql_does(self):
        for params in ({'DateStyle': 'Klingon'}, {'no_such_parameter': '1'}, {'options': '-c TimeZone=Moon/Base'}):
            with self.assertRaises(ServerError) as by_server:
                Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app', params)
            with self.assertRaises(ServerError, msg=str(params)) as by_proxy:
                sent = dict(params, options=(params.get('options', '') + ' -c pgporter.tenant=acme').strip())
                wire = Wire(proxy.port).login('app', fixture.PASSWORDS['app'], 'app', sent)
                wire.run('SELECT 1')
            self.assertEqual(by_proxy.exception.sqlstate, by_server.exception.sqlstate)
        self.assertEqual(who(login(user='app.acme')), 'acme')

    def test_contradictions(self):
        for way in (dict(user='app.acme', database='globex'), dict(user='app.acme', options='-c pgporter.tenant=globex'),
                    dict(database='app@acme', pgporter__tenant='globex'), dict(search_path='acme', pgporter__tenant='globex'),
                    dict(options='-c pgporter.tenant=acme', pgporter__tenant='globex'), dict(search_path='acme, globex')):
            with self.subTest(way):
                self.refused('28000', **way)

    def test_unknown_and_missing(self):
        for way in (dict(user='app.nobody'), dict(options='-c pgporter.tenant=nobody'), dict(database='app@nobody'), dict(pgporter__tenant='nobody'),
                    dict(database='no_such_database'), dict(), dict(pgporter__tenant=''), dict(pgporter__tenant="x'; DROP TABLE items; --")):
            with self.subTest(way):
                self.refused('3D000', **way)

    def test_not_allowed_looks_like_unknown(self):
        password = fixture.PASSWORDS['other']
        self.assertEqual(who(login(user='other', password=password, pgporter__tenant='globex')), 'globex')
        forbidden = self.refused('3D000', user='other', password=password, pgporter__tenant='acme')
        unknown = self.refused('3D000', user='other', password=password, pgporter__tenant='acmf')
        self.assertEqual(str(forbidden).replace('acme', 'X'), str(unknown).replace('acmf', 'X'))

    def test_suspended(self):
        self.refused('57P03', pgporter__tenant='initech')
        self.refused('57P03', user='app.initech')

    def test_wrong_password_and_unknown_user_look_alike(self):
        wrong = self.refused('28P01', password='wrong', pgporter__tenant='acme')
        unknown = self.refused('28P01', user='nobody', password='wrong', pgporter__tenant='acme')
        self.assertEqual(str(wrong).replace('"app"', '"X"'), str(unknown).replace('"nobody"', '"X"'))
        self.assertEqual(set(wrong.fields), set(unknown.fields))
        # With a wrong password, it can't be told whether the tenant exists or is suspended.
        for tenant in ('nobody', 'initech', 'acme'):
            self.refused('28P01', password='wrong', pgporter__tenant=tenant)
            self.refused('28P01', user='app.' + tenant, password='wrong')

    def first_of_server(self, user):
        wire = Wire(proxy.port)
        wire.send(wire_client.startup({'user': user, 'database': 'app', 'pgporter.tenant': 'acme'}))
        kind, body = wire.recv()
        self.assertEqual(kind, 'R')
        self.assertEqual(body[:4], struct.pack('!i', 10))
        mechanisms = body[4:].rstrip(b'\0').split(b'\0')
        self.assertIn(b'SCRAM-SHA-256', mechanisms)
        first = wire_client.Scram('').client_first()
        wire.send(wire_client.message('p', b'SCRAM-SHA-256\0' + struct.pack('!i', len(first)) + first))
        kind, body = wire.recv()
        self.assertEqual((kind, body[:4]), ('R', struct.pack('!i', 11)))
        wire.close()
        parts = dict(p.split('=', 1) for p in body[4:].decode().split(','))
        return mechanisms, base64.b64decode(parts['s']), int(parts['i'])

    def test_salt_of_an_unknown_user_is_stable(self):
        known, unknown = self.first_of_server('app'), self.first_of_server('nobody')
        self.assertEqual(known, self.first_of_server('app'))
        self.assertEqual(unknown, self.first_of_server('nobody'))
        self.assertNotEqual(unknown[1], self.first_of_server('nobody2')[1])
        self.assertEqual((known[0], len(known[1]), known[2]), (unknown[0], len(unknown[1]), unknown[2]))
        self.assertEqual(unknown[2], 4096)

    def test_search_path_in_sql_cannot_reach_a_forbidden_tenant(self):
        wire = login(user='other', password=fixture.PASSWORDS['other'], pgporter__tenant='globex')
        with self.assertRaises(ServerError) as caught:
            wire.run('SET search_path TO acme, public')
        self.assertEqual(caught.exception.sqlstate, '3F000')
        self.assertEqual(who(wire), 'globex')

    def test_tenant_by_own_parameter_in_sql(self):
        for sql in ("SET pgporter.tenant = 'globex'", "SELECT set_config('pgporter.tenant', 'globex', false)"):
            wire = login(user='app.acme')
            wire.run(sql)
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('globex',)])
            wire.run('RESET pgporter.tenant')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
            with self.assertRaises(ServerError) as caught:
                wire.run("SET pgporter.tenant = 'nobody'")
            self.assertEqual(caught.exception.sqlstate, '3D000')
            wire.close()

    def test_database_of_nobody_is_refused_even_if_it_exists(self):
        for database in ('postgres', 'template1', 'catalog'):
            self.refused('3D000', database=database)


class Startup(unittest.TestCase):
    def answers(self, data, then=b''):
        """What comes until the connection is closed."""
        wire = Wire(proxy.port, timeout=10)
        wire.send(data)
        if then:
            wire.send(then)
        try:
            return wire.expect_eof()
        finally:
            wire.close()

    def error_state(self, messages):
        errors = [wire_client.error_fields(body) for kind, body in messages if kind == 'E']
        self.assertLessEqual(len(errors), 1)
        return errors[0]['C'] if errors else None

    def test_startup_packet_sizes(self):
        for length in (0, 3, 7, -1, -2147483648, 10001, 2147483647):
            with self.subTest(length):
                self.assertIn(self.error_state(self.answers(struct.pack('!i', length) + b'\0' * 20)), ('08P01', None))
        value = 'v' * 9000
        self.assertEqual(who(login(user='app.acme', application_name=value)), 'acme')
        over = wire_client.startup({'user': 'app.acme', 'database': 'app', 'application_name': 'v' * 11000})
        self.assertIn(self.error_state(self.answers(over)), ('08P01', None))

    def test_startup_packet_a_byte_at_a_time(self):
        wire = Wire(proxy.port)
        wire.login('app.acme', fixture.PASSWORDS['app'], 'app', pieces=1)
        self.assertEqual(who(wire), 'acme')

    def test_malformed_startup(self):
        version = struct.pack('!i', PROTOCOL_3_0)
        for body in (b'user\0app', b'user', b'user\0app\0', b'\0\0\0', b'database\0app\0\0', b'user\0\0\0', b'user\0app\0\0trailing\0'):
            data = struct.pack('!i', len(version + body) + 4) + version + body
            with self.subTest(body):
                self.assertIn(self.error_state(self.answers(data)), ('08P01', '28000', '3D000', None))

    def test_unsupported_versions(self):
        for version in (2 << 16, 4 << 16, 0, 1234 << 16 | 9999):
            with self.subTest(version):
                state = self.error_state(self.answers(wire_client.startup({'user': 'app.acme'}, version)))
                self.assertIn(state, ('0A000', '08P01'))

    def test_protocol_negotiation_is_said_once(self):
        wire = Wire(proxy.port)
        wire.send(wire_client.startup({'user': 'app.acme', 'database': 'app', '_pq_.never_heard': '1', '_pq_.nor_of_this': 'x'}, PROTOCOL_3_0 + 2))
        kind, body = wire.recv()
        self.assertEqual(kind, 'v')
        newest, count = struct.unpack_from('!ii', body)
        self.assertEqual(newest & 0xffff0000 if newest > 65536 else 0, PROTOCOL_3_0 & 0xffff0000 if newest > 65536 else 0)
        self.assertEqual(count, 2)
        self.assertEqual(set(body[8:].rstrip(b'\0').split(b'\0')), {b'_pq_.never_heard', b'_pq_.nor_of_this'})
        wire.authenticate(fixture.PASSWORDS['app'])
        self.assertNotIn('v', [kind for kind, _ in wire.login_messages])
        self.assertEqual(who(wire), 'acme')

    def test_negotiation_answers_as_postgresql(self):
        """Byte for byte what PostgreSQL 15 says to a client of 3.0; of 3.2 it knows nothing, we do (test_doors.py)."""
        packet = wire_client.startup({'user': 'app', 'database': 'app', '_pq_.a': '1', 'pgporter.tenant': 'acme'}, PROTOCOL_3_0)
        answers = []
        for port in (server.port, proxy.port):
            wire = Wire(port)
            wire.send(packet)
            answers.append(wire.recv())
            wire.close()
        self.assertEqual(answers[0], answers[1])

    def test_ssl_request_where_tls_is_off(self):
        wire = Wire(proxy.port)
        wire.send(SSL_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        self.assertEqual(who(wire.login('app.acme', fixture.PASSWORDS['app'], 'app')), 'acme')

    def test_gss_then_ssl_then_startup(self):
        wire = Wire(proxy.port)
        wire.send(GSSENC_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        wire.send(SSL_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        self.assertEqual(who(wire.login('app.acme', fixture.PASSWORDS['app'], 'app')), 'acme')

    def test_ssl_request_twice(self):
        wire = Wire(proxy.port)
        wire.send(SSL_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        wire.send(SSL_REQUEST)
        self.assertIn(self.error_state(wire.expect_eof()), ('08P01', '0A000', None))

    def test_before_authentication_only_passwords_count(self):
        for early in (wire_client.query('SELECT 1'), wire_client.message('p', b''), wire_client.message('p', b'SCRAM-SHA-1\0\0\0\0\0'),
                      wire_client.message('p', b'SCRAM-SHA-256\0\xff\xff\xff\xff'), wire_client.message('p', b'SCRAM-SHA-256\0\0\0\0\5x'),
                      wire_client.message('p', b'SCRAM-SHA-256\0' + struct.pack('!i', 9) + b'y,,n=,r=\xff'),
                      wire_client.message('p', b'SCRAM-SHA-256\0' + struct.pack('!i', 12) + b'p=tls-u,,n=,'),
                      b'p\xff\xff\xff\xff', b'p\0\0\0\0', b'p\x7f\xff\xff\xff', b'p' + struct.pack('!i', 4097) + b'x' * 4093, b'\0' * 40):
            with self.subTest(early[:40]):
                start = wire_client.startup({'user': 'app.acme', 'database': 'app'})
                messages = self.answers(start, early)
                self.assertIn(self.error_state(messages[1:]), ('08P01', '28P01', '28000', '0A000', None))
                self.assertNotIn('Z', [kind for kind, _ in messages])

    def test_password_stuffed_behind_the_startup_packet(self):
        wire = Wire(proxy.port)
        wire.send(wire_client.startup({'user': 'app.acme', 'database': 'app'}) + wire_client.query('SELECT 1') * 3)
        self.assertNotIn('D', [kind for kind, _ in wire.expect_eof()])

    def test_half_open_connections_are_bounded_in_time(self):
        began = time.monotonic()
        stages = [b'', b'\0', struct.pack('!ii', 200, PROTOCOL_3_0), wire_client.startup({'user': 'app.acme'}),
                  wire_client.startup({'user': 'app.acme'}) + b'p\0\0\0\x50SCRAM']
        wires = [Wire(proxy.port, timeout=LOGIN_MS_MAX / 1000 + 5) for _ in stages]
        for wire, data in zip(wires, stages):
            wire.send(data)
        for wire in wires:
            wire.expect_eof()
            wire.close()
        self.assertGreater(time.monotonic() - began, LOGIN_MS_MAX / 1000 * 0.5)
        self.assertLess(time.monotonic() - began, LOGIN_MS_MAX / 1000 + 4)

    def test_too_many_half_open_connections(self):
        """limits.logins_max is 20: more than that never push out a client that wants to log in for longer than login_ms_max."""
        wires = [Wire(proxy.port) for _ in range(40)]

        def can_log_in():
            try:
                return who(login(user='app.acme')) == 'acme'
            except (ServerError, WireError, OSError):
                return False
        fixture.wait_for(can_log_in, 'a login while half-open connections pile up', LOGIN_MS_MAX / 1000 + 5)
        for wire in wires:
            wire.close()

    def test_no_server_connection_before_authentication(self):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        fixture.wait_for(lambda: not server.backends(), 'no server connections')
        for password in ('wrong', 'wrong again'):
            with self.assertRaises(ServerError):
                login(user='app.acme', password=password)
        self.assertEqual(server.backends(), [])


if __name__ == '__main__':
    fixture.main(__name__)
