"""A client sends and reads binary values by the description that it was told of a statement. On another server connection the statement is
prepared anew, and may have become another one: then it is refused as PostgreSQL refuses it (0A000), and never gives a wrong value.
"""
import contextlib
import struct
import time

import fixture
import naming_world
import pitfall_tools as tools
import wire_client as w

CHANGED = {'S': 'ERROR', 'V': 'ERROR', 'C': '0A000', 'M': 'cached plan must not change result type', 'F': 'plancache.c', 'R': 'RevalidateCachedQuery'}
ROUND_TRIP = 0.8


def setUpModule():
    global workspace, server, relay, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    naming_world.make(server)
    relay = tools.Relay(workspace, server.port)
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 4000, 'server_statements_max': 5})
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()
    proxy.apply(naming_world.document({'port': relay.port}, connections=2))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


def int4(value):
    return struct.pack('!i', value)


class Described(tools.Base):
    def setUp(self):
        relay.change = lambda data, number: data
        self.asked = []

    def table(self, columns='a int, b text', values="(1, 'one')", tenant='acme', name='shaped'):
        database = naming_world.DATABASE_OF[tenant]
        for one in (database, 'reference'):
            server.sql('DROP TABLE IF EXISTS {0}.{3}; CREATE TABLE {0}.{3} ({1}); INSERT INTO {0}.{3} VALUES {2}; '
                       'ALTER TABLE {0}.{3} OWNER TO app'.format(tenant, columns, values, name), one)

    def alter(self, sql, tenant='acme'):
        """Where pgporter can't see it."""
        for one in (naming_world.DATABASE_OF[tenant], 'reference'):
            server.sql('ALTER TABLE %s.shaped %s' % (tenant, sql), one)

    def say(self, wire, *messages):
        wire.send(b''.join(messages) + w.sync())
        return wire.recv_until('Z')

    def prepare(self, wire, name='s', sql='SELECT * FROM shaped', oids=()):
        got = self.say(wire, w.parse(name, sql, oids), w.describe('S', name))
        self.assertIn('t', [k for k, _ in got], got)

    def use(self, wire, name='s', values=(), formats=(), result_formats=(1,)):
        """The rows in binary, or the error's SQLSTATE."""
        got = self.say(wire, w.bind('', name, values, formats, result_formats), w.execute())
        errors = [w.error_fields(body)['C'] for kind, body in got if kind == 'E']
        return errors[0] if errors else [w.row_values(body) for kind, body in got if kind == 'D']

    def pid(self, wire):
        """Where it ran last. Not by a simple Query, which would drop the unnamed statement."""
        if wire not in self.asked:
            self.say(wire, w.parse('own pid', 'SELECT pg_backend_pid()'))
            self.asked.append(wire)
        return self.use(wire, 'own pid', result_formats=())[0][0].decode()

    def hold(self, wanted):
        """Keeps one of the two server connections: the one that is wanted, by a test of its process id."""
        holders = []
        for _ in range(2):
            holders.append(self.wire('initech'))
            if wanted(holders[-1].run('BEGIN; SELECT pg_backend_pid()')[0][0]):
                break
        for other in holders[:-1]:
            other.close()
        return holders[-1]

    @contextlib.contextmanager
    def elsewhere(self, wire):
        """What runs inside runs on another server connection than the one that it ran on last: that one is taken."""
        here = self.pid(wire)
        holder = self.hold(lambda pid: pid == here)
        try:
            yield
            if wire.socket.fileno() >= 0:
                self.assertNotEqual(self.pid(wire), here)
        finally:
            holder.close()

    @contextlib.contextmanager
    def staying(self, wire):
        here = self.pid(wire)
        holder = self.hold(lambda pid: pid != here)
        try:
            yield
            self.assertEqual(self.pid(wire), here)
        finally:
            holder.close()

    def test_the_change_is_refused_in_postgresql_s_words_and_place(self):
        self.table()
        for prefix, suffix in ((b'', b''), (w.parse('x', 'SELECT 7') + w.bind('', 'x') + w.execute() + w.close('S', 'x'),
                                            w.bind('', 's') + w.execute() + w.close('S', 'x'))):
            for begins in (False, True):
                transcripts = []
                for wire in (self.direct(database='reference'), self.wire()):
                    self.table()
                    self.prepare(wire)
                    self.use(wire)
                    self.alter('ADD COLUMN c int')
                    with self.elsewhere(wire) if wire.address[1] == proxy.port else contextlib.nullcontext():
                        if begins:
                            wire.run('BEGIN')
                        got = self.say(wire, prefix, w.bind('', 's'), w.describe('P'), w.execute(), suffix)
                        got += self.say(wire, w.parse('', 'SELECT 8'), w.bind(), w.execute())
                        if begins:
                            wire.run('ROLLBACK')
                    transcripts.append([(k, {f: v for f, v in w.error_fields(b).items() if f != 'L'} if k == 'E' else b) for k, b in got])
                self.assertEqual(transcripts[0], transcripts[1])
                self.assertIn(('E', CHANGED), transcripts[1])

    def test_whatever_a_driver_relies_on(self):
        for change in ('ALTER a TYPE bigint', 'ALTER a TYPE real', 'ADD COLUMN c int', 'DROP COLUMN b', 'RENAME b TO c', 'ALTER b TYPE varchar(5)',
                       'DROP COLUMN a, ADD COLUMN a int'):
            with self.subTest(change):
                self.table()
                wire = self.wire()
                text = 'SELECT * FROM shaped -- ' + change  # nobody has it yet
                self.prepare(wire, sql=text)
                self.assertEqual(self.use(wire), [[int4(1), b'one']])
                before = proxy.metric('pgporter_statements_changed_total')
                self.alter(change)
                with self.elsewhere(wire):
                    self.assertEqual(self.use(wire), '0A000')
                    self.assertEqual(self.use(wire), '0A000')
                    self.assertEqual(proxy.metric('pgporter_statements_changed_total'), before + 2)
                    self.say(wire, w.close('S', 's'))
                    self.prepare(wire, sql=text)  # what drivers do then
                    self.assertNotEqual(self.use(wire), '0A000')
                self.assertNotEqual(self.use(wire), '0A000')

    def test_however_it_was_described(self):
        """By a portal, as libpq does it; by name only once; under two names; described and never used."""
        for way in ('portal', 'two names', 'never used', 'used only'):
            with self.subTest(way):
                self.table()
                wire = self.wire()
                if way == 'portal':
                    self.say(wire, w.parse('s', 'SELECT * FROM shaped'))
                    self.say(wire, w.bind('', 's'), w.describe('P'), w.execute())
                elif way == 'used only':
                    self.say(wire, w.parse('s', 'SELECT * FROM shaped'), w.bind('', 's'), w.execute())
                else:
                    self.prepare(wire)
                if way == 'two names':
                    self.prepare(wire, 's2')
                    self.use(wire, 's')
                self.alter('ALTER a TYPE bigint')
                with self.elsewhere(wire):
                    self.assertEqual(self.use(wire), '0A000')
                    if way == 'two names':
                        self.assertEqual(self.use(wire, 's2'), '0A000')

    def test_unnamed_statement(self):
        for way in ('S', 'P', 'named portal', 'wide'):
            for change in (None, 'ALTER a TYPE bigint'):
                with self.subTest(way=way, change=change):
                    self.table()
                    wire = self.wire()
                    columns = '*' if way != 'wide' else '*, ' + ', '.join('%d AS a_column_with_a_long_name_%d' % (i, i) for i in range(300))
                    parse = w.parse('', 'SELECT %s FROM shaped WHERE a = $1' % columns)
                    if way in ('S', 'wide'):
                        self.say(wire, parse, w.describe('S'))
                    else:
                        portal = 'p' if way == 'named portal' else ''
                        self.say(wire, parse, w.bind(portal, '', [int4(1)], (1,)), w.describe('P', portal), w.execute(portal))
                    if change:
                        self.alter(change)
                    with self.elsewhere(wire):
                        got = self.use(wire, '', [int4(1)], (1,))
                        if change:
                            self.assertEqual(got, '0A000')
                            self.assertEqual(self.use(wire, '', [int4(1)], (1,)), '0A000')
                        else:
                            self.assertEqual(got[0][:2], [int4(1), b'one'])

    def test_parameters_keep_the_types_that_were_told(self):
        """The client sends an int4; meanwhile the column has become one of another type, of the same width even."""
        for type_, want, first in (('real', '42', b''), ('bigint', '42', b''), ('text', '42', b''), ('real', '42', w.describe('S', 's'))):
            with self.subTest(type_, first=first):
                self.table('a int, b text', "(0, '')")
                wire = self.wire()
                self.prepare(wire, 's', 'INSERT INTO shaped (a) VALUES ($1) -- %s %s' % (type_, first))  # nobody has it yet
                self.alter('ALTER a TYPE ' + type_)
                with self.elsewhere(wire):
                    got = self.say(wire, first, w.bind('', 's', [int4(42)], (1,)), w.execute())
                    self.assertEqual([(k, b) for k, b in got if k in 'tE'], [('t', struct.pack('!hI', 1, 23))] if first else [])
                    self.assertEqual(wire.run('SELECT a::text FROM shaped WHERE b IS NULL'), [(want,)])
                self.assertEqual(self.use(wire, 's', [int4(42)], (1,)), [])
                self.assertEqual(wire.run('SELECT a::text FROM shaped WHERE b IS NULL'), [(want,)] * 2)

    def test_nothing_has_changed(self):
        """Binary values in and out on all server connections, by turns, with evictions in between (server_statements_max is 5)."""
        self.table()
        wires = [self.wire(), self.wire()]
        for wire in wires:
            for i in range(8):
                self.prepare(wire, 's%d' % i, 'SELECT a, b, %d AS c FROM shaped WHERE a = $1' % i)
        for _ in range(3):
            for wire in wires:
                with self.elsewhere(wire):
                    for i in range(8):
                        self.assertEqual(self.use(wire, 's%d' % i, [int4(1)], (1,)), [[int4(1), b'one', int4(i)]])
                    batch = b''.join(w.bind('', 's%d' % i, [int4(1)], (1,), (1,)) + w.execute() for i in range(8))
                    self.assertEqual([w.row_values(b)[2] for k, b in self.say(wire, batch) if k == 'D'], [int4(i) for i in range(8)])

    def test_changed_while_it_was_evicted_from_the_same_server_connection(self):
        self.table()
        wire = self.wire()
        sql = 'SELECT * FROM shaped -- evicted'  # what other tests have prepared is of tables that are gone
        self.prepare(wire, sql=sql)
        self.assertEqual(self.use(wire), [[int4(1), b'one']])
        with self.staying(wire):
            for i in range(6):
                self.prepare(wire, 'other%d' % i, 'SELECT %d' % i)
            self.alter('ALTER a TYPE bigint')
            self.assertEqual(self.use(wire), '0A000')
            self.table()
            self.say(wire, w.close('S', 's'))
            self.prepare(wire, sql=sql)
            wire.run('BEGIN')
            self.assertEqual(self.use(wire), [[int4(1), b'one']])
            wire.run('ALTER TABLE shaped ALTER a TYPE bigint')
            batch = b''.join(w.bind('', 'other%d' % i) + w.execute() for i in range(6))
            got = self.say(wire, batch, w.bind('', 's', result_formats=(1,)), w.execute())
            self.assertEqual([w.error_fields(b)['C'] for k, b in got if k == 'E'], ['0A000'])
            wire.run('ROLLBACK')

    def test_a_long_bind_waits_for_the_answer(self):
        """Its value doesn't fit into a buffer: it is read on when the description has come."""
        wire = self.wire()
        self.prepare(wire, 's', 'SELECT length($1::text) AS n')
        for _ in range(2):
            with self.elsewhere(wire):
                self.say(wire, w.close('S', 'own pid'))
                self.asked.remove(wire)
                got = self.say(wire, w.bind('', 's', ['x' * 3_000_000], (), (1,)) + w.execute() + w.bind('', 's', ['y'], (), (1,)) + w.execute())
                self.assertEqual([w.row_values(b) for k, b in got if k == 'D'], [[int4(3_000_000)], [int4(1)]])

    def test_types_of_its_own(self):
        """An enumeration as declared parameter, as inferred one, and as column: the same in its database, whatever the server connection."""
        server.sql("DROP TYPE IF EXISTS public.mood CASCADE; CREATE TYPE public.mood AS ENUM ('sad', 'ok')", 'app')
        (oid,) = server.sql("SELECT 'public.mood'::regtype::oid::int", 'app')[0]
        server.sql('DROP TABLE IF EXISTS acme.felt; CREATE TABLE acme.felt (a public.mood); ALTER TABLE acme.felt OWNER TO app', 'app')
        wire = self.wire()
        self.prepare(wire, 'declared', 'SELECT $1, $2', (oid, oid))
        self.prepare(wire, 'inferred', 'INSERT INTO felt VALUES ($1) RETURNING a, $1')
        for _ in range(2):
            with self.elsewhere(wire):
                self.assertEqual(self.use(wire, 'declared', ['ok', 'sad']), [[b'ok', b'sad']])
                self.assertEqual(self.use(wire, 'inferred', ['ok']), [[b'ok', b'ok']])

    def test_who_vanishes_while_it_waits_for_a_lock(self):
        self.table()
        wire = self.wire()
        self.prepare(wire)
        with self.elsewhere(wire):
            locker = server.connect('app')
            locker.autocommit = False
            locker.cursor().execute('LOCK TABLE acme.shaped')
            wire.send(w.bind('', 's') + w.execute() + w.flush())
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'acme.shaped'::regclass"
            fixture.wait_for(lambda: server.sql(waiting, 'app') == [(1,)], 'it waits for the lock')
            wire.reset_connection()
            fixture.wait_for(lambda: server.sql(waiting, 'app') == [(0,)], 'it waits no longer', 5)
            locker.close()

    def test_a_failed_describe_tells_nothing(self):
        self.table()
        wire = self.wire()
        self.say(wire, w.parse('s', 'SELECT * FROM shaped'))
        self.say(wire, w.parse('bad', 'SELECT 1/0'), w.bind('', 'bad'), w.execute(), w.describe('S', 's'), w.bind('', 's'), w.execute())
        self.alter('ALTER a TYPE bigint')
        with self.elsewhere(wire):
            self.assertEqual(self.use(wire), [[struct.pack('!q', 1), b'one']])

    def test_the_table_has_gone(self):
        self.table()
        wire = self.wire()
        self.prepare(wire)
        server.sql('DROP TABLE acme.shaped', 'app')
        with self.elsewhere(wire):
            got = self.say(wire, w.bind('', 's'), w.execute(), w.bind('', 's'), w.execute())
            self.assertEqual([w.error_fields(b)['C'] for k, b in got if k == 'E'], ['42P01'])
            self.assertEqual([k for k, _ in got], ['E', 'Z'])

    def test_no_round_trip_is_added(self):
        """Each answer takes ROUND_TRIP longer: what belongs together still takes one of them."""
        self.table()
        wire = self.wire()
        self.prepare(wire)
        self.use(wire)
        first = w.parse('n', 'SELECT a FROM shaped') + w.describe('S', 'n') + w.bind('', 'n') + w.execute()
        libpq = w.parse('l', 'SELECT b FROM shaped') + w.bind('', 'l') + w.describe('P') + w.execute()
        again = w.bind('', 's') + w.describe('P') + w.execute()
        relay.change = lambda data, number: time.sleep(ROUND_TRIP) or data
        for name, batch in (('new', first), ('new, by portal', libpq), ('known', again), ('known, more', again * 3)):
            began = time.monotonic()
            self.assertIn('D', [k for k, _ in self.say(wire, batch)])
            self.assertLess(time.monotonic() - began, 1.9 * ROUND_TRIP, name)

    def test_tenant_named_in_sql(self):
        """As with search_path in PostgreSQL: the statement is the current tenant's; where its result would be another one, it is refused."""
        self.table("tenant text DEFAULT 'acme', n int DEFAULT 1", "('acme', 1)")
        self.table("tenant text DEFAULT 'globex', n int DEFAULT 2", "('globex', 2)", 'globex')
        self.table("tenant text DEFAULT 'initech', n bigint DEFAULT 3", "('initech', 3)", 'initech')
        self.table("tenant text DEFAULT 'umbrella', n int DEFAULT 4", "('umbrella', 4)", 'umbrella')
        named = lambda tenant: w.query('SET search_path TO %s, public' % tenant)
        transcripts = []
        for wire in (naming_world.direct(server), proxy.wire(None)):
            self.addCleanup(wire.close)
            got = []
            for turn in ((named('acme'),), (w.parse('s', 'SELECT * FROM shaped'), w.describe('S', 's')), ('use',), (named('globex'),), ('use',),
                         (named('umbrella'),), ('use',), (named('initech'),), ('use',), ('use',), (named('acme'),), ('use',),
                         (w.query('BEGIN'),), (named('globex'),), ('use',), (w.query('COMMIT'),), ('use',),
                         (w.query('BEGIN'),), (w.query('SET LOCAL search_path TO initech'),), ('use',), (w.query('ROLLBACK'),), ('use',)):
                data = b''.join(turn) if turn != ('use',) else w.bind('', 's', result_formats=(1,)) + w.execute()
                is_query = data[:1] == b'Q'
                wire.send(data if is_query else data + w.sync())
                for kind, body in wire.recv_until('Z'):
                    if kind in 'DEZ':
                        got.append((kind, w.error_fields(body)['C'] if kind == 'E' else body))
            transcripts.append(got)
        self.assertEqual(transcripts[0], transcripts[1])
        self.assertEqual([w.row_values(b)[0] for k, b in transcripts[1] if k == 'D'],
                         [b'acme', b'globex', b'umbrella', b'acme', b'globex', b'globex', b'globex'])

    def test_whoever_brings_types_along_leaves_the_others_theirs(self):
        """A statement keeps the parameter types that it was told in one schema, also in another; who prepares the same text there has that one's."""
        self.table('v real, who int', '(0, 0)')
        self.table('v bigint, who int', '(0, 0)', 'globex')
        insert = 'INSERT INTO shaped (v, who) VALUES ($1, $2)'
        for way in ('unseen', 'described', 'described before'):
            with self.subTest(way):
                server.sql('DELETE FROM globex.shaped', naming_world.DATABASE_OF['globex'])
                text = insert + ' -- ' + way
                brings, has = self.wire('globex'), self.wire('globex')
                has.run('SET search_path TO globex')
                if way == 'described before':
                    with self.elsewhere(has):
                        self.prepare(has, sql=text)
                brings.run('SET search_path TO acme')
                self.prepare(brings, sql=text)
                brings.run('SET search_path TO globex')
                with self.staying(has):
                    self.assertEqual(self.use(brings, values=(struct.pack('!f', 16777217), '1'), formats=(1, 0)), [])
                    if way == 'unseen':
                        self.say(has, w.parse('s', text))
                    elif way == 'described':
                        told = dict(self.say(has, w.parse('s', text), w.describe('S', 's')))['t']
                        self.assertEqual(told, struct.pack('!hII', 2, 20, 23))
                    self.assertEqual(self.use(has, values=('16777217', '2')), [])
                self.assertEqual(self.use(brings, values=(struct.pack('!f', 16777217), '3'), formats=(1, 0)), [])
                self.assertEqual(has.run('SELECT who, v FROM shaped ORDER BY who'), [('1', '16777216'), ('2', '16777217'), ('3', '16777216')])

    def test_execute_in_sql_prepares_for_whom_it_runs(self):
        """Else whoever was named when the statement was parsed would find it with another tenant's columns and parameters."""
        self.table('a int, b text', "(1, 'one')")
        self.table('a bigint, b text', "(2, 'two')", 'globex')
        sql = 'SELECT * FROM shaped WHERE a = $1'
        for again in (w.query("EXECUTE s('2')"), w.parse('s', sql) + w.sync()):
            with self.subTest(again[:1]):
                turns, stays = self.wire('globex'), self.wire('globex')
                text = sql + ' -- %s' % again[:1]
                with self.elsewhere(stays):
                    turns.run('SET search_path TO acme')
                    self.prepare(turns, sql=text)
                turns.run('SET search_path TO globex')
                stays.run('SET search_path TO acme')
                with self.staying(stays):
                    turns.send(again)
                    got = turns.recv_until('Z')
                    self.assertEqual([w.row_values(b) for k, b in got if k == 'D'], [[b'2', b'two']] if again[:1] == b'Q' else [])
                    self.assertEqual(dict(self.say(stays, w.parse('s', text), w.describe('S', 's')))['t'], struct.pack('!hI', 1, 23))
                    self.assertEqual(self.use(stays, values=[int4(1)], formats=(1,)), [[int4(1), b'one']])


if __name__ == '__main__':
    fixture.main(__name__)
