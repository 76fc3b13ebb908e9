"""Logins over TLS: SCRAM-SHA-256-PLUS to clients and to servers, and client certificates; with Debian's psql and libpq,
Python and somebody in between."""
import os
import ssl
import unittest

import psycopg2

import fixture
import tls_parts
from fixture import wait_for
from tls_parts import Middleman, TlsWire, psql
from wire_client import ServerError, WireError

PLUS, SCRAM = 'SCRAM-SHA-256-PLUS', 'SCRAM-SHA-256'


def setUpModule():
    global workspace, server, made, proxy, cert_port, required_port, full_port, learning, middle
    workspace = fixture.Workspace()
    made = tls_parts.Authority(os.path.join(workspace.path, 'certificates'))
    for name in ('server', 'wrong'):
        made.make(name, tls_parts.NAMES[name])
    for name in ('app', 'other', 'gone', 'nobody'):
        made.make(name)
    made.make('forged', common_name='app', authority='stranger')
    made.revoke('gone')
    server = fixture.Postgres(workspace, tls=made.pair('server'))
    server.make_roles()
    server.make_world(tenants=('acme',))
    server.sql("CREATE ROLE nobody LOGIN PASSWORD 'nobody-secret'")
    server.sql('GRANT app TO other, nobody')
    middle = Middleman(server.port, made.pair('wrong'))
    pair = dict(zip(('tls_certificate_file', 'tls_key_file'), made.pair('server')), address='127.0.0.1', tls='require',
                tls_client_ca_file=made.path('ca.crt'))
    cert_port, required_port, full_port = fixture.free_port(), fixture.free_port(), fixture.free_port()
    listeners = [dict(pair, port=cert_port, auth='cert', tls_client_crl_file=made.path('ca.crl')), dict(pair, port=required_port),
                 dict(pair, port=full_port, tls_client_certificate='verify_full')]
    verifiers = dict(server.sql('SELECT rolname, rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL'))
    users = [{'name': name, 'scram_verifier': verifiers[name], 'tenants': '*'} for name in ('app', 'other')]
    clusters = {'main': {'port': server.port, 'tls': 'require'}, 'between': {'port': middle.port, 'tls': 'require'}}
    tenants = {'acme': {}, 'between': {'placement': {'cluster': 'between', 'schema': 'acme'}}}

    proxy = fixture.Pgporter(workspace, server)
    proxy.config['listen'][0].update(tls='allow', tls_certificate_file=pair['tls_certificate_file'], tls_key_file=pair['tls_key_file'])
    proxy.config['listen'] += listeners
    proxy.config['server_logins'].append({'cluster': '*', 'user': '*', 'password': 'nobody-secret'})
    server.sql('CREATE DATABASE catalog2 OWNER catalog')
    learning = fixture.Pgporter(workspace, server, 'learning')  # knows no password of the applications
    learning.cert_port = fixture.free_port()
    learning.config['listen'][0].update(tls='allow', tls_certificate_file=pair['tls_certificate_file'], tls_key_file=pair['tls_key_file'])
    learning.config['listen'].append(dict(pair, port=learning.cert_port, auth='cert'))
    learning.config['server_logins'] = [login for login in learning.config['server_logins'] if login['user'] == 'mover']
    learning.config['catalog']['dsn'] = learning.config['catalog']['dsn'].replace('dbname=catalog', 'dbname=catalog2')
    for one in (proxy, learning):
        one.start()
        one.apply(fixture.document(clusters, {name: dict(more) for name, more in tenants.items()}, users))


def tearDownModule():
    middle.close()
    workspace.close()


class ChannelBinding(unittest.TestCase):
    def wire(self, tls=True, version=None):
        wire = TlsWire(proxy.port)
        if tls:
            wire.request_tls(made.context(version=version))
        return wire

    def login(self, wire, user='app', password='app-secret'):
        wire.login(user, password, 'app', {'pgporter.tenant': 'acme'})
        return wire

    def refused(self, wire, sqlstate, text, **more):
        with self.assertRaises(ServerError) as caught:
            self.login(wire, **more)
        self.assertEqual(caught.exception.sqlstate, sqlstate)
        self.assertIn(text, caught.exception.fields['M'] + caught.exception.fields.get('D', ''))

    def test_what_is_offered(self):
        for tls, offered in ((True, [PLUS, SCRAM]), (False, [SCRAM])):
            for user in ('app', 'nobody-of-this-name'):
                wire = self.wire(tls)
                if user == 'app':
                    self.login(wire)
                else:
                    self.refused(wire, '28P01', 'password authentication failed', user=user)
                self.assertEqual(wire.offered, offered)

    def test_bound_to_the_channel(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertEqual(self.login(self.wire(version=version).bind_to_channel()).run('SELECT tenant FROM whoami'), [('acme',)])
        self.refused(self.wire().bind_to_channel(), '28P01', 'password authentication failed', password='wrong')
        self.refused(self.wire().bind_to_channel(), '28P01', 'password authentication failed', user='nobody-of-this-name')
        wire = self.wire().bind_to_channel()
        wire.bound = bytes(32)
        self.refused(wire, '28000', 'channel binding check failed')

    def test_flags(self):
        wire = self.wire()  # 'n': no channel binding wanted
        self.login(wire)
        wire = self.wire(False)
        wire.header = 'y,,'  # true: there is none without TLS
        self.login(wire)
        for user in ('app', 'nobody-of-this-name'):
            wire = self.wire()
            wire.header = 'y,,'  # somebody took the offer away
            self.refused(wire, '28000', 'channel binding negotiation error', user=user)
        wire = self.wire(False)
        wire.mechanism, wire.header = PLUS, 'p=tls-server-end-point,,'
        self.refused(wire, '08P01', 'invalid SASL authentication mechanism')
        for tls in (False, True):
            wire = self.wire(tls)
            wire.header = 'p=tls-server-end-point,,'
            self.refused(wire, '08P01', 'malformed SCRAM message')
        for header in ('n,,', 'y,,'):
            wire = self.wire().bind_to_channel()
            wire.header, wire.bound = header, b''
            self.refused(wire, '08P01', 'malformed SCRAM message')
        wire = self.wire().bind_to_channel()
        wire.header = 'p=tls-unique,,'
        self.refused(wire, '08P01', 'unsupported SCRAM channel-binding type')

    def test_psql(self):
        named = {'options': '-c pgporter.tenant=acme'}
        for mode in ('disable', 'prefer', 'require'):
            self.assertEqual(psql(fixture.PG_BIN, proxy.port, 'SELECT tenant FROM whoami', channel_binding=mode, **named), (0, 'acme', ''), mode)
        for mode in ('disable', 'prefer'):
            self.assertEqual(psql(fixture.PG_BIN, proxy.port, 'SELECT 1', channel_binding=mode, sslmode='disable', **named), (0, '1', ''))
        code, _, said = psql(fixture.PG_BIN, proxy.port, 'SELECT 1', channel_binding='require', sslmode='disable', **named)
        self.assertEqual(code, 2)
        self.assertIn('channel binding', said)
        code, _, said = psql(fixture.PG_BIN, proxy.port, 'SELECT 1', channel_binding='require', password='wrong', **named)
        self.assertEqual(code, 2)
        self.assertIn('password authentication failed for user "app"', said)
        connection = psycopg2.connect(**proxy.dsn('acme', sslmode='verify-full', host='localhost', sslrootcert=made.path('ca.crt'),
                                                  channel_binding='require'))
        cursor = connection.cursor()
        cursor.execute('SELECT tenant FROM whoami')
        self.assertEqual(cursor.fetchall(), [('acme',)])
        connection.close()

    def test_somebody_between_the_client_and_us(self):
        between = Middleman(proxy.port, made.pair('wrong'))
        named = {'options': '-c pgporter.tenant=acme'}
        # The control: who doesn't bind the login to the channel doesn't notice.
        self.assertEqual(psql(fixture.PG_BIN, between.port, 'SELECT 1', channel_binding='disable', **named), (0, '1', ''))
        for mode in ('prefer', 'require'):
            code, _, said = psql(fixture.PG_BIN, between.port, 'SELECT 1', channel_binding=mode, **named)
            self.assertEqual(code, 2)
            self.assertIn('SCRAM channel binding check failed', said)
        between.close()
        offer = b'SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0'
        def without_plus(data):
            return data.replace(b'R' + (8 + len(offer)).to_bytes(4, 'big') + b'\0\0\0\x0a' + offer, b'R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0')
        between = Middleman(proxy.port, made.pair('wrong'), without_plus)
        code, _, said = psql(fixture.PG_BIN, between.port, 'SELECT 1', channel_binding='prefer', **named)
        self.assertEqual(code, 2)
        self.assertIn('SCRAM channel binding negotiation error', said)
        between.close()

    def test_learned_keys(self):
        """What a bound login teaches logs in to the servers, bound to their channel."""
        wire = TlsWire(learning.port)
        wire.request_tls(made.context())
        self.login(wire.bind_to_channel())
        self.assertEqual(wire.run('SELECT ssl, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()'), [('t', 'app')])

    def test_somebody_between_us_and_the_server(self):
        """TLS that isn't verified (tls: require), and somebody with a certificate of their own in it: the login to PostgreSQL notices."""
        for one in (proxy, learning):
            wire = TlsWire(one.port)
            wire.request_tls(made.context())
            with self.assertRaises(ServerError) as caught:
                wire.login('app', 'app-secret', 'app', {'pgporter.tenant': 'between'})
                wire.run('SELECT 1')
            self.assertIn('channel binding check failed', caught.exception.fields['M'] + caught.exception.fields.get('D', ''))
        with open(os.path.join(server.folder, 'log'), encoding='utf-8') as log:
            self.assertIn('SCRAM channel binding check failed', log.read())


class ClientCertificates(unittest.TestCase):
    def login(self, port, certificate, user='app', password=None, version=None, tenant='acme'):
        wire = TlsWire(port)
        wire.request_tls(made.context(client=certificate, version=version))
        return wire.login(user, password, 'app', {'pgporter.tenant': tenant})

    def refused(self, text, *arguments, **more):
        with self.assertRaises(ServerError) as caught:
            self.login(*arguments, **more)
        self.assertEqual(caught.exception.sqlstate, '28000')
        self.assertIn(text, caught.exception.fields['M'])

    def test_the_common_name_is_the_user(self):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.assertEqual(self.login(cert_port, 'app', version=version).run('SELECT current_user, tenant FROM whoami'), [('app', 'acme')])
        self.assertEqual(self.login(cert_port, 'app', user='app.acme').run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(self.login(cert_port, 'other', user='other').run('SELECT current_user'), [('other',)])
        self.refused('certificate authentication failed for user "app"', cert_port, 'other')
        self.refused('certificate authentication failed for user "other"', cert_port, 'app', user='other')
        self.refused('certificate authentication failed for user "App"', cert_port, 'app', user='App')
        self.refused('connection requires a valid client certificate', cert_port, None)
        # A certificate, and even a role that server_logins opens the door for, but no such user in the catalog.
        self.refused('certificate authentication failed for user "nobody"', cert_port, 'nobody', user='nobody')

    def test_certificates_of_others_and_revoked_ones(self):
        before = proxy.metric('pgporter_tls_handshake_failures_total', reason='client_certificate')
        for certificate, user in (('forged', 'app'), ('gone', 'gone')):
            for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                with self.assertRaises((ssl.SSLError, WireError, OSError)):
                    self.login(cert_port, certificate, user=user, version=version)
        # The client has the alert a moment before it is counted.
        failures = lambda: proxy.metric('pgporter_tls_handshake_failures_total', reason='client_certificate') - before  # noqa: E731
        fixture.wait_for(lambda: failures() == 4, lambda: '4 failures are counted, not %d' % failures(), 5)

    def test_revoked_while_we_run(self):
        made.make('leaver', common_name='app')
        self.login(cert_port, 'leaver').close()
        made.revoke('leaver')

        def refused():
            try:
                self.login(cert_port, 'leaver').close()
                return False
            except (ssl.SSLError, WireError, OSError):
                return True
        wait_for(refused, 'the new revocation list counts')
        self.login(cert_port, 'app').close()

    def test_a_certificate_besides_the_password(self):
        for certificate, user, password in (('app', 'app', 'app-secret'), ('other', 'app', 'app-secret'), ('app', 'other', 'other-secret')):
            self.assertEqual(self.login(required_port, certificate, user, password).run('SELECT current_user'), [(user,)])
        self.refused('connection requires a valid client certificate', required_port, None, password='app-secret')
        with self.assertRaises(ServerError) as caught:
            self.login(required_port, 'app', password='wrong')
        self.assertEqual(caught.exception.sqlstate, '28P01')
        self.login(full_port, 'app', password='app-secret')
        self.refused('certificate authentication failed for user "app"', full_port, 'other', password='app-secret')

    def test_no_credential_for_the_server(self):
        with self.assertRaises(ServerError) as caught:
            self.login(learning.cert_port, 'other', user='other').run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate, '28000')
        self.assertIn('the server asks for a password, but none is known for this login', caught.exception.fields['M'])

    def test_psql(self):
        key = made.path('app.key')
        os.chmod(key, 0o600)
        words = {'sslcert': made.path('app.crt'), 'sslkey': key, 'sslrootcert': made.path('ca.crt'), 'sslmode': 'verify-full', 'host': 'localhost',
                 'options': '-c pgporter.tenant=acme', 'password': ''}
        self.assertEqual(psql(fixture.PG_BIN, cert_port, 'SELECT current_user, tenant FROM whoami', **words), (0, 'app|acme', ''))
        code, _, said = psql(fixture.PG_BIN, cert_port, 'SELECT 1', **dict(words, user='other'))
        self.assertEqual(code, 2)
        self.assertIn('certificate authentication failed for user "other"', said)
        code, _, said = psql(fixture.PG_BIN, cert_port, 'SELECT 1', **dict(words, sslcert='/nonexistent', sslkey='/nonexistent'))
        self.assertEqual(code, 2)
        self.assertIn('connection requires a valid client certificate', said)


if __name__ == '__main__':
    fixture.main(__name__)
