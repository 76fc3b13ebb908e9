"""OIDs of a tenant's own types hold in one database only: a client that has seen some is ended when the tenant lives in another one."""
import unittest

import fixture
from wire_client import ServerError, describe, error_fields, parse, sync

TENANTS = ('idle', 'described', 'busy', 'named', 'stays')
WORLD = fixture.Workspace()
SERVER = None
PROXY = None


def setUpModule():
    global SERVER, PROXY
    SERVER = fixture.Postgres(WORLD)
    WORLD.servers.append(SERVER)
    SERVER.make_roles()
    SERVER.make_world('app', TENANTS)
    for tenant in TENANTS:
        SERVER.sql("SET ROLE app; CREATE TYPE %s.mood AS ENUM ('glad', 'sad')" % tenant, 'app')
    PROXY = start('pgporter')


def tearDownModule():
    PROXY.stop()
    WORLD.close()


def start(name, limits=None):
    proxy = fixture.Pgporter(WORLD, SERVER, name, limits=limits)
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()
    proxy.apply(fixture.document({'main': SERVER}, {name: {} for name in TENANTS}))
    return proxy


class OwnTypes(unittest.TestCase):
    def move(self, tenant, open_transaction=None):
        status, body = PROXY.http('POST', '/v1/tenants/%s:promote' % tenant, {'to': {'cluster': 'main', 'database': tenant}})
        self.assertEqual(status, 202, body)

        def opened():
            state = PROXY.http('GET', '/v1/moves/%s' % body['id'])[1]
            self.assertNotIn(state['state'], ('aborting', 'aborted'), state['error'])
            return state['state'] in ('opened', 'reversing')
        if open_transaction:
            fixture.wait_for(lambda: PROXY.http('GET', '/v1/moves/%s' % body['id'])[1]['state'] in ('verify', 'hold'), 'the move is near its end', 40)
            open_transaction()
        fixture.wait_for(opened, 'the tenant lives elsewhere', 40)

    def sees_mood(self, wire):
        self.assertEqual(wire.run("SELECT 'glad'::mood"), [('glad',)])

    def ended(self, messages):
        self.assertEqual([(error_fields(b)['S'], error_fields(b)['C']) for k, b in messages if k == 'E'], [('FATAL', '57P01')])

    def test_idle_session_is_ended_at_once(self):
        seen, unseen, stays = PROXY.wire('idle'), PROXY.wire('idle'), PROXY.wire('stays')
        self.sees_mood(seen)
        self.sees_mood(stays)
        self.assertEqual(unseen.run("SELECT 'glad'::mood::text"), [('glad',)])
        self.move('idle')
        self.ended(seen.expect_eof())
        self.assertEqual(unseen.run('SELECT current_database()'), [('idle',)])
        self.sees_mood(PROXY.wire('idle'))
        self.sees_mood(stays)

    def test_described_is_seen(self):
        wire = PROXY.wire('described')
        wire.send(parse('', 'SELECT $1::mood IS NULL') + describe('S') + sync())
        self.assertIn('t', [kind for kind, _ in wire.recv_until('Z')])
        self.move('described')
        self.ended(wire.expect_eof())

    def test_transaction_is_left_to_its_end(self):
        wire = PROXY.wire('busy')
        wire.run('BEGIN')
        self.sees_mood(wire)

        def end():
            self.assertEqual(wire.run('SELECT current_database()'), [('app',)])
            wire.run('COMMIT')
        self.move('busy', end)
        self.ended(wire.expect_eof())

    def test_named_in_sql(self):
        wire, other = PROXY.wire(None), PROXY.wire(None)
        for client in (wire, other):
            client.run('SET search_path TO named')
            self.sees_mood(client)
        other.run('SET search_path TO stays')
        self.sees_mood(other)
        self.move('named')
        self.ended(wire.expect_eof())
        self.sees_mood(other)
        other.run('SET search_path TO named')
        with self.assertRaises(ServerError) as caught:
            other.run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate, '57P01')

    def test_bound(self):
        proxy = start('bound', {'own_types_tenants_max': 1})
        self.addCleanup(proxy.stop)
        wire = proxy.wire(None)
        wire.run('SET search_path TO stays')
        self.sees_mood(wire)
        self.sees_mood(wire)
        wire.run('SET search_path TO idle')
        self.sees_mood(wire)
        self.ended(wire.expect_eof())


if __name__ == '__main__':
    fixture.main(__name__)
