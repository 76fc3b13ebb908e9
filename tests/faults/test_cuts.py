"""The network between pgporter and one of the servers, or a client, is cut, or swallows everything, or swallows just a reply, while a tenant moves."""
import time
import unittest

import fault_world
from fault_world import Case, fixture, long_only, step_into, wait_for, wait_note
from tcp_switch import CUT, DEAF, OPEN, STALL

FENCE_COMMIT = [b'fence:[0-9]+[^\\0]*', b'COMMIT']


def setUpModule():
    global world
    world = fault_world.World()


def tearDownModule():
    world.close()


class Cuts(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def while_following(self, server, mode, seconds, no_failures=()):
        case = Case(world)
        case.promote(cutover=False)
        wait_note(case, 'waits for the cutover')
        world.switch.set(server, mode)
        time.sleep(seconds)
        world.switch.set(server, OPEN)
        case.history.go_on(20)
        wait_for(lambda: world.instances[0].http('POST', '/v1/moves/%d:cutover' % case.move, {})[0] == 202, 'the cutover is accepted', 20)
        case.end(self, fault_world.MOVED, no_failures=no_failures)

    @long_only
    def test_catchup_cut_from_the_source(self):
        self.while_following('source', CUT, 0.5)

    @long_only
    def test_catchup_cut_from_the_target(self):
        self.while_following('target', CUT, 0.5, ['instance1'])

    @long_only
    def test_catchup_cut_from_the_catalog(self):
        self.while_following('catalog', CUT, 0.5, ['instance1'])

    @long_only
    def test_catchup_clients_cut(self):
        self.while_following('client', CUT, 0.5)

    @long_only
    def test_catchup_source_stalls(self):
        self.while_following('source', STALL, 1)

    @long_only
    def test_catchup_target_stalls(self):
        self.while_following('target', STALL, 1, ['instance1'])

    @long_only
    def test_catchup_catalog_stalls(self):
        self.while_following('catalog', STALL, 1, ['instance1'])

    @long_only
    def test_catchup_catalog_is_deaf(self):
        self.while_following('catalog', DEAF, 1, ['instance1'])

    def comparison_stalls(self, at, pattern, then_at, damage=None):
        """A comparison of changed rows that breaks off because a server takes no connection for a while: once `pattern` has gone by to `at`, the next one
        to `then_at` stands still."""
        case = Case(world)
        case.promote(cutover=False)
        wait_note(case, 'waits for the cutover')
        case.history.go_on(60)
        if damage:
            damage(case)
        began = world.switch.trap(at, pattern)
        wait_for(lambda: world.instances[0].http('POST', '/v1/moves/%d:cutover' % case.move, {})[0] == 202, 'the cutover is accepted', 20)
        began.wait(30)
        refused = world.switch.trap(then_at, b'SET client_encoding')
        began.let_go()
        refused.wait(30)
        wait_note(case, 'gave way')
        world.switch.heal()
        return case

    def test_barrier_the_target_takes_no_connection(self):
        """The stream stands at a point that the comparison never got to: the next one is at a point of its own."""
        case = self.comparison_stalls('source', b'CREATE_REPLICATION_SLOT[^\\0]*barrier', 'target')
        case.end(self, fault_world.MOVED)

    def test_comparison_the_source_takes_no_connection(self):
        """Rows that were to be compared, and weren't, still are before the flip: one of them was damaged."""
        def damage(case):
            world.source.sql("UPDATE %s.filling SET text = 'changed'" % case.tenant, 'app')
            wait_for(lambda: world.target.sql("SELECT 1 FROM %s.filling WHERE id = 7 AND text = 'changed'" % case.tenant, case.tenant), 'it is applied')
            world.target.sql("UPDATE %s.filling SET text = 'damaged' WHERE id = 7" % case.tenant, case.tenant)
        case = self.comparison_stalls('target', b'pg_export_snapshot', 'source', damage)
        case.wait_state('aborted', timeout=40)
        self.assertIn('differ', case.row()[1])
        case.end(self, 'aborted')

    def in_the_pause(self, server, mode, seconds, end=None, no_failures=()):
        """From the moment that the fence is about to be committed."""
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT)
        case.promote_into(trap)
        world.switch.set(server, mode)
        trap.let_go()
        time.sleep(seconds)
        world.switch.set(server, OPEN)
        return case, case.end(self, end, no_failures=no_failures)

    @long_only
    def test_pause_cut_from_the_target(self):
        self.in_the_pause('target', CUT, 0.5, no_failures=['instance1'])

    @long_only
    def test_pause_target_stalls(self):
        """The attempt gives way before the gate would open by itself: no client notices."""
        self.in_the_pause('target', STALL, 2.5, no_failures=['instance1'])

    def test_pause_cut_from_the_catalog(self):
        self.in_the_pause('catalog', CUT, 0.5, no_failures=['instance1'])

    @long_only
    def test_pause_source_stalls(self):
        self.in_the_pause('source', STALL, 2.5)

    @long_only
    def test_fence_request_lost(self):
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT)
        case.promote_into(trap)
        trap.cut()
        case.end(self, no_failures=['instance1'])

    def test_fence_reply_lost(self):
        """Was it committed? The database says, and until it does the tenant waits."""
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT, then='lose')
        case.promote_into(trap)
        trap.cut()
        case.end(self, no_failures=['instance1'])

    @long_only
    def test_flip_request_lost(self):
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('flipped'))
        case.promote_into(trap)
        trap.cut()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    def test_flip_reply_lost(self):
        """Flipped or not? The catalog's row says; it isn't guessed."""
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('flipped'), then='lose')
        case.promote_into(trap)
        trap.cut()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])
        self.assertEqual(case.steps().count('flipped'), 1)

    @long_only
    def test_hold_reply_lost(self):
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('hold'), then='lose')
        case.promote_into(trap)
        trap.cut()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    def test_target_commit_reply_lost(self):
        """Of the last rows, inside the pause. What was applied isn't applied again."""
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT)
        case.promote_into(trap)
        reply = world.switch.trap('target', b'COMMIT', then='lose')
        trap.let_go()
        reply.wait()
        reply.cut()
        case.end(self, no_failures=['instance1'])


if __name__ == '__main__':
    fixture.main(__name__)
