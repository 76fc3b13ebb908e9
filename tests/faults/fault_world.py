"""The world that faults happen in: source, target and catalog servers of their own, instances of pgporter, a switch between all of them, and
tenants with histories. What each test checks at its end is here too: the history holds, nothing of the move is left, the tenant lives in one
place and works there.
"""
import os
import signal
import struct
import sys
import time

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), 'integration', 'proxy'))
import fixture  # noqa: E402
from fixture import wait_for  # noqa: E402
import history  # noqa: E402
import tcp_switch  # noqa: E402

# Flushed by COMMIT, but not to the disk: a killed server must lose nothing, a crashed machine isn't tested here.
SETTINGS = {'synchronous_commit': 'on', 'fsync': 'off', 'max_replication_slots': 12, 'max_wal_senders': 12, 'max_prepared_transactions': 10,
            'max_connections': 120}
MOVER = {'hold_ms_max': 2000, 'drain_ms_max': 200, 'connect_timeout_ms': 2000, 'copy_jobs': 2, 'slot_ms_max': 3000,
         'instance_silent_ms_max': 3000, 'restarts_max': 0}
STATES_BEFORE_FLIP = ('planned', 'preflight', 'schema', 'gate', 'slot', 'copy', 'index', 'catchup', 'verify', 'reverse_slot', 'hold',
                      'fenced', 'drained')
MOVED = 'reversing'  # where a move that went well stays: its way back is followed until it is completed
LATER_ENDS = {'completed', 'rolling_back', 'rolled_back'}  # what a move that went well may be asked for
ENDS = {MOVED, 'aborted', 'completed', 'rolled_back'}
ARTEFACTS = """
    SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE tgname LIKE 'pgporter%%'
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'pgporter%%'
    UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE proname LIKE 'pgporter%%'
    UNION ALL SELECT 'publication ' || pubname FROM pg_publication
    UNION ALL SELECT 'subscription ' || subname FROM pg_subscription
    UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database IS NULL OR database = current_database()"""


def step_into(state):
    """The bytes of a move's step into this state, up to its COMMIT, on the way to the catalog."""
    if state == 'planned':
        return [b'INSERT INTO pgporter.moves', b'COMMIT']
    if state == 'flipped':
        return [rb'note_flip\x00', rb'[\x07\x0c]flipped', b'COMMIT']  # there, or back
    text = state.encode()
    return [rb'advance_move\x00', b'[a-z]' + struct.pack('!i', len(text)).replace(b'\0', b'\\x00') + text, b'COMMIT']


class Instance(fixture.Pgporter):
    """One pgporter whose every connection goes through the switch."""

    def __init__(self, world, name):
        super().__init__(world.workspace, world.catalog, name)
        self.world, self.name = world, name
        self.config['catalog']['dsn'] = 'host=127.0.0.1 port=%d dbname=catalog user=catalog' % world.catalog_port
        self.config['catalog']['connect_timeout_ms'] = 2000
        self.config['mover'].update(MOVER)
        self.client_port = world.switch.link('client', self.port, name)

    def launch(self):
        super().launch()
        self.world.switch.processes[self.name] = self.process.pid

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def pause_between_transactions(self, server, database):
        """Stopped while it has no transaction open there: one would keep locks, and snapshots from being taken, for as long as it is stopped."""
        def transactions():
            return set(server.sql("SELECT pid, xact_start FROM pg_stat_activity WHERE datname = %s AND xact_start IS NOT NULL AND usename = 'app'",
                                  database, (database,)))
        for _ in range(100):
            self.pause()
            open_ones = transactions()
            waited_until = time.monotonic() + 1
            while open_ones and time.monotonic() < waited_until:
                open_ones &= transactions()  # others' transactions end
            if not open_ones:
                return
            self.wake()
        raise AssertionError('it always has a transaction open')

    def wake(self):
        self.process.send_signal(signal.SIGCONT)

    def door(self, tenant):
        def connect():
            return psycopg2.connect(host='127.0.0.1', port=self.client_port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                    options='-c pgporter.tenant=' + tenant, connect_timeout=5)
        return connect


class World:
    def __init__(self, instances=1):
        self.workspace = fixture.Workspace()
        self.switch = tcp_switch.Switch()
        self.source = fixture.Postgres(self.workspace, 'source', SETTINGS)
        self.target = fixture.Postgres(self.workspace, 'target', SETTINGS)
        self.catalog = fixture.Postgres(self.workspace, 'catalog', SETTINGS)
        for server in (self.source, self.target, self.catalog):
            server.make_roles()
        self.source.sql('CREATE DATABASE app OWNER app')
        self.ports = {name: self.switch.link(name, server.port) for name, server in self.servers().items()}
        self.catalog_port = self.ports['catalog']
        self.instances = []
        for number in range(instances):
            self.add_instance('instance%d' % (number + 1)).start()
        self.tenants = 0

    def servers(self):
        return {'source': self.source, 'target': self.target, 'catalog': self.catalog}

    def add_instance(self, name):
        instance = Instance(self, name)
        self.instances.append(instance)
        return instance

    def close(self):
        self.workspace.close()
        self.switch.stop()

    def kill_server(self, name):
        """Without a goodbye, as kill -9 of the whole server: its postmaster first, then what it has started."""
        server = self.servers()[name]
        family = tcp_switch.family_of(server.process.pid)
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        server.process.wait(10)
        pid_file = os.path.join(server.data, 'postmaster.pid')
        if os.path.exists(pid_file):
            os.unlink(pid_file)

    def mend(self):
        """Everything runs and every way is open again."""
        self.switch.heal()
        for server in self.servers().values():
            if server.process.poll() is not None:
                server.start()
        for instance in self.instances:
            if instance.process is not None and instance.process.poll() is None:
                instance.wake()
        for instance in self.instances:
            if instance.process is None or instance.process.poll() is not None:
                instance.start()


class Case:
    """One tenant, its history and its move."""
    COMPARED = (('ledger', 'id'), ('orders', 'id'), ('lines', 'id'), ('batches', "id || '/' || line"))

    def __init__(self, world, filling=300, clients_each=2, bypass=True, doors=None, seed=0):
        self.world = world
        world.tenants += 1
        self.tenant = 't%d' % world.tenants
        world.source.sql(history.SCHEMA.format(self.tenant, filling), 'app')
        clusters = {'main': {'port': world.ports['source']}, 'own': {'port': world.ports['target']}}
        world.instances[0].apply(fixture.document(clusters, {self.tenant: {}}))
        for instance in world.instances:
            wait_for(lambda: instance.http('GET', '/v1/tenants/' + self.tenant)[0] == 200, 'the tenant is known')
        ways = {instance.name: instance.door(self.tenant) for instance in (doors or world.instances)}
        if bypass:
            ways['bypass'] = self.bypass
        self.history = history.History(ways, clients_each, seed=seed) if clients_each else None
        self.move = None
        self.before = set(self.artefacts())  # of a test that failed
        if self.history:
            self.history.go_on(15)

    def bypass(self):
        """Past pgporter, right into the source."""
        return psycopg2.connect(host='127.0.0.1', port=self.world.source.port, user='app', password=fixture.PASSWORDS['app'], dbname='app',
                                options='-c search_path=' + self.tenant, connect_timeout=5)

    # -- the move
    def promote(self, instance=None, **more):
        instance = instance or self.world.instances[0]
        status, body = instance.http('POST', '/v1/tenants/%s:promote' % self.tenant, dict({'to': {'cluster': 'own', 'database': self.tenant}}, **more))
        if status == 202:
            self.move = int(body['id'])
        return status, body

    def promote_into(self, trap, **more):
        """Starts it, and waits for the trap: what asks must not wait for an answer that the trap keeps."""
        import threading
        threading.Thread(target=self.promote_quietly, kwargs=more, daemon=True).start()
        trap.wait(30)
        wait_for(self.find, 'the move is in the catalog')

    def wait_for_pieces(self):
        """Of a copy that a trap holds: something of it is there for good."""
        def some():
            return self.world.target.sql('SELECT count(*) FROM pgporter_move_%d.pieces WHERE snapshot IS NOT NULL' % self.move, self.tenant)[0][0] > 0
        wait_for(some, 'a piece of the copy is there', 20)
        self.world.target.sql('CHECKPOINT')  # also should the server crash

    def promote_quietly(self, **more):
        try:
            self.promote(**more)
        except OSError:
            pass  # it was killed, as it should

    def find(self):
        rows = self.world.catalog.sql('SELECT id FROM pgporter.moves WHERE tenant = %s ORDER BY id DESC LIMIT 1', 'catalog', (self.tenant,))
        self.move = rows[0][0] if rows else None
        return self.move

    def row(self):
        rows = self.world.catalog.sql('SELECT state, error, note FROM pgporter.moves WHERE tenant = %s ORDER BY id DESC LIMIT 1', 'catalog',
                                      (self.tenant,))
        return rows[0] if rows else (None, '', '')

    def wait_state(self, *states, timeout=30):
        def reached():
            state, error, note = self.row()
            if state not in states and state in ENDS and not set(states) & LATER_ENDS:
                raise AssertionError('the move ended as %s: %s %s' % (state, error, note))
            return state if state in states else None
        return wait_for(reached, lambda: 'move of %s in %s, but it is %s\n%s' % (self.tenant, states, self.row(), self.logs()), timeout, 0.05)

    def logs(self):
        return '\n'.join('%s:\n%s' % (instance.name, instance.log()[-2500:]) for instance in self.world.instances)

    def steps(self):
        return [row[0] for row in self.world.catalog.sql(
            'SELECT s.state FROM pgporter.move_steps s JOIN pgporter.moves m ON m.id = s.move WHERE m.tenant = %s ORDER BY s.id', 'catalog', (self.tenant,))]

    def place(self):
        return self.world.catalog.sql('SELECT cluster, database FROM pgporter.tenants WHERE name = %s', 'catalog', (self.tenant,))[0]

    def home(self):
        """A connection to where the tenant lives, past pgporter."""
        cluster, database = self.place()
        connection = (self.world.source if cluster == 'main' else self.world.target).connect(database)
        connection.cursor().execute('SET search_path = ' + self.tenant)
        return connection

    def has_target(self):
        return bool(self.world.target.sql('SELECT 1 FROM pg_database WHERE datname = %s', 'postgres', (self.tenant,)))

    def artefacts(self):
        found = [row[0] for row in self.world.source.sql(ARTEFACTS, 'app')]
        if self.has_target():
            found += ['target: ' + row[0] for row in self.world.target.sql(ARTEFACTS, self.tenant)]
        return [artefact for artefact in found if artefact not in getattr(self, 'before', ())]

    # -- the end
    def end(self, test, state=None, timeout=40, no_failures=()):
        """The move ends as `state` (None: it went well, or was undone), the clients work on, and nothing is wrong. `no_failures`: doors whose
        clients must have noticed nothing. One that went well is completed then."""
        state = self.wait_state(*([state] if state else [MOVED, 'aborted']), timeout=timeout)
        if self.history:
            doors = [i.name for i in self.world.instances if i.name in {c.label for c in self.history.clients}]
            for door in doors:
                self.history.go_on(10, label=door)
            self.history.stop()
        cluster = self.place()[0]
        test.assertEqual(cluster, 'own' if state in (MOVED, 'completed') else 'main')
        home = self.home()
        if self.history:
            test.assertEqual(self.history.judge(home), [])
            test.assertEqual(self.history.failures(*no_failures), [])
        home.close()
        if state == MOVED:
            test.assertEqual([a for a in self.artefacts() if a.split()[0] not in ('trigger', 'schema', 'function') and 'pgporter_back_' not in a], [])
            self.nobody_writes_behind(test)
            self.complete()
        elif state == 'completed':
            test.assertFalse(self.world.source.sql('SELECT 1 FROM pg_namespace WHERE nspname = %s', 'app', (self.tenant,)), 'the schema is still there')
        else:
            test.assertFalse(self.has_target(), 'the target database is still there')
        test.assertEqual(self.artefacts(), [])
        return state

    def nobody_writes_behind(self, test):
        """The source is fenced, and holds nothing that the target doesn't."""
        bypass = self.bypass()
        bypass.autocommit = True
        with test.assertRaises(psycopg2.Error) as refused:
            bypass.cursor().execute("INSERT INTO ledger (id) VALUES ('late')")
        test.assertEqual(refused.exception.pgcode, 'PP001')
        cursor = bypass.cursor()
        home = self.home()
        for table, key in self.COMPARED:
            cursor.execute('SELECT %s FROM %s' % (key, table))
            before = {row[0] for row in cursor.fetchall()}
            there = home.cursor()
            there.execute('SELECT %s FROM %s' % (key, table))
            late = before - {row[0] for row in there.fetchall()}
            test.assertEqual(sorted(late)[:3], [], 'written to the source after the flip')
        bypass.close()
        home.close()

    def ask(self, what):
        """Of the first instance that agrees: complete, rollback."""
        for instance in self.world.instances:
            if instance.process.poll() is None and instance.http('POST', '/v1/moves/%d:%s' % (self.find(), what), {})[0] == 202:
                return True
        return False

    def ask_quietly(self, what):
        try:
            return self.ask(what)
        except OSError:
            return False  # it was killed, as it should, or has just been started

    def complete(self):
        wait_for(lambda: self.row()[0] == 'completed' or self.ask_quietly('complete'), 'the move is completed on request')
        self.wait_state('completed')

    def roll_back(self, timeout=60):
        """However often it gives way: whoever wants it asks again."""
        def is_back():
            state = self.row()[0]
            if state == MOVED:
                self.ask_quietly('rollback')
            return state == 'rolled_back'
        wait_for(is_back, lambda: 'the rollback ends: %s\n%s' % (self.row(), self.logs()), timeout, 0.2)


def long_only(test):
    """A test of a kind of which others run always: this one runs with PGPORTER_LONG=1, or when it is asked for by its name."""
    return test if os.environ.get('PGPORTER_LONG') or any(test.__name__ in argument for argument in sys.argv[1:]) else None


def wait_note(case, text, timeout=30):
    """Until the move's note, as its own instance tells it, says so."""
    return wait_for(lambda: text in case.row()[2], lambda: 'the note %r: %s\n%s' % (text, case.row(), case.logs()), timeout, 0.05)
