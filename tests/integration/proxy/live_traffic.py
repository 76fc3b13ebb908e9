"""Live traffic for move tests: threads of psycopg2 clients that write and read as a tenant, a journal of what was acknowledged to them, and
the check of that journal against the database afterwards. A write is lost when it was acknowledged and isn't there; doubled when it counts twice.
"""
import threading
import time

import psycopg2


class Client(threading.Thread):
    """One connection that works until stop(). Statements alternate between autocommit, explicit transactions and rolled back ones."""

    def __init__(self, connect, tenant, number):
        super().__init__(daemon=True)
        self.connect, self.tenant, self.number = connect, tenant, number
        self.acknowledged = []   # ids in ledger
        self.rolled_back = []
        self.added = 0           # acknowledged increments of this client's row
        self.failures = []
        self.foreign = []
        self.places = []         # (database, server port), in order of appearance
        self.slowest = 0.0
        self.done = 0
        self.stopping = threading.Event()
        self.start()

    def stop(self):
        self.stopping.set()

    def run(self):
        connection = None
        try:
            connection = self.connect(self.tenant)
            connection.autocommit = True
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    self.once(connection.cursor())
                except psycopg2.Error as error:
                    self.failures.append('%s: %s' % (error.pgcode, str(error).strip()))
                    if connection.closed:
                        connection = self.connect(self.tenant)
                        connection.autocommit = True
                    else:
                        connection.cursor().execute('ROLLBACK')
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.done += 1
                self.stopping.wait(0.002)
        except Exception as error:
            self.failures.append(repr(error))
        finally:
            if connection:
                connection.close()

    def once(self, cursor):
        key = '%s-%d-%d' % (self.tenant, self.number, self.done)
        kind = self.done % 5
        if kind == 0:
            cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
            self.acknowledged.append(key)
        elif kind == 1:
            cursor.execute('BEGIN')
            cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
            cursor.execute('UPDATE unique_n SET tenant = tenant WHERE n = %s', (self.number,))
            cursor.execute('UPDATE items SET n = n + 1 WHERE id = %s', (self.number + 1,))
            cursor.execute('COMMIT')
            self.acknowledged.append(key)
            self.added += 1
        elif kind == 2:
            cursor.execute('BEGIN')
            cursor.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
            cursor.execute('ROLLBACK')
            self.rolled_back.append(key)
        elif kind == 3:
            cursor.execute('UPDATE items SET n = n + 1 WHERE id = %s', (self.number + 1,))
            self.added += 1
        else:
            cursor.execute("INSERT INTO items (payload) VALUES (%s) RETURNING id, tenant", (key,))
            tenant = cursor.fetchone()[1]
            if tenant != self.tenant:
                self.foreign.append(tenant)
        cursor.execute('SELECT tenant, current_database(), inet_server_port() FROM whoami')
        tenant, database, port = cursor.fetchone()
        if tenant != self.tenant:
            self.foreign.append(tenant)
        if not self.places or self.places[-1] != (database, port):
            self.places.append((database, port))


class Traffic:
    def __init__(self, connect, tenants, clients_each=3):
        self.connect = connect
        self.clients = [Client(connect, tenant, number) for tenant in tenants for number in range(clients_each)]

    def transactions(self, tenant):
        return sum(client.done for client in self.clients if client.tenant == tenant)

    def stop(self):
        for client in self.clients:
            client.stop()
        for client in self.clients:
            client.join(30)

    def verdict(self, baseline):
        """What is wrong, as texts: nothing when every acknowledged write is there once. `baseline`: tenant -> {id of items: n} before."""
        wrong = []
        for tenant in sorted({client.tenant for client in self.clients}):
            connection = self.connect(tenant)
            cursor = connection.cursor()
            cursor.execute('SELECT id, count(*) FROM ledger GROUP BY id')
            present = dict(cursor.fetchall())
            cursor.execute('SELECT id, n FROM items WHERE id <= 10')
            counts = dict(cursor.fetchall())
            cursor.execute('SELECT DISTINCT tenant FROM items UNION SELECT DISTINCT tenant FROM ledger')
            owners = {row[0] for row in cursor.fetchall()}
            connection.close()
            if owners - {tenant}:
                wrong.append('%s: rows of %s' % (tenant, owners))
            for client in (c for c in self.clients if c.tenant == tenant):
                name = '%s/%d' % (tenant, client.number)
                lost = [key for key in client.acknowledged if key not in present]
                undead = [key for key in client.rolled_back if key in present]
                if lost:
                    wrong.append('%s: %d acknowledged rows are lost, the first %s' % (name, len(lost), lost[0]))
                if undead:
                    wrong.append('%s: %d rolled back rows are there, the first %s' % (name, len(undead), undead[0]))
                added = counts[client.number + 1] - baseline[tenant][client.number + 1]
                if added != client.added:
                    wrong.append('%s: %d increments acknowledged, %d there' % (name, client.added, added))
                if client.foreign:
                    wrong.append('%s: saw rows of %s' % (name, set(client.foreign)))
                if client.failures:
                    wrong.append('%s: %d failed, the first: %s' % (name, len(client.failures), client.failures[0]))
        return wrong


def baseline(connect, tenants):
    result = {}
    for tenant in tenants:
        connection = connect(tenant)
        cursor = connection.cursor()
        cursor.execute('SELECT id, n FROM items WHERE id <= 10')
        result[tenant] = dict(cursor.fetchall())
        connection.close()
    return result
