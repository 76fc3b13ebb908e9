"""A tenant is promoted to a database of its own while it works: through the HTTP API, with real traffic through the proxy."""
import os
import unittest

import psycopg2

import fixture
import live_traffic
import wire_client
from fixture import wait_for

TENANTS = ('acme', 'globex', 'initech', 'umbrella', 'hooli', 'stark', 'wayne', 'wonka', 'pied', 'cyberdyne', 'tyrell')


def setUpModule():
    global workspace, server, dedicated, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world(tenants=TENANTS)
    proxy = None
    if os.environ.get('PGPORTER_TEST_DIRECT') != '1':
        dedicated = fixture.Postgres(workspace, 'dedicated')
        dedicated.make_roles()
        proxy = fixture.Pgporter(workspace, server).start()
        proxy.apply(fixture.document({'main': server, 'dedicated': dedicated}, {name: {} for name in TENANTS}))


def tearDownModule():
    workspace.close()


def connect(tenant):
    if proxy:
        return proxy.psycopg2(tenant)
    connection = psycopg2.connect(host='127.0.0.1', port=server.port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                  options='-c search_path=%s,public' % tenant)
    connection.autocommit = True
    return connection


def things(database, one):
    """Everything in a database that a move could leave behind."""
    return sorted(one.sql("""
        SELECT 'schema', nspname::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
        UNION ALL SELECT 'table', oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'S', 'v', 'p') AND relpersistence <> 't'
        UNION ALL SELECT 'function', oid::regprocedure::text FROM pg_proc
        UNION ALL SELECT 'trigger', tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'publication', pubname::text FROM pg_publication
        UNION ALL SELECT 'event trigger', evtname::text FROM pg_event_trigger""", database))


def cluster_things(one):
    return sorted(one.sql("SELECT 'database', datname::text FROM pg_database UNION ALL SELECT 'slot', slot_name::text FROM pg_replication_slots "
                          "UNION ALL SELECT 'role', rolname::text FROM pg_roles"))


class Move(unittest.TestCase):
    def promote(self, tenant, status=202, database=None, **more):
        got, body = proxy.http('POST', '/v1/tenants/%s:promote' % tenant, dict({'to': {'cluster': 'dedicated', 'database': database or tenant}}, **more))
        self.assertEqual(got, status, body)
        return body

    def move(self, id_):
        status, body = proxy.http('GET', '/v1/moves/%s' % id_)
        self.assertEqual(status, 200, body)
        return body

    def wait_state(self, id_, *states, timeout=40):
        """The move, once it is in one of these states; fails at once when it ends in another."""
        def reached():
            body = self.move(id_)
            if body['state'] not in states and body['finished']:
                raise AssertionError('the move ended as %s: %s; log:\n%s' % (body['state'], body['error'], proxy.log()[-3000:]))
            return body if body['state'] in states else None
        return wait_for(reached, lambda: 'move %s in %s: %s' % (id_, states, self.move(id_)), timeout, 0.05)

    def act(self, id_, verb, status=202):
        got, body = proxy.http('POST', '/v1/moves/%s:%s' % (id_, verb), {})
        self.assertEqual(got, status, body)
        return body

    def place(self, tenant):
        connection = connect(tenant)
        cursor = connection.cursor()
        cursor.execute('SELECT current_database(), inet_server_port(), (SELECT tenant FROM whoami)')
        row = cursor.fetchone()
        connection.close()
        return row

    def test_promote_under_traffic(self):
        tenants = ('acme', 'globex', 'initech')
        before = live_traffic.baseline(connect, tenants)
        traffic = live_traffic.Traffic(connect, tenants)
        try:
            wait_for(lambda: min(traffic.transactions(t) for t in tenants) > 100, 'traffic runs')
            move = self.promote('acme')
            opened = self.wait_state(move['id'], 'reversing')
            count = traffic.transactions('acme')
            wait_for(lambda: traffic.transactions('acme') > count + 100, 'traffic goes on after the move')
        finally:
            traffic.stop()
        acme = [c for c in traffic.clients if c.tenant == 'acme']
        others = [c for c in traffic.clients if c.tenant != 'acme']
        print('moved under %d transactions: pause %.1f ms, slowest transaction of acme %.0f ms, of the others %.0f ms' % (
            traffic.transactions('acme'), opened['progress']['pause_ms'], max(c.slowest for c in acme) * 1000, max(c.slowest for c in others) * 1000))
        self.assertEqual(traffic.verdict(before), [])
        for client in acme:
            self.assertEqual(client.places, [('app', server.port), ('acme', dedicated.port)])
        for client in others:
            self.assertEqual(client.places, [('app', server.port)])
        self.assertGreater(opened['progress']['pause_ms'], 0)
        self.assertLess(max(c.slowest for c in acme), 3)
        # The source keeps the data, fenced, until the move is completed.
        with self.assertRaises(psycopg2.Error):
            server.sql("SET ROLE app; INSERT INTO acme.ledger (id) VALUES ('behind the back')", 'app')
        self.act(move['id'], 'complete')
        self.wait_state(move['id'], 'completed')
        self.assertEqual(server.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'acme'", 'app'), [(0,)])
        self.assertEqual(server.sql('SELECT count(*) FROM pg_replication_slots'), [(0,)])
        self.assertEqual(server.sql('SELECT count(*) FROM pg_publication', 'app'), [(0,)])
        left = [t for t in things('acme', dedicated) if 'pgporter' in t[1]]
        self.assertEqual(left, [])
        self.assertEqual(traffic.verdict(before), [])
        self.assertEqual(self.place('acme'), ('acme', dedicated.port, 'acme'))

    def test_there_and_back_under_traffic(self):
        """A rollback keeps what was written at the new place, and clients notice neither way."""
        before = live_traffic.baseline(connect, ('cyberdyne', 'tyrell'))
        traffic = live_traffic.Traffic(connect, ('cyberdyne', 'tyrell'))
        try:
            wait_for(lambda: traffic.transactions('cyberdyne') > 50, 'traffic runs')
            move = self.promote('cyberdyne')
            body = self.wait_state(move['id'], 'reversing')
            self.assertTrue(body['rollback']['possible'], body)
            self.assertEqual([s['request'].rsplit(':', 1)[1] for s in body['next_steps']], ['rollback', 'complete'])
            count = traffic.transactions('cyberdyne')
            wait_for(lambda: traffic.transactions('cyberdyne') > count + 200, 'traffic goes on at the new place')
            self.act(move['id'], 'cancel', 409)
            self.act(move['id'], 'rollback')
            back = self.wait_state(move['id'], 'rolled_back')
            count = traffic.transactions('cyberdyne')
            wait_for(lambda: traffic.transactions('cyberdyne') > count + 100, 'traffic goes on after the rollback')
        finally:
            traffic.stop()
        print('rolled back: pause %.1f ms' % back['progress']['pause_ms'])
        self.assertEqual(traffic.verdict(before), [])
        for client in traffic.clients:
            home = ('app', server.port)
            self.assertEqual(client.places, [home, ('cyberdyne', dedicated.port), home] if client.tenant == 'cyberdyne' else [home])
        self.assertEqual([t for t in things('app', server) if 'pgporter' in t[1] and 'cyberdyne' in t[1]], [])
        self.assertEqual(dedicated.sql("SELECT count(*) FROM pg_database WHERE datname = 'cyberdyne'"), [(0,)])
        self.assertEqual(self.place('cyberdyne'), ('app', server.port, 'cyberdyne'))
        self.act(move['id'], 'rollback', 409)
        self.act(move['id'], 'complete', 409)

    def test_cancel_leaves_nothing(self):
        before = things('app', server), cluster_things(server), cluster_things(dedicated)
        move = self.promote('umbrella', cutover=False)
        body = self.wait_state(move['id'], 'verify', 'catchup')
        self.assertTrue(body['before_flip'])
        self.assertTrue(server.sql('SELECT 1 FROM pg_replication_slots'), 'a slot is there while it moves')
        self.act(move['id'], 'cancel')
        self.wait_state(move['id'], 'aborted')
        self.assertEqual((things('app', server), cluster_things(server), cluster_things(dedicated)), before)
        self.assertEqual(self.place('umbrella'), ('app', server.port, 'umbrella'))
        connection = connect('umbrella')
        connection.cursor().execute("INSERT INTO ledger (id) VALUES ('after the cancel')")
        connection.close()
        self.assertEqual(proxy.http('POST', '/v1/moves/%s:cancel' % move['id'], {})[0], 409)
        # And it can be moved again.
        again = self.promote('umbrella')
        self.wait_state(again['id'], 'reversing')
        self.assertEqual(self.place('umbrella'), ('umbrella', dedicated.port, 'umbrella'))
        self.assertEqual(proxy.http('POST', '/v1/moves/%s:cancel' % again['id'], {})[0], 409)

    def finish(self, tenant, id_):
        def opened():
            body = self.move(id_)
            self.assertNotIn(body['state'], ('aborting', 'aborted'), body)
            if body['state'] == 'verify':
                proxy.http('POST', '/v1/moves/%s:cutover' % id_, {})  # it may be out of attempts
            return body['state'] in ('opened', 'reversing')
        wait_for(opened, lambda: 'opened: %s' % self.move(id_), 30, 0.25)
        self.assertEqual(self.place(tenant), (tenant, dedicated.port, tenant))

    def give_way(self, tenant, hold, let_go):
        """With something open that the cutover can't wait for, it gives way, the tenant works on, and it succeeds afterwards."""
        before = live_traffic.baseline(connect, (tenant,))
        traffic = live_traffic.Traffic(connect, (tenant,), 1)
        try:
            move = self.promote(tenant, cutover=False)
            self.wait_state(move['id'], 'verify', 'catchup')
            hold()
            self.act(move['id'], 'cutover')

            def gave_way():
                body = self.move(move['id'])
                self.assertTrue(body['before_flip'], body)
                # At the cutover itself, or already while both sides are compared: the move says what it waits for.
                note = body['progress']['note']
                gives_way = body['progress']['cutover_attempts'] >= 1 or 'long transaction' in note
                return note and gives_way and body['state'] in ('verify', 'catchup')
            wait_for(gave_way, lambda: 'an attempt gave way: %s' % self.move(move['id']), 20)
            count = traffic.transactions(tenant)
            wait_for(lambda: traffic.transactions(tenant) > count + 20, 'the tenant works on', 20)
            let_go()
            self.finish(tenant, move['id'])
            count = traffic.transactions(tenant)
            wait_for(lambda: traffic.transactions(tenant) > count + 20, 'the tenant works on at its new place', 20)
        finally:
            traffic.stop()
        self.assertEqual(traffic.verdict(before), [])
        self.assertEqual(traffic.clients[0].places, [('app', server.port), (tenant, dedicated.port)])

    def test_long_transaction_at_the_cutover(self):
        connection = connect('hooli')
        cursor = connection.cursor()

        def hold():
            cursor.execute('BEGIN')
            cursor.execute("INSERT INTO ledger (id) VALUES ('long')")

        def let_go():
            cursor.execute("UPDATE ledger SET amount = 7 WHERE id = 'long'")
            cursor.execute('COMMIT')
        self.give_way('hooli', hold, let_go)
        cursor.execute("SELECT amount, current_database() FROM ledger WHERE id = 'long'")
        self.assertEqual(cursor.fetchone(), (7, 'hooli'))
        connection.close()

    def test_long_transaction_from_the_start(self):
        """The move waits for it, the tenant doesn't wait for the move, and nothing is lost."""
        connection = connect('pied')
        cursor = connection.cursor()
        cursor.execute('BEGIN')
        cursor.execute("INSERT INTO ledger (id) VALUES ('long')")
        before = live_traffic.baseline(connect, ('pied',))
        traffic = live_traffic.Traffic(connect, ('pied',), 1)
        try:
            move = self.promote('pied')
            count = traffic.transactions('pied')
            wait_for(lambda: traffic.transactions('pied') > count + 300, 'the tenant works on', 20)
            self.assertTrue(self.move(move['id'])['before_flip'])
            cursor.execute('COMMIT')
            self.finish('pied', move['id'])
        finally:
            traffic.stop()
        self.assertEqual(traffic.verdict(before), [])
        cursor.execute("SELECT count(*), current_database() FROM ledger WHERE id = 'long'")
        self.assertEqual(cursor.fetchone(), (1, 'pied'))
        connection.close()

    def test_pinned_session(self):
        connection = connect('stark')
        cursor = connection.cursor()
        self.give_way('stark', lambda: cursor.execute('LISTEN something'), lambda: cursor.execute('DISCARD ALL'))
        cursor.execute('SELECT current_database()')
        self.assertEqual(cursor.fetchone(), ('stark',))
        connection.close()

    def test_prepared_statements_and_settings_move_along(self):
        wire = proxy.wire('wonka')
        wire.send(wire_client.parse('s', 'SELECT tenant, current_database() FROM whoami WHERE tenant = $1') +
                  wire_client.parse('described', 'SELECT n, id FROM items WHERE n = $1') + wire_client.describe('S', 'described') + wire_client.sync())
        wire.recv_until('Z')
        wire.run("SET app.user_id = 'kept'; SET TimeZone = 'Asia/Tokyo'")
        move = self.promote('wonka')
        self.wait_state(move['id'], 'reversing')
        wire.send(wire_client.bind('', 's', ['wonka']) + wire_client.execute() + wire_client.sync())
        self.assertEqual(wire._rows(wire.recv_until('Z')), [('wonka', 'wonka')])
        wire.send(wire_client.bind('', 'described', [(3).to_bytes(4, 'big')], (1,), (1,)) + wire_client.execute() + wire_client.sync())
        self.assertEqual([wire_client.row_values(b) for k, b in wire.recv_until('Z') if k == 'D'], [[(3).to_bytes(4, 'big'), (3).to_bytes(8, 'big')]])
        self.assertEqual(wire.run('SHOW app.user_id'), [('kept',)])
        self.assertEqual(wire.run('SHOW TimeZone'), [('Asia/Tokyo',)])
        wire.send(wire_client.query('SELECT pg_sleep(20) /* moved */'))
        wait_for(lambda: [b for b in dedicated.backends('wonka') if '/* moved */' in b[2] and b[1] == 'active'], 'the query runs at the new place')
        wire.cancel()
        self.assertEqual([wire_client.error_fields(b)['C'] for k, b in wire.recv_until('Z') if k == 'E'], ['57014'])
        wire.close()

    def test_refusals(self):
        before = things('app', server), cluster_things(server), cluster_things(dedicated)
        report = self.promote('wayne', 200, dry_run=True)
        self.assertTrue(report['ok'], report)
        self.assertEqual((report['tables'], report['source']['database'], report['target']['database']), (4, 'app', 'wayne'))
        self.assertEqual((things('app', server), cluster_things(server), cluster_things(dedicated)), before)
        self.promote('nobody', 404)
        status, _ = proxy.http('POST', '/v1/tenants/wayne:promote', {'to': {'cluster': 'nowhere', 'database': 'wayne'}})
        self.assertEqual(status, 404)
        status, _ = proxy.http('POST', '/v1/tenants/wayne:promote', {'to': {'cluster': 'main', 'database': 'app'}})
        self.assertIn(status, (400, 409, 422))
        status, _ = proxy.http('POST', '/v1/tenants/wayne:promote', {'to': {'cluster': 'dedicated'}}, authorized=False)
        self.assertEqual(status, 401)
        # A target that has a schema of this name, with something in it.
        dedicated.sql('CREATE DATABASE full_one OWNER app')
        dedicated.sql('CREATE SCHEMA wayne AUTHORIZATION app; CREATE TABLE wayne.ledger (precious int)', 'full_one')
        self.addCleanup(lambda: dedicated.sql('DROP DATABASE IF EXISTS full_one WITH (FORCE)'))
        status, body = proxy.http('POST', '/v1/tenants/wayne:promote', {'to': {'cluster': 'dedicated', 'database': 'full_one'}})
        if status == 202:
            body = self.wait_state(body['id'], 'aborted')
            self.assertTrue(body['error'])
        else:
            self.assertIn(status, (409, 422, 400))
        self.assertEqual(dedicated.sql("SELECT count(*) FROM information_schema.tables WHERE table_schema = 'wayne'", 'full_one'), [(1,)])
        # A tenant that moves already.
        move = self.promote('wayne', cutover=False)
        self.wait_state(move['id'], 'verify', 'catchup')
        self.promote('wayne', 409)
        self.assertEqual(proxy.http('POST', '/v1/moves/%s:complete' % move['id'], {})[0], 409)
        self.act(move['id'], 'cancel')
        self.wait_state(move['id'], 'aborted')
        self.assertEqual(self.place('wayne'), ('app', server.port, 'wayne'))
        self.assertEqual(proxy.http('GET', '/v1/moves/999999')[0], 404)


class Oracle(unittest.TestCase):
    """The traffic's own verdict: nothing wrong with PostgreSQL itself, and it notices what is wrong."""

    def test_verdict(self):
        tenants = ('globex', 'initech')

        def direct(tenant):
            connection = psycopg2.connect(host='127.0.0.1', port=server.port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                          options='-c search_path=%s,public' % tenant)
            connection.autocommit = True
            return connection
        for tenant in tenants:
            server.sql("DELETE FROM %s.ledger WHERE id LIKE '%s-%%'" % (tenant, tenant), 'app')
        before = live_traffic.baseline(direct, tenants)
        traffic = live_traffic.Traffic(direct, tenants, 2)
        wait_for(lambda: min(traffic.transactions(t) for t in tenants) > 50, 'traffic runs')
        traffic.stop()
        self.assertEqual(traffic.verdict(before), [])
        victim = traffic.clients[0]
        server.sql("DELETE FROM globex.ledger WHERE id = %s", 'app', (victim.acknowledged[3],))
        server.sql('UPDATE globex.items SET n = n + 1 WHERE id = 2', 'app')
        server.sql("INSERT INTO globex.ledger (id, tenant) VALUES (%s, 'initech')", 'app', (traffic.clients[1].rolled_back[0],))
        verdict = ' | '.join(traffic.verdict(before))
        for word in ('lost', 'increments', 'rolled back', 'rows of'):
            self.assertIn(word, verdict)
        server.sql("DELETE FROM globex.ledger WHERE id LIKE 'globex-%'", 'app')


if __name__ == '__main__':
    fixture.main(__name__)
