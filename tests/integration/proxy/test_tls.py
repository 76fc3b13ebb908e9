"""TLS to clients and to servers, listeners that require it, and the listener that trusts."""
import os
import ssl
import unittest

import fixture
import tls_parts
import wire_client
from fixture import wait_for
from wire_client import ServerError, Wire, WireError


def setUpModule():
    global workspace, server
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace, 'catalog-server')
    server.make_roles()


def tearDownModule():
    workspace.close()


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        made = tls_parts.Authority(os.path.join(workspace.path, 'certificates'))
        for name in ('server', 'wrong'):
            made.make(name, tls_parts.NAMES[name])
        cls.path = staticmethod(made.path)
        path = made.path
        cls.tls_server = fixture.Postgres(workspace, 'tls-server', tls=(path('server.crt'), path('server.key')))
        cls.wrong_server = fixture.Postgres(workspace, 'wrong-name-server', tls=(path('wrong.crt'), path('wrong.key')))
        for one in (cls.tls_server, cls.wrong_server):
            one.make_roles()
            one.make_world(tenants=('acme',))
        cls.proxy = fixture.Pgporter(workspace, server, 'tls-pgporter')
        cls.trust_port, cls.required_port = fixture.free_port(), fixture.free_port()
        pair = {'tls_certificate_file': path('server.crt'), 'tls_key_file': path('server.key')}
        cls.proxy.config['listen'][0].update(tls='allow', **pair)
        cls.proxy.config['listen'] += [dict({'address': '127.0.0.1', 'port': cls.required_port, 'tls': 'require'}, **pair),
                                       {'address': '127.0.0.1', 'port': cls.trust_port, 'auth': 'trust'}]
        cls.proxy.start()
        verify = {'tls': 'verify_full', 'tls_ca_file': path('ca.crt')}
        places = {'acme': 'good', 'wrong-name': 'wrong-name', 'stranger': 'stranger', 'wrong-ca-name': 'ca-only', 'plain': 'plain'}
        cls.proxy.apply(fixture.document({
            'good': dict(verify, host='localhost', port=cls.tls_server.port), 'wrong-name': dict(verify, host='localhost', port=cls.wrong_server.port),
            'ca-only': dict(verify, tls='verify_ca', host='localhost', port=cls.wrong_server.port),
            'stranger': dict(verify, host='localhost', port=cls.tls_server.port, tls_ca_file=path('stranger.crt')),
            'plain': dict(host='localhost', port=cls.tls_server.port, tls='disable')},
            {name: {'placement': {'cluster': cluster, 'schema': 'acme'}} for name, cluster in places.items()}))

    def context(self):
        context = ssl.create_default_context(cafile=self.path('ca.crt'))
        context.check_hostname = False
        return context

    def connect(self, tenant='acme', port=None, tls=False, password='app-secret'):
        wire = Wire(port or self.proxy.port)
        if tls:
            wire.request_tls(self.context())
        return wire.login('app', password, 'app', {'pgporter.tenant': tenant})

    def test_tls_to_the_client(self):
        for port in (self.proxy.port, self.required_port):
            wire = self.connect(port=port, tls=True)
            self.assertIn(wire.socket.version(), ('TLSv1.3', 'TLSv1.2'))
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
            self.assertEqual(wire.run("SELECT length(repeat('x', 3000000))"), [('3000000',)])
            wire.send(wire_client.query("SELECT repeat('x', 3000000)"))
            self.assertEqual(len([b for k, b in wire.recv_until('Z') if k == 'D'][0]), 3000000 + 6)
            wire.send(b''.join(wire_client.query("SELECT '%s'" % ('y' * 20000)) for _ in range(200)), 7001)
            self.assertEqual(len([1 for k, _ in wire.recv_until('Z', 200) if k == 'D']), 200)
            wire.send(wire_client.query('SELECT 1'), 1)
            wire.recv_until('Z')
            wire.close()

    def test_tls_to_the_server(self):
        wire = self.connect()
        self.assertEqual(wire.run('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()'), [('t',)])
        self.assertEqual(self.connect('wrong-ca-name').run('SELECT tenant FROM whoami'), [('acme',)])

    def test_servers_that_are_not_who_they_should_be(self):
        for tenant in ('wrong-name', 'stranger', 'plain'):
            with self.subTest(tenant):
                with self.assertRaises(ServerError) as caught:  # at login, or at the first statement
                    self.connect(tenant).run('SELECT 1')
                self.assertIn(caught.exception.sqlstate[:2], ('08', '28', '57'))

    def test_tls_required(self):
        with self.assertRaises(ServerError) as caught:
            self.connect(port=self.required_port)
        self.assertEqual(caught.exception.sqlstate[:2], '28')

    def test_bytes_stuffed_behind_ssl_request(self):
        """What comes in plain text before the handshake must not be taken for what comes after it (CVE-2021-3935)."""
        wire = Wire(self.proxy.port, timeout=5)
        wire.send(wire_client.SSL_REQUEST + wire_client.startup({'user': 'app', 'database': 'app', 'pgporter.tenant': 'acme'}))
        try:
            first = wire.recv_byte()
        except WireError:
            return  # closed without a word
        if first == b'E':
            return  # refused in words; no login went on
        self.assertEqual(first, b'S')
        try:
            wire.buffer.clear()
            wire.socket = self.context().wrap_socket(wire.socket)
        except OSError:
            return  # closed after its answer
        self.fail('the handshake went on with bytes that came before it')

    def test_broken_handshake_harms_nobody(self):
        for junk in (b'\x16\x03\x01\xff\xff', b'GET / HTTP/1.0\r\n\r\n', os.urandom(500)):
            wire = Wire(self.proxy.port, timeout=5)
            wire.send(wire_client.SSL_REQUEST)
            self.assertEqual(wire.recv_byte(), b'S')
            wire.send(junk)
            wire.close()
        self.assertEqual(self.connect(tls=True).run('SELECT 1'), [('1',)])

    def test_trust_listener(self):
        wire = self.connect(port=self.trust_port, password=None)
        self.assertEqual(wire.run('SELECT tenant, current_user FROM whoami'), [('acme', 'app')])
        with self.assertRaises(ServerError):
            Wire(self.trust_port).login('nobody', None, 'app', {'pgporter.tenant': 'acme'})

    def test_cancel_over_tls(self):
        wire = self.connect(tls=True)
        wire.send(wire_client.query('SELECT pg_sleep(20) /* tls */'))
        wait_for(lambda: [b for b in self.tls_server.backends() if '/* tls */' in b[2] and b[1] == 'active'], 'the query runs')
        other = Wire(self.proxy.port)
        other.request_tls(self.context())
        other.send(wire_client.cancel_request(wire.pid, wire.secret))
        other.close()
        errors = [wire_client.error_fields(b)['C'] for k, b in wire.recv_until('Z') if k == 'E']
        self.assertEqual(errors, ['57014'])


if __name__ == '__main__':
    fixture.main(__name__)
