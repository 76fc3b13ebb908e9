"""The source's, the target's or the catalog's PostgreSQL server is killed (SIGKILL) while a tenant moves, and comes back later."""
import unittest

import fault_world
from fault_world import Case, fixture, long_only, step_into, wait_for, wait_note

FENCE_COMMIT = [b'fence:[0-9]+[^\\0]*', b'COMMIT']


def setUpModule():
    global world
    world = fault_world.World()


def tearDownModule():
    world.close()


class Servers(unittest.TestCase):
    def setUp(self):
        self.addCleanup(world.mend)

    def caught_up(self, **more):
        """A move that waits, caught up and compared, for its cutover."""
        case = Case(world, **more)
        case.promote(cutover=False)
        wait_note(case, 'waits for the cutover')
        return case

    def cutover(self, case):
        def asked():
            return world.instances[0].http('POST', '/v1/moves/%d:cutover' % case.move, {})[0] == 202
        wait_for(asked, 'the cutover is accepted', 20)

    def in_copy(self):
        trap = world.switch.trap('target', b'COPY [^\\0]*filling', b'[0-9a-f]{64}')
        case = Case(world)
        case.promote_into(trap)
        self.assertEqual(case.row()[0], 'copy')
        case.wait_for_pieces()
        return case, trap

    @long_only
    def test_copy_the_source_is_killed(self):
        case, _ = self.in_copy()
        world.kill_server('source')
        world.switch.heal()
        world.source.start()
        case.end(self, fault_world.MOVED)

    @long_only
    def test_copy_the_target_is_killed(self):
        case, _ = self.in_copy()
        world.kill_server('target')
        world.switch.heal()
        case.history.go_on(20)  # the tenant works, whatever the target does
        world.target.start()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    @long_only
    def test_copy_the_catalog_is_killed(self):
        case, trap = self.in_copy()
        world.kill_server('catalog')
        case.history.go_on(20)
        trap.let_go()
        world.catalog.start()
        case.end(self, fault_world.MOVED, no_failures=['instance1'])

    @long_only
    def test_slot_the_source_is_killed(self):
        case = Case(world)
        case.promote_into(world.switch.trap('source', b'CREATE_REPLICATION_SLOT'))
        world.kill_server('source')
        world.switch.heal()
        world.source.start()
        case.end(self, 'aborted')

    def definitions(self, server, database, schema):
        return server.sql("SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint "
                          "WHERE connamespace = %s::regnamespace UNION ALL SELECT tablename, indexname, indexdef, NULL FROM pg_indexes "
                          "WHERE schemaname = %s ORDER BY 1, 2, 3", database, (schema, schema))

    def test_index_the_target_is_killed_behind_the_keys(self):
        """Whoever builds indexes commits without waiting for the disk. None may be lost unnoticed."""
        def write_log_within(delay):
            world.target.sql("ALTER SYSTEM SET wal_writer_delay = '%s'" % delay)
            world.target.sql('SELECT pg_reload_conf()')
        write_log_within('10s')
        self.addCleanup(write_log_within, '200ms')
        case = Case(world)
        case.promote_into(world.switch.trap('target', b'SET jit = off'))  # whoever applies the stream
        self.assertEqual(case.row()[0], 'index')
        world.kill_server('target')
        world.switch.heal()
        world.target.start()
        if case.wait_state(fault_world.MOVED, 'aborted') == fault_world.MOVED:
            self.assertEqual(self.definitions(world.target, case.tenant, case.tenant), self.definitions(world.source, 'app', case.tenant))
        case.end(self)

    def killed_while_following(self, server, no_failures=()):
        case = self.caught_up()
        world.kill_server(server)
        if server != 'source':
            case.history.go_on(30)
        world.servers()[server].start()
        case.history.go_on(30)
        self.cutover(case)
        case.end(self, fault_world.MOVED, no_failures=no_failures)

    @long_only
    def test_catchup_the_source_is_killed(self):
        self.killed_while_following('source')

    @long_only
    def test_catchup_the_target_is_killed(self):
        self.killed_while_following('target', ['instance1'])

    @long_only
    def test_catchup_the_catalog_is_killed(self):
        self.killed_while_following('catalog', ['instance1'])

    @long_only
    def test_fenced_the_source_is_killed_before_the_commit(self):
        case = Case(world)
        case.promote_into(world.switch.trap('source', *FENCE_COMMIT))
        world.kill_server('source')
        world.switch.heal()
        world.source.start()
        case.end(self)

    def test_fenced_the_source_is_killed_after_the_commit(self):
        case = Case(world)
        case.promote_into(world.switch.trap('source', *FENCE_COMMIT, then='lose', cuts=True))  # else the mover lifts it at once, as it may
        world.kill_server('source')
        world.source.start()
        self.assertTrue(world.source.sql("SELECT 1 FROM pg_trigger WHERE tgname LIKE 'pgporter_fence%' AND tgenabled = 'A'", 'app'),
                        'the fence outlives a crash')
        world.switch.heal()
        case.end(self)

    @long_only
    def test_fenced_the_target_is_killed(self):
        """Before its end is applied: the fence opens and the tenant works on, while the target is still away."""
        case = Case(world)
        trap = world.switch.trap('source', *FENCE_COMMIT)
        case.promote_into(trap)
        world.kill_server('target')
        trap.let_go()
        case.history.go_on(30, label='instance1')
        case.history.go_on(10, label='bypass')
        world.target.start()
        case.end(self, no_failures=['instance1'])

    @long_only
    def test_fenced_the_mover_dies_and_the_target_is_away(self):
        case = Case(world)
        case.promote_into(world.switch.trap('source', *FENCE_COMMIT, then='lose'))
        world.kill_server('target')
        world.instances[0].kill()
        world.switch.heal()
        world.instances[0].start()
        case.history.go_on(30, label='instance1')
        case.history.go_on(10, label='bypass')
        world.target.start()
        case.end(self, 'aborted')

    def is_fenced(self, case):
        def closed():
            return world.source.sql("SELECT 1 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE tgname LIKE 'pgporter_fence%%' "
                                    "AND tgenabled = 'A' AND relnamespace = %s::regnamespace", 'app', (case.tenant,))
        try:
            return bool(wait_for(closed, 'the fence is closed', 5))
        except AssertionError:
            return False

    def test_fenced_the_catalog_is_killed(self):
        """Nobody may decide then: the fence stays closed, clients get errors that say to try again, and nothing is lost."""
        for _ in range(5):
            case = Case(world)
            trap = world.switch.trap('source', *FENCE_COMMIT, then='hold')
            case.promote_into(trap)
            world.kill_server('catalog')
            trap.let_go()
            if self.is_fenced(case):
                break
            world.catalog.start()  # on a busy machine the attempt may have given way before the catalog was dead
            case.end(self)
        self.assertTrue(self.is_fenced(case))

        def refused():
            return [f for f in case.history.failures('instance1') if '40001' in f or '57P03' in f]
        wait_for(refused, lambda: 'clients are told to try again: %s\n%s' % (case.history.failures('instance1'), case.logs()), 20)
        self.assertTrue(self.is_fenced(case), 'no unfencing without the catalog')
        self.assertEqual([f for f in case.history.failures('instance1') if '40001' not in f and '57P03' not in f], [])
        world.catalog.start()
        case.end(self)

    def test_flipped_the_target_is_killed(self):
        """The tenant is away until the target is back: no way back to the source by itself."""
        case = Case(world)
        trap = world.switch.trap('catalog', *step_into('flipped'), then='lose')
        case.promote_into(trap)
        world.kill_server('target')
        world.switch.heal()
        wait_for(lambda: case.row()[0] in ('flipped', 'opened', fault_world.MOVED), 'flipped')
        failed = len(case.history.failures('instance1'))
        wait_for(lambda: len(case.history.failures('instance1')) > failed + 2, 'clients get errors', 20)
        world.target.start()
        case.end(self, fault_world.MOVED)

    @long_only
    def test_flipped_the_catalog_is_killed_at_the_flip(self):
        """The answer is lost with the server: the row decides, however long it takes to read it."""
        case = Case(world)
        case.promote_into(world.switch.trap('catalog', *step_into('flipped'), then='lose'))
        world.kill_server('catalog')
        world.switch.heal()
        world.catalog.start()
        case.end(self, fault_world.MOVED)

    @long_only
    def test_opened_the_source_is_away_while_tidying_up(self):
        case = Case(world)
        case.promote_into(world.switch.trap('catalog', *step_into('flipped'), then='lose'))
        world.kill_server('source')
        world.switch.heal()
        case.history.go_on(20, label='instance1')
        self.assertEqual(case.row()[0], 'flipped')
        world.source.start()
        case.end(self, fault_world.MOVED)


if __name__ == '__main__':
    fixture.main(__name__)
