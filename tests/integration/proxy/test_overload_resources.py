"""What runs out: file descriptors, and memory for messages, statements and logins. Whoever asks for too much is told; everybody else works on, and
nothing needs a restart.
"""
import contextlib
import resource
import socket
import struct
import threading
import time
import unittest

import fixture
import overload_tools as tools
import wire_client as w
from fixture import wait_for
from wire_client import ServerError, WireError

MIB = 1 << 20
BUFFERED_MIB = 64


def setUpModule():
    global workspace, server
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()


def tearDownModule():
    workspace.close()


def start(name, limits=None, servers_max=10, **config):
    proxy = fixture.Pgporter(workspace, server, name, limits=limits)
    proxy.config.update(config)
    proxy.start()
    proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=servers_max)}, {'acme': {}, 'globex': {}, 'initech': {}}))
    wait_for(lambda: works(proxy), 'it works')
    return proxy


def works(proxy, tenant='globex'):
    try:
        wire = proxy.wire(tenant, timeout=10)
        try:
            return wire.run('SELECT tenant FROM whoami') == [(tenant,)]
        finally:
            wire.close()
    except (ServerError, WireError, OSError):
        return False


class Descriptors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.proxy = start('descriptors', {'logins_max': 2000, 'login_ms_max': 60000, 'descriptors_reserved': 20})

    @classmethod
    def tearDownClass(cls):
        cls.proxy.stop()

    def limit(self, more):
        """So many descriptors beyond those in use; at the end the limit is what it was."""
        pid = self.proxy.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        self.addCleanup(resource.prlimit, pid, resource.RLIMIT_NOFILE, before)
        used = tools.descriptors(pid)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + more, before[1]))
        return used + more

    def test_clients_leave_room_for_servers(self):
        """A crowd takes what clients may have. The next is told, sessions go on, and the server connections that they need can still be opened."""
        wires = [self.proxy.wire('acme') for _ in range(8)]
        limit = self.limit(80)
        refused_before = self.proxy.metric('pgporter_descriptor_refusals_total')
        crowd = []
        self.addCleanup(lambda: [one.close() for one in crowd])
        for _ in range(100):
            crowd.append(socket.create_connection(('127.0.0.1', self.proxy.port)))
        wait_for(lambda: self.proxy.metric('pgporter_descriptor_refusals_total') > refused_before, 'some are refused')

        states = []
        for _ in range(20):  # one may still find a place that something else has left
            states.append(tools.sqlstate_of(lambda: crowd.append(self.proxy.wire('acme', timeout=10))))
        self.assertGreater(len([one for one in states if one in ('53300', 'closed')]), 15, states)
        self.assertLess(tools.descriptors(self.proxy.process.pid), limit)
        for wire in wires:
            wire.run('BEGIN; SELECT 1')  # eight server connections, all of them new but one
        self.assertEqual(len({wire.run('SELECT pg_backend_pid()')[0] for wire in wires}), len(wires))
        self.assertEqual(self.proxy.http('GET', '/readyz', authorized=False)[0], 200)
        began, before = time.monotonic(), tools.processor_seconds(self.proxy.process.pid)
        for wire in wires:
            wire.run('COMMIT')
        time.sleep(1)
        self.assertLess(tools.processor_seconds(self.proxy.process.pid) - before, 0.5 * (time.monotonic() - began))
        for one in crowd:
            one.close()
        wait_for(lambda: works(self.proxy), 'the door is open again', 15)
        for wire in wires:
            wire.close()

    def test_who_is_refused_is_told_why(self):
        wires = []
        self.addCleanup(lambda: [one.close() for one in wires])
        self.limit(80)
        states = []
        for _ in range(100):
            try:
                wires.append(self.proxy.wire('acme', timeout=10))
            except ServerError as error:
                states.append(error.sqlstate)
                self.assertIn('too many clients', error.fields['M'])
                self.assertIn('descriptor', error.fields['D'])
            if len(states) == 5:
                break
        self.assertEqual(states, ['53300'] * 5)
        self.assertGreater(len(wires), 20)
        for wire in wires:
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_none_at_all(self):
        """EMFILE: no spinning, no exit, sessions go on; then the door opens again."""
        wire = self.proxy.wire('acme')
        wire.run('SELECT 1')
        pid = self.proxy.process.pid
        before_limit = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        # Fewer than are in use: nothing can be opened at all.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (20, before_limit[1]))
        crowd = []
        try:
            for _ in range(40):
                crowd.append(socket.create_connection(('127.0.0.1', self.proxy.port)))
            began, before = time.monotonic(), tools.processor_seconds(pid)
            while time.monotonic() - began < 1.5:
                self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                time.sleep(0.1)
            self.assertLess(tools.processor_seconds(pid) - before, 0.7)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before_limit)
            for one in crowd:
                one.close()
        wait_for(lambda: works(self.proxy), 'the door is open again', 15)
        self.assertGreater(self.proxy.metric('pgporter_accept_failures_total'), 0)
        wire.close()

    def test_the_start_says_that_there_are_too_few(self):
        small = fixture.Pgporter(workspace, server, 'warned', limits={'sessions_max': 1_000_000})
        small.start()
        try:
            small.apply(fixture.document({'main': server}, {'acme': {}}))
            line = wait_for(lambda: [one for one in small.log().splitlines() if 'too_few_descriptors' in one], 'the warning')[0]
            self.assertIn('needed', line)
        finally:
            small.stop()
        self.assertNotIn('too_few_descriptors', self.proxy.log())


class Memory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.proxy = start('memory', {'buffered_mib_max': BUFFERED_MIB, 'logins_per_address_max': 0, 'wait_ms_max': 60000, 'client_write_ms_max': 60000}, 3)

    @classmethod
    def tearDownClass(cls):
        cls.proxy.stop()

    def setUp(self):
        # What the tests before have prepared on server connections is kept with them.
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        wait_for(lambda: self.proxy.metric('pgporter_buffered_bytes') < MIB, 'nothing is buffered')
        self.before = tools.resident_bytes(self.proxy.process.pid)

    def grown(self):
        return tools.resident_bytes(self.proxy.process.pid) - self.before

    def wire(self, tenant='acme', **more):
        wire = self.proxy.wire(tenant, **more)
        wire.timeout = 60.0
        self.addCleanup(wire.close)
        return wire

    def test_long_statements_of_many_sessions(self):
        """Each could be kept; all together they may not be. Who is refused goes on in his session, and another tenant isn't refused at all."""
        text = 'SELECT ' + repr('x' * (8 * MIB))
        wires = [self.wire() for _ in range(20)]
        halves = [w.parse('kept', text)] * len(wires)
        threads = [threading.Thread(target=wire.socket.sendall, args=(data[:-1],), daemon=True) for wire, data in zip(wires, halves)]
        for wire in wires:
            wire.socket.settimeout(60)
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, self.grown())
            time.sleep(0.01)
        self.assertLess(most, (BUFFERED_MIB + 48) * MIB)
        self.assertLessEqual(self.proxy.metric('pgporter_buffered_bytes'), BUFFERED_MIB * MIB / 2)
        other = self.wire('globex')
        other.send(w.parse('mine', 'SELECT ' + repr('y' * (4 * MIB))) + w.sync())
        self.assertEqual([m[0] for m in other.recv_until('Z')], ['1', 'Z'])
        states = []
        for wire, data in zip(wires, halves):
            wire.socket.sendall(data[-1:] + w.sync())
            errors = [w.error_fields(body) for kind, body in wire.recv_until('Z') if kind == 'E']
            states.append(errors[0]['C'] if errors else None)
            if errors:
                self.assertIn('buffered_mib_max', errors[0]['H'])
                self.assertEqual(errors[0]['S'], 'ERROR')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(set(states), {'53200', None})
        self.assertGreater(self.proxy.metric('pgporter_memory_refusals_total'), 0)
        for wire in wires + [other]:
            wire.close()
        self.assertLess(self.grown(), (BUFFERED_MIB + 48) * MIB)

    def test_in_a_transaction(self):
        """The refusal stands in its turn, and fails the transaction as any error does."""
        keepers = [self.wire() for _ in range(4)]
        parse = w.parse('kept', 'SELECT ' + repr('z' * (7 * MIB)))
        for wire in keepers:
            wire.send(parse[:-1])
        wire = self.wire()
        wire.run('BEGIN; SELECT 1')
        wire.send(w.parse('', 'SELECT 7') + w.bind() + w.execute() + parse + w.bind('', 'kept') + w.execute() + w.sync())
        messages = wire.recv_until('Z')
        self.assertEqual([m[0] for m in messages], ['1', '2', 'D', 'C', 'E', 'Z'])
        self.assertEqual((w.error_fields(messages[4][1])['C'], messages[5][1]), ('53200', b'E'))
        wire.run('ROLLBACK')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_many_small_statements(self):
        """Names and texts that are kept count as well: one session after the other, until the tenant's part is used."""
        refused = None
        text = "SELECT '%s', $1::int" % ('s' * 3000)
        for session in range(40):
            wire = self.wire()
            batch = b''.join(w.parse('p%d' % number, '%s -- %d/%d' % (text, session, number)) for number in range(300))
            wire.send(batch + w.sync())
            refused = [w.error_fields(body)['C'] for kind, body in wire.recv_until('Z') if kind == 'E']
            if refused:
                break
        self.assertEqual(refused, ['53200'])
        self.assertLess(self.grown(), (BUFFERED_MIB + 48) * MIB)
        self.assertTrue(works(self.proxy, 'globex'))
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_pipelines_that_nobody_answers_yet(self):
        """A server that takes its time, and clients that send on and on: each request is remembered, until that is too much."""
        wires = [self.wire() for _ in range(3)]
        refusals = self.proxy.metric('pgporter_memory_refusals_total')

        def send(wire):
            wire.socket.settimeout(60)
            wire.socket.sendall(w.query('SELECT pg_sleep(30)'))
            with contextlib.suppress(OSError):
                for number in range(180):
                    wire.socket.sendall(b''.join(w.close('S', 'n%d' % (number * 1000 + one)) for one in range(1000)))
        threads = [threading.Thread(target=send, args=(wire,), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        most = 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, self.grown())
            time.sleep(0.02)
        self.assertLess(most, (BUFFERED_MIB + 48) * MIB)
        wait_for(lambda: self.proxy.metric('pgporter_memory_refusals_total') > refusals, 'one is refused')
        self.assertGreater(self.proxy.metric('pgporter_sessions_ended_total', reason='limit'), 0)
        for wire in wires:
            wire.close()
        wait_for(lambda: works(self.proxy), 'the others work')

    def test_large_binds_of_many_clients(self):
        """They aren't kept but passed on, as fast as there are server connections for them: 60 of 16 MB at once, through three."""
        count, size = 60, 16 * MIB
        wires = [self.wire() for _ in range(count)]
        results, most = [], [0]

        def send(wire):
            wire.socket.settimeout(80)
            wire.socket.sendall(w.parse('', 'SELECT length($1)') + b'B' + struct.pack('!i', 4 + 2 + 2 + 2 + 4 + size + 2) + b'\0\0' +
                                struct.pack('!hhi', 0, 1, size))
            piece = b'b' * MIB
            for _ in range(size // MIB):
                wire.socket.sendall(piece)
            wire.socket.sendall(struct.pack('!h', 0) + w.execute() + w.sync())
            results.append(wire._rows(wire.recv_until('Z', timeout=80)))
        threads = [threading.Thread(target=send, args=(wire,), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most[0] = max(most[0], self.grown())
            time.sleep(0.02)
        self.assertEqual(results, [[(str(size),)]] * count)
        self.assertLess(most[0], 64 * MIB)

    def test_logins(self):
        """Startup packets are small, and logins are few: a flood costs little, and who is in works on."""
        inside = self.wire()
        body = b'user\0app\0' + b'options\0' + b'o' * 9000
        packet = struct.pack('!ii', 9990, 196608) + body
        crowd = []
        for _ in range(480):
            one = socket.create_connection(('127.0.0.1', self.proxy.port))
            one.sendall(packet)  # not all of it
            crowd.append(one)
        wait_for(lambda: self.proxy.metric('pgporter_logins') >= 470, 'they are in')
        self.assertEqual(inside.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertLess(self.grown(), 48 * MIB)
        more = [socket.create_connection(('127.0.0.1', self.proxy.port)) for _ in range(40)]
        self.assertEqual(tools.sqlstate_of(lambda: self.proxy.wire('acme')), '53300')
        for one in crowd + more:
            one.close()
        wait_for(lambda: works(self.proxy), 'the door is open again')


class OutOfMemory(unittest.TestCase):
    """The process gets none from the operating system. The bound of the configuration is far away."""

    def test_what_needs_it_ends_and_nothing_else(self):
        proxy = start('none-left', {'buffered_mib_max': 100_000}, threads=2)
        pid = proxy.process.pid
        inside = proxy.wire('globex')
        inside.run('SELECT 1')
        keeper = proxy.wire('acme')
        keeper.run('BEGIN; SELECT 1')
        limit = resource.prlimit(pid, resource.RLIMIT_AS)
        resource.prlimit(pid, resource.RLIMIT_AS, (tools.address_space_bytes(pid) + 96 * MIB, limit[1]))
        text = w.parse('kept', 'SELECT ' + repr('x' * (15 * MIB)))
        states, stop, failed = [], threading.Event(), []

        def work():
            while not stop.wait(0.02):
                try:
                    if inside.run('SELECT tenant FROM whoami') != [('globex',)]:
                        failed.append('wrong')
                except (ServerError, WireError) as error:
                    failed.append(error)
                    return
        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        wires = [proxy.wire('acme') for _ in range(16)]

        def send(wire):
            wire.timeout = 60.0
            try:
                wire.socket.settimeout(60)
                wire.socket.sendall(text + w.sync())
                errors = [w.error_fields(body) for kind, body in wire.recv_until('Z') if kind == 'E']
                states.append(errors[0]['C'] if errors else None)
            except (WireError, OSError):
                states.append('closed')
        threads = [threading.Thread(target=send, args=(wire,), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        stop.set()
        worker.join(20)
        self.assertIsNone(proxy.process.poll(), proxy.log()[-1500:])
        self.assertEqual(failed, [])
        self.assertEqual(len(states), len(wires))
        self.assertIn('53200', states)
        self.assertNotIn('closed', states)
        self.assertEqual(keeper.run('SELECT tenant FROM whoami'), [('acme',)])
        keeper.run('COMMIT')
        for wire in wires:
            wire.close()
        resource.prlimit(pid, resource.RLIMIT_AS, limit)
        wait_for(lambda: works(proxy) and works(proxy, 'acme'), 'new clients are served', 20)
        again = proxy.wire('acme')
        again.timeout = 60.0
        again.send(text + w.sync())
        self.assertEqual([m[0] for m in again.recv_until('Z')], ['1', 'Z'])
        proxy.stop()
        self.assertEqual(proxy.process.returncode, 0)


if __name__ == '__main__':
    fixture.main(__name__)
