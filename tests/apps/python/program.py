"""What every Python program here is built on: the turns, their journal, and the words spoken with apps_world_programs.py.

    run('psycopg2', {'SET search_path': work, ...})       work(turn), in threads;  run_async(): coroutines on one loop

Several workers go through all tenants and all ways of naming them, at once. A turn does its work on the program's pool and notes in the
journal what PostgreSQL acknowledged.
"""
import asyncio
import contextlib
import inspect
import itertools
import json
import os
import queue
import sys
import threading
import time
import traceback

WORLD = json.loads(os.environ['APP_TEST'])
TENANTS = WORLD['tenants']
SETTING = WORLD['setting']
LOGIN = {'host': WORLD['host'], 'port': WORLD['port'], 'user': WORLD['user'], 'password': WORLD['password'], 'database': WORLD['database']}
HERE = 'SELECT tenant, current_database()::text AS database, inet_server_port() AS port FROM whoami'
OWN = 'SELECT tenant, payload FROM items ORDER BY id LIMIT 10'
ADD = 'UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + %s::int'

WORKERS = 4
ROUNDS_BEFORE = 1
ROUNDS_AFTER = 2
FAILURES_MAX = 5
# Applications are not busy all the time, and the move needs the processor too.
PAUSE_S = 0.008


def path(tenant):
    return '"%s", "public"' % tenant


class Journal:
    """What was acknowledged; shared by all workers."""

    def __init__(self):
        self.tenants = {name: {'committed': [], 'rolled_back': [], 'added': 0, 'places': {}} for name in TENANTS}
        self.done = {}
        self.failures = []
        self.moved = threading.Event()
        self.lock = threading.Lock()
        self.keys = itertools.count(1)
        self.waiting = WORKERS

    def worker_ready(self):
        with self.lock:
            self.waiting -= 1
            if self.waiting == 0 and not self.failures:
                print('ready', flush=True)

    def turn_done(self, way, tenant):
        with self.lock:
            counts = self.done.setdefault(way, {}).setdefault(tenant, [0, 0])
            counts[1 if self.moved.is_set() else 0] += 1

    def failed(self, where, error):
        with self.lock:
            self.failures.append('%s: %r' % (where, error))
            print('FAILED %s at %s: %s' % (where, time.strftime('%H:%M:%S'), traceback.format_exc()), flush=True)

    def report(self):
        print('report ' + json.dumps({'failures': self.failures, 'done': self.done, 'tenants': self.tenants}), flush=True)


class Turn:
    """One way of naming, for one tenant, by one worker."""

    def __init__(self, program, journal, tenant, worker):
        self.program, self.everything, self.tenant, self.worker = program, journal, tenant, worker
        self.journal = journal.tenants[tenant]

    def key(self, what=''):
        """A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such."""
        return '%s-%s-%d%s' % (self.program, self.tenant, next(self.everything.keys), what)

    def committed(self, *ids):
        with self.everything.lock:
            self.journal['committed'].extend(ids)

    def rolled_back(self, *ids):
        with self.everything.lock:
            self.journal['rolled_back'].extend(ids)

    def added(self, n=1):
        with self.everything.lock:
            self.journal['added'] += n

    def own(self, rows, count=None):
        """Rows that were read, the tenant first: own ones, and as many as expected."""
        rows = list(rows)
        assert rows, 'no rows'
        assert count is None or len(rows) == count, '%d rows, not %d' % (len(rows), count)
        for row in rows:
            assert row[0] == self.tenant, 'a row of %s instead of %s' % (row[0], self.tenant)

    def here(self, row):
        """A row of HERE: whose it is, and where."""
        self.own([row])
        with self.everything.lock:
            places = self.journal['places'].setdefault(str(self.worker), [])
            if not places or places[-1] != [row[1], row[2]]:
                places.append([row[1], row[2]])


class Pool:
    """A plain pool: what one turn has set on a connection is what the next finds. The connection used longest ago is next."""

    def __init__(self, connect, size=5):
        self.free = queue.Queue()
        for _ in range(size):
            self.free.put(connect())

    @contextlib.contextmanager
    def connection(self):
        connection = self.free.get(timeout=25)
        try:
            yield connection
        finally:
            self.free.put(connection)


def sqlstate(error):
    """The SQLSTATE of a driver's error; frameworks wrap it."""
    for one in (error, getattr(error, 'orig', None), error.__cause__):
        found = getattr(one, 'sqlstate', None) or getattr(one, 'pgcode', None)
        if found:
            return found
    return None


@contextlib.contextmanager
def refused(code, error_type):
    """The block must fail with this SQLSTATE."""
    try:
        yield
    except error_type as error:
        assert sqlstate(error) == code, '%s instead of %s: %s' % (sqlstate(error), code, error)
    else:
        raise AssertionError('not refused with ' + code)


@contextlib.contextmanager
def cancelled_soon(cancel):
    """The block runs one query, which is cancelled. Too early a cancel finds nothing to cancel, on PostgreSQL as well: then once more."""
    ended = threading.Event()

    def work():
        seconds = 0.1
        while not ended.wait(seconds):
            cancel()
            seconds = 1.0
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def nobody(read, error_type):
    """Where no tenant is named, nobody's rows are seen: the tables aren't there, or row-level security leaves nothing."""
    try:
        found = read()
    except error_type as error:
        assert sqlstate(error) == '42P01', '%s: %s' % (sqlstate(error), error)
    else:
        assert SETTING and not found, 'rows without a tenant: %s' % found


def nobody_after(name, read, error_type):
    """Names somebody who doesn't exist. Whatever becomes of that, nothing is read as the tenant that was named before: some frameworks
    go on when the statement that names the tenant has failed."""
    with contextlib.suppress(error_type):
        name()
    try:
        found = read()
    except error_type:
        return
    raise AssertionError('rows after an unknown tenant was named: %s' % found)


def begin(journal):
    def listen():
        for line in sys.stdin:
            if line.strip() == 'moved':
                journal.moved.set()
    threading.Thread(target=listen, daemon=True).start()


def steps(program, ways, journal, worker):
    """The turns of a worker, in order; says when it has been everywhere."""
    after = rounds = 0
    while after < ROUNDS_AFTER and len(journal.failures) < FAILURES_MAX:
        if journal.moved.is_set():
            after += 1
        for way, work in ways.items():
            for number in range(len(TENANTS)):
                tenant = TENANTS[(number + worker) % len(TENANTS)]
                yield way, work, Turn(program, journal, tenant, worker)
        rounds += 1
        if rounds == ROUNDS_BEFORE:
            journal.worker_ready()


def run(program, ways):
    journal = Journal()
    begin(journal)

    def work(worker):
        for way, step, turn in steps(program, ways, journal, worker):
            try:
                step(turn)
                journal.turn_done(way, turn.tenant)
            except Exception as error:
                journal.failed('%s for %s' % (way, turn.tenant), error)
            time.sleep(PAUSE_S)
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    end(journal)


async def run_async(program, ways):
    journal = Journal()
    begin(journal)

    async def work(worker):
        for way, step, turn in steps(program, ways, journal, worker):
            try:
                await asyncio.wait_for(step(turn), 25)
                journal.turn_done(way, turn.tenant)
            except Exception as error:
                journal.failed('%s for %s' % (way, turn.tenant), error)
            await asyncio.sleep(PAUSE_S)
    await asyncio.gather(*[work(number) for number in range(WORKERS)])
    end(journal)


def end(journal):
    if not journal.failures:
        journal.report()
    os._exit(1 if journal.failures else 0)


def call(name, namespace):
    """For `python program.py name`: the functions of a module that are ways, by their first line of documentation."""
    return {inspect.getdoc(item).splitlines()[0]: item for key, item in namespace.items() if key.startswith(name)}
