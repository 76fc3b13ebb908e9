"""What isn't a crash: a slot that is lost, definitions that change, rows that differ, transactions that don't end."""
import unittest

import psycopg2

import fault_world
from fault_world import Case, fixture, long_only, step_into, wait_for, wait_note


def setUpModule():
    global world
    world = fault_world.World()


def tearDownModule():
    world.close()


class Damage(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def caught_up(self, **more):
        case = Case(world, **more)
        case.promote(cutover=False)
        wait_note(case, 'waits for the cutover')
        return case

    def cutover(self, case):
        wait_for(lambda: world.instances[0].http('POST', '/v1/moves/%d:cutover' % case.move, {})[0] == 202, 'the cutover is accepted', 20)

    def test_the_judge_notices(self):
        """What these tests rest on: each kind of damage to a tenant's rows is found by its clients' history."""
        case = Case(world)
        case.history.go_on(60)
        case.history.stop()
        home = case.home()
        self.assertEqual(case.history.judge(home), [])
        cursor = home.cursor()
        for damage, found in (
                ("DELETE FROM ledger WHERE copy = (SELECT min(copy) FROM ledger)", 'acknowledged rows are missing'),
                ("INSERT INTO ledger (id) SELECT id FROM ledger LIMIT 1", 'rows are there twice'),
                ("INSERT INTO ledger (id) VALUES ('%s')" % [n for k, n, o, _ in case.history.notes if k == 'rollback'][0], 'rolled back rows are there'),
                ('UPDATE counters SET n = n + 1 WHERE id = 1', 'counter 1 is'),
                ('UPDATE accounts SET balance = balance - 1 WHERE id = 1', 'the accounts sum up to'),
                ('UPDATE keys SET value = value - 1', 'was acknowledged'),
                ('DELETE FROM lines WHERE id = (SELECT min(id) FROM lines)', 'acknowledged order lines are missing'),
                ("DELETE FROM batches WHERE line = 3 AND id = (SELECT min(id) FROM batches)", 'batches are not whole'),
                ("DELETE FROM batches WHERE id = (SELECT min(id) FROM batches)", 'acknowledged batches are missing')):
            cursor.execute('BEGIN')
            cursor.execute(damage)
            self.assertTrue([text for text in case.history.judge(home) if found in text], (damage, case.history.judge(home)))
            cursor.execute('ROLLBACK')
        home.close()

    @long_only
    def test_slot_lost(self):
        """max_slot_wal_keep_size: the move ends rather than the source's disk fills up."""
        case = self.caught_up()
        world.source.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
        world.source.sql('SELECT pg_reload_conf()')
        self.addCleanup(world.source.sql, 'SELECT pg_reload_conf()')
        self.addCleanup(world.source.sql, 'ALTER SYSTEM RESET max_slot_wal_keep_size')
        world.switch.set('target', fault_world.tcp_switch.STALL)  # nothing is applied, so that nothing is confirmed

        def lost():
            world.source.sql('SELECT pg_switch_wal()')
            world.source.sql('CHECKPOINT')
            return world.source.sql("SELECT 1 FROM pg_replication_slots WHERE wal_status = 'lost'")
        wait_for(lost, 'the slot is lost', 20, 0.1)
        world.switch.set('target', fault_world.tcp_switch.OPEN)
        case.end(self, 'aborted', timeout=90, no_failures=['instance1'])

    @long_only
    def test_slot_gone_after_a_failover(self):
        """The server that answers has no such slot: what it would stream from now on has a hole."""
        case = self.caught_up()
        slot = world.source.sql('SELECT slot_name FROM pg_replication_slots')[0][0]
        world.kill_server('source')
        world.switch.set('source', fault_world.tcp_switch.CUT)
        world.source.start()
        world.source.sql('SELECT pg_drop_replication_slot(%s)', 'postgres', (slot,))
        world.switch.set('source', fault_world.tcp_switch.OPEN)
        case.end(self, 'aborted', timeout=90)

    @long_only
    def test_definitions_changed_in_mid_move(self):
        case = self.caught_up()
        world.source.sql('ALTER TABLE %s.counters ADD COLUMN more int' % case.tenant, 'app')
        world.instances[0].http('POST', '/v1/moves/%d:cutover' % case.move, {})
        case.end(self, 'aborted', no_failures=['instance1'])

    def test_corrupted_row_is_found(self):
        """After the copy, before the comparison."""
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('verify'))
        case.promote_into(trap)
        world.target.sql("SET session_replication_role = replica; UPDATE %s.filling SET text = 'spoiled' WHERE id = 77" % case.tenant, case.tenant)
        trap.let_go()
        case.end(self, 'aborted', no_failures=['instance1'])
        self.assertIn('differ', case.row()[1])

    @long_only
    def test_missing_row_is_found(self):
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('verify'))
        case.promote_into(trap)
        world.target.sql('SET session_replication_role = replica; DELETE FROM %s.filling WHERE id = 77' % case.tenant, case.tenant)
        trap.let_go()
        case.end(self, 'aborted', no_failures=['instance1'])

    @long_only
    def test_gate_waits_for_a_writer_and_nobody_for_the_gate(self):
        case = Case(world)
        writer = case.bypass()
        writer.cursor().execute('UPDATE filling SET text = text WHERE id = 1')
        case.promote()
        wait_for(lambda: case.row()[0] == 'gate', 'at the gate')
        case.history.go_on(100)
        self.assertEqual(case.row()[0], 'gate')
        slowest = max(client.slowest for client in case.history.clients)
        writer.commit()
        writer.close()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])
        self.assertLess(slowest, 1.5)

    @long_only
    def test_slot_waits_for_a_long_transaction_only_so_long(self):
        case = Case(world)
        writer = world.source.connect('postgres')
        writer.autocommit = False
        writer.cursor().execute('SELECT txid_current()')
        pid = writer.get_backend_pid()
        case.promote()
        case.wait_state('aborted')
        self.assertIn('pid %d' % pid, case.row()[1])
        writer.close()
        case.end(self, 'aborted', no_failures=['instance1'])

    def test_hold_drain_over_budget(self):
        """A transaction that doesn't end: the cutover gives way, and no query fails."""
        case = self.caught_up()
        client = world.instances[0].door(case.tenant)()
        cursor = client.cursor()
        cursor.execute('UPDATE filling SET text = text WHERE id = 1')
        self.cutover(case)
        wait_note(case, 'gave way')
        case.history.go_on(30)
        client.commit()
        client.close()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    @long_only
    def test_fence_waits_for_a_prepared_transaction(self):
        case = self.caught_up()
        writer = case.bypass()
        cursor = writer.cursor()
        cursor.execute("INSERT INTO ledger (id) VALUES ('prepared')")
        cursor.execute("PREPARE TRANSACTION 'faults'")
        self.cutover(case)
        wait_note(case, 'gave way')
        world.source.sql("COMMIT PREPARED 'faults'", 'app')
        case.wait_state(fault_world.MOVED)
        home = case.home()
        self.addCleanup(home.close)
        there = home.cursor()
        there.execute("SELECT count(*) FROM ledger WHERE id = 'prepared'")
        self.assertEqual(there.fetchone(), (1,))
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    @long_only
    def test_bypass_is_fenced(self):
        """Who goes past pgporter is refused after the flip, superusers and replication roles too."""
        case = Case(world)
        case.promote()
        case.wait_state(fault_world.MOVED)
        for statement in ("INSERT INTO ledger (id) VALUES ('x')", 'TRUNCATE counters', "SET session_replication_role = replica; DELETE FROM keys"):
            connection = world.source.connect('app')
            connection.cursor().execute('SET search_path = ' + case.tenant)
            with self.assertRaises(psycopg2.Error) as refused:
                connection.cursor().execute(statement)
            self.assertEqual(refused.exception.pgcode, 'PP001')
            connection.close()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])


if __name__ == '__main__':
    fixture.main(__name__)
