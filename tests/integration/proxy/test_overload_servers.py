"""Servers that are overloaded, slow, gone, or that restart with hundreds of clients waiting: bounded waits, clear errors, no storm of logins, and the
tenants of other clusters notice nothing.
"""
import contextlib
import os
import select
import threading
import time
import unittest

import fixture
import overload_tools as tools
import pitfall_tools
import wire_client as w
from fixture import wait_for
from wire_client import ServerError, WireError

SILENT_MS, CONNECT_MS, OUTAGE_WAIT_MS, WAIT_MS, CAP, CONNECTS = 2000, 1500, 8000, 15000, 5, 3


def setUpModule():
    global workspace, server, second, relay, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace, settings={'log_connections': 'on'})
    second = fixture.Postgres(workspace, 'second')  # with the catalog
    for one in (server, second):
        one.make_roles()
    server.make_world()
    second.make_world('app', ('umbrella',))
    relay = tools.VanishingRelay(workspace, second.port)
    second.sql("CREATE SCHEMA hooli AUTHORIZATION app; CREATE TABLE hooli.whoami AS SELECT 'hooli' AS tenant; ALTER TABLE hooli.whoami OWNER TO app", 'app')
    proxy = fixture.Pgporter(workspace, second, limits={
        'wait_ms_max': WAIT_MS, 'server_silent_ms_max': SILENT_MS, 'server_connect_ms_max': CONNECT_MS, 'prologue_ms_max': 1500, 'cancel_ms_max': 1000,
        'server_outage_wait_ms_max': OUTAGE_WAIT_MS, 'server_connects_max': CONNECTS, 'server_retry_ms_max': 500})
    proxy.start()
    use()
    server.sql('CHECKPOINT')  # the servers of tests commit asynchronously, and an immediate stop would undo what was made last


def use(**ports):
    """`far` is a cluster behind whatever a test puts there; umbrella's is never touched."""
    clusters = {'main': dict(port=server.port, server_connections_max=CAP), 'second': second, 'far': dict(port=ports.get('far', relay.port))}
    proxy.apply(fixture.document(clusters, {
        'acme': {}, 'globex': {}, 'umbrella': {'placement': {'cluster': 'second'}},
        'hooli': {'placement': {'cluster': 'far'}, 'statement_ms_max': ports.get('statement_ms_max', 0)}}))


def tearDownModule():
    workspace.close()


class Base(unittest.TestCase):
    def wire(self, tenant='acme', **more):
        wire = proxy.wire(tenant, **more)
        self.addCleanup(wire.close)
        return wire

    def works(self, tenant):
        try:
            wire = proxy.wire(tenant)
            try:
                return wire.run('SELECT tenant FROM whoami') == [(tenant,)]
            finally:
                wire.close()
        except (ServerError, WireError, OSError):
            return False


@contextlib.contextmanager
def bystander(test, slowest_allowed):
    """Another cluster's tenant, which works all the time and must neither fail nor wait."""
    wire, stop, times, failed = test.wire('umbrella'), threading.Event(), [0.0], []

    def work():
        while not stop.wait(0.02):
            began = time.monotonic()
            try:
                wire.run('SELECT tenant FROM whoami')
            except (ServerError, WireError) as error:
                failed.append(error)
                return
            times.append(time.monotonic() - began)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
        wait_for(lambda: failed or len(times) > 5, 'the bystander has worked')  # what it stands by may be over sooner
    finally:
        stop.set()
        thread.join(20)
    test.assertEqual(failed, [])
    test.assertLess(max(times), slowest_allowed)


class Vanishes(Base):
    def setUp(self):
        use()
        wait_for(lambda: self.works('hooli'), 'the far cluster works')

    def lost(self, wire):
        messages = wire.recv_until('E', timeout=20)
        self.assertEqual(messages[-1][0], 'E', messages)
        fields = w.error_fields(messages[-1][1])
        self.assertEqual((fields['S'], fields['C']), ('FATAL', '08006'), fields)
        self.assertIn("server's host has not answered for %d ms" % SILENT_MS, fields['M'])
        self.assertIn('server_silent_ms_max', fields['H'])

    def test_before_a_query(self):
        """What is sent is never acknowledged."""
        before = proxy.metric('pgporter_server_connections_silent_total')
        wire = self.wire('hooli')
        wire.run('BEGIN; SELECT 1')
        with bystander(self, 2.0):
            relay.vanish()
            wire.send(w.query('SELECT 2'))
            self.lost(wire)
        self.assertGreater(proxy.metric('pgporter_server_connections_silent_total'), before)
        wait_for(lambda: self.works('hooli'), 'the tenant is served again', 20)

    def test_during_a_query(self):
        """Nothing is under way: TCP's own questions stay without an answer."""
        wire = self.wire('hooli')
        wire.send(w.query('SELECT pg_sleep(60)'))
        wait_for(lambda: second.sql("SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"), 'it runs')
        relay.vanish()
        self.lost(wire)

    def test_in_copy(self):
        wire = self.wire('hooli')
        wire.run('CREATE TABLE IF NOT EXISTS hooli.lines (line text)')
        wire.send(w.query('COPY lines FROM STDIN'))
        wire.recv_until('G')
        relay.vanish()
        stop = threading.Event()

        def send():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    wire.socket.sendall(w.copy_data('l' * 10000 + '\n'))
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        try:
            wait_for(lambda: proxy.metric('pgporter_leases') == 0, 'the lease has ended', 20)
        finally:
            stop.set()
            wire.close()
        self.assertEqual(second.sql('SELECT count(*) FROM hooli.lines', 'app'), [(0,)])


class Freezes(Base):
    """Its host answers, its program doesn't: what a client may wait for then is PostgreSQL's to say, but not for pgporter's own questions."""

    def setUp(self):
        use(statement_ms_max=1000)
        wait_for(lambda: self.works('hooli'), 'the far cluster works')

    def tearDown(self):
        relay.frozen = False

    def test_statement_time_limit(self):
        wire = self.wire('hooli')
        wire.run('SELECT 1')
        relay.frozen = True
        with bystander(self, 2.0):
            wire.send(w.query('SELECT 2'))
            fields = w.error_fields(wire.recv_until('E', timeout=20)[-1][1])
            self.assertEqual((fields['S'], fields['C']), ('FATAL', '57014'), fields)

    def test_setting_a_connection_up(self):
        """Another session's turn on the same server connection begins with a question of ours: prologue_ms_max."""
        self.wire('hooli').run('SELECT 1')
        other = self.wire('hooli')
        relay.frozen = True
        began = time.monotonic()
        state = tools.sqlstate_of(lambda: other.run('SELECT 1'))
        self.assertIn(state, ('08006', '08001', '57014'))
        self.assertLess(time.monotonic() - began, 15)
        relay.frozen = False
        wait_for(lambda: self.works('hooli'), 'the tenant is served again', 20)


class Slow(Base):
    def tearDown(self):
        use()

    def far(self, behave):
        fake = pitfall_tools.FakeServer(workspace, behave)
        use(far=fake.port)
        wait_for(lambda: proxy.http('GET', '/v1/clusters')[0] == 200 and str(fake.port) in str(proxy.http('GET', '/v1/clusters')[1]), 'it is known')
        return fake

    def test_logins_that_are_never_answered(self):
        """Some tries hang, one after the other; whoever needs that server is told in time, and it isn't flooded."""
        fake = self.far(lambda peer, fake: peer.recv(1 << 20) and time.sleep(60))
        results, outages = [], proxy.metric('pgporter_server_outages')
        errors = proxy.metric('pgporter_outage_errors_total')

        def ask():
            began = time.monotonic()
            results.append((tools.sqlstate_of(lambda: proxy.wire('hooli', timeout=30)), time.monotonic() - began))
        threads = [threading.Thread(target=ask, daemon=True) for _ in range(40)]
        with bystander(self, 2.0):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        self.assertEqual({state for state, _ in results}, {'08006'})
        self.assertEqual(len(results), 40)
        self.assertLess(max(took for _, took in results), 3 * CONNECT_MS / 1000 + 5)
        self.assertLessEqual(fake.accepted, CONNECTS + 5)
        self.assertEqual(proxy.metric('pgporter_server_outages'), outages + 1)
        self.assertEqual(proxy.metric('pgporter_outage_errors_total'), errors + 40)

    def test_a_long_outage(self):
        """Clients that ask again at once, all the time, of a server that closes every connection: it sees few of them."""
        fake = self.far(lambda peer, fake: None)
        wait_for(lambda: tools.sqlstate_of(lambda: proxy.wire('hooli', timeout=30)) == '08006', 'the outage is told of', 2 * OUTAGE_WAIT_MS / 1000)
        stop, states, tries = threading.Event(), set(), [0]

        def ask():
            while not stop.is_set():
                states.add(tools.sqlstate_of(lambda: proxy.wire('hooli', timeout=30)))
                tries[0] += 1
        before, began = fake.accepted, time.monotonic()
        with bystander(self, 3.0):
            threads = [threading.Thread(target=ask, daemon=True) for _ in range(10)]
            for thread in threads:
                thread.start()
            time.sleep(3)
            stop.set()
            for thread in threads:
                thread.join(20)
        took = time.monotonic() - began
        self.assertLessEqual(states, {'08006', '08001'})
        self.assertGreater(tries[0], 30)
        self.assertLessEqual(fake.accepted - before, 2 + 5 * took)  # server_retry_ms_max is 500 ms, less the jitter
        use()
        wait_for(lambda: self.works('hooli'), 'served again, without a restart', 10)

    def test_queries(self):
        """All its server connections are busy: others of the cluster wait, for wait_ms_max at most; those of other clusters don't."""
        busy = [self.wire('acme') for _ in range(CAP)]
        for wire in busy:
            wire.run('BEGIN; SELECT 1')
        waiting = self.wire('globex')
        waiting.send(w.query('SELECT 1'))
        with bystander(self, 2.0):
            fields = w.error_fields(waiting.recv_until('E', timeout=WAIT_MS / 1000 + 10)[-1][1])
        self.assertEqual(fields['C'], '53300', fields)
        self.assertIn('%d ms' % WAIT_MS, fields['M'])
        for wire in busy:
            wire.run('COMMIT')
        waiting.recv_until('Z')
        self.assertEqual(waiting.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_too_busy_to_take_another(self):
        """The server's own bound on connections is met: who has a server connection goes on, the others wait or are told; nothing is stuck."""
        direct = [server.connect() for _ in range(3)]
        server.sql("ALTER ROLE app CONNECTION LIMIT 2")
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        try:
            wires = [self.wire('acme') for _ in range(6)]
            states = [None] * len(wires)

            def work(number):
                states[number] = tools.sqlstate_of(lambda: wires[number].run('SELECT pg_sleep(0.2)'))
            threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(len(wires))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            self.assertEqual(states, [None] * len(wires))
        finally:
            server.sql("ALTER ROLE app CONNECTION LIMIT -1")
            for one in direct:
                one.close()


class Restart(Base):
    """PostgreSQL restarts, and hundreds of clients have work for it."""

    def logins(self):
        with open(os.path.join(server.folder, 'log'), encoding='utf-8', errors='replace') as source:
            return sum('connection received' in line and 'local' not in line for line in source)

    def test_transactions_wait_for_it(self):
        wires = [self.wire('acme' if number % 2 else 'globex') for number in range(60)]
        with bystander(self, 3.0):
            server.stop('fast')
            for wire in wires:
                wire.send(w.query('SELECT tenant FROM whoami'))
            wait_for(lambda: proxy.metric('pgporter_waiting_transactions') == len(wires), 'all wait')
            server.start()
            for wire in wires:
                kinds = [m[0] for m in wire.recv_until('Z', timeout=30)]
                self.assertEqual(kinds, ['T', 'D', 'C', 'Z'])
        self.assertEqual(proxy.metric('pgporter_server_outages'), 0)

    def test_thundering_herd(self):
        clients = 200
        wires = [self.wire('acme' if number % 2 else 'globex') for number in range(clients)]
        for wire in wires:
            wire.send(w.query('SELECT pg_sleep(0.05)'))
        wait_for(lambda: proxy.metric('pgporter_waiting_transactions') > clients / 2, 'most wait')
        with bystander(self, 3.0):
            server.stop('immediate')
            before = self.logins()
            server.start()
            began = time.monotonic()
            answered, closed = 0, []
            for wire in wires:
                wire.timeout = 40.0
                kinds = [m[0] for m in wire.recv_until('Z')]
                if kinds[-1] == 'Z':
                    answered += 1
                else:
                    self.assertIn('E', kinds)  # it had a server connection, which was lost
                    closed.append(wire)
            self.assertLess(time.monotonic() - began, 40)
        self.assertLessEqual(len(closed), CAP)
        self.assertEqual(answered, clients - len(closed))
        self.assertLessEqual(self.logins() - before, CAP + 2 * CONNECTS + 10)
        for wire in wires[:20]:
            if wire not in closed:
                self.assertEqual(len(wire.run('SELECT tenant FROM whoami')), 1)
        self.assertLessEqual(len(server.backends()), CAP)

    def test_reconnecting_clients(self):
        """Clients that lost their session come back all at once, while the server isn't up yet."""
        server.stop('immediate')
        results = []

        def come():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                state = tools.sqlstate_of(lambda: self.wire('acme', timeout=30).run('SELECT 1'))
                if state is None:
                    results.append(True)
                    return
                self.assertIn(state[:2], ('08', '57', '53'))
        threads = [threading.Thread(target=come, daemon=True) for _ in range(40)]
        with bystander(self, 3.0):
            for thread in threads:
                thread.start()
            wait_for(lambda: proxy.metric('pgporter_server_outages') == 1, 'the outage is known')
            before = self.logins()
            server.start()
            for thread in threads:
                thread.join(60)
        self.assertEqual(len(results), 40)
        self.assertLessEqual(self.logins() - before, CAP + 2 * CONNECTS + 10)


if __name__ == '__main__':
    fixture.main(__name__)
