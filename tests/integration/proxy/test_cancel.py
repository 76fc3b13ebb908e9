"""Cancel requests: the right query, a waiting transaction, nobody else's query, wrong keys, storms."""
import os
import signal
import threading
import time
import unittest

import fixture
import wire_client
from wire_client import ServerError


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = fixture.Pgporter(workspace, server).start()
    proxy.apply(fixture.document({'main': server}, {'acme': {}, 'globex': {}},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))


def tearDownModule():
    workspace.close()


class Background(threading.Thread):
    """Runs one statement; `rows` or `error` tell how it ended, `seconds` how long it took."""

    def __init__(self, wire, sql):
        super().__init__(daemon=True)
        self.wire, self.sql, self.rows, self.error, self.seconds = wire, sql, None, None, None
        self.start()

    def run(self):
        began = time.monotonic()
        try:
            self.rows = self.wire.run(self.sql)
        except Exception as error:
            self.error = error
        self.seconds = time.monotonic() - began

    def result(self, timeout=15):
        self.join(timeout)
        if self.is_alive():
            raise AssertionError('still running: %s' % self.sql)
        return self.error.sqlstate if isinstance(self.error, ServerError) else self.error or self.rows


def active(text):
    return lambda: [row for row in server.backends() if row[1] == 'active' and text in row[2]]


class Cancel(unittest.TestCase):
    def setUp(self):
        self.a, self.b = proxy.wire('acme'), proxy.wire('globex')

    def tearDown(self):
        self.a.close()
        self.b.close()

    def test_keys_are_our_own(self):
        self.assertNotEqual((self.a.pid, self.a.secret), (self.b.pid, self.b.secret))
        self.assertEqual(len(self.a.secret), 4)
        self.assertNotIn(self.a.pid, [0])

    def test_running_query(self):
        running = Background(self.a, "SELECT pg_sleep(20) /* running */")
        fixture.wait_for(active('running'), 'the query runs')
        self.assertEqual(self.a.cancel(), b'')
        self.assertEqual(running.result(), '57014')
        self.assertLess(running.seconds, 10)
        self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_error_text_is_postgresqls(self):
        running = Background(self.a, "SELECT pg_sleep(20) /* text */")
        fixture.wait_for(active('text'), 'the query runs')
        self.a.cancel()
        running.result()
        self.assertEqual((running.error.fields['M'], running.error.fields['S']), ('canceling statement due to user request', 'ERROR'))

    def test_in_a_transaction(self):
        self.a.run('BEGIN; SELECT 1')
        running = Background(self.a, "SELECT pg_sleep(20) /* in transaction */")
        fixture.wait_for(active('in transaction'), 'the query runs')
        self.a.cancel()
        self.assertEqual(running.result(), '57014')
        self.assertEqual(self.a.status, 'E')
        self.a.run('ROLLBACK')
        self.assertEqual(self.b.run('SELECT 1'), [('1',)])

    def test_extended_protocol_and_copy(self):
        self.a.send(wire_client.parse('', 'SELECT pg_sleep(20) /* extended */') + wire_client.bind() + wire_client.execute() + wire_client.sync())
        fixture.wait_for(active('extended'), 'the query runs')
        self.a.cancel()
        messages = self.a.recv_until('Z')
        self.assertIn('57014', [wire_client.error_fields(b).get('C') for k, b in messages if k == 'E'])
        self.a.send(wire_client.query('COPY ledger FROM STDIN /* copy */'))
        self.a.recv_until('G')
        self.a.cancel()
        self.a.send(wire_client.copy_data('x') + wire_client.copy_fail('end'))
        messages = self.a.recv_until('Z')
        self.assertEqual([wire_client.error_fields(b).get('C') for k, b in messages if k == 'E'], ['57014'])
        self.assertEqual(self.a.run('SELECT 1'), [('1',)])

    def test_waiting_transaction(self):
        """The only server connection is taken: the cancel ends the wait, not the query that runs."""
        self.b.run('BEGIN; SELECT 1')
        waiting = Background(self.a, 'SELECT 2')
        fixture.wait_for(lambda: proxy.metric('pgporter_waiting_transactions'), 'the transaction waits')
        self.a.cancel()
        self.assertEqual(waiting.result(), '57014')
        self.assertEqual(self.b.run('SELECT 3'), [('3',)])
        self.b.run('COMMIT')
        self.assertEqual(self.a.run('SELECT 4'), [('4',)])

    def test_while_the_context_is_made(self):
        """The client's query waits behind what pgporter asks of the server connection first; a cancel then isn't lost."""
        for begin in (False, True):
            self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])
            pid = server.backends()[0][0]
            if begin:
                self.b.run('BEGIN')
            os.kill(pid, signal.SIGSTOP)
            try:
                running = Background(self.b, 'SELECT pg_sleep(20)')
                fixture.wait_for(lambda: proxy.metric('pgporter_leases') == 1, 'the lease has begun')
                self.assertEqual(self.b.cancel(), b'')
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(running.result(), '57014')
            self.assertLess(running.seconds, 10)
            self.assertEqual(self.b.status, 'E' if begin else 'I')
            self.b.run('ROLLBACK')
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_idle_session_cancels_nobody(self):
        self.a.run('SELECT 1')  # it held the server connection that b holds now
        running = Background(self.b, "SELECT pg_sleep(1) /* not yours */")
        fixture.wait_for(active('not yours'), 'the query runs')
        for _ in range(20):
            self.a.cancel()
        self.assertEqual(running.result(), [('',)])
        self.assertEqual(self.a.run('SELECT 5'), [('5',)])

    def test_wrong_keys(self):
        running = Background(self.b, "SELECT pg_sleep(1) /* wrong key */")
        fixture.wait_for(active('wrong key'), 'the query runs')
        backend = active('wrong key')()[0][0]
        for secret in (b'\0\0\0\0', bytes(reversed(self.b.secret)), b'', b'\xff' * 4, self.b.secret + b'x', self.b.secret[:3]):
            if secret != self.b.secret:
                answer = self.b.cancel(secret)
                if len(secret) >= 4:
                    self.assertEqual(answer, b'', secret)
                else:  # malformed: PostgreSQL 15 says so in its log only, an error is as good
                    self.assertIn(answer[:1], (b'', b'E'))
        right_pid, self.b.pid = self.b.pid, backend
        self.b.cancel()
        self.b.pid = right_pid
        self.assertEqual(running.result(), [('',)])

    def test_with_bytes_behind_it(self):
        for extra in (wire_client.terminate(), b'\0', b'x' * 100):
            running = Background(self.a, "SELECT pg_sleep(20) /* extra %d */" % len(extra))
            fixture.wait_for(active('extra %d ' % len(extra)), 'the query runs')
            self.assertEqual(self.a.cancel(extra=extra), b'')
            self.assertEqual(running.result(), '57014')
        self.assertEqual(self.a.run('SELECT 6'), [('6',)])

    def test_after_the_session_ended(self):
        gone = proxy.wire('acme')
        gone.run('SELECT 1')
        gone.close()
        running = Background(self.b, "SELECT pg_sleep(0.5) /* after */")
        fixture.wait_for(active('after'), 'the query runs')
        gone.cancel()
        self.assertEqual(running.result(), [('',)])

    def test_storm_hits_only_its_own(self):
        """a is cancelled all the time; b shares its only server connection and must never see 57014."""
        stop = threading.Event()
        hit = {'a': 0, 'b': 0}
        done = {'a': 0, 'b': 0}
        failures = []

        def storm():
            while not stop.is_set():
                try:
                    self.a.cancel()
                except Exception as error:
                    failures.append('cancel: %s' % error)

        def work(name, wire):
            while not stop.is_set():
                try:
                    wire.run("SELECT count(*) FROM generate_series(1, 3000)" if done[name] % 2 else 'SELECT pg_sleep(0.002)')
                    done[name] += 1
                except ServerError as error:
                    if error.sqlstate == '57014':
                        hit[name] += 1
                    else:
                        failures.append('%s: %s' % (name, error))
                except Exception as error:
                    failures.append('%s: %s' % (name, error))
                    return

        threads = [threading.Thread(target=storm, daemon=True) for _ in range(3)]
        threads += [threading.Thread(target=work, args=item, daemon=True) for item in (('a', self.a), ('b', self.b))]
        for thread in threads:
            thread.start()
        seconds = float(os.environ.get('PGPORTER_TEST_STORM_SECONDS', '5'))
        stop.wait(seconds)
        stop.set()
        for thread in threads:
            thread.join(20)
        print('storm: done %s, cancelled %s' % (done, hit))
        self.assertEqual(failures, [])
        self.assertGreater(hit['a'], 0, 'the storm never hit its own session: the test proves nothing')
        self.assertGreater(done['b'], 20, 'b could hardly work')
        self.assertEqual(hit['b'], 0, 'somebody else was cancelled')
        self.assertEqual(self.b.run('SELECT 7'), [('7',)])
        self.assertEqual(self.a.run('SELECT 8'), [('8',)])


if __name__ == '__main__':
    fixture.main(__name__)
