"""What clients did to one tenant and what was acknowledged to them; and the judgement afterwards: nothing acknowledged is missing, nothing is
there twice, nothing that was refused is there, sums hold, and nobody read what was older than his own write.
"""
import io
import random
import threading
import time

import psycopg2

SCHEMA = """
CREATE SCHEMA {0} AUTHORIZATION app;
SET ROLE app;
CREATE TABLE {0}.ledger (id text NOT NULL, copy bigserial PRIMARY KEY);
CREATE TABLE {0}.counters (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0);
CREATE TABLE {0}.accounts (id int PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE {0}.keys (id text PRIMARY KEY, value bigint NOT NULL);
CREATE TABLE {0}.orders (id text PRIMARY KEY);
CREATE TABLE {0}.lines (id text PRIMARY KEY, order_id text NOT NULL REFERENCES {0}.orders);
CREATE TABLE {0}.batches (id text NOT NULL, line int NOT NULL, PRIMARY KEY (id, line));
CREATE TABLE {0}.filling (id int PRIMARY KEY, text text NOT NULL);
INSERT INTO {0}.counters SELECT i, 0 FROM generate_series(0, 9) i;
INSERT INTO {0}.accounts SELECT i, 1000 FROM generate_series(0, 9) i;
INSERT INTO {0}.filling SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, {1}) i;
RESET ROLE;
"""
ACCOUNTS_SUM = 10 * 1000
BATCH_LINES = 20
KINDS = ('insert', 'counter', 'transfer', 'key', 'order', 'copy', 'rollback')


class Unknown(Exception):
    """The connection was lost while the outcome was on its way."""


class Client(threading.Thread):
    """One connection at a time, that works until stop(). Every write has a name of its own."""

    def __init__(self, history, number, connect, label, seed):
        super().__init__(daemon=True, name='%s %d' % (label, number))
        self.history, self.number, self.connect, self.label = history, number, connect, label
        self.random = random.Random(seed)
        self.failures = []   # (seconds since the start of the history, SQLSTATE or None, text)
        self.stale = []
        self.transactions = 0
        self.slowest = 0.0
        self.value = 0       # of this client's key, as last written and acknowledged
        self.connection = None
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            kind = KINDS[self.transactions % len(KINDS)]
            name = '%s-%d-%d' % (self.label, self.number, self.transactions)
            self.transactions += 1
            outcome = 'refused'
            try:
                if self.connection is None or self.connection.closed:
                    self.connection = self.connect()
                    self.connection.autocommit = True
                getattr(self, 'do_' + kind)(self.connection.cursor(), name)
                outcome = 'acknowledged'
            except Unknown as lost:
                outcome = 'unknown'
                self.fail(lost.__cause__)
            except psycopg2.Error as error:
                self.fail(error)
            except Exception as error:  # a defect of the test, to be seen by it
                self.fail(error)
            self.history.note(kind, name, outcome, getattr(self, 'told', None))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.stopping.wait(self.history.pause if outcome == 'acknowledged' else 0.05)
        if self.connection is not None:
            self.connection.close()

    def fail(self, error):
        self.failures.append((time.monotonic() - self.history.began, getattr(error, 'pgcode', None), str(error).strip()))
        if self.connection is None:
            return
        if not self.connection.closed:
            try:
                self.connection.cursor().execute('ROLLBACK')
                return
            except psycopg2.Error:
                pass
        self.connection.close()
        self.connection = None

    def last_word(self, cursor, sql, values=None):
        """A statement whose success means that something is durable: when the connection breaks, nobody knows."""
        try:
            cursor.execute(sql, values)
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode in (None, '08006', '57P01', '08007'):
                raise Unknown() from error
            raise

    def do_insert(self, cursor, name):
        self.last_word(cursor, 'INSERT INTO ledger (id) VALUES (%s)', (name,))

    def do_counter(self, cursor, name):
        self.told = self.number % 10
        self.last_word(cursor, 'UPDATE counters SET n = n + 1 WHERE id = %s', (self.told,))

    def do_transfer(self, cursor, name):
        one, other = self.random.sample(range(10), 2)
        amount = self.random.randint(1, 50)
        cursor.execute('BEGIN')
        for account, change in sorted(((one, -amount), (other, amount))):
            cursor.execute('UPDATE accounts SET balance = balance + %s WHERE id = %s', (change, account))
        cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (name,))
        self.last_word(cursor, 'COMMIT')

    def do_key(self, cursor, name):
        key = '%s-%d' % (self.label, self.number)
        cursor.execute('SELECT value FROM keys WHERE id = %s', (key,))
        row = cursor.fetchone()
        found = row[0] if row else 0
        if found < self.value:
            self.stale.append('read %d after %d was acknowledged' % (found, self.value))
        self.told = (key, max(found, self.value) + 1)
        self.last_word(cursor, 'INSERT INTO keys VALUES (%s, %s) ON CONFLICT ON CONSTRAINT keys_pkey DO UPDATE SET value = EXCLUDED.value', self.told)
        self.value = self.told[1]

    def do_order(self, cursor, name):
        cursor.execute('BEGIN')
        cursor.execute('INSERT INTO orders (id) VALUES (%s)', (name,))
        cursor.execute('INSERT INTO lines (id, order_id) VALUES (%s, %s)', (name, name))
        self.last_word(cursor, 'COMMIT')

    def do_copy(self, cursor, name):
        rows = io.BytesIO(''.join('%s\t%d\n' % (name, line) for line in range(BATCH_LINES)).encode())
        try:
            cursor.copy_from(rows, 'batches', columns=('id', 'line'))
        except psycopg2.Error as error:
            if self.connection.closed or error.pgcode in (None, '08006', '57P01', '08007'):
                raise Unknown() from error
            raise

    def do_rollback(self, cursor, name):
        cursor.execute('BEGIN')
        cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (name,))
        cursor.execute('UPDATE counters SET n = n + 1000000 WHERE id = 0')
        cursor.execute('ROLLBACK')


class History:
    """The clients of one tenant. `doors`: label -> function that connects as the tenant."""

    def __init__(self, doors, clients_each=2, pause=0.004, seed=0):
        self.began = time.monotonic()
        self.pause = pause
        self.lock = threading.Lock()
        self.notes = []
        self.clients = []
        for label, connect in doors.items():
            for number in range(clients_each):
                self.clients.append(Client(self, len(self.clients), connect, label, '%s/%d/%s' % (seed, number, label)))
        for client in self.clients:
            client.start()

    def note(self, kind, name, outcome, told):
        with self.lock:
            self.notes.append((kind, name, outcome, told))

    def transactions(self, label=None):
        return sum(c.transactions - len(c.failures) for c in self.clients if label in (None, c.label))

    def go_on(self, more=20, timeout=20.0, label=None):
        """Until so many more transactions succeeded."""
        wanted = self.transactions(label) + more
        deadline = time.monotonic() + timeout
        while self.transactions(label) < wanted:
            if time.monotonic() > deadline:
                raise AssertionError('the clients stand still; their last failures: %s' % [c.failures[-1:] for c in self.clients])
            time.sleep(0.005)

    def stop(self):
        for client in self.clients:
            client.stopping.set()
        for client in self.clients:
            client.join(40)
            if client.is_alive():
                raise AssertionError('client %s hangs' % client.name)

    def failures(self, *labels):
        return ['%s: %s %s' % (c.name, code, text) for c in self.clients if c.label in labels for _, code, text in c.failures]

    def judge(self, connection):
        """What is wrong, as a list of sentences; the connection leads to where the tenant lives."""
        cursor = connection.cursor()

        def rows(sql):
            cursor.execute(sql)
            return cursor.fetchall()
        wrong = []
        by = {}
        for kind, name, outcome, told in self.notes:
            by.setdefault((kind, outcome), []).append((name, told))

        def names(kind, outcome):
            return {name for name, _ in by.get((kind, outcome), [])}

        def compare(what, present, kinds):
            doubled = sorted(name for name, count in present.items() if count > 1)
            for outcome in ('acknowledged', 'refused'):
                expected = set().union(*(names(kind, outcome) for kind in kinds))
                if outcome == 'acknowledged':
                    missing = sorted(expected - set(present))
                    if missing:
                        wrong.append('%d acknowledged %s are missing: %s' % (len(missing), what, missing[:3]))
                else:
                    undead = sorted(expected & set(present))
                    if undead:
                        wrong.append('%d refused %s are there: %s' % (len(undead), what, undead[:3]))
            if doubled:
                wrong.append('%d %s are there twice: %s' % (len(doubled), what, doubled[:3]))
        ledger = dict(rows('SELECT id, count(*) FROM ledger GROUP BY id'))
        compare('rows', ledger, ('insert', 'transfer'))
        undead = sorted(set(ledger) & set().union(*(names('rollback', o) for o in ('acknowledged', 'refused', 'unknown'))))
        if undead:
            wrong.append('%d rolled back rows are there: %s' % (len(undead), undead[:3]))
        compare('orders', dict(rows('SELECT id, 1 FROM orders')), ('order',))
        compare('order lines', dict(rows('SELECT id, 1 FROM lines')), ('order',))
        batches = dict(rows('SELECT id, count(*) FROM batches GROUP BY id'))
        torn = sorted(name for name, lines in batches.items() if lines != BATCH_LINES)
        if torn:
            wrong.append('%d batches are not whole: %s' % (len(torn), torn[:3]))
        compare('batches', {name: 1 for name in batches}, ('copy',))
        for counter, n in rows('SELECT id, n FROM counters'):
            sure = sum(1 for _, told in by.get(('counter', 'acknowledged'), []) if told == counter)
            perhaps = sum(1 for _, told in by.get(('counter', 'unknown'), []) if told == counter)
            if not sure <= n <= sure + perhaps:
                wrong.append('counter %d is %d: %d increments were acknowledged, %d have an unknown outcome' % (counter, n, sure, perhaps))
        total = rows('SELECT sum(balance) FROM accounts')[0][0]
        if total != ACCOUNTS_SUM:
            wrong.append('the accounts sum up to %s, not %d' % (total, ACCOUNTS_SUM))
        values = dict(rows('SELECT id, value FROM keys'))
        for outcome in ('acknowledged', 'unknown'):
            for _, (key, value) in by.get(('key', outcome), []):
                if outcome == 'acknowledged' and values.get(key, 0) < value:
                    wrong.append('key %s is %s, but %d was acknowledged' % (key, values.get(key), value))
        for client in self.clients:
            if client.stale:
                wrong.append('%s %s' % (client.name, client.stale[0]))
            odd = [text for _, code, text in client.failures if code is None and 'Error' not in text and 'connection' not in text]
            if odd:
                wrong.append('%s: %s' % (client.name, odd[0]))
        return wrong
