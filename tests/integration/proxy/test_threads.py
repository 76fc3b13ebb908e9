"""Several I/O threads: sessions are spread over them, server connections go from one to the other, caps, turns, cancels and holds are for all of
them together. PGPORTER_TEST_THREADS says how many (2 without it).
"""
import os
import threading
import time
import unittest

import fixture
import live_traffic
import wire_client as w
from fixture import wait_for
from wire_client import ServerError

THREADS = int(os.environ.get('PGPORTER_TEST_THREADS', '2'))
WAIT_MS_MAX = 4000
MIXED_SECONDS = float(os.environ.get('PGPORTER_TEST_MIXED_SECONDS', '8'))
TENANTS = ('acme', 'globex', 'initech')


def setUpModule():
    global workspace, server, dedicated, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.make_world('app2', ('umbrella',))
    dedicated = fixture.Postgres(workspace, 'dedicated')
    dedicated.make_roles()
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': WAIT_MS_MAX})
    proxy.config['threads'] = THREADS
    proxy.start()


def tearDownModule():
    workspace.close()


def apply(cluster_max, database_max=0, without=(), **tenants):
    document = {name: dict(dict(server_connections_max=0), **tenants.get(name, {})) for name in TENANTS if name not in without}
    document['umbrella'] = {'placement': {'database': 'app2'}}
    proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=cluster_max), 'dedicated': dedicated}, document,
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': database_max}]))


def clients_of(thread):
    return proxy.metric('pgporter_thread_clients', thread=str(thread)) or 0


class Base(unittest.TestCase):
    def setUp(self):
        self.wires = []
        wait_for(lambda: sum(clients_of(thread) for thread in range(THREADS)) == 0, 'nobody is connected')

    def tearDown(self):
        for wire in self.wires:
            wire.close()

    def wire(self, tenant='acme', **more):
        """(the session, its thread)"""
        before = [clients_of(thread) for thread in range(THREADS)]
        wire = proxy.wire(tenant, **more)
        self.wires.append(wire)
        after = [clients_of(thread) for thread in range(THREADS)]
        grown = [thread for thread in range(THREADS) if after[thread] > before[thread]]
        self.assertEqual(len(grown), 1, (before, after))
        return wire, grown[0]

    def two_apart(self, *tenants):
        """Sessions on two threads."""
        first, here = self.wire(tenants[0])
        second, there = self.wire(tenants[-1])
        self.assertNotEqual(here, there, 'the second client is given to a thread with fewer')
        return first, second

    def only_connection(self):
        """Whatever was there is gone; then one server connection is there at most."""
        apply(1)
        wait_for(lambda: len(self.known_cap()) == 1, 'the cap is known')
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        wait_for(lambda: proxy.metric('pgporter_server_connections') == 0, 'server connections are gone')

    def known_cap(self):
        return [c for c in proxy.http('GET', '/v1/clusters')[1]['clusters'] if c['name'] == 'main' and c['server_connections_max'] == 1]


class Balance(Base):
    def test_clients_are_spread_evenly(self):
        """Also when those that leave are all of one thread."""
        apply(20)
        mine = [self.wire() for _ in range(6 * THREADS)]
        self.assertEqual({clients_of(thread) for thread in range(THREADS)}, {6})
        for wire, thread in mine:
            if thread == 0:
                wire.close()
        wait_for(lambda: clients_of(0) == 0, 'they are gone')
        for _ in range(6):
            self.assertEqual(self.wire()[1], 0)


class Claims(Base):
    def setUp(self):
        super().setUp()
        self.only_connection()

    def test_idle_connection_of_another_thread(self):
        """It changes its thread; none is closed or opened for that."""
        one, two = self.two_apart('acme')
        pid = one.run('SELECT pg_backend_pid()')
        connects, handovers = proxy.metric('pgporter_server_connects_total'), proxy.metric('pgporter_server_connection_handovers_total')
        began = time.monotonic()
        for _ in range(20):
            self.assertEqual(two.run('SELECT pg_backend_pid()'), pid)
            self.assertEqual(one.run('SELECT pg_backend_pid()'), pid)
        self.assertLess(time.monotonic() - began, WAIT_MS_MAX / 1000)
        self.assertEqual(proxy.metric('pgporter_server_connects_total'), connects)
        self.assertGreaterEqual(proxy.metric('pgporter_server_connection_handovers_total'), handovers + 39)

    def test_connection_that_is_in_use(self):
        """It is handed over when its transaction ends, and not held back for the next one of its own thread."""
        one, two = self.two_apart('acme')
        one.run('BEGIN; SELECT 1')
        two.send(w.query('SELECT 2'))
        wait_for(lambda: proxy.metric('pgporter_waiting_transactions') == 1, 'it waits')
        one.send(w.query('COMMIT') + w.query('SELECT 3'))
        began = time.monotonic()
        two.recv_until('Z')
        one.recv_until('Z', 2)
        self.assertLess(time.monotonic() - began, WAIT_MS_MAX / 1000)

    def test_connection_to_another_database(self):
        """What is of no use to the other thread makes room."""
        one, _ = self.two_apart('acme')
        self.assertEqual(one.run('SELECT current_database()'), [('app',)])
        other, _ = self.wire('umbrella', database='app2')
        for _ in range(3):
            self.assertEqual(other.run('SELECT tenant FROM whoami'), [('umbrella',)])
            self.assertEqual(one.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertLessEqual(len(server.backends()) + len(server.backends('app2')), 1)

    def test_tenants_and_statements_keep_apart(self):
        """The same statement names with different texts, by two tenants on two threads, over one server connection."""
        one, two = self.two_apart('acme', 'globex')
        for wire, column in ((one, 'payload'), (two, 'id')):
            wire.send(w.parse('mine', 'SELECT tenant, %s::text FROM items WHERE id = $1' % column) + w.parse('own', 'SELECT 1') + w.sync())
            wire.recv_until('Z')
        for number in range(1, 9):
            for wire, tenant, value in ((one, 'acme', 'acme row %d' % number), (two, 'globex', str(number))):
                wire.send(w.bind('', 'mine', [str(number)]) + w.execute() + w.sync())
                rows = [w.row_values(body) for kind, body in wire.recv_until('Z') if kind == 'D']
                self.assertEqual([tuple(item.decode() for item in rows[0])], [(tenant, value)])
                wire.run("SET application_name = '%s'" % tenant)
                self.assertEqual(wire.run('SHOW application_name'), [(tenant,)])
                self.assertEqual(wire.run_prepared('SELECT tenant FROM whoami'), [(tenant,)])

    def test_busy_threads_take_turns(self):
        """One connection; many busy sessions on one thread don't starve the only one on another."""
        alone, here = self.wire()
        many = []
        while len(many) < 6:
            wire, thread = self.wire()
            if thread != here:
                many.append(wire)
        counts, stop = {}, threading.Event()

        def work(name, wire):
            while not stop.is_set():
                wire.run('SELECT 1')
                counts[name] = counts.get(name, 0) + 1
        workers = [threading.Thread(target=work, args=item, daemon=True) for item in [('alone', alone)] + list(enumerate(many))]
        for worker in workers:
            worker.start()
        time.sleep(3)
        stop.set()
        for worker in workers:
            worker.join(WAIT_MS_MAX / 1000 + 5)
        print('turns: %s' % counts)
        self.assertEqual(len(counts), 7)
        self.assertGreater(counts['alone'], sum(counts.values()) / 7 / 3)
        self.assertGreater(min(counts.values()), sum(counts.values()) / 7 / 3)

    def test_server_that_ends_while_idle(self):
        """Before it is handed over, and right after."""
        one, two = self.two_apart('acme')
        for first, second in ((one, two), (two, one), (one, two)):
            first.run('SELECT 1')
            server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
            self.assertEqual(second.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(proxy.metric('pgporter_server_connections'), 1)


class Caps(Base):
    def busy(self, seconds, clients):
        """Sessions of all tenants work for so long; (most server connections at once, most of globex at once, failures)."""
        stop, failures, most, most_of_one = threading.Event(), [], 0, 0
        wires = [(tenant, self.wire(tenant)[0]) for _ in range(clients) for tenant in TENANTS]

        def work(tenant, wire):
            while not stop.is_set():
                try:
                    if wire.run("SELECT /* %s */ tenant FROM whoami, pg_sleep(0.003)" % tenant) != [(tenant,)]:
                        failures.append('foreign rows')
                except Exception as error:
                    failures.append('%s: %s' % (tenant, error))
                    return
        workers = [threading.Thread(target=work, args=item, daemon=True) for item in wires]
        for worker in workers:
            worker.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            backends = server.backends()
            most = max(most, len(backends))
            most_of_one = max(most_of_one, sum(1 for _, state, sql in backends if state == 'active' and '/* globex */' in sql))
        stop.set()
        for worker in workers:
            worker.join(WAIT_MS_MAX / 1000 + 5)
        return most, most_of_one, failures

    def test_of_cluster_database_and_tenant(self):
        for cluster_max, database_max in ((5, 0), (9, 4)):
            apply(cluster_max, database_max, globex={'server_connections_max': 1})
            wait_for(lambda: len(server.backends()) <= min(cluster_max, database_max or cluster_max) or
                     server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'") is None, 'fewer connections', 5)
            most, most_of_one, failures = self.busy(2.5, 4)
            self.assertEqual(failures, [])
            self.assertLessEqual(most, database_max or cluster_max)
            self.assertLessEqual(most_of_one, 1)
        apply(20)

    def test_waiters_are_counted_for_all_threads(self):
        apply(1)
        wait_for(lambda: self.known_cap(), 'the cap is known')
        other = fixture.Pgporter(workspace, server, 'few-waiters', limits={'wait_ms_max': WAIT_MS_MAX, 'waiters_max': 2})
        other.config['threads'] = THREADS
        other.start()
        try:
            holder = other.wire()
            holder.run('BEGIN; SELECT 1')
            waiting = [other.wire() for _ in range(4)]
            self.wires += waiting + [holder]
            for wire in waiting:
                wire.send(w.query('SELECT 1'))
            kinds = []
            wait_for(lambda: other.metric('pgporter_waiting_transactions') == 2, 'two wait')
            holder.run('COMMIT')
            for wire in waiting:
                kinds.append(''.join(kind for kind, _ in wire.recv_until('Z')))
            self.assertEqual(sum('E' in answer for answer in kinds), 2, kinds)
        finally:
            other.stop()
            apply(20)


class Across(Base):
    def setUp(self):
        super().setUp()
        apply(20)

    def test_cancel(self):
        """Whichever thread the request comes in at, it reaches the session, and nobody else."""
        one, two = self.two_apart('acme')
        for _ in range(2 * THREADS):
            for wire, other in ((one, two), (two, one)):
                wire.send(w.query('SELECT pg_sleep(30) /* long */'))
                other.send(w.query('SELECT pg_sleep(0.3) /* short */'))
                wait_for(lambda: len([1 for _, state, sql in server.backends() if state == 'active' and 'pg_sleep' in sql]) == 2, 'both run')
                wire.cancel()
                messages = wire.recv_until('Z')
                self.assertEqual([w.error_fields(body)['C'] for kind, body in messages if kind == 'E'], ['57014'])
                self.assertNotIn('E', [kind for kind, _ in other.recv_until('Z')])

    def test_mixed_load(self):
        """Traffic, a move there and back, cancels, clients that vanish, changes of the catalog: nothing lost, nothing foreign, nobody stuck."""
        def connect(tenant):
            return proxy.psycopg2(tenant)
        apply(6)
        before = live_traffic.baseline(connect, TENANTS)
        traffic = live_traffic.Traffic(connect, TENANTS, clients_each=4)
        stop, failures = threading.Event(), []

        def guarded(work):
            def run():
                number = 0
                while not stop.is_set():
                    number += 1
                    try:
                        work(number)
                    except Exception as error:
                        failures.append('%s: %r' % (work.__name__, error))
                        return
            return threading.Thread(target=run, daemon=True)

        def vanish(number):
            wire = proxy.wire(TENANTS[number % 3])
            wire.send(w.query('BEGIN; SELECT pg_sleep(0.01)' if number % 2 else 'SELECT * FROM items, generate_series(1, 500)'))
            time.sleep(0.01)
            wire.close() if number % 3 else wire.reset_connection()

        def cancel(number):
            wire = proxy.wire(TENANTS[number % 3])
            wire.send(w.query('SELECT pg_sleep(20)'))
            time.sleep(0.005 * (number % 5))
            deadline = time.monotonic() + 20
            wire.cancel()
            while True:  # it may have come before the query
                try:
                    messages = wire.recv_until('Z', timeout=0.5)
                    break
                except Exception:
                    if time.monotonic() > deadline:
                        raise
                    wire.cancel()
            codes = [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']
            if codes != ['57014']:
                failures.append('cancelled: %s' % messages)
            wire.close()

        def change(number):
            apply(6 + number % 3, without=('acme',), initech={'server_connections_max': number % 2 * 2})
            time.sleep(0.2)

        helpers = [guarded(work) for work in (vanish, cancel, change)]
        for helper in helpers:
            helper.start()
        try:
            until = time.monotonic() + MIXED_SECONDS
            moves = 0
            while moves == 0 or time.monotonic() < until:
                moves += 1
                status, move = proxy.http('POST', '/v1/tenants/acme:promote', {'to': {'cluster': 'dedicated', 'database': 'acme%d' % moves}})
                self.assertEqual(status, 202, move)
                self.reach(move['id'], 'reversing')
                self.assertEqual(proxy.http('POST', '/v1/moves/%s:rollback' % move['id'], {})[0], 202)
                self.reach(move['id'], 'rolled_back')
        finally:
            stop.set()
            traffic.stop()
        for helper in helpers:
            helper.join(60)
        self.assertEqual(failures, [])
        self.assertEqual(traffic.verdict(before), [])
        print('%d moves there and back under %d transactions' % (moves, sum(traffic.transactions(tenant) for tenant in TENANTS)))
        wait_for(lambda: proxy.metric('pgporter_leases') == 0 and proxy.metric('pgporter_waiting_transactions') == 0, 'nothing is left over')
        apply(20)

    def reach(self, id_, state):
        def reached():
            body = proxy.http('GET', '/v1/moves/%s' % id_)[1]
            if body['state'] != state and body['finished']:
                raise AssertionError('the move ended as %s: %s' % (body['state'], body['error']))
            return body['state'] == state
        wait_for(reached, lambda: 'move %s is %s: %s' % (id_, state, proxy.http('GET', '/v1/moves/%s' % id_)[1]), 60, 0.05)


class Fairness(Base):
    def test_tenants_on_different_threads(self):
        """A tenant that floods from one thread doesn't keep another one's session on another thread waiting for long."""
        apply(4)
        quiet, here = self.wire('globex')
        flood = []
        while len(flood) < 12:
            wire, thread = self.wire('acme')
            if thread != here:
                flood.append(wire)
        stop = threading.Event()

        def work(wire):
            while not stop.is_set():
                wire.run('SELECT pg_sleep(0.05)')
        workers = [threading.Thread(target=work, args=(wire,), daemon=True) for wire in flood]
        for worker in workers:
            worker.start()
        try:
            wait_for(lambda: proxy.metric('pgporter_waiting_transactions') > 4, 'the flood waits for itself')
            time.sleep(1)
            times = []
            for _ in range(40):
                began = time.monotonic()
                self.assertEqual(quiet.run('SELECT tenant FROM whoami'), [('globex',)])
                times.append(time.monotonic() - began)
        finally:
            stop.set()
            for worker in workers:
                worker.join(WAIT_MS_MAX / 1000 + 5)
        print('quiet: median %.1f ms, longest %.1f ms' % (sorted(times)[20] * 1000, max(times) * 1000))
        self.assertLess(sorted(times)[30], 0.2)  # its turn, though 12 others ask for 50 ms each


if __name__ == '__main__':
    fixture.main(__name__)
