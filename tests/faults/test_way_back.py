"""The way back under faults: pgporter or a server is killed, or the network cut, while changes stream back to the source, and in a rollback. No
acknowledged write is lost, a rollback that was asked for ends, and nothing of the move is left.
"""
import threading
import time
import unittest

import fault_world
from fault_world import Case, fixture, long_only, step_into, wait_for, wait_note
from tcp_switch import CUT, DEAF, STALL

FENCE_COMMIT = [b'fence:[0-9]+[^\\0]*', b'COMMIT']


def setUpModule():
    global world
    world = fault_world.World(2)


def tearDownModule():
    world.close()


class WayBack(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def moved(self, **more):
        """A tenant that has moved, with changes that go back."""
        case = Case(world, **more)
        case.promote()
        case.wait_state(fault_world.MOVED, timeout=60)
        case.history.go_on(20, label='instance1')
        return case

    def broken(self, server, patterns, then, what):
        """A rollback, and where the trap holds it, `what` breaks: 'owner' or 'all' instances, a server, or the ways to one. Then all is mended, and
        the rollback ends. Who worked on the target meanwhile has lost nothing.
        """
        case = self.moved()
        trap = world.switch.trap(server, *patterns, then=then)
        case.ask('rollback')
        trap.wait(30)
        owner = trap.pipe.instance
        if what in ('owner', 'all'):
            for instance in world.instances:
                if what == 'all' or instance.name == owner:
                    instance.kill()
        elif what == 'stop':
            # The other takes over; the one that was stopped wakes up behind it.
            stopped = next(i for i in world.instances if i.name == owner)
            stopped.pause()
            steps = len(case.steps())
            trap.let_go()
            wait_for(lambda: len(case.steps()) > steps, lambda: 'the other goes on: %s\n%s' % (case.row(), case.logs()), 30)
            stopped.wake()
        elif what in world.servers():
            world.kill_server(what)
        else:
            mode, cut_off = what
            world.switch.set(cut_off, mode, owner)
            trap.let_go()
            trap.disarm()
            time.sleep(2.5)  # longer than the connect and hold bounds of this world
        world.mend()
        case.roll_back()
        case.end(self, 'rolled_back')

    def test_rollback_is_begun_and_its_owner_dies(self):
        self.broken('catalog', step_into('rolling_back'), 'lose', 'owner')

    @long_only
    def test_rollback_is_begun_and_all_instances_die(self):
        self.broken('catalog', step_into('rolling_back'), 'lose', 'all')

    @long_only
    def test_rollback_is_begun_and_the_owner_stops(self):
        self.broken('catalog', step_into('rolling_back'), 'lose', 'stop')

    @long_only
    def test_fence_before_its_commit(self):
        self.broken('target', FENCE_COMMIT, 'hold', 'owner')

    @long_only
    def test_fence_committed_and_not_told(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'owner')

    @long_only
    def test_fence_committed_and_all_instances_die(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'all')

    @long_only
    def test_fence_committed_and_the_owner_stops(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'stop')

    @long_only
    def test_fence_committed_and_the_source_dies(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'source')

    @long_only
    def test_fence_committed_and_the_target_dies(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'target')

    @long_only
    def test_fence_committed_and_the_catalog_dies(self):
        self.broken('target', FENCE_COMMIT, 'lose', 'catalog')

    @long_only
    def test_fence_held_and_the_source_is_cut_off(self):
        self.broken('target', FENCE_COMMIT, 'hold', (CUT, 'source'))

    @long_only
    def test_fence_held_and_the_target_is_deaf(self):
        self.broken('target', FENCE_COMMIT, 'hold', (DEAF, 'target'))

    @long_only
    def test_fence_held_and_the_catalog_stalls(self):
        self.broken('target', FENCE_COMMIT, 'hold', (STALL, 'catalog'))

    def test_flipped_back_and_not_told(self):
        """The flip back is committed, its fence not lifted yet: whoever takes over lifts it."""
        self.broken('catalog', step_into('flipped'), 'lose', 'owner')

    @long_only
    def test_flipped_back_and_all_instances_die(self):
        self.broken('catalog', step_into('flipped'), 'lose', 'all')

    @long_only
    def test_flip_back_held_and_the_catalog_dies(self):
        self.broken('catalog', step_into('flipped'), 'hold', 'catalog')

    @long_only
    def test_flipped_back_and_the_catalog_dies(self):
        self.broken('catalog', step_into('flipped'), 'lose', 'catalog')

    @long_only
    def test_flipped_back_and_the_source_dies(self):
        self.broken('catalog', step_into('flipped'), 'lose', 'source')

    @long_only
    def test_flip_back_held_and_the_owner_stops(self):
        self.broken('catalog', step_into('flipped'), 'hold', 'stop')

    def test_lifting_the_fence_and_the_owner_dies(self):
        self.broken('source', [b'DISABLE TRIGGER', b'COMMIT'], 'hold', 'owner')

    @long_only
    def test_fence_lifted_and_the_owner_dies(self):
        self.broken('source', [b'DISABLE TRIGGER', b'COMMIT'], 'lose', 'owner')

    @long_only
    def test_lifting_the_fence_and_the_source_dies(self):
        self.broken('source', [b'DISABLE TRIGGER', b'COMMIT'], 'hold', 'source')

    @long_only
    def test_tidying_up_and_the_owner_dies(self):
        self.broken('target', [b'DROP DATABASE'], 'lose', 'owner')

    @long_only
    def test_tidying_up_and_the_target_dies(self):
        self.broken('target', [b'DROP DATABASE'], 'hold', 'target')

    @long_only
    def test_rolled_back_and_not_told(self):
        self.broken('catalog', step_into('rolled_back'), 'lose', 'owner')

    def follow(self, then, what):
        """What goes back is applied exactly once, whatever breaks in the middle of it."""
        case = self.moved()
        trap = world.switch.trap('source', b'COMMIT', then=then)  # nobody else writes to the source any more
        trap.wait(30)
        if what == 'owner':
            next(i for i in world.instances if i.name == trap.pipe.instance).kill()
        else:
            world.kill_server(what)
        other = [i.name for i in world.instances if i.name != trap.pipe.instance][0]
        if what == 'source':
            case.history.go_on(20, label=other)  # the tenant lives elsewhere, and works
        world.mend()
        case.history.go_on(20)
        case.roll_back()
        case.end(self, 'rolled_back')

    def test_following_and_the_owner_dies(self):
        self.follow('hold', 'owner')

    @long_only
    def test_following_and_the_owner_dies_with_changes_applied(self):
        self.follow('lose', 'owner')

    def test_following_and_the_source_dies(self):
        self.follow('lose', 'source')

    @long_only
    def test_following_and_the_target_dies(self):
        self.follow('hold', 'target')

    @long_only
    def test_following_and_the_catalog_dies(self):
        self.follow('hold', 'catalog')

    @long_only
    def test_the_slot_is_lost(self):
        """There is no way back any more, and the tenant isn't touched: complete is what is left."""
        case = self.moved()
        for instance in world.instances:
            instance.kill()
        world.target.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'pgporter%'", 'postgres')
        world.mend()
        wait_note(case, 'no longer has the replication slot')
        self.assertFalse(case.ask('rollback'))
        case.history.go_on(20)
        case.complete()
        case.end(self, 'completed')

    @long_only
    def test_two_ask_at_once(self):
        case = self.moved()
        asks = [threading.Thread(target=instance.http, args=('POST', '/v1/moves/%d:rollback' % case.find(), {})) for instance in world.instances]
        for ask in asks:
            ask.start()
        for ask in asks:
            ask.join()
        case.roll_back()
        case.end(self, 'rolled_back')

    def test_asked_again_at_the_other_instance_while_the_owner_turns_round(self):
        """What is asked for twice is done once, and needn't be asked for a third time."""
        case = self.moved()
        asked = '/v1/moves/%d:rollback' % case.find()
        other = world.instances[1]  # the move is the first one's
        trap = world.switch.trap('source', b'SELECT signature FROM')
        self.assertEqual(other.http('POST', asked, {})[0], 202)
        trap.wait(30)
        self.assertEqual(trap.pipe.instance, 'instance1')
        self.assertEqual(case.row()[0], fault_world.MOVED)  # for a moment, while the owner begins
        self.assertEqual(other.http('POST', asked, {})[0], 202)
        self.assertEqual(case.row()[0], 'rolling_back')
        trap.let_go()
        case.end(self, 'rolled_back')


if __name__ == '__main__':
    fixture.main(__name__)
