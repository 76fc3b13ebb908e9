"""Direct TLS and ALPN, the server name as the tenant's name, certificates chosen by it and reloaded; what openssl, Python and psql see."""
import contextlib
import os
import signal
import socket
import ssl
import struct
import unittest

import fixture
import tls_parts
import wire_client
from fixture import wait_for
from tls_parts import TlsWire, psql, s_client
from wire_client import ServerError, WireError

POSTGRESQL = ['postgresql']


def setUpModule():
    global workspace, server, made, proxy, plain_port, modern_port
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    made = tls_parts.Authority(os.path.join(workspace.path, 'certificates'))
    for name in ('server', 'wild', 'acme'):
        made.make(name, tls_parts.NAMES[name])
    made.make('custom', 'DNS:db.globex.example')
    proxy = fixture.Pgporter(workspace, server)
    plain_port, modern_port = fixture.free_port(), fixture.free_port()
    pair = dict(zip(('tls_certificate_file', 'tls_key_file'), made.pair('server')))
    more = [dict(zip(('certificate_file', 'key_file'), made.pair(name))) for name in ('wild', 'acme', 'custom')]
    proxy.config['listen'][0].update(tls='allow', tls_certificates=more, **pair)
    proxy.config['listen'] += [{'address': '127.0.0.1', 'port': plain_port},
                               dict({'address': '127.0.0.1', 'port': modern_port, 'tls': 'require', 'tls_protocols_min': 'TLSv1.3'}, **pair)]
    proxy.config['identify'] = {'sni_suffix': 'tenants.example.com'}
    proxy.start()
    tenants = {name: {} for name in fixture.TENANTS}
    tenants['globex'] = {'domains': ['db.globex.example', 'old.globex.example']}
    users = [{'name': 'app', 'scram_verifier': wire_client.scram_verifier('app-secret'), 'tenants': '*'},
             {'name': 'other', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['other']), 'tenants': ['acme']}]
    server.sql('GRANT USAGE ON SCHEMA acme TO other; GRANT SELECT ON acme.whoami TO other', 'app')
    proxy.apply(fixture.document({'main': server}, tenants, users=users))


def tearDownModule():
    workspace.close()


def answer_to_hello(context, asks_first=False):
    """The first TLS record that answers a ClientHello: (content type, payload)."""
    wire = TlsWire(proxy.port)
    if asks_first:
        wire.send(wire_client.SSL_REQUEST)
        if wire.recv_byte() != b'S':
            raise WireError('no TLS here')
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    wire.send(outgoing.read())
    header = b''.join(wire.recv_byte() for _ in range(5))
    kind, _, size = struct.unpack('!BHH', header)
    return kind, b''.join(wire.recv_byte() for _ in range(size))


# A fatal alert (21, 2), no_application_protocol (120).
NO_ALPN = (21, b'\x02\x78')


def failures(reason):
    return proxy.metric('pgporter_tls_handshake_failures_total', reason=reason)


class DirectTls(unittest.TestCase):
    def test_direct_tls_with_alpn(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for protocols in (POSTGRESQL, ['h2', 'postgresql']):
                wire = TlsWire(proxy.port)
                wire.begin_tls(made.context(protocols=protocols, version=version))
                self.assertEqual(wire.socket.selected_alpn_protocol(), 'postgresql')
                wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'acme'})
                self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                wire.close()

    def test_direct_tls_in_pieces(self):
        """The first byte alone says that it is TLS; what comes in which piece doesn't matter."""
        wire = TlsWire(proxy.port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = made.context(protocols=POSTGRESQL).wrap_bio(incoming, outgoing)
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        for byte in outgoing.read():
            wire.send(bytes([byte]))
        self.assertEqual(wire.recv_byte(), b'\x16')

    def test_direct_tls_without_alpn_is_refused_with_its_alert(self):
        before = failures('alpn')
        for protocols in (None, ['h2'], ['postgresqlx', 'postgresq']):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                self.assertEqual(answer_to_hello(made.context(protocols=protocols, version=version)), NO_ALPN)
                with self.assertRaises(ssl.SSLError):
                    TlsWire(proxy.port).begin_tls(made.context(protocols=protocols, version=version))
        fixture.wait_for(lambda: failures('alpn') == before + 12, 'they are counted', 5)  # a moment behind their alerts
        self.assertIn('no application protocol', s_client(proxy.port))
        self.assertIn('no application protocol', s_client(proxy.port, '-alpn', 'http/1.1'))
        self.assertIn('ALPN protocol: postgresql', s_client(proxy.port, '-alpn', 'postgresql'))

    def test_alpn_after_ssl_request_is_optional_but_must_be_ours(self):
        for protocols, selected in ((None, None), (POSTGRESQL, 'postgresql')):
            wire = TlsWire(proxy.port)
            wire.request_tls(made.context(protocols=protocols))
            self.assertEqual(wire.socket.selected_alpn_protocol(), selected)
            wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'acme'})
        self.assertEqual(answer_to_hello(made.context(protocols=['h2']), True), NO_ALPN)
        self.assertEqual(answer_to_hello(made.context(), True)[0], 22)
        self.assertIn('no application protocol', s_client(proxy.port, '-starttls', 'postgres', '-alpn', 'http/1.1'))

    def test_a_listener_without_tls_takes_no_direct_tls(self):
        with self.assertRaises((ssl.SSLError, OSError)):
            TlsWire(plain_port).begin_tls(made.context(protocols=POSTGRESQL))
        with self.assertRaises(WireError):
            TlsWire(plain_port).request_tls(made.context())


class AskingForEncryption(unittest.TestCase):
    GSS = struct.pack('!ii', 8, 80877104)

    def refused(self, wire):
        kind, body = wire.recv()
        self.assertEqual(kind, 'E')
        fields = wire_client.error_fields(body)
        self.assertEqual((fields['S'], fields['C']), ('FATAL', '08P01'))
        self.assertEqual(wire.recv(), (None, b''))
        return fields['M']

    def test_gss_then_tls_each_once(self):
        wire = TlsWire(proxy.port)
        wire.send(self.GSS)
        self.assertEqual(wire.recv_byte(), b'N')
        wire.request_tls(made.context())
        wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'acme'})
        wire = TlsWire(plain_port)
        for request in (wire_client.SSL_REQUEST, self.GSS):
            wire.send(request)
            self.assertEqual(wire.recv_byte(), b'N')
        wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'acme'})
        for port, request in ((proxy.port, self.GSS), (plain_port, self.GSS), (plain_port, wire_client.SSL_REQUEST)):
            wire = TlsWire(port)
            wire.send(request)
            self.assertEqual(wire.recv_byte(), b'N')
            wire.send(request)
            self.assertIn('twice', self.refused(wire))

    def test_bytes_behind_a_request(self):
        startup = wire_client.startup({'user': 'app', 'database': 'app', 'pgporter.tenant': 'acme'})
        for request in (wire_client.SSL_REQUEST, self.GSS):
            for behind in (startup, b'\x16\x03\x01', b'x', wire_client.SSL_REQUEST):
                for port in (proxy.port, plain_port):
                    wire = TlsWire(port)
                    wire.send(request + behind)
                    self.assertIn('unencrypted data', self.refused(wire))

    def test_asking_within_tls(self):
        for request in (wire_client.SSL_REQUEST, self.GSS):
            for direct in (False, True):
                wire = TlsWire(proxy.port)
                if direct:
                    wire.begin_tls(made.context(protocols=POSTGRESQL))
                else:
                    wire.request_tls(made.context())
                wire.send(request)
                self.assertIn('connection that has it', self.refused(wire))


class ServerNames(unittest.TestCase):
    def login(self, name, direct=False, user='app', **params):
        wire = TlsWire(proxy.port)
        if direct:
            wire.begin_tls(made.context(protocols=POSTGRESQL), name)
        else:
            wire.request_tls(made.context(), name)
        return wire.login(user, 'app-secret', 'app', params)

    def test_name_under_the_suffix(self):
        for direct in (False, True):
            for name in ('acme.tenants.example.com', 'GLOBEX.Tenants.Example.Com'):
                wire = self.login(name, direct)
                self.assertEqual(wire.run('SELECT tenant FROM whoami'), [(name.split('.')[0].lower(),)])
        self.assertEqual(self.login('acme.tenants.example.com', user='app.acme').run('SELECT tenant FROM whoami'), [('acme',)])

    def test_names_that_disagree(self):
        for user, params in (('app.globex', {}), ('app', {'pgporter.tenant': 'globex'}), ('app', {'search_path': 'globex'})):
            with self.assertRaises(ServerError) as caught:
                self.login('acme.tenants.example.com', user=user, **params)
            self.assertEqual(caught.exception.sqlstate, '28000')
            self.assertIn('TLS server name', caught.exception.fields['M'])

    def test_no_tenant_of_this_name(self):
        with self.assertRaises(ServerError) as caught:
            self.login('nobody.tenants.example.com')
        self.assertEqual(caught.exception.sqlstate, '3D000')
        self.assertIn('"nobody"', caught.exception.fields['M'])
        with self.assertRaises(ServerError) as caught:
            self.login('nobody.tenants.example.com', user='app.acme')
        self.assertEqual(caught.exception.sqlstate, '28000')
        # Told to nobody who hasn't logged in.
        wire = TlsWire(proxy.port)
        wire.request_tls(made.context(), 'nobody.tenants.example.com')
        with self.assertRaises(ServerError) as caught:
            wire.login('app', 'wrong', 'app')
        self.assertEqual(caught.exception.sqlstate, '28P01')

    def test_other_names_name_nobody(self):
        for name in ('localhost', 'elsewhere.example', 'tenants.example.com'):
            with self.assertRaises(ServerError) as caught:
                self.login(name)
            self.assertEqual(caught.exception.sqlstate, '3D000')
            self.assertEqual(self.login(name, user='app.acme').run('SELECT tenant FROM whoami'), [('acme',)])

    def test_psql(self):
        for name in ('acme', 'globex'):
            self.assertEqual(psql(fixture.PG_BIN, proxy.port, 'SELECT tenant FROM whoami', host=name + '.tenants.example.com', hostaddr='127.0.0.1',
                                  sslmode='verify-full', sslrootcert=made.path('ca.crt')), (0, name, ''))


class CustomDomains(unittest.TestCase):
    """A tenant's own host name: its certificate, its tenant, from the name that the client connects to alone."""

    def test_psql_finds_its_tenant_and_trusts_the_name(self):
        self.assertEqual(psql(fixture.PG_BIN, proxy.port, 'SELECT tenant FROM whoami', host='db.globex.example', hostaddr='127.0.0.1',
                              sslmode='verify-full', sslrootcert=made.path('ca.crt')), (0, 'globex', ''))
        # The domain without a certificate of its own names the tenant too; who verifies names doesn't take the default one for it.
        code, _, said = psql(fixture.PG_BIN, proxy.port, 'SELECT 1', host='old.globex.example', hostaddr='127.0.0.1', sslmode='verify-full',
                             sslrootcert=made.path('ca.crt'))
        self.assertNotEqual(code, 0)
        self.assertIn('does not match host name', said)
        self.assertEqual(psql(fixture.PG_BIN, proxy.port, 'SELECT tenant FROM whoami', host='old.globex.example', hostaddr='127.0.0.1',
                              sslmode='verify-ca', sslrootcert=made.path('ca.crt')), (0, 'globex', ''))

    def login(self, name, user='app', direct=False, **params):
        wire = TlsWire(proxy.port)
        if direct:
            wire.begin_tls(made.context(protocols=POSTGRESQL), name)
        else:
            wire.request_tls(made.context(), name)
        common_name = dict(pair for part in wire.socket.getpeercert()['subject'] for pair in part)['commonName']
        wire.login(user, fixture.PASSWORDS[user], 'app', params)
        return common_name, wire

    def test_certificate_and_tenant(self):
        for name in ('db.globex.example', 'DB.Globex.Example'):
            for direct in (False, True):
                common_name, wire = self.login(name, direct=direct)
                self.assertEqual((common_name, wire.run('SELECT tenant FROM whoami')), ('custom', [('globex',)]))
        with self.assertRaises(ServerError) as caught:
            self.login('db.globex.example', **{'pgporter.tenant': 'acme'})
        self.assertEqual(caught.exception.sqlstate, '28000')

    def test_who_may_not_speak_for_the_owner_learns_nothing(self):
        """Somebody else's domain is as good as any name of nobody's."""
        seen = []
        for name in ('db.globex.example', 'db.nobody.example'):
            with self.assertRaises(ServerError) as caught:
                self.login(name, user='other')
            seen.append(caught.exception.fields)
            self.assertEqual(self.login(name, user='other', **{'pgporter.tenant': 'acme'})[1].run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(seen[0], seen[1])


class Certificates(unittest.TestCase):
    def subject(self, name, port=None):
        wire = TlsWire(port or proxy.port)
        wire.request_tls(made.context(), name)
        return dict(pair for part in wire.socket.getpeercert()['subject'] for pair in part)['commonName']

    def test_chosen_by_server_name(self):
        for name, common_name in ((None, 'server'), ('localhost', 'server'), ('globex.tenants.example.com', 'wild'),
                                  ('ACME.tenants.example.com', 'acme'), ('a.b.tenants.example.com', 'server')):
            self.assertEqual(self.subject(name), common_name)
        self.assertIn('CN = acme', s_client(proxy.port, '-starttls', 'postgres', '-servername', 'acme.tenants.example.com'))

    def test_versions_ciphers_and_renegotiation(self):
        before = failures('version_or_cipher')
        for options, expected in ((('-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'), 'alert protocol version'),
                                  (('-tls1_2', '-cipher', 'AES128-SHA256'), 'handshake failure')):
            self.assertIn(expected, s_client(proxy.port, '-starttls', 'postgres', *options))
        self.assertGreaterEqual(failures('version_or_cipher'), before + 2)
        self.assertIn('alert protocol version', s_client(modern_port, '-starttls', 'postgres', '-tls1_2'))
        self.assertIn('Protocol  : TLSv1.2', s_client(proxy.port, '-starttls', 'postgres', '-tls1_2'))
        said = s_client(proxy.port, '-starttls', 'postgres', '-tls1_2', send=b'R\n')
        self.assertIn('no renegotiation', said)
        self.assertIn('Compression: NONE', said)
        self.assertNotIn('TLS session ticket', said)
        wire = TlsWire(modern_port)
        wire.request_tls(made.context())
        self.assertEqual(wire.socket.version(), 'TLSv1.3')

    def test_records_are_small(self):
        """libpq's asynchronous interface stalls on records that are larger than its buffer of 8 KiB."""
        between = tls_parts.Middleman(proxy.port, None)
        wire = TlsWire(between.port)
        wire.request_tls(made.context())
        wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'acme'})
        self.assertEqual(wire.run("SELECT length(repeat('x', 3000000)), repeat('x', 3000000)")[0][0], '3000000')
        wire.close()
        data, at, sizes = bytes(between.heard), 1, []
        while at + 5 <= len(data):
            kind, _, size = struct.unpack_from('!BHH', data, at)
            self.assertIn(kind, (20, 21, 22, 23))
            sizes.append(size)
            at += 5 + size
        self.assertGreater(sum(sizes), 3000000)
        self.assertLessEqual(max(sizes), 8192 + 256)
        between.close()

    def test_reload(self):
        running = TlsWire(proxy.port)
        running.request_tls(made.context(), 'acme.tenants.example.com')
        running.login('app', 'app-secret', 'app')
        done, failed = (lambda result=result: proxy.metric('pgporter_tls_reloads_total', result=result) for result in ('done', 'failed'))
        before = done()
        made.make('acme', 'DNS:acme.tenants.example.com', 'acme-renewed')
        wait_for(lambda: self.subject('acme.tenants.example.com') == 'acme-renewed', 'the new certificate is shown')
        self.assertEqual(running.run('SELECT tenant FROM whoami'), [('acme',)])  # who is connected stays
        self.assertGreaterEqual(done(), before + 1)
        wait_for(lambda: proxy.metric('pgporter_tls_certificate_expiry_timestamp_seconds') == min(made.expiry(n) for n in ('server', 'wild', 'acme', 'custom')),
                 'the expiry is told')

        before = failed()
        with open(made.path('good.key'), 'wb') as out, open(made.path('acme.key'), 'rb') as source:
            out.write(source.read())
        tls_parts.copy(made.path('wild.key'), made.path('acme.key'))  # of another certificate
        wait_for(lambda: failed() > before, 'the broken pair is noticed')
        self.assertEqual(self.subject('acme.tenants.example.com'), 'acme-renewed')
        self.assertEqual(self.subject(None), 'server')
        self.assertIn('tls_reload_failed', proxy.log())
        count = failed()
        proxy.process.send_signal(signal.SIGHUP)  # asked for: tried again, though nothing changed
        wait_for(lambda: failed() > count, 'SIGHUP reads the files')
        before = done()
        tls_parts.copy(made.path('good.key'), made.path('acme.key'))
        wait_for(lambda: done() > before, 'the mended pair is taken')
        self.assertEqual(running.run('SELECT 1'), [('1',)])
        proxy.process.send_signal(signal.SIGHUP)
        wait_for(lambda: done() > before + 1, 'SIGHUP reads good files too, and ends nothing')
        self.assertEqual(self.subject('acme.tenants.example.com'), 'acme-renewed')


class BrokenHandshakes(unittest.TestCase):
    def test_half_a_hello_and_nothing(self):
        before = failures('closed')
        for opening, behind in ((b'', b'\x16'), (b'', b'\x16\x03\x01\x02\x00' + b'\x01' * 100), (wire_client.SSL_REQUEST, b'\x16\x03')):
            wire = TlsWire(proxy.port)
            if opening:
                wire.send(opening)
                self.assertEqual(wire.recv_byte(), b'S')
            wire.send(behind)
            wire.socket.shutdown(socket.SHUT_WR)
            wire.expect_eof()
        self.assertGreaterEqual(failures('closed'), before + 2)
        wait_for(lambda: proxy.metric('pgporter_logins') == 0, 'nobody is left half in')

    def test_a_client_that_distrusts_us(self):
        before = failures('refused_by_client')
        strict = ssl.create_default_context(cafile=made.path('stranger.crt'))
        strict.check_hostname = False
        with self.assertRaises(ssl.SSLCertVerificationError):
            TlsWire(proxy.port).request_tls(strict)
        wait_for(lambda: failures('refused_by_client') > before, 'it is counted')


if __name__ == '__main__':
    fixture.main(__name__)
