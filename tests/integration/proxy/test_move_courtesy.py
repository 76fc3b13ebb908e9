"""What a move does to those who share its servers, and what they see of it: the copy makes way when the neighbours' statements take longer than
before it, many moves wait in line, and the API and the command line say how long it will take.
"""
import threading
import unittest

import fixture
from fixture import wait_for

TENANTS = ('acme', 'globex', 'initech', 'umbrella')


def setUpModule():
    global workspace, server, dedicated, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    dedicated = fixture.Postgres(workspace, 'dedicated')
    for one in (server, dedicated):
        one.make_roles()
    server.make_world(tenants=TENANTS)
    proxy = fixture.Pgporter(workspace, server)
    # A bound for the copy, so that it takes some seconds on any machine; a floor, so that it ends.
    proxy.config['mover'].update({'copy_mib_per_s_max': 5, 'throttled_percent_min': 20, 'moves_max': 1})
    proxy.start()
    proxy.apply(fixture.document({'main': server, 'dedicated': dedicated}, {name: {} for name in TENANTS}))


def tearDownModule():
    workspace.close()


class Neighbour(threading.Thread):
    """Statements of another tenant, one after the other, as quick or slow as it is told."""

    def __init__(self):
        super().__init__(daemon=True)
        self.statement, self.count, self.error = 'SELECT 1', 0, None
        self.stopping = threading.Event()
        self.start()

    def run(self):
        try:
            connection = proxy.psycopg2('globex')
            cursor = connection.cursor()
            while not self.stopping.is_set():
                cursor.execute(self.statement)
                self.count += 1
            connection.close()
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def stop(self):
        self.stopping.set()
        self.join(20)


def move_of(number):
    status, move = proxy.http('GET', '/v1/moves/%s' % number)
    assert status == 200, move
    return move


def promote(tenant, **more):
    status, move = proxy.http('POST', '/v1/tenants/%s:promote' % tenant, dict({'to': {'cluster': 'dedicated'}}, **more))
    assert status == 202, move
    return move['id']


def wait_state(number, *states, timeout=60):
    def there():
        move = move_of(number)
        assert move['state'] in states or not move['finished'], move
        return move if move['state'] in states else None
    return wait_for(there, lambda: 'move %s is %s: %s' % (number, '/'.join(states), move_of(number)), timeout)


class Courtesy(unittest.TestCase):
    def test_the_copy_makes_way_while_the_neighbours_are_slower_than_before(self):
        server.sql("CREATE TABLE acme.much AS SELECT i AS id, repeat(md5(i::text), 25) AS text FROM generate_series(1, 120000) AS i", 'app')
        server.sql('ALTER TABLE acme.much ADD PRIMARY KEY (id)', 'app')
        server.sql('ALTER TABLE acme.much OWNER TO app', 'app')
        server.sql('ANALYZE acme.much', 'app')
        neighbours = [Neighbour() for _ in range(16)]
        self.addCleanup(lambda: [neighbour.stop() for neighbour in neighbours])
        wait_for(lambda: all(neighbour.count > 50 for neighbour in neighbours), 'the neighbours are at work')
        number = promote('acme')
        wait_state(number, 'copy')
        for neighbour in neighbours:
            neighbour.statement = 'SELECT pg_sleep(0.5)'
        # It began gently. Now it stays so, because they are slow, and not because nobody has looked yet.
        wait_for(lambda: proxy.metric('pgporter_move_neighbour_latency_percent') > 150 and proxy.metric('pgporter_move_copy_slowed_percent') > 0
                 and move_of(number)['progress']['throttled'] > 0, lambda: 'it makes way, at %s %%: %s' % (
                     proxy.metric('pgporter_move_neighbour_latency_percent'), move_of(number)), 30)
        throttled = move_of(number)
        self.assertEqual(throttled['state'], 'copy')
        self.assertIn(throttled['progress']['throttled_by'], ('neighbours', 'copy_mib_per_s_max'))  # whoever asks for more
        self.assertGreater(throttled['progress']['throttled'], 0)
        self.assertGreater(throttled['progress']['seconds_left'], 0)
        self.assertGreater(throttled['progress']['bytes_total_estimate'], 30_000_000)
        shown = proxy.command('move', str(number)).stdout
        self.assertRegex(shown, r'throttled by [a-z_]+: \d+ %')
        self.assertRegex(shown, r'left      about \d+ (s|min)')
        for neighbour in neighbours:
            neighbour.statement = 'SELECT 1'
        wait_state(number, 'reversing', timeout=90)
        self.assertGreater(proxy.metric('pgporter_move_throttled_seconds_total'), 0)
        self.assertEqual(proxy.metric('pgporter_move_copy_slowed_percent'), 0)
        for neighbour in neighbours:
            neighbour.stop()
            self.assertIsNone(neighbour.error)

    def test_moves_wait_in_line_and_the_line_outlives_the_process(self):
        first = promote('initech', cutover=False)
        wait_state(first, 'verify')
        second = promote('umbrella')
        move = move_of(second)
        self.assertEqual((move['state'], move['place_in_line'], move['finished']), ('planned', 1, False))
        self.assertIn('in line   place 1', proxy.command('move', str(second)).stdout)
        self.assertEqual(wait_for(lambda: proxy.metric('pgporter_moves_waiting'), 'it is counted'), 1)
        proxy.stop()
        proxy.start()
        # The first one is undone and begun anew; it waits behind the second then.
        wait_state(second, 'reversing')
        status, moves = proxy.http('GET', '/v1/moves?tenant=initech')
        self.assertEqual(status, 200)
        self.assertEqual([move['state'] for move in moves['moves']][1:], ['aborted'])
        again = moves['moves'][0]['id']
        wait_state(again, 'verify')
        third = promote('globex')
        self.assertEqual(move_of(third)['place_in_line'], 1)
        status, move = proxy.http('POST', '/v1/moves/%s:cancel' % third)
        self.assertEqual((status, move['state']), (202, 'aborted'))
        proxy.http('POST', '/v1/moves/%s:cancel' % again)
        wait_state(again, 'aborted')


if __name__ == '__main__':
    fixture.main(__name__)
