"""Pitfalls 1 to 12 of poolers: startup and security. Each test has the number of the pitfall and what goes wrong elsewhere."""
import base64
import os
import resource
import ssl
import struct
import threading
import time

import fixture
import pitfall_tools as tools
import tls_parts
import wire_client as w
from wire_client import ServerError, Wire, WireError

SCRAM = struct.pack('!i', 10) + b'SCRAM-SHA-256\0\0'


def setUpModule():
    global workspace, server, proxy, path, plain_port, relay
    workspace = fixture.Workspace()
    folder = os.path.join(workspace.path, 'certificates')
    made = tls_parts.Authority(folder)
    made.make('server', tls_parts.NAMES['server'])
    path = made.path
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.make_world('app2', ('umbrella',))
    server.sql("ALTER DATABASE app2 SET DateStyle = 'German, DMY'; ALTER DATABASE app2 SET TimeZone = 'Asia/Tokyo'")
    for name, more in (('authq', 'SUPERUSER'), ('valid', "VALID UNTIL '2099-01-01'"), ('expired', "VALID UNTIL '2001-01-01'"), ('nopass', '')):
        server.sql("CREATE ROLE %s LOGIN %s" % (name, more) + (" PASSWORD '%s-secret'" % name if name != 'nopass' else ''))
    server.sql("GRANT app TO valid, expired, nopass")
    fixture.PASSWORDS.update({name: name + '-secret' for name in ('authq', 'valid', 'expired', 'nopass')})
    relay = tools.Relay(workspace, server.port)
    plain_port = fixture.free_port()
    proxy = fixture.Pgporter(workspace, server, limits={'login_ms_max': 5000, 'wait_ms_max': 3000, 'server_connect_ms_max': 2000})
    pair = {'tls_certificate_file': path('server.crt'), 'tls_key_file': path('server.key')}
    proxy.config['listen'][0].update(tls='allow', **pair)
    proxy.config['listen'].append({'address': '127.0.0.1', 'port': plain_port})
    proxy.config['auth_query'] = {'cluster': 'main', 'database': 'postgres', 'user': 'authq', 'cache_ms': 1}
    for name in ('authq', 'valid'):
        proxy.config['server_logins'].append({'cluster': '*', 'user': name, 'password_file': proxy.write(name, name + '-secret\n', 0o600)})
    proxy.start()
    proxy.apply(fixture.document({'main': server, 'relayed': {'port': relay.port}}, {
        'acme': {}, 'globex': {}, 'umbrella': {'placement': {'database': 'app2'}},
            'relayed': {'placement': {'cluster': 'relayed', 'schema': 'acme'}}},
        users=[{'name': 'app', 'scram_verifier': w.scram_verifier(fixture.PASSWORDS['app']), 'tenants': '*'}] +
        [{'name': name, 'tenants': '*'} for name in ('valid', 'expired', 'nopass')],
        databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


def context(alpn=None):
    made = ssl.create_default_context(cafile=path('ca.crt'))
    made.check_hostname = False
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


def start_packet(tenant='acme', **more):
    return w.startup(dict({'user': 'app', 'database': 'app', 'pgporter.tenant': tenant}, **more))


class Startup(tools.Base):
    def until_closed(self, *pieces):
        wire = Wire(plain_port, timeout=8)
        for data in pieces:
            wire.send(data)
        try:
            return wire.expect_eof()
        finally:
            wire.close()

    def test_01_bytes_behind_ssl_request(self):
        """CVE-2021-3935: what came in plain text must not be read as if it came through TLS."""
        for stuffed in (start_packet(), w.GSSENC_REQUEST, b'\0'):
            wire = Wire(proxy.port, timeout=5)
            wire.send(w.SSL_REQUEST + stuffed)
            with self.assertRaises((WireError, OSError), msg=stuffed):
                first = wire.recv_byte()
                self.assertIn(first, (b'S', b'E'))
                if first == b'E':
                    raise WireError('refused in words')
                wire.buffer.clear()
                wire.socket = context().wrap_socket(wire.socket)
            wire.close()
        self.works()

    def test_01_bytes_behind_a_refused_request(self):
        """PostgreSQL ends the connection here too, after its N; an error at once is as good."""
        for request in (w.SSL_REQUEST, w.GSSENC_REQUEST):
            wire = Wire(plain_port, timeout=5)
            wire.send(request + start_packet())
            if wire.recv_byte() == b'N':
                self.assertNotIn('R', [kind for kind, _ in wire.expect_eof()])
            wire.close()

    def test_01_bytes_behind_a_servers_yes(self):
        """CVE-2021-23222: the same, towards the server. Nothing may be taken for an answer, and no startup packet may follow in plain text."""
        def behave(peer, fake):
            read = tools.read_startup(peer, fake)
            peer.sendall(b'S' + w.message('R', struct.pack('!i', 0)) + w.message('Z', b'I') if len(read) == 4 else b'')
            fake.received.append(peer.recv(4096))
        fake = tools.FakeServer(workspace, behave)
        proxy.apply({'clusters': [{'name': 'stuffing', 'host': '127.0.0.1', 'port': fake.port, 'tls': 'require'}],
                     'tenants': [{'name': 'stuffed', 'placement': {'kind': 'database', 'cluster': 'stuffing', 'database': 'app', 'schema': 'acme'}}]})
        with self.assertRaises(ServerError) as caught:
            self.wire('stuffed').run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate[:2], '08')
        for data in fake.received[1:]:
            self.assertNotIn(b'user', data)

    def test_01_direct_tls_needs_alpn(self):
        """The first byte is 0x16: TLS at once, for clients that say postgresql by ALPN, and for nobody else."""
        wire = Wire(proxy.port, timeout=5)
        wire.socket = context('postgresql').wrap_socket(wire.socket)
        self.assertEqual(wire.socket.selected_alpn_protocol(), 'postgresql')
        wire.send(start_packet())
        wire.authenticate(fixture.PASSWORDS['app'])
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        wire.close()
        for alpn in (None, 'http/1.1'):
            with self.assertRaises((OSError, WireError)):
                wire = Wire(proxy.port, timeout=5)
                wire.socket = context(alpn).wrap_socket(wire.socket)
                wire.send(start_packet())
                wire.recv()
                if wire.eof:
                    raise WireError('closed')
        with self.assertRaises((OSError, WireError)):
            context('postgresql').wrap_socket(Wire(plain_port, timeout=5).socket)

    def test_02_gssenc_request_then_ssl_request(self):
        wire = Wire(proxy.port)
        wire.send(w.GSSENC_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        wire.request_tls(context())
        self.assertEqual(wire.login('app', fixture.PASSWORDS['app'], 'app', {'pgporter.tenant': 'acme'}).run('SELECT 1'), [('1',)])
        wire.close()
        for twice in (w.GSSENC_REQUEST, w.SSL_REQUEST):
            wire = Wire(plain_port, timeout=5)
            wire.send(twice)
            self.assertEqual(wire.recv_byte(), b'N')
            wire.send(twice)
            self.assertIn(self.state_of(wire.expect_eof()), ('08P01', '0A000', None))
            wire.close()

    def test_03_negotiation_is_said_once_and_first(self):
        for user in ('app', 'valid'):  # known to the catalog, and looked up by auth_query
            for version in (w.PROTOCOL_3_0 + 1, w.PROTOCOL_3_0 + 2, w.PROTOCOL_3_0 + 9999, w.PROTOCOL_3_0):
                wire = Wire(plain_port)
                wire.send(w.startup({'user': user, 'database': 'app', 'pgporter.tenant': 'acme', '_pq_.nobody_knows': '1'}, version))
                kind, body = wire.recv()
                self.assertEqual(kind, 'v')
                newest, count = struct.unpack_from('!ii', body)
                self.assertEqual((count, body[8:]), (1, b'_pq_.nobody_knows\0'))
                self.assertLessEqual(newest & 0xffff, 2)
                wire.authenticate(fixture.PASSWORDS[user])
                self.assertNotIn('v', [k for k, _ in wire.login_messages])
                agreed = min(newest & 0xffff, version & 0xffff)
                self.assertEqual(len(wire.secret) == 4, agreed < 2, 'a secret of %d bytes in 3.%d' % (len(wire.secret), agreed))
                self.assertLessEqual(len(wire.secret), 255)
                wire.close()

    def test_03_protocol_3_2(self):
        """A long cancel key, without negotiation; the cancel works with it and not with a piece of it."""
        wire = Wire(plain_port)
        wire.send(w.startup({'user': 'app', 'database': 'app', 'pgporter.tenant': 'acme'}, w.PROTOCOL_3_0 + 2))
        wire.authenticate(fixture.PASSWORDS['app'])
        self.assertNotIn('v', [k for k, _ in wire.login_messages])
        self.assertGreater(len(wire.secret), 4)
        wire.send(w.query('SELECT pg_sleep(15) /* long key */'))
        fixture.wait_for(lambda: [b for b in server.backends() if 'long key' in b[2] and b[1] == 'active'], 'the query runs')
        wire.cancel(wire.secret[:4])
        wire.cancel(wire.secret[:-1])
        self.assertTrue(wire.quiet(0.2))
        wire.cancel()
        self.assertEqual(self.state_of(wire.recv_until('Z')), '57014')
        wire.close()

    def test_04_lengths_are_checked_before_use(self):
        def memory():
            with open('/proc/%d/statm' % proxy.process.pid, encoding='ascii') as source:
                return int(source.read().split()[1]) * resource.getpagesize()
        before = memory()
        for length in (-2147483648, -1, 0, 3, 4, 7, 10001, 65536, 2147483647):
            self.assertIn(self.state_of(self.until_closed(struct.pack('!i', length) + b'\0' * 60)), ('08P01', '0A000', None), length)
        for length in (-2147483648, -1, 0, 3, 4097, 65536, 2147483647):
            messages = self.until_closed(start_packet(), b'p' + struct.pack('!i', length) + b'x' * 100)
            self.assertNotIn('Z', [k for k, _ in messages])
            self.assertIn(self.state_of(messages[1:]), ('08P01', '28P01', None), length)
        initial = b'SCRAM-SHA-256\0' + struct.pack('!i', 2147483647) + b'n,,n=,r=x'  # CVE-2026-6664: a length inside the message
        self.assertIn(self.state_of(self.until_closed(start_packet(), w.message('p', initial))[1:]), ('08P01', '28P01', None))
        for length in (-1, 0, 3, 2147483647):
            wire = self.wire()
            wire.send(b'Q' + struct.pack('!i', length) + b'SELECT 1\0')
            self.assertNotIn('D', [k for k, _ in wire.expect_eof()])
        self.assertLess(memory() - before, 32 << 20)
        self.works()

    def test_05_startup_packets_in_pieces_and_large(self):
        for pieces in (1, 3, 4, 8, 9, 4095):
            wire = Wire(plain_port)
            wire.login('app', fixture.PASSWORDS['app'], 'app', {'pgporter.tenant': 'acme', 'application_name': 'n' * 200}, pieces=pieces)
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
            wire.close()
        big = {'pgporter.tenant': 'acme', 'app.big': 'b' * 9800}
        for user in ('app', 'valid'):
            wire = Wire(plain_port).login(user, fixture.PASSWORDS[user], 'app', big)
            self.assertEqual(wire.run("SELECT length(current_setting('app.big')), tenant FROM whoami"), [('9800', 'acme')])
            wire.close()

    def test_05_server_login_in_pieces(self):
        """Each byte of what the server says during its login comes alone."""
        pieces = tools.Relay(workspace, server.port, pieces_of_login=6)
        proxy.apply({'clusters': [{'name': 'pieces', 'host': '127.0.0.1', 'port': pieces.port}],
                     'tenants': [{'name': 'pieces', 'placement': {'kind': 'schema', 'cluster': 'pieces', 'database': 'app', 'schema': 'acme'}}]})
        wire = self.wire('pieces')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_06_startup_parameters_reach_no_query_of_ours(self):
        """CVE-2025-12819: a path that puts a hostile schema in front of pg_catalog must not change what pgporter's own statements mean."""
        server.sql("""
            CREATE SCHEMA evil AUTHORIZATION app; SET ROLE app; CREATE TABLE evil.trap (who text);
            CREATE FUNCTION evil.spring(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO evil.trap VALUES (what); RETURN what; END $$;
            CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.spring('set_config') $$;
            CREATE FUNCTION evil.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT evil.spring('current_setting') $$;
            CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT evil.spring('current_setting') $$;
            CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT evil.spring('now')::text::timestamptz $$;
            CREATE FUNCTION evil.pg_advisory_unlock_all() RETURNS void LANGUAGE sql AS $$ SELECT evil.spring('unlock'); $$;
            CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS $$ SELECT length(evil.spring('pid')) $$;
            CREATE FUNCTION evil.eq(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.spring('=') IS NOT NULL $$;
            CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.eq);
            CREATE FUNCTION evil.eq(name, text) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.spring('name=') IS NOT NULL $$;
            CREATE OPERATOR evil.= (LEFTARG = name, RIGHTARG = text, FUNCTION = evil.eq);
            CREATE VIEW evil.pg_settings AS SELECT evil.spring('pg_settings') AS name, '1'::text AS setting,
                'user'::text AS context, 'x'::text AS source;
            CREATE VIEW evil.pg_authid AS SELECT evil.spring('pg_authid') AS rolname;
            CREATE VIEW evil.pg_type AS SELECT evil.spring('pg_type') AS typname;
            CREATE VIEW evil.pg_class AS SELECT evil.spring('pg_class') AS relname;""", 'app')
        hostile = {'search_path': 'acme, evil, pg_catalog, public'}
        for user in ('app', 'valid'):
            try:
                wire = Wire(plain_port).login(user, fixture.PASSWORDS[user], 'app', dict(hostile, **{'pgporter.tenant': 'acme'}))
            except ServerError as error:  # a path that isn't the tenant's may be refused
                self.assertIn(error.sqlstate, ('28000', '3F000', '0A000', '3D000'))
                continue
            wire.run("SET DateStyle = 'SQL'")
            wire.run("SET app.x = 'y'")
            wire.run('SELECT 1')
            wire.run("DO $$ BEGIN PERFORM pg_catalog.set_config('app.z', '1', false); END $$")
            self.assertEqual(wire.run('SELECT tenant FROM acme.whoami'), [('acme',)])
            wire.close()
        wire = self.wire()
        wire.run('SET search_path TO acme, evil, pg_catalog, public')
        wire.run("SELECT pg_catalog.set_config('app.' || 'w', '1', false)")
        wire.run('SHOW search_path')
        self.wire('globex').run("SET DateStyle = 'German'; SELECT 1")
        wire.run('SHOW search_path')
        wire.close()
        self.assertEqual(server.sql('SELECT DISTINCT who FROM evil.trap', 'app'), [])

    def test_06_nothing_happens_before_the_password(self):
        before = proxy.metric('pgporter_server_connects_total')
        for params in ({'search_path': 'evil'}, {'options': '-c role=postgres'}, {'role': 'postgres'}, {'session_authorization': 'postgres'}):
            with self.assertRaises(ServerError) as caught:
                Wire(plain_port).login('app', 'wrong', 'app', dict({'pgporter.tenant': 'acme'}, **params))
            self.assertEqual(caught.exception.sqlstate, '28P01')
        self.assertEqual(proxy.metric('pgporter_server_connects_total'), before)

    def login_error(self, user, password, tenant='acme'):
        with self.assertRaises(ServerError) as caught:
            Wire(plain_port).login(user, password, 'app', {'pgporter.tenant': tenant})
        return str(caught.exception).replace('"%s"' % user, '"X"')

    def test_07_auth_query(self):
        """VALID UNTIL holds (CVE-2025-2291), no password is no login, and nobody can tell these from a wrong password."""
        self.assertEqual(Wire(plain_port).login('valid', 'valid-secret', 'app', {'pgporter.tenant': 'acme'}).run(
            'SELECT tenant, current_user FROM whoami'), [('acme', 'valid')])
        texts = {self.login_error(*pair) for pair in (('valid', 'wrong'), ('expired', 'expired-secret'), ('nopass', ''), ('nobody', 'x'),
                                                      ("no'body\"; --", 'x'), ('authq', 'authq-secret2'), ('app', 'wrong'))}
        self.assertEqual(len(texts), 1, texts)
        with self.assertRaises(ServerError):  # a user of PostgreSQL's who is nobody's user here speaks for nobody
            Wire(plain_port).login('authq', 'authq-secret', 'app', {'pgporter.tenant': 'acme'}).run('SELECT 1')
        server.sql("ALTER ROLE valid VALID UNTIL '2001-01-01'")
        try:
            fixture.wait_for(lambda: self.refuses_valid(), 'the new VALID UNTIL holds', 5)
        finally:
            server.sql("ALTER ROLE valid VALID UNTIL '2099-01-01'")

    @staticmethod
    def refuses_valid():
        try:
            Wire(plain_port).login('valid', 'valid-secret', 'app', {'pgporter.tenant': 'acme'}).close()
            return False
        except ServerError as error:
            return error.sqlstate == '28P01'

    def test_08_scram_channel_binding_flags(self):
        def first(flag, port=None, tls=False):
            wire = Wire(port or plain_port, timeout=5)
            if tls:
                wire.request_tls(context())
            wire.send(start_packet())
            offered = wire.recv()[1][4:].rstrip(b'\0').split(b'\0')
            data = flag + w.Scram('').bare.encode()
            wire.send(w.message('p', b'SCRAM-SHA-256\0' + struct.pack('!i', len(data)) + data))
            kind, body = wire.recv()
            wire.close()
            return offered, (kind, struct.unpack('!i', body[:4])[0]) if kind == 'R' else (kind, w.error_fields(body)['C'])
        self.assertEqual(first(b'n,,')[1], ('R', 11))
        self.assertEqual(first(b'y,,'), ([b'SCRAM-SHA-256'], ('R', 11)))  # not offered without TLS, so the client is right
        self.assertIn(first(b'p=tls-server-end-point,,')[1], (('E', '08P01'), ('E', '28P01'), ('E', '28000'), ('E', '0A000')))
        offered, answer = first(b'y,,', proxy.port, True)
        if b'SCRAM-SHA-256-PLUS' in offered:  # somebody in the middle took it off the list
            self.assertEqual(answer[0], 'E')
        for broken in (b'x,,', b'', b'n', b'n,a=evil,', b'p=,,', b'n,,m=ext,'):
            self.assertEqual(first(broken)[1][0], 'E', broken)

    def server_with(self, name, behave):
        fake = tools.FakeServer(workspace, behave)
        proxy.apply({'clusters': [{'name': name, 'host': '127.0.0.1', 'port': fake.port}],
                     'tenants': [{'name': name, 'placement': {'kind': 'schema', 'cluster': name, 'database': 'app', 'schema': 'acme'}}]})
        began, sqlstate = time.monotonic(), None
        try:
            self.wire(name).run('SELECT 1')
        except ServerError as error:
            sqlstate = error.sqlstate
            self.assertNotIn(str(fake.port), str(error.fields))
        self.assertTrue(sqlstate)
        self.assertLess(time.monotonic() - began, 6)
        self.works()
        return sqlstate

    def test_08_servers_that_misbehave_in_scram(self):
        def scripted(*answers):
            def behave(peer, fake):
                tools.read_startup(peer, fake)
                for answer in answers:
                    peer.sendall(answer(fake) if callable(answer) else answer)
                    tools.read_message(peer, fake)
            return behave

        def continued(text):
            def answer(fake):
                nonce = fake.received[-1].split(b'r=')[1]
                return w.message('R', struct.pack('!i', 11) + text.replace(b'NONCE', nonce))
            return answer
        salt = base64.b64encode(b's' * 16)
        ask = w.message('R', SCRAM)
        good = continued(b'r=NONCEabc,s=' + salt + b',i=4096')
        final = struct.pack('!i', 12)
        okay = w.message('R', struct.pack('!i', 0)) + w.message('K', b'\0' * 8) + w.message('Z', b'I')
        for number, answers in enumerate((
                [w.message('E', b'MI have no SQLSTATE\0\0')], [w.message('E', b'\0')], [w.message('E', b'')], [w.message('E', b'SFATAL\0Cxx\0M\0\0')],
                [ask, continued(b'r=NONCEabc,s=' + salt + b',i=2147483647')], [ask, continued(b'r=NONCEabc,s=' + salt + b',i=0')],
                [ask, continued(b'r=NONCEabc,s=' + salt + b',i=-5')], [ask, continued(b'r=other,s=' + salt + b',i=4096')],
                [ask, continued(b'r=NONCE')], [ask, continued(b'r=NONCEabc,s=***,i=4096')], [ask, good, w.message('R', final + b'v=AAAA') + okay],
                [ask, good, w.message('R', final + b'e=other-error') + okay], [ask, good, w.message('R', final) + okay],
                [ask, good, okay], [ask, okay], [w.message('R', struct.pack('!i', 10) + b'\0')], [w.message('R', b'\0')],
                [w.message('R', struct.pack('!i', 3)), okay], [b'R\xff\xff\xff\xff'], [b'R\x7f\xff\xff\xff' + b'x' * 9000])):
            with self.subTest(number):
                self.server_with('scram%d' % number, scripted(*answers))

    def test_08_notice_during_the_servers_login(self):
        notice = w.message('N', b'SNOTICE\0VNOTICE\0C00000\0Mpassword will expire\0\0')
        chatty = tools.Relay(workspace, server.port, lambda data, number: notice + data if number < 4 else data)
        proxy.apply({'clusters': [{'name': 'chatty', 'host': '127.0.0.1', 'port': chatty.port}],
                     'tenants': [{'name': 'chatty', 'placement': {'kind': 'schema', 'cluster': 'chatty', 'database': 'app', 'schema': 'acme'}}]})
        self.assertEqual(self.wire('chatty').run('SELECT tenant FROM whoami'), [('acme',)])

    def test_09_every_admin_command_is_authorized(self):
        _, api = proxy.http('GET', '/openapi.json', authorized=False)
        checked = 0
        for url, methods in (api['paths'] if isinstance(api, dict) else {}).items():
            for method in methods:
                if method in ('get', 'post', 'put', 'patch', 'delete') and url.startswith('/v1'):
                    status, _ = proxy.http(method.upper(), url.replace('{', '').replace('}', ''), None if method == 'get' else {}, authorized=False)
                    self.assertEqual(status, 401, '%s %s' % (method, url))
                    checked += 1
        self.assertGreater(checked, 8)
        for database in ('pgporter', 'pgbouncer'):  # there is no console that a client's login could reach
            with self.assertRaises(ServerError) as caught:
                Wire(plain_port).login('app', fixture.PASSWORDS['app'], database)
            self.assertEqual(caught.exception.sqlstate, '3D000')

    def test_10_existence_is_not_told_before_the_password(self):
        texts = {self.login_error(user, 'wrong', tenant).replace('"app.acme"', '"X"') for user in ('app', 'nobody', 'app.acme', 'app.nobody')
                 for tenant in ('acme', 'nobody')}
        self.assertEqual(len({text.replace('"app"', '"X"') for text in texts}), 1, texts)

    def test_10_sqlstates_of_the_server_come_through(self):
        proxy.apply({'tenants': [{'name': 'nodb', 'placement': {'kind': 'database', 'cluster': 'main', 'database': 'not_there', 'schema': 'x'}}]})
        with self.assertRaises(ServerError) as caught:
            self.wire('nodb').run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate, '3D000')
        self.assertIn('"not_there"', caught.exception.fields['M'])
        server.sql('ALTER DATABASE app2 CONNECTION LIMIT 0')
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app2'")
        try:
            with self.assertRaises(ServerError) as caught:
                self.wire('umbrella').run('SELECT 1')
            self.assertEqual(caught.exception.sqlstate, '53300')
        finally:
            server.sql('ALTER DATABASE app2 CONNECTION LIMIT -1')
        fixture.wait_for(self.umbrella_works, 'umbrella works again', 10)

    def umbrella_works(self):
        try:
            return self.wire('umbrella').run('SELECT tenant FROM whoami') == [('umbrella',)]
        except ServerError:
            return False

    def test_11_no_server_connection_before_the_password(self):
        """40 logins stop at their password; the tenant's only server connection is still there for those who have logged in."""
        before = max(1, len(server.backends()))
        halves = [Wire(plain_port) for _ in range(40)]
        for wire in halves:
            wire.send(start_packet())
            self.assertEqual(wire.recv()[0], 'R')
        began = time.monotonic()
        for tenant in ('acme', 'globex', 'acme'):
            self.works(tenant)
        self.assertLess(time.monotonic() - began, 3)  # wait_ms_max
        self.assertLessEqual(len(server.backends()), before)
        for wire in halves:
            wire.close()

    def test_12_notifications_stay_in_their_database(self):
        one, two = self.wire('acme'), self.wire('umbrella', database='app2')
        two.run('LISTEN same_channel')
        one.run("NOTIFY same_channel, 'of app'")
        one.run("SELECT pg_notify('same_channel', 'of app')")
        self.assertTrue(two.quiet(0.3))
        self.wire('umbrella', database='app2').run("NOTIFY same_channel, 'of app2'")
        kind, body = two.recv()
        self.assertEqual((kind, body[4:]), ('A', b'same_channel\0of app2\0'))

    def test_12_statements_of_one_text_in_two_databases(self):
        server.sql("SET ROLE app; CREATE TABLE acme.typed (v int DEFAULT 7); INSERT INTO acme.typed DEFAULT VALUES", 'app')
        server.sql("SET ROLE app; CREATE TABLE umbrella.typed (v text DEFAULT 'seven'); INSERT INTO umbrella.typed DEFAULT VALUES", 'app2')
        wires = [(self.wire('acme'), '7'), (self.wire('umbrella', database='app2'), 'seven')]
        for wire, _ in wires:
            wire.send(w.parse('s', 'SELECT v FROM typed') + w.describe('S', 's') + w.sync())
            wire.recv_until('Z')
        for _ in range(3):
            for wire, value in wires:
                wire.send(w.bind('', 's') + w.execute() + w.sync())
                self.assertEqual(wire._rows(wire.recv_until('Z')), [(value,)])

    def test_12_welcome_parameters_are_of_the_tenants_own_database(self):
        for _ in range(2):
            for tenant, database, style, zone in (('acme', 'app', 'ISO, MDY', 'UTC'), ('umbrella', 'app2', 'German, DMY', 'Asia/Tokyo')):
                wire = self.wire(tenant, database=database)
                wire.run('SELECT 1')
                self.assertEqual((wire.parameters['DateStyle'], wire.parameters['TimeZone']), (style, zone), tenant)
                self.assertEqual(wire.run('SHOW TimeZone'), [(zone,)])
                wire.close()


if __name__ == '__main__':
    fixture.main(__name__)
