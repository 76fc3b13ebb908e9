"""Several instances share a catalog. A hold is acknowledged by each; one that is dead, stopped or cut off keeps no move from its end, writes
nothing to the source and soon reads nothing there; and whoever is alive takes over the moves of one that isn't.
"""
import threading
import time
import unittest

import fault_world
from fault_world import Case, fixture, step_into, wait_for, wait_note
from tcp_switch import CUT, OPEN, STALL

FENCE_COMMIT = [b'fence:[0-9]+[^\\0]*', b'COMMIT']
STALE_MAX = 5.0  # seconds: what docs/moves.md promises for reads of an instance that doesn't hear of a flip


def setUpModule():
    global world
    world = fault_world.World(instances=2)


def tearDownModule():
    world.close()


class Instances(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)
        self.one, self.two = world.instances
        for instance in world.instances:
            wait_for(lambda: instance.metric('pgporter_instances') == len(world.instances), 'both know of each other', 15)

    def cutover(self, case):
        wait_for(lambda: self.one.http('POST', '/v1/moves/%d:cutover' % case.move, {})[0] == 202, 'the cutover is accepted', 20)

    def caught_up(self, **more):
        case = Case(world, **more)
        case.promote(cutover=False)
        wait_note(case, 'waits for the cutover')
        return case

    def test_each_instance_holds_and_learns_the_route(self):
        case = Case(world)
        held = self.two.metric('pgporter_instance_holds_total') or 0
        case.promote()
        case.end(self, fault_world.MOVED, no_failures=['instance1', 'instance2'])
        self.assertGreater(self.two.metric('pgporter_instance_holds_total'), held)
        pause = world.catalog.sql('SELECT pause_ms FROM pgporter.moves WHERE id = %s', 'catalog', (case.move,))[0][0]
        print('pause with two instances: %.1f ms' % pause)

    @fault_world.long_only
    def test_a_transaction_on_the_other_instance_is_waited_for(self):
        case = self.caught_up()
        client = self.two.door(case.tenant)()
        client.cursor().execute('SELECT 1 FROM filling LIMIT 1')  # nothing that keeps the comparison before the cutover waiting
        self.cutover(case)
        wait_note(case, '1 transaction still running')
        case.history.go_on(20)
        client.commit()
        client.close()
        case.end(self, fault_world.MOVED, no_failures=['instance1', 'instance2'])

    def test_two_movers_one_wins(self):
        case = Case(world)
        answers = []
        threads = [threading.Thread(target=lambda i=i: answers.append(case.promote(i)[0])) for i in world.instances]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sorted(answers), [202, 409])
        case.end(self, fault_world.MOVED, no_failures=['instance1', 'instance2'])

    @fault_world.long_only
    def test_the_other_instance_dies(self):
        case = self.caught_up()
        self.two.kill()
        self.cutover(case)
        case.wait_state(fault_world.MOVED)
        self.two.start()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    @fault_world.long_only
    def test_the_other_instance_dies_in_the_pause(self):
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT)
        case.promote_into(trap)
        self.two.kill()
        trap.let_go()
        case.wait_state(fault_world.MOVED)
        self.two.start()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    def stopped(self, wakes_at):
        """The other instance is stopped; the cutover gives way to it until it counts as silent; then it wakes."""
        case = self.caught_up(clients_each=2)
        self.two.pause_between_transactions(world.source, 'app')
        self.cutover(case)
        case.wait_state(fault_world.MOVED)
        self.two.wake()
        woke = time.monotonic() - case.history.began
        case.end(self, fault_world.MOVED, no_failures=['instance1'])
        self.check_stale(case, woke)

    def check_stale(self, case, since):
        late = [f for c in case.history.clients if c.label == 'instance2' for f in c.failures if f[0] > since + STALE_MAX]
        self.assertEqual(late, [])

    @fault_world.long_only
    def test_the_other_instance_is_stopped_and_wakes_after_the_flip(self):
        self.stopped('flip')
        silent = sum(i.metric('pgporter_instances_silent_total') or 0 for i in world.instances)
        self.assertGreater(silent, 0)

    def cut_off(self, mode):
        """The other instance loses the catalog, but not the servers: it goes on with what it knows, until the source's fence tells it."""
        case = self.caught_up(bypass=False)
        world.switch.set('catalog', mode, 'instance2')
        self.cutover(case)
        case.wait_state(fault_world.MOVED)
        flipped = time.monotonic()
        # A reader on the instance that hears nothing; the truth is read past it.
        reads = []
        while time.monotonic() < flipped + STALE_MAX:
            try:
                client = self.two.door(case.tenant)()
                client.autocommit = True
                client.cursor().execute('SET statement_timeout = 3000')
                cursor = client.cursor()
                cursor.execute('SELECT inet_server_port()')
                reads.append((time.monotonic() - flipped, cursor.fetchone()[0]))
                client.close()
            except fault_world.psycopg2.Error:
                time.sleep(0.1)
            time.sleep(0.05)
        stale = [at for at, port in reads if port == world.source.port]
        print('reads of the source after the flip, on an instance without the catalog: until %.1f s' % max(stale or [0]))
        time.sleep(0.5)
        last = None
        try:
            client = self.two.door(case.tenant)()
            cursor = client.cursor()
            cursor.execute('SELECT inet_server_port()')
            last = cursor.fetchone()[0]
            client.close()
        except fault_world.psycopg2.Error as error:
            print('then: %s' % str(error).splitlines()[0])
        self.assertNotEqual(last, world.source.port, 'it still reads what is out of date')
        world.switch.set('catalog', OPEN, 'instance2')
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    def test_cut_off_from_the_catalog(self):
        self.cut_off(CUT)

    @fault_world.long_only
    def test_cut_off_from_a_catalog_that_says_nothing(self):
        self.cut_off(STALL)

    def takeover(self, trap, end, silently=False):
        """The owner dies (or is stopped, and wakes when all is done); the other instance goes on, without any restart."""
        case = Case(world, doors=[self.two])
        case.promote_into(trap)
        if end == fault_world.MOVED and case.row()[0] == 'copy':
            case.wait_for_pieces()
        if silently:
            self.one.pause()
        else:
            self.one.kill()
            world.switch.heal()  # what the trap kept of it ends with it
        if trap.then == 'hold' and silently:
            trap.let_go()
        case.history.go_on(10, label='instance2', timeout=30)
        world.instances.remove(self.one)
        try:
            case.wait_state(end, timeout=40)
        finally:
            world.instances.insert(0, self.one)
        if silently:
            self.one.wake()
            wait_for(lambda: self.one.metric('pgporter_instances') == 2, 'the owner is awake and back', 20)
        else:
            self.one.start()
        case.end(self, end)

    @fault_world.long_only
    def test_takeover_in_copy(self):
        self.takeover(world.switch.trap('target', b'COPY [^\\0]*filling', b'[0-9a-f]{64}'), fault_world.MOVED)

    @fault_world.long_only
    def test_takeover_in_hold(self):
        self.takeover(world.switch.trap('catalog', *step_into('fenced'), instance='instance1'), 'aborted')

    @fault_world.long_only
    def test_takeover_in_fenced(self):
        self.takeover(world.switch.trap('source', *FENCE_COMMIT, then='lose'), 'aborted')

    @fault_world.long_only
    def test_takeover_in_drained(self):
        self.takeover(world.switch.trap('catalog', *step_into('flipped'), instance='instance1'), 'aborted')

    def test_takeover_in_flipped(self):
        self.takeover(world.switch.trap('catalog', *step_into('flipped'), then='lose', instance='instance1'), fault_world.MOVED)

    @fault_world.long_only
    def test_takeover_of_a_stopped_owner_in_copy(self):
        self.takeover(world.switch.trap('target', b'COPY [^\\0]*filling', b'[0-9a-f]{64}'), fault_world.MOVED, silently=True)

    @fault_world.long_only
    def test_takeover_of_a_stopped_owner_in_fenced(self):
        self.takeover(world.switch.trap('source', *FENCE_COMMIT, then='lose'), 'aborted', silently=True)


class RollingRestart(unittest.TestCase):
    @fault_world.long_only
    def test_the_move_goes_on(self):
        """Every instance is restarted while it moves: what was asked for happens, and no other instance's client notices."""
        self.addCleanup(world.mend)
        one, two = world.instances
        for instance in world.instances:
            instance.stop()
            instance.config['mover']['restarts_max'] = 3
            instance.start()
        case = Case(world)
        trap = world.switch.trap('target', b'COPY [^\\0]*filling', b'[0-9a-f]{64}')
        case.promote_into(trap)
        trap.let_go()
        one.stop()
        one.start()
        wait_for(lambda: case.row()[0] not in ('aborting', 'aborted'), 'it begins anew', 20)
        two.stop()
        two.start()

        def moved():
            return case.row()[0] == fault_world.MOVED
        wait_for(moved, lambda: 'it is done in the end: %s\n%s' % (case.row(), case.logs()), 40)
        case.end(self, fault_world.MOVED)


if __name__ == '__main__':
    fixture.main(__name__)
