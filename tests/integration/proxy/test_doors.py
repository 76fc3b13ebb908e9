"""How clients get in: protocol versions, cancel keys across instances, Unix-domain sockets, the PROXY protocol."""
import os
import pwd
import socket
import ssl
import struct
import subprocess
import threading
import time
import unittest

import psycopg2

import fixture
import wire_client
from fixture import wait_for
from wire_client import PROTOCOL_3_0, ServerError, Wire

TENANTS = {'acme': {}, 'globex': {}}


def setUpModule():
    global workspace, server, proxy, other, sockets, proxy_port, from_port, tls_port
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    sockets = os.path.join(workspace.path, 'sockets')
    os.mkdir(sockets)
    proxy_port, from_port, tls_port = fixture.free_port(), fixture.free_port(), fixture.free_port()
    pair = [os.path.join(workspace.path, name) for name in ('door.crt', 'door.key')]
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-out', pair[0],
                    '-keyout', pair[1], '-days', '2', '-subj', '/CN=door'], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    proxy = fixture.Pgporter(workspace, server, 'one')
    other = fixture.Pgporter(workspace, server, 'two')
    proxy.config['listen'] += [{'socket_directory': sockets, 'port': proxy.port, 'socket_permissions': '0770'},
                               {'socket_directory': sockets, 'port': proxy.port + 1, 'auth': 'trust'},
                               {'socket_directory': sockets, 'port': proxy.port + 2, 'auth': 'peer'},
                               {'address': '127.0.0.1', 'port': proxy_port, 'proxy_protocol': 'required', 'proxy_protocol_from': ['127.0.0.0/8']},
                               {'address': '127.0.0.1', 'port': tls_port, 'proxy_protocol': 'required', 'tls': 'require',
                                'tls_certificate_file': pair[0], 'tls_key_file': pair[1]},
                               {'address': '127.0.0.1', 'port': from_port, 'proxy_protocol': 'required', 'proxy_protocol_from': ['192.0.2.0/24']}]
    proxy.config['instance_id'] = 1
    proxy.config['peers'] = [{'id': 2, 'address': '127.0.0.1', 'port': other.port}, {'id': 9, 'address': '127.0.0.1', 'port': other.port},
                             {'id': 7, 'address': '127.0.0.1', 'port': 1}]
    other.config['instance_id'] = 2
    other.config['threads'] = 3
    # 9 is a mistake in both configurations: each takes the other for it.
    other.config['peers'] = [{'id': 1, 'address': '127.0.0.1', 'port': proxy.port}, {'id': 9, 'address': '127.0.0.1', 'port': proxy.port}]
    myself = pwd.getpwuid(os.geteuid()).pw_name
    server.sql('CREATE ROLE "%s" LOGIN PASSWORD %%s IN ROLE app' % myself, values=(fixture.PASSWORDS['app'],))
    proxy.config['server_logins'].append({'cluster': '*', 'user': myself, 'password_file': os.path.join(proxy.folder, 'app.password')})
    proxy.start()
    users = [{'name': name, 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['app']), 'tenants': '*'} for name in ('app', myself)]
    proxy.apply(fixture.document({'main': server}, dict(TENANTS), users=users))
    other.start()
    wait_for(lambda: can_log_in(other), 'the second instance knows the tenants')


def tearDownModule():
    workspace.close()


def can_log_in(instance):
    try:
        instance.wire().close()
        return True
    except ServerError:
        return False


class Background(threading.Thread):
    def __init__(self, wire, sql):
        super().__init__(daemon=True)
        self.wire, self.sql, self.outcome = wire, sql, None
        self.start()

    def run(self):
        try:
            self.outcome = self.wire.run(self.sql)
        except ServerError as error:
            self.outcome = error.sqlstate
        except Exception as error:
            self.outcome = error

    def result(self, timeout=15):
        self.join(timeout)
        return 'still running' if self.is_alive() else self.outcome


def runs(text):
    return lambda: [row for row in server.backends() if row[1] == 'active' and text in row[2]]


def log_in(version=PROTOCOL_3_0, port=None, host='127.0.0.1', before=b'', params=None, user='app', password=None):
    wire = Wire(port or proxy.port, host, before=before)
    sent = dict({'options': '-c pgporter.tenant=acme'}, **(params or {}))
    return wire.login(user, password or fixture.PASSWORDS['app'], 'app', sent, version=version)


class Versions(unittest.TestCase):
    def told(self, version, params=None):
        """(the versions that NegotiateProtocolVersion told, what came first, the secret's length)"""
        wire = Wire(proxy.port)
        wire.send(wire_client.startup(dict({'user': 'app.acme', 'database': 'app'}, **(params or {})), version))
        kind, body = wire.recv()
        told = []
        if kind == 'v':
            told.append(struct.unpack_from('!i', body)[0])
        else:
            wire.buffer[:0] = kind.encode() + struct.pack('!i', len(body) + 4) + body
        wire.authenticate(fixture.PASSWORDS['app'])
        told += [struct.unpack_from('!i', b)[0] for k, b in wire.login_messages if k == 'v']
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        secret = len(wire.secret)
        wire.close()
        return told, kind, secret

    def test_pitfall_3_each_version_gets_what_it_asked_for_or_is_told_once(self):
        self.assertEqual(self.told(PROTOCOL_3_0), ([], 'R', 4))
        self.assertEqual(self.told(PROTOCOL_3_0 + 2), ([], 'R', 32))
        self.assertEqual(self.told(PROTOCOL_3_0 + 1), ([PROTOCOL_3_0], 'v', 4))
        self.assertEqual(self.told(PROTOCOL_3_0 + 3), ([PROTOCOL_3_0 + 2], 'v', 32))
        self.assertEqual(self.told(PROTOCOL_3_0 + 9999), ([PROTOCOL_3_0 + 2], 'v', 32))

    def test_unknown_options_are_named_and_change_no_version(self):
        for version, secret in ((PROTOCOL_3_0, 4), (PROTOCOL_3_0 + 2, 32)):
            self.assertEqual(self.told(version, {'_pq_.x': '1'}), ([version], 'v', secret))

    def test_long_secret_cancels(self):
        wire = log_in(PROTOCOL_3_0 + 2)
        running = Background(wire, 'SELECT pg_sleep(20) /* long secret */')
        wait_for(runs('long secret'), 'the query runs')
        for wrong in (wire.secret[:4], wire.secret[:31], wire.secret + b'\0', bytes(32), wire.secret + bytes(224)):
            self.assertEqual(wire.cancel(wrong), b'')
        self.assertTrue(runs('long secret')())
        self.assertEqual(wire.cancel(), b'')
        self.assertEqual(running.result(), '57014')


class Cancels(unittest.TestCase):
    def test_closed_means_handled(self):
        """libpq's PQcancel waits until the connection is closed; what the session runs afterwards isn't hit."""
        wire = log_in()
        wire.run('LISTEN pinned')  # the same server connection for every query
        hits = 0
        for number in range(150):
            running = Background(wire, 'SELECT pg_sleep(%s)' % ('0.004' if number % 2 else '0.0005'))
            time.sleep(0.0002 * (number % 20))
            wire.cancel()
            hits += running.result() == '57014'
            # Long enough that a cancel on its way would still meet it.
            self.assertEqual(wire.run('SELECT %d FROM pg_sleep(0.02)' % number), [(str(number),)])
        print('closed means handled: %d of 150 were hit' % hits)
        self.assertGreater(hits, 0, 'no cancel hit anything: the test proves nothing')
        wire.close()

    def test_across_threads(self):
        """Sessions and cancel connections are handed to the threads in turn: all pairs of them meet."""
        for port in (other.port, proxy.port):  # at home, and passed on by the other instance
            for number in range(7):
                wire = log_in(port=other.port)
                self.assertEqual(wire.pid >> 23, 2)
                running = Background(wire, 'SELECT pg_sleep(20) /* thread %d */' % number)
                wait_for(runs('thread %d ' % number), 'the query runs')
                self.assertEqual(wire.cancel(port=port), b'')
                self.assertEqual(running.result(), '57014')
                wire.close()

    def test_pitfall_35_another_instance_passes_it_on(self):
        for version in (PROTOCOL_3_0, PROTOCOL_3_0 + 2):
            for extra in (b'', wire_client.terminate(), b'\0', b'x' * 300):
                wire = log_in(version)
                self.assertEqual(wire.pid >> 23, 1)
                running = Background(wire, 'SELECT pg_sleep(20) /* elsewhere %d */' % len(extra))
                wait_for(runs('elsewhere %d ' % len(extra)), 'the query runs')
                sent = other.metric('pgporter_cancel_forwards_total', outcome='sent')
                self.assertEqual(wire.cancel(port=other.port, extra=extra if version == PROTOCOL_3_0 or not extra else b''), b'')
                # The connection was closed when it had been handled: no waiting here.
                self.assertEqual(running.result(), '57014')
                self.assertEqual(other.metric('pgporter_cancel_forwards_total', outcome='sent'), sent + 1)
                wire.close()

    def test_wrong_secrets_and_unknown_instances_hit_nobody(self):
        wire = log_in()
        running = Background(wire, 'SELECT pg_sleep(1) /* safe */')
        wait_for(runs('safe'), 'the query runs')
        before = other.metric('pgporter_cancel_forwards_total')
        self.assertEqual(wire.cancel(b'\0\0\0\0', port=other.port), b'')
        self.assertEqual(other.metric('pgporter_cancel_forwards_total'), before + 1)
        pid = wire.pid
        for instance in (0, 2, 5, 200, 255):
            wire.pid = instance << 23 | 12345
            self.assertEqual(wire.cancel(port=other.port), b'')
        wire.pid = pid
        self.assertEqual(other.metric('pgporter_cancel_forwards_total'), before + 1)
        self.assertEqual(running.result(), [('',)])
        wire.close()

    def test_one_hop_at_most(self):
        wire = log_in()
        before = [instance.metric('pgporter_cancel_forwards_total') for instance in (proxy, other)]
        wire.pid = 9 << 23 | 77
        self.assertEqual(wire.cancel(), b'')
        self.assertEqual(proxy.metric('pgporter_cancel_forwards_total'), before[0] + 1)
        self.assertEqual(other.metric('pgporter_cancel_forwards_total'), before[1])
        wire.close()

    def test_a_peer_that_is_down(self):
        wire = log_in()
        wire.pid = 7 << 23 | 77
        self.assertEqual(wire.cancel(), b'')
        self.assertEqual(proxy.metric('pgporter_cancel_forwards_total', outcome='failed'), 1)
        wire.close()


class UnixSockets(unittest.TestCase):
    def test_libpq_finds_it(self):
        connection = psycopg2.connect(host=sockets, port=proxy.port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                      options='-c pgporter.tenant=acme')
        cursor = connection.cursor()
        cursor.execute('SELECT tenant FROM whoami')
        self.assertEqual(cursor.fetchall(), [('acme',)])
        connection.close()
        self.assertEqual(os.stat('%s/.s.PGSQL.%d' % (sockets, proxy.port)).st_mode & 0o777, 0o770)
        self.assertEqual(os.stat('%s/.s.PGSQL.%d' % (sockets, proxy.port + 1)).st_mode & 0o777, 0o777)

    def test_passwords_count_there_too(self):
        with self.assertRaises(ServerError) as caught:
            log_in(host=sockets, password='wrong')
        self.assertEqual(caught.exception.sqlstate, '28P01')

    def test_trust(self):
        wire = log_in(host=sockets, port=proxy.port + 1, password='whatever')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        wire.close()

    def test_peer(self):
        """The kernel says who connects; nothing that the client sends can."""
        myself = pwd.getpwuid(os.geteuid()).pw_name
        wire = log_in(host=sockets, port=proxy.port + 2, user=myself, password='whatever')
        self.assertEqual(wire.run('SELECT tenant, current_user FROM whoami'), [('acme', myself)])
        wire.close()
        refused = set()
        for user in ('app', 'nosuch'):
            with self.assertRaises(ServerError) as caught:
                log_in(host=sockets, port=proxy.port + 2, user=user)
            self.assertEqual((caught.exception.sqlstate, caught.exception.fields['S']), ('28000', 'FATAL'))
            refused.add(caught.exception.fields['M'].replace(user, 'X'))
        self.assertEqual(len(refused), 1, refused)
        # Known to the operating system, not to us.
        stranger = subprocess.run(['psql', '-h', sockets, '-p', str(proxy.port + 2), '-U', 'nobody', 'app', '-c', 'SELECT 1'], capture_output=True,
                                  text=True, check=False, **({'user': 'nobody'} if os.geteuid() == 0 else {}))
        self.assertIn('peer authentication failed for user "nobody"', stranger.stderr)

    def test_no_tls_and_cancels(self):
        wire = Wire(proxy.port, sockets)
        wire.send(wire_client.SSL_REQUEST)
        self.assertEqual(wire.recv_byte(), b'N')
        wire.login('app', fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=globex'})
        running = Background(wire, 'SELECT pg_sleep(20) /* unix */')
        wait_for(runs('unix'), 'the query runs')
        self.assertEqual(wire.cancel(), b'')
        self.assertEqual(running.result(), '57014')
        wire.close()

    def test_what_a_dead_process_left_is_taken_over_and_a_living_one_respected(self):
        folder = os.path.join(workspace.path, 'taken')
        os.mkdir(folder)
        path = '%s/.s.PGSQL.6543' % folder
        first = fixture.Pgporter(workspace, server, 'first')
        first.config['listen'] = [{'socket_directory': folder, 'port': 6543}]
        first.start()
        second = fixture.Pgporter(workspace, server, 'second')
        second.config['listen'] = [{'socket_directory': folder, 'port': 6543}]
        second.launch()
        self.assertNotEqual(second.process.wait(20), 0)
        self.assertIn('somebody listens there', second.log())
        with open(path + '.lock', encoding='utf-8') as lock:
            self.assertEqual(lock.read(), '%d\n' % first.process.pid)
        log_in(host=folder, port=6543).close()
        first.stop('immediate')
        self.assertTrue(os.path.exists(path))
        second.start()
        log_in(host=folder, port=6543).close()
        second.stop()
        self.assertEqual(os.listdir(folder), [])

    def test_a_postgresql_there_is_respected(self):
        third = fixture.Pgporter(workspace, server, 'third')
        third.config['listen'] = [{'socket_directory': server.folder, 'port': server.port}]
        third.launch()
        self.assertNotEqual(third.process.wait(20), 0)
        self.assertIn('somebody listens there', third.log())
        server.sql('SELECT 1')
        with open('%s/.s.PGSQL.%d.lock' % (server.folder, server.port), encoding='utf-8') as lock:
            self.assertEqual(lock.read().split()[0], str(server.process.pid))

    def test_a_file_there_is_respected(self):
        folder = os.path.join(workspace.path, 'precious')
        os.mkdir(folder)
        with open('%s/.s.PGSQL.6543' % folder, 'w', encoding='utf-8') as out:
            out.write('precious')
        fourth = fixture.Pgporter(workspace, server, 'fourth')
        fourth.config['listen'] = [{'socket_directory': folder, 'port': 6543}]
        fourth.launch()
        self.assertNotEqual(fourth.process.wait(20), 0)
        self.assertIn("isn't a socket", fourth.log())
        with open('%s/.s.PGSQL.6543' % folder, encoding='utf-8') as kept:
            self.assertEqual(kept.read(), 'precious')


SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'


def header(body, command=0x21, family=0x11):
    return SIGNATURE + bytes([command, family]) + struct.pack('!H', len(body)) + body


def v4_header(address, port=40000, fields=b''):
    return header(socket.inet_aton(address) + socket.inet_aton('10.0.0.1') + struct.pack('!HH', port, 5432) + fields)


def v6_header(address, port=40000):
    return header(socket.inet_pton(socket.AF_INET6, address) + bytes(16) + struct.pack('!HH', port, 5432), family=0x21)


class ProxyProtocol(unittest.TestCase):
    def client_in_log(self, before):
        """Fails to log in behind the header: the log line says where the client is."""
        user = 'nobody_%d' % len(proxy.log())
        with self.assertRaises(ServerError):
            log_in(port=proxy_port, before=before, password='wrong', user=user)
        return wait_for(lambda: [line for line in proxy.log().splitlines() if 'login_refused' in line and user in line], 'it is logged')[0]

    def refused(self, data, port=None):
        refused = proxy.metric('pgporter_proxy_headers_refused_total')
        wire = Wire(port or proxy_port)
        wire.send(data)
        self.assertEqual(wire.expect_eof(), [])
        wait_for(lambda: proxy.metric('pgporter_proxy_headers_refused_total') == refused + 1, 'it is counted')
        return [line for line in proxy.log().splitlines() if 'proxy_header_refused' in line][-1]

    def test_the_client_is_where_the_header_says(self):
        wire = log_in(port=proxy_port, before=v4_header('192.0.2.55'))
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        wire.close()
        self.assertIn('192.0.2.56 port 40001', self.client_in_log(v4_header('192.0.2.56', 40001)))
        self.assertIn('2001:db8::7 port 40002', self.client_in_log(v6_header('2001:db8::7', 40002)))
        self.assertIn('192.0.2.57 port 40003', self.client_in_log(v4_header('192.0.2.57', 40003, b'\x04\0\x03abc')))
        self.assertIn('127.0.0.1 port', self.client_in_log(header(b'', 0x20, 0)))
        self.assertIn('client=local', self.client_in_log(header(bytes(216), family=0x31)))

    def test_tls_behind_the_header(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        for before in (v4_header('192.0.2.59'), v6_header('2001:db8::9')):
            wire = Wire(tls_port, before=before)
            wire.request_tls(context)
            wire.login('app', fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=acme'})
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
            wire.close()

    def test_in_pieces(self):
        data = v6_header('2001:db8::8') + wire_client.startup({'user': 'app', 'database': 'app', 'options': '-c pgporter.tenant=acme'})
        for pieces in (1, 7, len(data)):
            wire = Wire(proxy_port)
            wire.send(data, pieces)
            wire.authenticate(fixture.PASSWORDS['app'])
            self.assertEqual(wire.run('SELECT 1'), [('1',)])
            wire.close()

    def test_what_is_no_header_is_closed_without_a_word(self):
        self.assertIn('version 1', self.refused(b'PROXY TCP4 192.0.2.7 10.0.0.1 51234 5432\r\n'))
        self.assertIn('no PROXY protocol header', self.refused(wire_client.startup({'user': 'app', 'database': 'app'})))
        self.assertIn('proxy_header_bytes_max', self.refused(SIGNATURE + b'\x21\x11\xff\xff'))
        self.refused(header(b'', 0x21, 0x11))
        self.refused(SIGNATURE + b'\x31\x11\0\0')

    def test_only_from_the_balancers(self):
        self.assertIn('proxy_protocol_from', self.refused(v4_header('192.0.2.7'), from_port))

    def test_a_listener_without_it_never_reads_it(self):
        wire = Wire(proxy.port)
        wire.send(v4_header('192.0.2.7') + wire_client.startup({'user': 'app', 'database': 'app'}))
        messages = wire.expect_eof()
        self.assertEqual(messages, [])  # closed without a word, as PostgreSQL does

    def test_a_health_check_is_quiet(self):
        lines = len(proxy.log().splitlines())
        Wire(proxy_port).close()
        log_in(port=proxy_port, before=v4_header('192.0.2.58')).close()
        self.assertNotIn('refused', '\n'.join(proxy.log().splitlines()[lines:]))


class Configuration(unittest.TestCase):
    def test_mistakes_are_named(self):
        for number, (change, text) in enumerate((
                ({'socket_directory': 'relative'}, 'absolute'), ({'socket_directory': sockets, 'address': '127.0.0.1'}, 'either'),
                ({'socket_directory': sockets, 'socket_permissions': '0999'}, 'octal'), ({'socket_permissions': '0700'}, 'socket_directory'),
                ({'proxy_protocol_from': ['10.0.0.0/8']}, 'proxy_protocol: required'),
                ({'proxy_protocol': 'required', 'proxy_protocol_from': ['10.0.0.1/8']}, 'CIDR'),
                ({'proxy_protocol': 'required', 'auth': 'trust'}, 'trust'), ({'proxy_protocol': 'required', 'auth': 'peer'}, 'load balancer'),
                ({'auth': 'peer'}, 'Unix-domain'))):
            broken = fixture.Pgporter(workspace, server, 'broken-%d' % number)
            listener = dict({'port': 6432}, **change)
            broken.config['listen'] = [listener]
            broken.launch()
            self.assertNotEqual(broken.process.wait(20), 0)
            self.assertIn(text, broken.log())


if __name__ == '__main__':
    fixture.main(__name__)
