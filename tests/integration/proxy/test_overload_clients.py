"""Slow and silent clients: they never read, stop in the middle of a message or of a login, or vanish without a word. Memory stays bounded, server
connections come back, and nobody else is kept waiting.
"""
import contextlib
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
WRITE_MS, READ_MS, SILENT_MS, LOGIN_MS = 1500, 1500, 2000, 4000


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.make_world('app2', ('umbrella',))
    # Each row that comes into this table waits for a lock of ours.
    server.sql("""CREATE TABLE acme.gated (id int, what text); ALTER TABLE acme.gated OWNER TO app;
        CREATE FUNCTION public.wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
          $$ BEGIN PERFORM pg_advisory_xact_lock_shared(99); RETURN new; END $$;
        CREATE TRIGGER gate BEFORE INSERT ON acme.gated FOR EACH ROW EXECUTE FUNCTION public.wait_at_gate();""", 'app')
    proxy = fixture.Pgporter(workspace, server, limits={
        'wait_ms_max': 20000, 'client_write_ms_max': WRITE_MS, 'client_read_ms_max': READ_MS, 'client_silent_ms_max': SILENT_MS,
        'server_silent_ms_max': SILENT_MS, 'login_ms_max': LOGIN_MS})
    proxy.start()
    proxy.apply(fixture.document({'main': server}, {
        'acme': {}, 'globex': {}, 'initech': {'idle_in_transaction_ms_max': 700}, 'umbrella': {'placement': {'database': 'app2'}}},
        databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 2}]))


def tearDownModule():
    workspace.close()


def ended(reason):
    return proxy.metric('pgporter_sessions_ended_total', reason=reason) or 0


class Base(unittest.TestCase):
    def wire(self, tenant='acme', **more):
        wire = proxy.wire(tenant, **more)
        self.addCleanup(wire.close)
        return wire

    def raw(self, data=b''):
        wire = w.Wire(proxy.port)
        self.addCleanup(wire.close)
        wire.send(data)
        return wire

    def served(self, tenant='globex', within=15):
        """A new session of that tenant is, in a time that the bounds explain."""
        wire = self.wire(tenant)
        self.assertEqual(wire.run('SELECT tenant FROM whoami', timeout=within), [(tenant,)])

    def fatal(self, wire, sqlstate, word, timeout=15):
        messages = wire.recv_until('E', timeout=timeout)
        self.assertEqual(messages[-1][0], 'E', messages)
        fields = w.error_fields(messages[-1][1])
        self.assertEqual((fields['S'], fields['C']), ('FATAL', sqlstate), fields)
        self.assertIn(word, fields['M'] + fields.get('H', ''))
        wire.expect_eof()


class NeverReads(Base):
    def test_big_results(self):
        """Both server connections of the database are taken by clients that don't read 200 MB each: for client_write_ms_max."""
        before, ended_before = tools.resident_bytes(proxy.process.pid), ended('client_too_slow')
        for _ in range(2):
            lazy = self.wire()
            lazy.send(w.query("SELECT repeat('x', 1000000) FROM generate_series(1, 200)"))
        wait_for(lambda: len([b for b in server.backends() if b[1] == 'active' and 'generate_series' in b[2]]) == 2, 'both run')
        bystander = self.wire('umbrella')
        self.assertEqual(bystander.run('SELECT tenant FROM whoami', timeout=1.0), [('umbrella',)])
        for tenant in ('acme', 'globex'):
            self.served(tenant)
        self.assertLess(tools.resident_bytes(proxy.process.pid) - before, 32 * MIB)
        wait_for(lambda: ended('client_too_slow') == ended_before + 2, 'both have ended')
        wait_for(lambda: not [b for b in server.backends() if 'generate_series' in b[2] and b[1] == 'active'], 'nothing runs on for nobody')

    def test_many_with_cursors_in_transactions(self):
        """The bound is the same where the server connection is held by a transaction, and where it is a portal that is read in parts."""
        for _ in range(2):
            lazy = self.wire()
            lazy.send(w.query('BEGIN') + w.parse('', "SELECT repeat('y', 100000) FROM generate_series(1, 2000)") + w.bind('', '') +
                      (w.execute('', 300) + w.flush()) * 6)
        self.served('globex')

    def test_answers_that_need_no_server(self):
        """What is answered here isn't kept for a client that doesn't read either: then nothing more is read of what it sends."""
        before, ended_before = tools.resident_bytes(proxy.process.pid), ended('client_too_slow')
        for piece in (w.sync(), w.query('DEALLOCATE ALL')):
            lazy = self.wire()
            lazy.socket.settimeout(0.5)
            batch = piece * 20000
            with self.assertRaises(OSError):  # the way is full, or the session has ended
                for _ in range(2000):
                    lazy.socket.sendall(batch)
                    self.assertLess(tools.resident_bytes(proxy.process.pid) - before, 32 * MIB)
        wait_for(lambda: ended('client_too_slow') == ended_before + 2, 'both have ended')


class SendsToABlockedServer(Base):
    def test_copy(self):
        """A server that reads nothing, because a lock holds it: what is sent waits with its sender, for longer than any silence may last, and then all of
        it arrives."""
        gate = server.connect('app')
        self.addCleanup(gate.close)
        gate.cursor().execute('SELECT pg_advisory_lock(99)')
        before = tools.resident_bytes(proxy.process.pid)
        sender = self.wire()
        sender.send(w.query('COPY gated FROM STDIN'))
        sender.recv_until('G')
        line, rows, done = '1\t' + 'c' * 10000 + '\n', 4000, []

        def send():
            sender.socket.settimeout(60)
            for _ in range(rows):
                sender.socket.sendall(w.copy_data(line))
            sender.socket.sendall(w.copy_done())
            done.append(True)
        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        began = time.monotonic()
        while time.monotonic() - began < 2.5 * SILENT_MS / 1000:
            for tenant in ('acme', 'globex'):
                self.served(tenant, within=3)
            self.assertLess(tools.resident_bytes(proxy.process.pid) - before, 32 * MIB)
            time.sleep(0.2)
        self.assertFalse(done)
        gate.cursor().execute('SELECT pg_advisory_unlock(99)')
        thread.join(30)
        self.assertEqual([m[0] for m in sender.recv_until('Z')][-2:], ['C', 'Z'])
        self.assertEqual(sender.run('SELECT count(*) FROM gated'), [(str(rows),)])


class Half(Base):
    """A login or a message that doesn't go on."""

    def test_logins(self):
        startup = w.startup({'user': 'app', 'database': 'app', 'options': '-c pgporter.tenant=acme'})
        asked = self.raw(startup)
        self.assertEqual(asked.recv()[0], 'R')
        for name, wire in (('nothing', self.raw()), ('half a startup packet', self.raw(startup[:11])), ('no password', asked),
                           ('half a length', self.raw(b'\0\0'))):
            with self.subTest(name):
                self.fatal(wire, '57014', 'login')
        wait_for(lambda: proxy.metric('pgporter_logins') == 0, 'nobody logs in any more')

    def test_messages(self):
        """With a server connection that waits for the rest, and without one."""
        long_query = b'Q' + struct.pack('!i', 1_000_000) + b'SELECT ' + b' ' * 70000
        bind = w.bind('', 's', ['x' * 500_000])
        for name, begin, half in (('a long Query', '', long_query), ('a Bind', '', bind[:100_000]), ('a Parse', '', w.parse('p', 'x' * 200_000)[:70_000]),
                                  ('in a transaction', 'BEGIN; SELECT 1', w.query('SELECT 2')[:-3]), ('a length', '', b'Q\0\0')):
            with self.subTest(name):
                wires = [self.wire() for _ in range(2)]
                for wire in wires:
                    wire.send(w.parse('s', 'SELECT length($1)') + w.sync())
                    wire.recv_until('Z')
                    if begin:
                        wire.run(begin)
                    wire.send(half)
                self.served('globex')
                for wire in wires:
                    self.fatal(wire, '08006', 'client_read_ms_max')

    def test_slow_but_steady(self):
        """The bound is for each pause, not for the message."""
        wire = self.wire()
        began = time.monotonic()
        for byte in w.query('SELECT 40 + 2'):
            wire.send(bytes([byte]))
            time.sleep(READ_MS / 1000 / 8)
        self.assertEqual(wire._rows(wire.recv_until('Z')), [('42',)])
        self.assertGreater(time.monotonic() - began, READ_MS / 1000)

    def test_idle_where_only_the_client_can_go_on(self):
        """A COPY or a batch that is left open holds a server connection as an idle transaction does."""
        for name, data, until in (('COPY', w.query('COPY ledger FROM STDIN'), 'G'),
                                  ('a batch', w.parse('', 'SELECT 1') + w.bind() + w.execute() + w.flush(), 'C'),
                                  ('COPY that has begun', w.query('COPY ledger FROM STDIN') + w.copy_data('left\tinitech\t1\n'), 'G')):
            with self.subTest(name):
                wire = self.wire('initech')
                wire.send(data)
                wire.recv_until(until)
                self.fatal(wire, '25P03', 'idle')
        busy = self.wire('initech')  # one that goes on, and one whose server takes its time, are left alone
        busy.send(w.query('COPY ledger FROM STDIN'))
        busy.recv_until('G')
        for number in range(8):
            busy.send(w.copy_data('%d\tinitech\t1\n' % number))
            time.sleep(0.2)
        busy.send(w.copy_done())
        self.assertEqual([m[0] for m in busy.recv_until('Z')], ['C', 'Z'])
        busy.send(w.parse('', 'SELECT pg_sleep(1.5)') + w.bind() + w.execute() + w.flush())
        busy.recv_until('C')
        busy.send(w.sync())
        busy.recv_until('Z')
        self.assertEqual(busy.run('SELECT count(*) FROM ledger'), [('8',)])


class Vanishes(Base):
    """The client's host is gone: nothing is acknowledged and nothing said."""

    def gone(self, wire, reason, count=1):
        before = ended(reason)
        tools.vanish(wire.socket)
        return lambda: wait_for(lambda: ended(reason) >= before + count, 'the session has ended: ' + reason, 15)

    def test_in_a_transaction(self):
        wire = self.wire()
        wire.run("BEGIN; LOCK TABLE whoami; INSERT INTO ledger (id) VALUES ('vanished')")
        finds_out = self.gone(wire, 'client_silent')
        self.served('acme')  # which waits for the lock
        finds_out()
        self.assertEqual(server.sql("SELECT count(*) FROM acme.ledger WHERE id = 'vanished'", 'app'), [(0,)])

    def test_idle(self):
        self.gone(self.wire(), 'client_silent')()

    def test_in_a_result(self):
        wires = [self.wire() for _ in range(2)]
        for wire in wires:
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(w.query("SELECT repeat('z', 1000000) FROM generate_series(1, 100)"))
            wait_for(lambda one=wire: one.socket.recv(1000), 'it has begun')
            tools.vanish(wire.socket)
        self.served('globex')

    def test_while_its_query_runs(self):
        wire = self.wire()
        wire.send(w.query('SELECT pg_sleep(100) /* of a vanished one */'))
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%of a vanished one%' AND pid <> pg_backend_pid()"
        wait_for(lambda: server.sql(running) == [(1,)], 'it runs')
        self.gone(wire, 'client_silent')()
        wait_for(lambda: server.sql(running) == [(0,)], 'it was cancelled')

    def test_half_open_sockets_of_a_crashed_client_cost_nothing(self):
        before = tools.descriptors(proxy.process.pid)
        wires = [proxy.wire('acme') for _ in range(30)]
        for wire in wires:
            tools.vanish(wire.socket)
        wait_for(lambda: tools.descriptors(proxy.process.pid) <= before + 2, 'their descriptors are free', 20)
        for wire in wires:
            wire.close()
        with contextlib.suppress(ServerError, WireError):
            self.served()


if __name__ == '__main__':
    fixture.main(__name__)
