"""What the programs here are built on, which speak the protocol themselves because the real program can't be had: the turns, their journal, and
the words spoken with apps_world_programs.py. Every answer is compared with the shape that PostgreSQL's has.
"""
import json
import os
import queue
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir, 'integration', 'proxy'))

import wire_client  # noqa: E402  (found through the path above)
from wire_client import bind, describe, execute, parse, query, sync  # noqa: E402

WORLD = json.loads(os.environ['APP_TEST'])
TENANTS = WORLD['tenants']
WORKERS, ROUNDS_BEFORE, ROUNDS_AFTER, FAILURES_MAX = 4, 1, 2, 5
TEXT, BINARY = 0, 1
PAUSE_S = 0.008  # applications are not busy all the time, and the move needs the processor too
HERE = 'SELECT tenant, current_database()::text, inet_server_port()::text FROM whoami'


class Connection:
    """A connection of the pool, with the statements that are prepared on it: text -> name."""

    def __init__(self, **params):
        self.wire = wire_client.Wire(WORLD['port']).login(WORLD['user'], WORLD['password'], WORLD['database'], params)
        self.statements = {}

    def exchange(self, data, shape, status):
        """Sends, and reads up to ReadyForQuery. The messages' types must be `shape`, repeated DataRows told once as D; returns the rows."""
        self.wire.send(data)
        messages = [m for m in self.wire.recv_until('Z') if m[0] not in ('S', 'N')]
        rows, kinds = [], ''
        for kind, body in messages:
            if kind == 'E':
                raise wire_client.ServerError(wire_client.error_fields(body))
            if kind is None:
                raise wire_client.WireError('the connection was closed')
            if kind == 'D':
                rows.append([None if v is None else v.decode() for v in wire_client.row_values(body)])
            if kind != 'D' or not kinds.endswith('D'):
                kinds += kind
        if kinds not in shape.split():
            raise AssertionError('answered %r instead of %s' % (kinds, shape))
        if self.wire.status != status:
            raise AssertionError('status %r instead of %r' % (self.wire.status, status))
        return rows

    def simple(self, sql, status, shape='CZ'):
        return self.exchange(query(sql), shape, status)

    def close(self):
        self.wire.close()


class Pool:
    """Connections that are lent to one worker at a time."""

    def __init__(self, size, **params):
        self.free = queue.LifoQueue()
        self.all = [Connection(**params) for _ in range(size)]
        for one in self.all:
            self.free.put(one)

    def lend(self, work):
        one = self.free.get(timeout=30)
        try:
            return work(one)
        finally:
            self.free.put(one)


class Turn:
    """One worker's work for one tenant in one way."""
    lock = threading.Lock()
    keys = 0

    def __init__(self, program, tenant, worker):
        self.program, self.tenant, self.worker, self.journal = program, tenant, worker, program.journals[tenant]

    def key(self, what=''):
        with Turn.lock:
            Turn.keys += 1
            return '%s-%s-%d%s' % (self.program.name, self.tenant, Turn.keys, what)

    def committed(self, *keys):
        self.journal['committed'] += keys

    def rolled_back(self, *keys):
        self.journal['rolled_back'] += keys

    def added(self):
        with Turn.lock:
            self.journal['added'] += 1

    def own(self, tenants, count=None):
        """Whose rows were read: ours, and as many as expected."""
        assert set(tenants) == {self.tenant}, 'rows of %s' % sorted(set(tenants))
        assert count is None or len(tenants) == count, '%d rows' % len(tenants)

    def here(self, rows):
        """The row of HERE."""
        assert len(rows) == 1 and rows[0][0] == self.tenant, rows
        place = [rows[0][1], int(rows[0][2])]
        places = self.journal['places'].setdefault(str(self.worker), [])
        if not places or places[-1] != place:
            places.append(place)


class Program:
    def __init__(self, name):
        self.name = name
        self.journals = {t: {'committed': [], 'rolled_back': [], 'added': 0, 'places': {}} for t in TENANTS}
        self.done, self.failures, self.moved = {}, [], False
        self.waiting = WORKERS

    def work(self, ways, worker):
        after = 0
        turns = [(way, TENANTS[(i + worker) % len(TENANTS)]) for way in ways for i in range(len(TENANTS))]
        number = 0
        while after < ROUNDS_AFTER and len(self.failures) < FAILURES_MAX:
            after += self.moved
            for way, tenant in turns:
                time.sleep(PAUSE_S)
                try:
                    ways[way](Turn(self, tenant, worker))
                    with Turn.lock:
                        self.done.setdefault(way, {}).setdefault(tenant, [0, 0])[int(self.moved)] += 1
                except Exception as error:
                    self.failures.append('%s for %s: %s' % (way, tenant, error))
                    print('FAILED %s for %s' % (way, tenant), traceback.format_exc(), flush=True)
            number += 1
            if number == ROUNDS_BEFORE:
                with Turn.lock:
                    self.waiting -= 1
                    if not self.waiting and not self.failures:
                        print('ready', flush=True)

    def listen(self):
        for line in sys.stdin:
            self.moved = self.moved or line.strip() == 'moved'

    def run(self, ways):
        """Works until a tenant was moved, and some rounds more; ends the process."""
        threading.Thread(target=self.listen, daemon=True).start()
        workers = [threading.Thread(target=self.work, args=(ways, number), daemon=True) for number in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if not self.failures:
            print('report', json.dumps({'failures': [], 'done': self.done, 'tenants': self.journals}), flush=True)
        os._exit(1 if self.failures else 0)


def refused(sqlstate, work):
    try:
        work()
    except wire_client.ServerError as error:
        if error.sqlstate != sqlstate:
            raise
        return
    raise AssertionError('not refused with %s' % sqlstate)
