"""What a tenant may use: transactions and bytes a second, time, places on its cluster; and a tenant that only reads. All in the catalog, changed
while clients are connected.
"""
import threading
import time
import unittest

import fixture
import wire_client as w
from fixture import wait_for
from wire_client import ServerError

WAIT_MS_MAX = 1500
CLUSTER_MAX = 8


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.make_world('app2', ('umbrella',))
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': WAIT_MS_MAX, 'cancel_ms_max': 1000}).start()


def tearDownModule():
    workspace.close()


class Base(unittest.TestCase):
    def setUp(self):
        self.wires = []
        self.apply()

    def tearDown(self):
        for wire in self.wires:
            wire.close()

    def apply(self, **tenants):
        """These limits, and none for the others. What is left out of a document isn't changed, so all of them are named."""
        nothing = dict(state='active', server_connections_min=0, transactions_per_second_max=0, kib_per_second_max=0, statement_ms_max=0, transaction_ms_max=0,
                       idle_in_transaction_ms_max=0)
        document = {name: dict(nothing, **tenants.get(name, {})) for name in ('acme', 'globex', 'initech')}
        document['umbrella'] = dict(nothing, placement={'database': 'app2'}, **tenants.get('umbrella', {}))
        proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=CLUSTER_MAX)}, document))

        def known():
            status, body = proxy.http('GET', '/v1/tenants/acme')
            return status == 200 and all(body[name] == value for name, value in dict(nothing, **tenants.get('acme', {})).items())
        wait_for(known, 'the limits are known')

    def wire(self, tenant='acme', **more):
        wire = proxy.wire(tenant, **more)
        self.wires.append(wire)
        return wire

    def refused(self, wire, sql):
        with self.assertRaises(ServerError) as caught:
            wire.run(sql)
        return caught.exception

    def follows(self, wire, what):
        """Until the session has seen the catalog's change."""
        wait_for(what, 'the change is in force', 10, 0.05)


class Rates(Base):
    def test_transactions_per_second(self):
        """A second's worth at once, then evenly; nobody is refused who need not wait for long."""
        self.apply(acme={'transactions_per_second_max': 20})
        wire = self.wire()
        waited = proxy.metric('pgporter_rate_waits_total')
        began = time.monotonic()
        for _ in range(50):
            wire.run('SELECT 1')
        self.assertGreater(time.monotonic() - began, 1.0)  # 30 of them at 20 a second, and what the login used
        self.assertGreater(proxy.metric('pgporter_rate_waits_total'), waited)
        neighbour = self.wire('globex')
        for _ in range(100):
            neighbour.run('SELECT 1')

    def test_transactions_are_refused_when_the_wait_is_long(self):
        self.apply(acme={'transactions_per_second_max': 2})
        wires = [self.wire() for _ in range(8)]
        errors = []

        def work(wire):
            for _ in range(3):
                try:
                    wire.run('SELECT 1')
                except ServerError as error:
                    errors.append(error)
        threads = [threading.Thread(target=work, args=(wire,)) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        self.assertTrue(errors)
        self.assertEqual({error.sqlstate for error in errors}, {'53400'})
        self.assertIn('transactions a second', errors[0].fields['M'])
        self.assertGreaterEqual(proxy.metric('pgporter_rate_refusals_total'), len(errors))
        self.apply()  # changed live: the same sessions go on at once
        began = time.monotonic()
        wait_for(lambda: not self.fails(wires[0]), 'it is lifted')
        for _ in range(50):
            wires[0].run('SELECT 1')
        self.assertLess(time.monotonic() - began, 10)

    def fails(self, wire):
        try:
            wire.run('SELECT 1')
        except ServerError:
            return True
        return False

    def test_bytes_per_second(self):
        """A long result is slowed down on its way; the neighbours aren't."""
        self.apply(acme={'kib_per_second_max': 512})
        wire = self.wire()
        began = time.monotonic()
        self.assertEqual(len(wire.run("SELECT repeat('x', 1000) FROM generate_series(1, 1500)")), 1500)
        took = time.monotonic() - began
        self.assertGreater(took, 1.2)  # 1.5 MB: one second's worth at once, the rest at 0.5 MB a second
        began = time.monotonic()
        self.assertEqual(len(self.wire('globex').run("SELECT repeat('x', 1000) FROM generate_series(1, 1500)")), 1500)
        self.assertLess(time.monotonic() - began, took)

    def test_bytes_to_the_server_count(self):
        self.apply(acme={'kib_per_second_max': 512})
        wire = self.wire()
        began = time.monotonic()
        for _ in range(3):
            wire.run("SELECT length('%s')" % ('x' * 500_000))
        self.assertGreater(time.monotonic() - began, 0.8)


class Times(Base):
    def test_statement(self):
        self.apply(acme={'statement_ms_max': 300})
        wire = self.wire()
        error = self.refused(wire, 'SELECT pg_sleep(20)')
        self.assertEqual((error.sqlstate, error.fields['S']), ('57014', 'ERROR'))
        self.assertIn('statement timeout', error.fields['M'])
        self.assertIn('300 ms', error.fields['D'])
        for _ in range(5):
            self.assertEqual(wire.run('SELECT pg_sleep(0.1)::text'), [('',)])  # each for itself, though not all of them together
        # Of a batch that the server answers as a whole nobody sees when its single statements end.
        wire.send(b''.join(w.parse('', 'SELECT pg_sleep(0.1)') + w.bind() + w.execute() + w.flush() for _ in range(5)) + w.sync())
        self.assertNotIn('E', [kind for kind, _ in wire.recv_until('Z')])
        self.assertGreater(proxy.metric('pgporter_statement_timeouts_total'), 0)
        self.assertEqual(self.wire('globex').run("SELECT pg_sleep(0.5)::text"), [('',)])

    def test_a_statement_in_a_transaction_and_in_the_extended_protocol(self):
        self.apply(acme={'statement_ms_max': 300})
        wire = self.wire()
        wire.run('BEGIN')
        self.assertEqual(wire.run('SELECT 1'), [('1',)])
        time.sleep(0.5)  # idle isn't running
        wire.send(w.parse('', 'SELECT pg_sleep(20)') + w.bind() + w.execute() + w.sync())
        kinds = [kind for kind, _ in wire.recv_until('Z')]
        self.assertIn('E', kinds)
        self.assertEqual(wire.status, 'E')
        wire.run('ROLLBACK')
        self.assertEqual(wire.run('SELECT 1'), [('1',)])

    def test_transaction(self):
        self.apply(acme={'transaction_ms_max': 500})
        wire = self.wire()
        self.assertEqual(wire.run('SELECT 1'), [('1',)])
        wire.run('BEGIN; CREATE TABLE left_behind (id int)')
        kind, body = wire.recv()
        self.assertEqual(kind, 'E')
        self.assertIn(b'25P04', body)
        wait_for(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'") == [(0,)], 'it is rolled back')
        self.assertEqual(self.wire().run("SELECT to_regclass('left_behind')::text"), [(None,)])
        self.assertEqual(proxy.metric('pgporter_transaction_timeouts_total'), 1)

    def test_idle_in_transaction(self):
        self.apply(acme={'idle_in_transaction_ms_max': 300})
        wire = self.wire()
        wire.run('BEGIN; SELECT 1')
        kind, body = wire.recv()
        self.assertEqual(kind, 'E')
        self.assertIn(b'25P03', body)
        neighbour = self.wire('globex')
        neighbour.run('BEGIN; SELECT 1')
        time.sleep(0.6)
        self.assertEqual(neighbour.run('SELECT 1'), [('1',)])


class ReadOnly(Base):
    WAYS_OUT = ('SET default_transaction_read_only = off', 'SET transaction_read_only TO off', 'set session default_transaction_read_only = 0',
                'SET TRANSACTION READ WRITE', 'SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE', 'BEGIN READ WRITE',
                'START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ WRITE', "SELECT set_config('default_transaction_read_only', 'off', false)",
                "SELECT set_config('transaction_' || 'read_only', 'off', false)", 'BEGIN; SET LOCAL transaction_read_only = false')

    def test_it_reads_and_does_not_write(self):
        wire = self.wire()
        wire.run('CREATE TABLE IF NOT EXISTS notes (id int)')
        self.apply(acme={'state': 'read_only'})
        self.follows(wire, lambda: wire.run('SHOW transaction_read_only') == [('on',)])
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
        for way in self.WAYS_OUT:
            with self.subTest(way=way):
                error = self.refused(wire, way)
                self.assertIn(error.sqlstate, ('25006', '42501'))
                wire.run('ROLLBACK')
                self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
                if ';' in way:
                    continue
                wire.send(w.parse('', way) + w.bind() + w.execute() + w.sync())
                self.assertIn('E', [kind for kind, _ in wire.recv_until('Z')])
                self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
        for harmless in ('RESET default_transaction_read_only', 'RESET ALL', 'DISCARD ALL', 'BEGIN READ ONLY; COMMIT', 'SET default_transaction_read_only = on'):
            with self.subTest(harmless=harmless):
                wire.run(harmless)
                self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
        self.assertEqual(self.wire('globex').run('SHOW transaction_read_only'), [('off',)])
        self.apply()
        self.follows(wire, lambda: wire.run('SHOW transaction_read_only') == [('off',)])
        wire.run('INSERT INTO notes VALUES (1)')

    def test_a_session_that_had_set_it_off_before(self):
        wire = self.wire()
        wire.run('CREATE TABLE IF NOT EXISTS notes (id int)')
        wire.run('SET default_transaction_read_only = off')
        self.apply(acme={'state': 'read_only'})
        self.follows(wire, lambda: self.refused_or_none(wire) == '25006')

    def refused_or_none(self, wire):
        try:
            wire.run('INSERT INTO notes VALUES (1)')
        except ServerError as error:
            return error.sqlstate
        return None


    def test_a_transaction_that_began_while_somebody_else_was_named(self):
        """BEGIN is answered before it is known where it goes."""
        self.wire().run('CREATE TABLE IF NOT EXISTS notes (id int)')
        self.apply(acme={'state': 'read_only'})
        self.follows(None, lambda: self.wire().run('SHOW transaction_read_only') == [('on',)])
        wire = proxy.wire('globex')
        wire.run('BEGIN READ WRITE')
        wire.run("SET LOCAL search_path TO acme, public")
        self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
        wire.run('ROLLBACK')
        wire.run('BEGIN')
        wire.run("SET LOCAL search_path TO acme, public")
        self.assertEqual(self.refused(wire, 'INSERT INTO notes VALUES (1)').sqlstate, '25006')
        wire.run('ROLLBACK')
        wire.close()


class Places(Base):
    def occupy(self, tenant, count, **more):
        """So many open transactions; returns those that got a server connection."""
        got = []
        for _ in range(count):
            wire = self.wire(tenant, **more)
            try:
                wire.run('BEGIN; SELECT 1')
                got.append(wire)
            except ServerError as error:
                self.assertEqual(error.sqlstate, '53300')
                break
        return got

    def test_alone_a_tenant_may_have_all(self):
        time.sleep(2.2)  # what others did is forgotten after two periods of a second
        self.assertEqual(len(self.occupy('acme', CLUSTER_MAX)), CLUSTER_MAX)

    def test_who_floods_leaves_room(self):
        """Of 8 with two tenants at work a quarter is kept for whoever uses less than half."""
        flooded = threading.Event()

        def quiet_work():
            wire = proxy.wire('globex')
            while not flooded.wait(0.05):
                wire.run('SELECT 1')
            wire.close()
        before = proxy.metric('pgporter_tenant_transactions_total', tenant='globex') or 0
        quiet = threading.Thread(target=quiet_work)
        quiet.start()
        self.addCleanup(quiet.join)
        self.addCleanup(flooded.set)
        wait_for(lambda: proxy.metric('pgporter_tenant_transactions_total', tenant='globex') > before, 'the neighbour works')
        flood = self.occupy('acme', CLUSTER_MAX)
        self.assertEqual(len(flood), 6)
        began = time.monotonic()
        for _ in range(2):
            neighbour = self.wire('globex')
            neighbour.run('BEGIN; SELECT 1')
        self.assertLess(time.monotonic() - began, WAIT_MS_MAX / 1000)

    def test_guaranteed(self):
        self.apply(globex={'server_connections_min': 3})
        self.wire().run('SELECT 1')
        flood = self.occupy('acme', CLUSTER_MAX)
        self.assertLessEqual(len(flood), CLUSTER_MAX - 3)
        self.assertEqual(len(self.occupy('initech', 1)), 0 if len(flood) == CLUSTER_MAX - 3 else 1)
        self.assertEqual(len(self.occupy('globex', 3)), 3)

    def promise_to_database(self, number):
        proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=CLUSTER_MAX)}, {'umbrella': {'placement': {'database': 'app2'}}},
                                     databases=[{'cluster': 'main', 'name': 'app2', 'server_connections_min': number}]))

        def known():
            databases = proxy.http('GET', '/v1/clusters')[1]['clusters'][0]['databases']
            return [one['server_connections_min'] for one in databases if one['name'] == 'app2'] == [number]
        wait_for(known, 'the promise is known')

    def test_guaranteed_to_a_database(self):
        self.promise_to_database(3)
        self.addCleanup(self.promise_to_database, 0)
        self.wire().run('SELECT 1')
        flood = self.occupy('acme', CLUSTER_MAX)
        self.assertLessEqual(len(flood), CLUSTER_MAX - 3)  # fewer where the reserve of the quiet ones applies
        self.assertGreater(len(flood), 0)
        own = [self.wire('umbrella', database='app2') for _ in range(3)]
        for wire in own:
            self.assertEqual(wire.run('BEGIN; SELECT tenant FROM whoami'), [('umbrella',)])
        with self.assertRaises(Exception) as caught:
            self.promise_to_database(CLUSTER_MAX + 1)
        self.assertIn('tenants and databases', str(caught.exception))

    def test_promises_that_cannot_be_kept_are_refused(self):
        with self.assertRaises(Exception) as caught:
            self.apply(globex={'server_connections_min': CLUSTER_MAX}, acme={'server_connections_min': 1})
        self.assertIn('server_connections_min', str(caught.exception))

    def test_waiters_of_another_database_do_not_block(self):
        """Who waits for its own database's cap takes no place of the cluster meanwhile."""
        proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=CLUSTER_MAX)}, {'acme': {}, 'umbrella': {'placement': {'database': 'app2'}}},
                                     databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 2}]))
        try:
            wire = self.wire()
            wait_for(lambda: proxy.http('GET', '/v1/clusters')[1]['clusters'][0]['databases'][0]['server_connections_max'] == 2, 'the cap is known')
            wire.run('SELECT 1')
            holders = self.occupy('acme', 2)
            self.assertEqual(len(holders), 2)
            waiters = [self.wire() for _ in range(10)]
            for waiting in waiters:
                waiting.send(w.query('SELECT 1'))
            wait_for(lambda: proxy.metric('pgporter_waiting_transactions') >= 10, 'they wait')
            self.assertEqual(self.wire('umbrella', database='app2').run('SELECT tenant FROM whoami'), [('umbrella',)])
            for holder in holders:
                holder.run('COMMIT')
            for waiting in waiters:
                waiting.recv_until('Z')
        finally:
            proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=CLUSTER_MAX)}, {'acme': {}},
                                         databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 0}]))

    def test_in_turn_by_time_used(self):
        """Two tenants that both want all there is: each gets half of the time, whatever the length of its transactions."""
        proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=2)}, {'acme': {}, 'globex': {}}))
        done = {'acme': 0, 'globex': 0}
        stop = time.monotonic() + 4

        def work(tenant, seconds):
            wire = proxy.wire(tenant)
            while time.monotonic() < stop:
                wire.run('SELECT pg_sleep(%s)' % seconds)
                done[tenant] += 1
            wire.close()
        threads = [threading.Thread(target=work, args=case) for case in [('acme', 0.2)] * 6 + [('globex', 0.02)] * 6]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        # Turn by turn it would be as many of each; by time globex has ten times as many.
        self.assertGreater(done['globex'], 3 * done['acme'], done)
        self.assertGreater(done['acme'], 5, done)


if __name__ == '__main__':
    fixture.main(__name__)
