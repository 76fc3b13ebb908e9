"""The way back of a moved tenant, through real traffic: promoted, rolled back, promoted again, completed, with every client's history checked;
pgporter killed (SIGKILL) in each of its states; refused when it is too late; closed when the target's server can't keep its log.
"""
import contextlib
import threading
import unittest

import psycopg2

import fixture
from fixture import wait_for

TENANTS = ('acme', 'globex', 'initech', 'umbrella', 'hooli', 'stark', 'wayne', 'pied')  # one for each test: a history begins with an empty ledger
ACCOUNTS = 10
# Of everything that a move makes in databases and servers.
ARTEFACTS = """
    SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pgporter%'
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pgporter%'
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots"""


def setUpModule():
    global workspace, server, dedicated, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    dedicated = fixture.Postgres(workspace, 'dedicated', {'min_wal_size': '32MB'})
    for one in (server, dedicated):
        one.make_roles()
    server.make_world(tenants=TENANTS)
    proxy = fixture.Pgporter(workspace, server)
    proxy.config['mover'].update({'hold_ms_max': 3000, 'way_back_wal_mib_max': 64})
    proxy.start()
    proxy.apply(fixture.document({'main': server, 'dedicated': dedicated}, {name: {} for name in TENANTS}))


def tearDownModule():
    workspace.close()


class Client(threading.Thread):
    """Moves one unit from an account to another and writes that down in the ledger, in one transaction, again and again. Remembers what was
    acknowledged, and what it never heard of again because the connection ended."""

    def __init__(self, tenant, number):
        super().__init__(daemon=True)
        self.tenant, self.number = tenant, number
        self.acknowledged, self.unknown, self.refused, self.errors = [], [], [], []
        self.stopping = threading.Event()
        self.start()

    def run(self):
        connection, count = None, 0
        while not self.stopping.is_set():
            count += 1
            source, sink = 1 + count % ACCOUNTS, 1 + (count * 7 + self.number) % ACCOUNTS
            key = '%d-%d-%d-%d' % (self.number, count, source, sink)
            sent = False
            try:
                if connection is None:
                    connection = proxy.psycopg2(self.tenant, autocommit=False)
                cursor = connection.cursor()
                cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
                for account, amount in sorted([(source, -1), (sink, 1)]):
                    cursor.execute('UPDATE items SET n = n + %s WHERE id = %s', (amount, account))
                sent = True
                connection.commit()
                self.acknowledged.append(key)
            except psycopg2.Error as error:
                if connection is not None and not connection.closed:
                    self.errors.append('%s: %s' % (error.pgcode, str(error).strip()))
                    self.refused.append(key)
                    with contextlib.suppress(psycopg2.Error):
                        connection.rollback()
                        continue
                elif sent:
                    self.unknown.append(key)
                else:
                    self.refused.append(key)
                if connection is not None:
                    connection.close()
                connection = None
                self.stopping.wait(0.05)
            self.stopping.wait(0.001)
        if connection is not None:
            connection.close()


class History:
    def __init__(self, tenant, clients=4):
        self.tenant = tenant
        self.before = self.read('SELECT id, n FROM items WHERE id <= %d' % ACCOUNTS)
        self.clients = [Client(tenant, number) for number in range(clients)]

    def read(self, text):
        connection = proxy.psycopg2(self.tenant)
        cursor = connection.cursor()
        cursor.execute(text)
        rows = dict(cursor.fetchall())
        connection.close()
        return rows

    def acknowledged(self):
        return sum(len(client.acknowledged) for client in self.clients)

    def wait_for_more(self, count):
        goal = self.acknowledged() + count
        wait_for(lambda: self.acknowledged() >= goal, lambda: '%d more transactions: %s' % (count, self.errors()), 60)

    def stop(self):
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join(30)

    def errors(self):
        return [error for client in self.clients for error in client.errors][:3]

    def verdict(self):
        """What is wrong: nothing when each acknowledged transaction is there once and whole, and no refused one is."""
        wrong = []
        present = self.read('SELECT id, count(*) FROM ledger GROUP BY id')
        balances = dict(self.before)
        for client in self.clients:
            lost = [key for key in client.acknowledged if present.get(key) != 1]
            undead = [key for key in client.refused if key in present]
            if lost or undead:
                wrong.append('client %d: lost %s, refused and there %s' % (client.number, lost[:3], undead[:3]))
            known = set(client.acknowledged) | set(client.unknown)
            mine = [key for key in present if key.startswith('%d-' % client.number)]
            wrong += ['%s was never sent' % key for key in mine if key not in known]
        for key in present:
            _, _, source, sink = (int(part) for part in key.split('-'))
            balances[source] -= 1
            balances[sink] += 1
        found = self.read('SELECT id, n FROM items WHERE id <= %d' % ACCOUNTS)
        if found != balances:
            wrong.append('balances %s instead of %s' % (found, balances))
        if sum(found.values()) != sum(self.before.values()):
            wrong.append('the sum is %d, it was %d' % (sum(found.values()), sum(self.before.values())))
        return wrong


class WayBack(unittest.TestCase):
    def move(self, id_):
        status, body = proxy.http('GET', '/v1/moves/%s' % id_)
        self.assertEqual(status, 200, body)
        return body

    def wait_state(self, id_, *states, timeout=60):
        def reached():
            body = self.move(id_)
            if body['state'] not in states and body['finished']:
                raise AssertionError('the move ended as %s: %s; log:\n%s' % (body['state'], body['error'], proxy.log()[-3000:]))
            return body if body['state'] in states else None
        return wait_for(reached, lambda: 'move %s in %s: %s' % (id_, states, self.move(id_)), timeout, 0.02)

    def promote(self, tenant, state='reversing', verb='promote', cluster='dedicated', database=None, cutover=True):
        status, body = proxy.http('POST', '/v1/tenants/%s:%s' % (tenant, verb),
                                  {'to': {'cluster': cluster, 'database': database or tenant}, 'cutover': cutover})
        self.assertEqual(status, 202, body)
        return self.wait_state(body['id'], state)['id'] if state else body['id']

    def act(self, id_, verb, status=202):
        got, body = proxy.http('POST', '/v1/moves/%s:%s' % (id_, verb), {})
        self.assertEqual(got, status, body)
        return body

    def kill_and_restart(self):
        proxy.stop('immediate')
        return proxy.start

    def database_of(self, tenant):
        connection = proxy.psycopg2(tenant)
        cursor = connection.cursor()
        cursor.execute('SELECT current_database(), inet_server_port()')
        row = cursor.fetchone()
        connection.close()
        return row

    def check_at_home(self, tenant, id_):
        """Nothing of this move is left, and the tenant works where it was."""
        self.assertEqual(self.database_of(tenant), ('app', server.port))
        ours = '_' + str(id_)
        self.assertEqual([row for row in server.sql(ARTEFACTS, 'app') if ours in row[0]], [])
        self.assertEqual([row for row in dedicated.sql(ARTEFACTS) if ours in row[0]], [])
        self.assertEqual(dedicated.sql('SELECT count(*) FROM pg_database WHERE datname = %s', values=(tenant,)), [(0,)])

    def test_there_and_back_and_there_for_good(self):
        history = History('acme')
        pauses = []
        try:
            history.wait_for_more(50)
            for _ in range(2):
                id_ = self.promote('acme')
                history.wait_for_more(200)
                self.assertEqual(self.database_of('acme'), ('acme', dedicated.port))
                self.act(id_, 'rollback')
                pauses.append(self.wait_state(id_, 'rolled_back')['progress']['pause_ms'])
                history.wait_for_more(100)
                self.check_at_home('acme', id_)
            id_ = self.promote('acme')
            history.wait_for_more(100)
            self.act(id_, 'complete')
            self.wait_state(id_, 'completed')
            history.wait_for_more(100)
        finally:
            history.stop()
        print('rolled back under %d transactions: pauses %s ms' % (history.acknowledged(), ', '.join('%.1f' % p for p in pauses)))
        self.assertEqual(history.errors(), [])
        self.assertEqual(history.verdict()[:5], [])
        self.assertEqual(sum(len(client.unknown) + len(client.refused) for client in history.clients), 0)
        refused = self.act(id_, 'rollback', 409)
        self.assertIn('has ended', refused['detail'] + refused['title'])
        self.assertEqual(self.database_of('acme'), ('acme', dedicated.port))
        self.assertEqual(dedicated.sql(ARTEFACTS, 'acme'), [])

    def killed(self, tenant, until, then):
        """A rollback during which pgporter is killed where `until` has brought it; `then` takes away what held it there."""
        history = History(tenant)
        try:
            history.wait_for_more(30)
            id_ = until(history)
            restart = self.kill_and_restart()
            then()
            restart()
            history.wait_for_more(30)
            if self.move(id_)['state'] in ('opened', 'reversing'):
                wait_for(lambda: proxy.http('POST', '/v1/moves/%s:rollback' % id_, {})[0] == 202, 'the rollback is taken', 30)
            self.wait_state(id_, 'rolled_back')
            history.wait_for_more(30)
        finally:
            history.stop()
        self.assertEqual(history.verdict()[:5], [])
        self.check_at_home(tenant, id_)

    def test_killed_while_the_way_back_is_prepared(self):
        """A transaction on the target's server keeps the slot from being made: the move is undone, as before every flip."""
        history = History('stark')
        blocker = dedicated.connect('postgres')
        try:
            id_ = self.promote('stark', state='verify', cutover=False)
            blocker.cursor().execute('BEGIN; SELECT txid_current()')
            self.act(id_, 'cutover')
            self.wait_state(id_, 'reverse_slot')
            wait_for(lambda: dedicated.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'pgporter_back%'") == [(1,)],
                     'the slot is being made', 40)
            restart = self.kill_and_restart()
            blocker.cursor().execute('ROLLBACK')
            restart()
            self.wait_state(id_, 'aborted')
            self.check_at_home('stark', id_)
            history.wait_for_more(30)
        finally:
            blocker.close()
            history.stop()
        self.assertEqual(history.verdict()[:5], [])

    def test_killed_while_changes_go_back(self):
        def until(history):
            id_ = self.promote('globex')
            history.wait_for_more(50)
            return id_
        self.killed('globex', until, lambda: None)

    def test_killed_while_it_rolls_back(self):
        """Somebody round the proxy holds a row: the attempt gives way, again and again, until the process ends."""
        blocker = []

        def until(history):
            id_ = self.promote('initech')
            history.wait_for_more(30)
            blocker.append(dedicated.connect('initech'))
            blocker[0].cursor().execute('BEGIN; LOCK TABLE initech.unique_n IN ROW EXCLUSIVE MODE')
            self.act(id_, 'rollback')
            wait_for(lambda: 'gave way' in self.move(id_)['progress']['note'], 'an attempt gives way', 30, 0.01)
            self.assertIn(self.move(id_)['state'], ('rolling_back', 'reversing'))
            self.wait_state(id_, 'rolling_back')
            return id_
        self.killed('initech', until, lambda: blocker[0].close())

    def test_killed_between_fence_and_flip(self):
        """The catalog doesn't get to write the flip: both sides refuse writes when the process ends."""
        blocker = []

        def until(history):
            id_ = self.promote('umbrella')
            history.wait_for_more(30)
            blocker.append(server.connect('catalog'))
            blocker[0].cursor().execute("BEGIN; SELECT 1 FROM pgporter.tenants WHERE name = 'umbrella' FOR UPDATE")
            self.act(id_, 'rollback')
            wait_for(lambda: dedicated.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'pgporter_back_fence%' AND tgenabled = 'A'",
                                           'umbrella') != [(0,)], 'the target is fenced', 30, 0.005)
            self.assertEqual(server.sql("SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'pgporter_fence_%s' LIMIT 1" % id_, 'app'), [('A',)])
            with self.assertRaises(psycopg2.Error) as refused:
                dedicated.sql('INSERT INTO umbrella.ledger (id) VALUES (\'bypass\')', 'umbrella')
            self.assertEqual(refused.exception.pgcode, 'PP001')
            return id_
        self.killed('umbrella', until, lambda: blocker[0].close())

    def test_killed_after_the_flip_back(self):
        """A reader of the source keeps the fence's triggers from being dropped: the tenant works there all the same."""
        blocker = []

        def until(history):
            id_ = self.promote('hooli')
            history.wait_for_more(30)
            self.act(id_, 'rollback')
            blocker.append(server.connect('app'))
            blocker[0].cursor().execute('BEGIN; SELECT count(*) FROM hooli.unique_n')
            self.wait_state(id_, 'flipped_back')
            history.wait_for_more(30)
            self.assertEqual(self.database_of('hooli'), ('app', server.port))
            self.assertEqual(self.move(id_)['state'], 'flipped_back')
            return id_
        self.killed('hooli', until, lambda: blocker[0].close())

    def test_relocated_and_demoted(self):
        history = History('pied')
        try:
            history.wait_for_more(30)
            for verb, cluster, database, end in (('promote', 'dedicated', 'pied', 'complete'), ('relocate', 'main', 'pied_two', 'rollback'),
                                                 ('relocate', 'main', 'pied_two', 'complete'), ('demote', 'main', 'app', 'rollback'),
                                                 ('demote', 'main', 'app', 'complete')):
                id_ = self.promote('pied', 'reversing', verb, cluster, database)
                self.assertEqual(self.move(id_)['kind'], verb)
                history.wait_for_more(50)
                self.assertEqual(self.database_of('pied'), (database, {'main': server, 'dedicated': dedicated}[cluster].port))
                self.act(id_, end)
                self.wait_state(id_, {'rollback': 'rolled_back', 'complete': 'completed'}[end])
                history.wait_for_more(30)
        finally:
            history.stop()
        self.assertEqual(history.errors(), [])
        self.assertEqual(history.verdict()[:5], [])
        self.assertEqual(self.database_of('pied'), ('app', server.port))
        done = proxy.command('relocate', 'pied', '--to', 'dedicated')
        self.assertEqual(done.returncode, 4, done.stderr)
        self.assertIn('promote it', done.stderr)

    def test_log_that_the_target_drops(self):
        """While the source can't be reached, the target's server drops what the way back needs: it is closed and says so; the tenant is well."""
        id_ = self.promote('wayne')
        history = History('wayne')
        try:
            history.wait_for_more(30)
            # As when nobody reads: the mover is stopped, and the server keeps little.
            proxy.stop()
            dedicated.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
            dedicated.sql('SELECT pg_reload_conf()')

            def lost():
                dedicated.sql("SELECT count(pg_logical_emit_message(false, 'filling', repeat('x', 1000000))) FROM generate_series(1, 20)")
                dedicated.sql('SELECT pg_switch_wal()')
                dedicated.sql('CHECKPOINT')
                return dedicated.sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pgporter_back_%s'" % id_) == [('lost',)]
            wait_for(lost, 'the slot is lost', 60)
            proxy.start()
            body = self.wait_state(id_, 'opened')
            wait_for(lambda: self.move(id_)['rollback']['refused'], lambda: self.move(id_), 30)
            body = self.move(id_)
            self.assertIn('dropped the log', body['rollback']['refused'])
            self.assertFalse(body['rollback']['possible'])
            self.assertEqual([step['request'].rsplit(':', 1)[1] for step in body['next_steps']], ['complete'])
            self.assertIn('dropped the log', self.act(id_, 'rollback', 409)['detail'])
            self.assertEqual(proxy.metric('pgporter_move_ways_back_lost_total'), 1)
            history.wait_for_more(50)
            self.act(id_, 'complete')
            self.wait_state(id_, 'completed')
            history.wait_for_more(30)
        finally:
            history.stop()
            dedicated.sql('ALTER SYSTEM RESET max_slot_wal_keep_size')
            dedicated.sql('SELECT pg_reload_conf()')
        self.assertEqual(history.verdict()[:5], [])
        self.assertEqual(self.database_of('wayne'), ('wayne', dedicated.port))
        self.assertEqual(dedicated.sql(ARTEFACTS, 'wayne'), [])


if __name__ == '__main__':
    fixture.main(__name__)
