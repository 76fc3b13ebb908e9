"""pgporter is killed (SIGKILL) while it moves a tenant: as it has just entered each state, and in the middle of what it does there. Before the
flip the move is undone, or starts over; after it, it is finished. No acknowledged write is lost, and nothing of the move is left.
"""
import unittest

import fault_world
from fault_world import Case, fixture, step_into


def setUpModule():
    global world
    world = fault_world.World()


def tearDownModule():
    world.close()


class CrashOfMover(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def crash(self, trap, state, end='aborted', **more):
        """Killed where the trap holds the mover; then started again."""
        case = Case(world)
        case.promote_into(trap, **more)
        if end == fault_world.MOVED and state == 'copy':
            case.wait_for_pieces()
        return self.killed_in(case, state, end)

    def killed_in(self, case, state, end):
        found = case.row()[0]
        world.instances[0].kill()
        self.assertEqual(found, state)
        world.switch.heal()
        world.instances[0].start()
        case.end(self, end)
        return case

    def entered(self, state, end='aborted'):
        return self.crash(world.switch.trap('catalog', *step_into(state), then='lose'), state, end)

    def acting(self, server, patterns, state, then='hold', end='aborted'):
        return self.crash(world.switch.trap(server, *patterns, then=then), state, end)

    @fault_world.long_only
    def test_schema_in_the_middle_of_the_definitions(self):
        self.acting('target', [b'CREATE TABLE [a-z0-9]+.lines'], 'schema')

    @fault_world.long_only
    def test_schema_with_the_target_database_made_and_not_noted(self):
        self.acting('target', [b'CREATE DATABASE'], 'schema', 'lose')

    @fault_world.long_only
    def test_gate_in_the_middle_of_the_triggers(self):
        self.acting('source', [b'CREATE TRIGGER', b'CREATE TRIGGER'], 'gate')

    @fault_world.long_only
    def test_gate_with_a_trigger_made_and_not_told(self):
        self.acting('source', [b'CREATE TRIGGER'], 'gate', 'lose')

    @fault_world.long_only
    def test_slot_made_and_not_told(self):
        self.acting('source', [b'CREATE_REPLICATION_SLOT'], 'slot', 'lose')

    @fault_world.long_only
    def test_publication_made_and_not_told(self):
        self.acting('source', [b'CREATE PUBLICATION'], 'slot', 'lose')

    def test_copy_with_rows_on_their_way(self):
        self.acting('target', [b'COPY [^\\0]*filling', b'0cc175b9|md5|[0-9a-f]{64}'], 'copy', end=fault_world.MOVED)

    @fault_world.long_only
    def test_copy_stored_and_not_told(self):
        self.acting('target', [b'COPY [^\\0]*filling', b'.pieces SET attempt', b'COMMIT'], 'copy', 'lose', fault_world.MOVED)

    @fault_world.long_only
    def test_index_with_keys_half_built(self):
        self.acting('target', [b'PRIMARY KEY', b'PRIMARY KEY'], 'index', end=fault_world.MOVED)

    @fault_world.long_only
    def test_index_while_the_pieces_are_made_one(self):
        self.acting('target', [b'INSERT INTO [^\\0]*(ledger|batches|orders)'], 'index', end=fault_world.MOVED)

    @fault_world.long_only
    def test_index_in_the_middle_of_the_constraints(self):
        self.acting('target', [b'FOREIGN KEY|ANALYZE'], 'index')

    def test_catchup_in_a_target_transaction(self):
        case = Case(world)
        before = world.switch.trap('catalog', *step_into('catchup'))
        case.promote_into(before)
        case.history.go_on(20)
        trap = world.switch.trap('target', b'INSERT INTO [^\\0]*(ledger|batches|orders)')
        before.let_go()
        trap.wait()
        self.killed_in(case, 'catchup', 'aborted')

    def test_fence_committed_and_not_told(self):
        self.acting('source', [b'fence:[0-9]+[^\\0]*', b'COMMIT'], 'fenced', 'lose')

    @fault_world.long_only
    def test_fence_before_its_commit(self):
        self.acting('source', [b'fence:[0-9]+[^\\0]*', b'COMMIT'], 'fenced', 'hold')


def add_test(state, end):
    def test(self):
        self.entered(state, end)
    test.__name__ = 'test_entered_%s' % state
    # In the others, the tests above kill it in the middle.
    is_quick = state in ('flipped', 'reversing')
    setattr(CrashOfMover, test.__name__, test if is_quick else fault_world.long_only(test))


# One that waits in line has made nothing: it begins when pgporter is back. One whose rows are there goes on.
GOES_ON = ('planned', 'index')
for name in fault_world.STATES_BEFORE_FLIP:
    if name not in GOES_ON:
        add_test(name, 'aborted')
for name in GOES_ON + ('flipped', 'opened', 'reversing'):
    add_test(name, fault_world.MOVED)


if __name__ == '__main__':
    fixture.main(__name__)
