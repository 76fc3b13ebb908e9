"""Server connections: caps and queues, fairness, clients that go away at any point, slow readers, session pooling, pins."""
import os
import re
import threading
import time
import unittest

import fixture
import wire_client
from fixture import wait_for
from wire_client import ServerError

WAIT_MS_MAX = 1500


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.make_world('app2', ('umbrella',))
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': WAIT_MS_MAX, 'client_write_ms_max': 2000}).start()
    proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=4)}, {
        'acme': {}, 'globex': {'server_connections_max': 1}, 'initech': {'pool_mode': 'session', 'sessions_max': 3},
        'umbrella': {'placement': {'database': 'app2'}}}, databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 3}]))


def tearDownModule():
    workspace.close()


def idle_and_clean(database='app'):
    """Every server connection is idle, in no transaction, and holds no lock."""
    def check():
        rows = server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND datname = %s AND state <> 'idle'", values=(database,))
        locks = server.sql("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.usename = 'app'")
        return rows == [(0,)] and locks == [(0,)]
    wait_for(check, timeout=8, what=lambda: 'server connections idle and clean: %s' % server.backends(database))


def metrics_text():
    return proxy.http('GET', '/metrics')[1]


class Base(unittest.TestCase):
    def setUp(self):
        self.wires = []
        idle_and_clean()

    def tearDown(self):
        for wire in self.wires:
            wire.close()
        idle_and_clean()

    def leave(self, wire, how):
        {'terminate': lambda: (wire.send(wire_client.terminate()), wire.close()), 'close': wire.close,
         'reset': wire.reset_connection}[how]()

    def wire(self, tenant='acme', **more):
        wire = proxy.wire(tenant, **more)
        self.wires.append(wire)
        return wire


class Caps(Base):
    def test_database_cap(self):
        holders = [self.wire() for _ in range(3)]
        for wire in holders:
            wire.run('BEGIN; SELECT 1')
        self.assertEqual(len(server.backends()), 3)
        late = self.wire()
        with self.assertRaises(ServerError) as caught:
            late.run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate[:2], '53')
        self.assertEqual(caught.exception.fields['S'], 'ERROR')
        self.assertEqual(late.status, 'I')
        holders[0].run('COMMIT')
        self.assertEqual(late.run('SELECT 2'), [('2',)])  # the session survives
        self.assertLessEqual(len(server.backends()), 3)

    def test_tenant_cap(self):
        one, two = self.wire('globex'), self.wire('globex')
        one.run('BEGIN; SELECT 1')
        with self.assertRaises(ServerError) as caught:
            two.run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate[:2], '53')
        self.assertEqual(self.wire('acme').run('SELECT tenant FROM whoami'), [('acme',)])  # the neighbour doesn't wait
        one.run('COMMIT')
        self.assertEqual(two.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_cluster_cap(self):
        """4 on the cluster: an idle connection to one database gives way to another database."""
        holders = [self.wire() for _ in range(3)] + [self.wire('umbrella', database='app2')]
        for wire in holders:
            wire.run('BEGIN; SELECT 1')
        late = self.wire('umbrella', database='app2')
        with self.assertRaises(ServerError) as caught:
            late.run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate[:2], '53')
        holders[0].run('COMMIT')
        self.assertEqual(late.run('SELECT tenant FROM whoami'), [('umbrella',)])
        holders[3].run('COMMIT')
        self.assertLessEqual(len(server.backends()) + len(server.backends('app2')), 4)

    def test_error_in_the_extended_protocol_skips_to_sync(self):
        one, two = self.wire('globex'), self.wire('globex')
        one.run('BEGIN; SELECT 1')
        two.send(wire_client.parse('', 'SELECT 1') + wire_client.bind() + wire_client.execute() + wire_client.sync() + wire_client.sync())
        messages = two.recv_until('Z', 2)
        kinds = ''.join(k for k, _ in messages)
        self.assertIn(kinds, ('EZZ', 'EZEZ'))
        one.run('COMMIT')
        self.assertEqual(two.run('SELECT 3'), [('3',)])

    def test_queue_is_in_order(self):
        holder = self.wire('globex')
        holder.run('BEGIN; SELECT 1')
        waiters = [self.wire('globex') for _ in range(8)]
        served, lock, threads = [], threading.Lock(), []

        def wait(number, wire):
            at = float(wire.run('SELECT extract(epoch FROM clock_timestamp())')[0][0])  # the server's clock knows the order
            with lock:
                served.append((at, number))
        for number, wire in enumerate(waiters):
            before = proxy.metric('pgporter_waiting_transactions') or 0
            thread = threading.Thread(target=wait, args=(number, wire), daemon=True)
            thread.start()
            threads.append(thread)
            wait_for(lambda: (proxy.metric('pgporter_waiting_transactions') or 0) > before, 'one more waits', interval=0.005)
        # Each holds the only connection until the next one was recorded: finishing order is queue order.
        holder.run('COMMIT')
        for thread in threads:
            thread.join(10)
        order = [number for _, number in sorted(served)]
        if proxy.config.get('threads', 1) == 1:
            self.assertEqual(order, list(range(8)))
        else:  # one whose thread has the connection may overtake the first in line, so often at most
            self.assertEqual(sorted(order), list(range(8)))
            self.assertLessEqual(order.index(0), 4)

    def test_fair_between_tenants(self):
        """acme floods; umbrella, on the same cluster, is served in a fraction of the flood's time."""
        stop, threads, counts = threading.Event(), [], [0] * 12

        def flood(number):
            wire = proxy.wire('acme')
            while not stop.is_set():
                try:
                    wire.run('SELECT pg_sleep(0.02)')
                    counts[number] += 1
                except ServerError:
                    pass
            wire.close()
        for number in range(12):
            threads.append(threading.Thread(target=flood, args=(number,), daemon=True))
            threads[-1].start()
        wait_for(lambda: sum(counts) > 12, 'the flood runs')
        globex = self.wire('globex')
        slowest = 0.0
        for _ in range(20):
            began = time.monotonic()
            self.assertEqual(globex.run('SELECT tenant FROM whoami'), [('globex',)])
            slowest = max(slowest, time.monotonic() - began)
        stop.set()
        for thread in threads:
            thread.join(20)
        print('fairness: the flood made %d transactions, the slowest of the other tenant took %.0f ms' % (sum(counts), slowest * 1000))
        self.assertLess(slowest, 0.5)

    def test_sessions_of_a_tenant(self):
        three = [self.wire('initech') for _ in range(3)]
        with self.assertRaises(ServerError) as caught:
            self.wire('initech')
        self.assertEqual(caught.exception.sqlstate, '53300')
        three[0].send(wire_client.terminate())
        three[0].expect_eof()

        def again():
            try:
                return self.wire('initech')
            except ServerError:
                return None
        wait_for(again, 'a login after one session ended')


class Clients(Base):
    def each(self, prepare):
        for how in ('terminate', 'close', 'reset'):
            with self.subTest(how):
                wire = proxy.wire('globex')
                prepare(wire)
                self.leave(wire, how)
                idle_and_clean()
                self.assertEqual(self.wire('globex').run('SELECT tenant FROM whoami'), [('globex',)])
                self.assertEqual(server.sql('DELETE FROM globex.ledger RETURNING id', 'app'), [])

    def test_leaves_in_a_transaction(self):
        self.each(lambda wire: wire.run("BEGIN; INSERT INTO ledger (id) VALUES ('left')"))

    def test_leaves_in_a_failed_transaction(self):
        def fail(wire):
            with self.assertRaises(ServerError):
                wire.run('BEGIN; SELECT 1/0')
        self.each(fail)

    def test_leaves_in_copy(self):
        def copy(wire):
            wire.send(wire_client.query('COPY ledger FROM STDIN'))
            wire.recv_until('G')
            wire.send(wire_client.copy_data('left\tglobex\t1\n'))
        self.each(copy)

    def test_leaves_in_a_result(self):
        def result(wire):
            wire.send(wire_client.query("SELECT repeat('x', 100000) FROM generate_series(1, 2000)"))
            wire.recv()
        self.each(result)

    def test_leaves_in_a_long_query(self):
        def sleep(wire):
            wire.send(wire_client.query('SELECT pg_sleep(60) /* abandoned */'))
            wait_for(lambda: [b for b in server.backends() if 'abandoned' in b[2] and b[1] == 'active'], 'the query runs')
        self.each(sleep)

    def test_leaves_in_a_batch(self):
        def batch(wire):
            wire.send(wire_client.parse('x', "INSERT INTO ledger (id) VALUES ('left')") + wire_client.bind('', 'x') + wire_client.execute() +
                      wire_client.flush())
            wire.recv_until('C')
        self.each(batch)

    def test_batch_without_sync_is_not_committed(self):
        """PostgreSQL rolls it back when the connection ends before Sync; Terminate is no Sync."""
        for how in ('terminate', 'close', 'reset'):
            for flushed in (True, False):
                wire = proxy.wire('acme')
                wire.send(wire_client.parse('', "INSERT INTO ledger (id) VALUES ('%s-%s')" % (how, flushed)) + wire_client.bind() +
                          wire_client.execute() + (wire_client.flush() if flushed else b''))
                if flushed:
                    wire.recv_until('C')
                self.leave(wire, how)
        idle_and_clean()
        self.assertEqual(server.sql('DELETE FROM acme.ledger RETURNING id', 'app'), [])

    def test_statement_and_terminate_in_one_packet(self):
        """PostgreSQL runs what came before Terminate, and commits it."""
        for name, data in (('simple', wire_client.query("INSERT INTO ledger (id) VALUES ('simple')")),
                           ('extended', wire_client.parse('', "INSERT INTO ledger (id) VALUES ('extended')") + wire_client.bind() +
                            wire_client.execute() + wire_client.sync())):
            with self.subTest(name):
                wire = self.wire('acme')
                wire.send(data + wire_client.terminate())
                self.assertIn('Z', [k for k, _ in wire.expect_eof()])
                self.assertEqual(server.sql('DELETE FROM acme.ledger RETURNING id', 'app'), [(name,)])

    def test_leaves_between_the_bytes_of_a_message(self):
        def half(wire):
            wire.run('BEGIN; SELECT 1')
            wire.send(wire_client.query("INSERT INTO ledger (id) VALUES ('left')")[:-5])
        self.each(half)

    def test_leaves_while_waiting(self):
        holder = self.wire('globex')
        holder.run('BEGIN; SELECT 1')
        for how in ('terminate', 'close', 'reset'):
            wire = proxy.wire('globex')
            wire.send(wire_client.query("INSERT INTO ledger (id) VALUES ('never')"))
            wait_for(lambda: proxy.metric('pgporter_waiting_transactions'), 'it waits')
            if how == 'terminate':
                wire.reset_connection()
            else:
                self.leave(wire, how)
            wait_for(lambda: not proxy.metric('pgporter_waiting_transactions'), 'the wait ends with the client (%s)' % how, 5)
        holder.run('COMMIT')
        self.assertEqual(server.sql('SELECT count(*) FROM globex.ledger', 'app'), [(0,)])

    def test_reads_slowly(self):
        """The server connection isn't held up for longer than client_write_ms_max by a client that doesn't read."""
        lazy = self.wire('globex')
        lazy.send(wire_client.query("SELECT repeat('x', 100000) FROM generate_series(1, 1000)"))
        other = self.wire('globex')

        def served():
            try:
                return other.run('SELECT 1')
            except ServerError:
                return None
        wait_for(served, 'the other session is served', 10)

    def test_slow_reader_gets_everything(self):
        wire = self.wire('acme')
        wire.send(wire_client.query("SELECT i, repeat('x', 10000) FROM generate_series(1, 1500) i"))
        seen = 0
        while True:
            kind, body = wire.recv()
            if kind == 'D':
                seen += 1
                self.assertEqual(wire_client.row_values(body)[0], str(seen).encode())
                if seen % 300 == 0:
                    time.sleep(0.1)  # slow on purpose
            if kind == 'Z':
                break
        self.assertEqual(seen, 1500)

    def test_many_that_come_and_go(self):
        before = len(os.listdir('/proc/%d/fd' % proxy.process.pid))
        for number in range(60):
            wire = proxy.wire('acme')
            if number % 2:
                wire.run('SELECT 1')
            self.leave(wire, ('terminate', 'close', 'reset')[number % 3])
        wait_for(lambda: len(os.listdir('/proc/%d/fd' % proxy.process.pid)) <= before + 4, 'descriptors are closed')


class Sessions(Base):
    def test_session_pooling(self):
        wire = self.wire('initech')
        pid = wire.run('SELECT pg_backend_pid()')
        wire.run('CREATE TEMP TABLE mine AS SELECT 1 AS x')
        wire.run("SELECT hidden_set('app.user_id', 'kept')")
        for _ in range(3):
            self.assertEqual(wire.run('SELECT pg_backend_pid()'), pid)
            self.assertEqual(wire.run('SELECT x FROM mine'), [('1',)])
            self.assertEqual(wire.run('SHOW app.user_id'), [('kept',)])
        wire.close()
        again = self.wire('initech')
        with self.assertRaises(ServerError):
            again.run('SELECT x FROM mine')
        self.assertEqual(again.run("SELECT coalesce(current_setting('app.user_id', true), '')"), [('',)])

    def test_statement_prepared_after_a_table_has_changed(self):
        """Sessions share what is prepared. After ALTER TABLE a statement prepared anew has the new columns, and no error of a stale plan."""
        def ask(wire, name, sql='SELECT * FROM shaped'):
            if name:
                wire.send(wire_client.parse(name, sql) + wire_client.sync())
                wire.recv_until('Z')
            wire.send(wire_client.bind('', name or 'old') + wire_client.execute() + wire_client.sync())
            return wire._rows(wire.recv_until('Z'))
        one, two = self.wire('umbrella'), self.wire('umbrella')
        one.run('CREATE TABLE shaped AS SELECT 1 AS a')
        self.assertEqual(ask(one, 'old'), [('1',)])
        one.run('ALTER TABLE shaped ADD COLUMN b int DEFAULT 2')
        self.assertEqual(ask(two, 'new'), [('1', '2')])
        with self.assertRaises(ServerError) as caught:
            ask(one, None)  # as PostgreSQL: this one was prepared before
        self.assertEqual(caught.exception.sqlstate, '0A000')
        # Also where pgporter can't see it.
        self.assertEqual(ask(two, 'newer'), [('1', '2')])
        server.sql('ALTER TABLE umbrella.shaped ADD COLUMN c int DEFAULT 3', 'app2')
        self.assertEqual(ask(two, 'first'), [('1', '2', '3')])
        self.assertEqual(ask(two, 'second'), [('1', '2', '3')])
        self.assertEqual(ask(one, 'third'), [('1', '2', '3')])
        one.run('DROP TABLE shaped')

    def test_what_pinned_a_session_ends_with_it(self):
        """At once, as with PostgreSQL, and not when its server connection is used next: others wait for its locks."""
        left = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77), (SELECT count(*) FROM pg_class WHERE relpersistence = 't')"
        for tenant in ('acme', 'initech'):
            for how in ('terminate', 'close', 'reset'):
                wire = self.wire(tenant)
                for sql in ('SELECT pg_advisory_lock(77)', 'CREATE TEMP TABLE left_behind (a int)', 'LISTEN left_behind'):
                    wire.run(sql)
                self.assertEqual(server.sql(left, 'app'), [(1, 1)])
                self.leave(wire, how)
                wait_for(lambda: server.sql(left, 'app') == [(0, 0)], 'nothing is left (%s, %s)' % (tenant, how), 5)

    def test_pins_are_counted_and_released(self):
        acts = {'listen': 'LISTEN pool_channel', 'temp': 'CREATE TEMP TABLE pool_temp (a int)', 'lock': 'SELECT pg_advisory_lock(99)',
                'cursor': 'DECLARE pool_cursor CURSOR WITH HOLD FOR SELECT 1'}
        for reason, sql in acts.items():
            with self.subTest(reason):
                before = self.pinned()
                one, two = self.wire('globex'), self.wire('globex')
                one.run(sql)
                wait_for(lambda: self.pinned() > before, lambda: 'a pin in /metrics:\n' + self.pin_lines(), 3)
                with self.assertRaises(ServerError) as caught:
                    two.run('SELECT 1')
                self.assertEqual(caught.exception.sqlstate[:2], '53')
                one.run('DISCARD ALL')
                self.assertEqual(two.run('SELECT tenant FROM whoami'), [('globex',)])
                wait_for(lambda: self.pinned() == before, 'the pin ended')

    @staticmethod
    def pin_lines():
        return '\n'.join(line for line in metrics_text().splitlines() if 'pin' in line)

    @classmethod
    def pinned(cls):
        """Sessions pinned now, of all reasons: the gauge whose name has `pinned` in it."""
        return sum(float(line.rsplit(' ', 1)[1]) for line in cls.pin_lines().splitlines()
                   if re.match(r'pgporter_\w*pinned\w*[ {]', line) and '_total' not in line)

    def test_notify_reaches_a_listener(self):
        one, two = self.wire('acme'), self.wire('acme')
        one.run('LISTEN across')
        two.run("NOTIFY across, 'hello'")
        kind, body = one.recv(5)
        self.assertEqual((kind, body[4:]), ('A', b'across\0hello\0'))

    def test_no_secret_in_metrics_or_log(self):
        text = metrics_text() + proxy.log()
        for secret in list(fixture.PASSWORDS.values()) + [fixture.TOKEN]:
            self.assertNotIn(secret, text)


if __name__ == '__main__':
    fixture.main(__name__)
