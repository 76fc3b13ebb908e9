"""pgporter is killed (SIGKILL) while it moves a tenant that is rows of shared tables, there or back, as it has just entered each state: what holds
for a tenant with a schema holds for it too, and its neighbours lose nothing. Beside the connections of the killed process they notice nothing.
"""
import unittest

import fault_world
from fault_world import fixture, step_into, wait_for
from rows_case import RowsCase


def setUpModule():
    global world
    world = fault_world.World()
    instance = world.instances[0]
    instance.config['mover'].update({'late_writer_ms': 500})
    instance.config['limits']['server_idle_ms_max'] = 2000
    instance.stop()
    instance.start()


def tearDownModule():
    world.close()


class RowsFaults(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def crash(self, trap, state, end):
        case = RowsCase(world)
        case.promote_into(trap)
        found = case.row()[0]
        world.instances[0].kill()
        self.assertEqual(found, state)
        world.switch.heal()
        world.instances[0].start()
        case.end(self, end)

    def entered(self, state, end):
        self.crash(world.switch.trap('catalog', *step_into(state), then='lose'), state, end)

    def test_fence_committed_and_not_told(self):
        self.crash(world.switch.trap('source', b'fence:[0-9]+[^\\0]*', b'COMMIT', then='lose'), 'fenced', 'aborted')

    @fault_world.long_only
    def test_row_triggers_in_the_middle(self):
        self.crash(world.switch.trap('source', b'CREATE TRIGGER[^\\0]*_leave', then='hold'), 'reverse_slot', 'aborted')

    @fault_world.long_only
    def test_target_database_made_and_not_noted(self):
        self.crash(world.switch.trap('target', b'CREATE DATABASE', then='lose'), 'schema', 'aborted')

    @fault_world.long_only
    def test_ids_reserved_and_not_told(self):
        self.crash(world.switch.trap('source', b'ALTER SEQUENCE', b'COMMIT', then='lose'), 'reverse_slot', 'aborted')

    def rolled_back(self, state, trap):
        """Killed on the way back: the rollback that was asked for is done, by whoever takes the move up."""
        case = RowsCase(world)
        case.promote()
        case.wait_state(fault_world.MOVED)
        case.history.go_on(20)
        waiting = trap()
        wait_for(lambda: world.instances[0].http('POST', '/v1/moves/%d:rollback' % case.find(), {})[0] == 202, 'the rollback is taken', 20)
        waiting.wait(30)
        self.assertEqual(case.row()[0], state)
        world.instances[0].kill()
        world.switch.heal()
        world.instances[0].start()

        def back():
            found = case.row()[0]
            if found in ('reversing', 'opened'):
                world.instances[0].http('POST', '/v1/moves/%d:rollback' % case.find(), {})
            return found == 'rolled_back'
        wait_for(back, lambda: 'it is rolled back: %s\n%s' % (case.row(), case.logs()), 60, 0.2)
        case.judge_neighbours(self)
        case.history.go_on(10, label=world.instances[0].name)
        case.history.stop()
        self.assertEqual(case.place(), ('main', case.database))
        home = case.home()
        self.assertEqual(case.history.judge(home), [])
        home.close()
        self.assertFalse(case.has_target())
        self.assertEqual(case.artefacts(), [])

    def test_rolling_back_fenced_and_not_told(self):
        self.rolled_back('rolling_back', lambda: world.switch.trap('target', b'fence:[0-9]+[^\\0]*', b'COMMIT', then='lose'))

    @fault_world.long_only
    def test_rolling_back_entered(self):
        self.rolled_back('rolling_back', lambda: world.switch.trap('catalog', *step_into('rolling_back'), then='lose'))

    @fault_world.long_only
    def test_flipped_back_and_not_told(self):
        self.rolled_back('flipped_back', lambda: world.switch.trap('catalog', *step_into('flipped'), then='lose'))


def add_test(state, end):
    def test(self):
        self.entered(state, end)
    test.__name__ = 'test_entered_%s' % state
    setattr(RowsFaults, test.__name__, fault_world.long_only(test))


# As with a schema: one that waits in line begins when pgporter is back, one whose rows are there goes on.
GOES_ON = ('planned', 'index')
for name in fault_world.STATES_BEFORE_FLIP:
    if name not in GOES_ON:
        add_test(name, 'aborted')
for name in GOES_ON + ('flipped', 'opened', 'reversing'):
    add_test(name, fault_world.MOVED)


if __name__ == '__main__':
    fixture.main(__name__)
