"""Prepared statements against what a pooler gets wrong (pitfalls 17 to 24), beyond test_pitfalls_pipeline: DDL of others, names and their
ends, eviction under portals, transactions that fail, long and many statements. Where PostgreSQL can play it too, it is the judge.
"""
import itertools

import fixture
import pitfall_tools as tools
import wire_client as w
from conversation import q, run, t, x
from wire_client import ServerError

NAMES_MAX = 10_000


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 3000, 'server_statements_max': 8}).start()
    proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


class Statements(tools.Base):
    def say(self, wire, *messages):
        wire.send(b''.join(messages) + w.sync())
        return wire.recv_until('Z')

    def ask(self, wire, *messages):
        return wire._rows(self.say(wire, *messages))

    def errors(self, messages):
        return [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']

    def between(self):
        """Sessions of another tenant, and of the same one, use the only server connection and the same names."""
        others = [self.wire('globex'), self.wire('acme')]

        def act():
            for other in others:
                self.say(other, w.close('S', 's'), w.parse('s', "SELECT 'theirs'"), w.parse('', 'SELECT 0'), w.bind('', 's'), w.execute())
        return act

    def both(self, name, turns, modes=('whole', 'coalesced')):
        self.same_as_postgresql(name, turns, modes)
        self.same_as_postgresql(name + ', with others in between', turns, ('whole',), between=self.between())

    def test_17_a_name_that_is_taken(self):
        self.both('duplicates', [
            x(w.parse('s', 'SELECT 1')), x(w.parse('s', 'SELECT 1')), x(w.parse('s', 'SELECT 2'), w.bind('', 's'), w.execute()),
            x(w.bind('', 's'), w.execute()), x(w.parse('s', 'SELEKT')), x(w.close('S', 's'), w.parse('s', 'SELECT 3'), w.bind('', 's'), w.execute()),
            x(w.parse('s', 'SELECT 4'), w.close('S', 's')), x(w.bind('', 's'), w.execute()), q('BEGIN'), x(w.parse('s', 'SELECT 5')),
            q('ROLLBACK'), x(w.bind('', 's'), w.execute()), x(w.close('S', 's')), x(w.bind('', 's'))])
        long_name = 'n' * 63
        self.both('names are cut at 63 bytes', [
            x(w.parse(long_name + 'a', 'SELECT 1')), x(w.bind('', long_name + 'b'), w.execute()), x(w.parse(long_name, 'SELECT 2')),
            x(w.close('S', long_name + 'c')), x(w.bind('', long_name + 'a'))])

    def test_17_close_in_a_failed_transaction(self):
        """Close works there; Parse and Describe don't; what was closed stays closed after ROLLBACK."""
        self.both('Close', [
            x(w.parse('s', 'SELECT 1'), w.parse('r', 'ROLLBACK')), q('BEGIN'), q('SELECT 1/0'), x(w.close('S', 's')), x(w.close('S', 'never')),
            x(w.describe('S', 's')), x(w.parse('s', 'SELECT 2')), x(w.close('S', 's'), w.bind('', 'r'), w.execute()), x(w.bind('', 's')),
            x(w.parse('s', 'SELECT 3')), x(w.bind('', 's'), w.execute()), q('BEGIN'), x(run('SELECT 1/0'), w.close('S', 's')), x(w.describe('S', 'r')),
            x(w.bind('', 's')), x(w.bind('', 'r'), w.execute()), x(w.bind('', 's'), w.execute())])

    def test_18_statements_are_no_part_of_a_transaction(self):
        """What was prepared, or closed, stays so when the transaction is rolled back."""
        self.both('by messages', [
            q('BEGIN'), x(w.parse('s', 'SELECT 1'), w.describe('S', 's')), q('ROLLBACK'), x(w.bind('', 's'), w.execute()),
            q('BEGIN'), x(w.close('S', 's')), q('ROLLBACK'), x(w.bind('', 's')), q('BEGIN'), x(w.parse('s', 'SELECT 2'), run('SELECT 1/0')),
            q('ROLLBACK'), x(w.bind('', 's'), w.execute()), x(w.parse('u', 'SELECT 3'), run('SELECT 1/0')), x(w.bind('', 'u'), w.execute())])
        self.same_as_postgresql('in SQL', [
            q('BEGIN'), q('PREPARE p AS SELECT 1'), q('ROLLBACK'), q('EXECUTE p'), q('PREPARE p AS SELECT 2'), q('BEGIN'), q('DEALLOCATE p'),
            q('ROLLBACK'), q('EXECUTE p'), q('BEGIN; PREPARE p AS SELECT 3; SELECT 1/0'), q('EXECUTE p'), q('ROLLBACK'), q('EXECUTE p'),
            q('DEALLOCATE p'), x(w.parse('p', 'PREPARE inner_ AS SELECT 4'), w.bind('', 'p'), w.execute()), q('EXECUTE inner_'), q('DEALLOCATE ALL'),
            q('EXECUTE inner_'), x(w.bind('', 'p'))])

    def test_19_eviction_under_an_open_portal(self):
        """server_statements_max is 8: the portal lives on when its statement was closed to make room, and so does the name."""
        fill = lambda first: b''.join(w.parse('f%d' % i, 'SELECT %d' % i) + w.bind('f', 'f%d' % i) + w.close('P', 'f') for i in range(first, first + 20))
        self.both('portals', [
            x(w.parse('s', 'SELECT n FROM items ORDER BY id')), q('BEGIN'), x(w.bind('p', 's'), w.execute('p', 2)), x(fill(0)),
            x(w.execute('p', 2), w.describe('P', 'p')), x(w.bind('p2', 's'), w.execute('p2', 1), w.execute('p', 1)),
            x(w.close('S', 's'), w.execute('p', 1)), x(w.bind('p3', 's')), q('ROLLBACK'), x(w.bind('', 'f3'), w.execute())])
        self.both('in one batch', [x(w.parse('s', 'SELECT n FROM items ORDER BY id'), w.bind('p', 's'), w.execute('p', 2), fill(0), w.execute('p', 2),
                                     w.bind('', 's'), w.execute('', 1), w.execute('p'))])

    def test_19_eviction_in_batches_that_fail(self):
        names = ['f%d' % i for i in range(20)]
        parse = b''.join(w.parse(name, 'SELECT %d / $1::int' % i) for i, name in enumerate(names))
        use = lambda chosen, value: b''.join(w.bind('', name, [value]) + w.execute() for name in chosen)
        self.both('errors', [
            x(parse), x(use(names[:12], '1'), use(names[12:13], '0'), use(names, '1')), x(use(names[13:], '1')), x(use(reversed(names), '2')),
            q('BEGIN'), x(use(names, '1')), x(use(names[:10], '0')), x(use(names, '1')), q('ROLLBACK'), x(use(names, '3')),
            x(b''.join(w.close('S', name) for name in names[::2]), use(names[1::2], '1'), use(names[:1], '1')), x(use(names[1::2], '1'))])
        kept = self.wire().run("SELECT name FROM pg_prepared_statements WHERE name ~ '^PGPORTER_[0-9]'")
        self.assertLessEqual(len(kept), 8, kept)

    def test_20_one_text_with_other_parameter_types(self):
        """Under names of their own, in all orders: what a client declares belongs to the statement."""
        for oids in itertools.permutations((0, 20, 23, 25), 3):
            parse = [w.parse('s%d' % oid, 'SELECT $1 AS v, pg_typeof($1)::text', [oid] if oid else []) for oid in oids]
            turns = [x(*parse)] + [x(w.describe('S', 's%d' % oid), w.bind('', 's%d' % oid, ['7']), w.execute()) for oid in oids] * 2
            self.same_as_postgresql('types %s' % (oids,), turns, ('whole',), between=self.between())
        self.both('unnamed', [x(w.parse('', 'SELECT $1', [oid]), w.describe('S'), w.bind('', '', ['7']), w.describe('P'), w.execute())
                              for oid in (20, 23, 25, 20)])
        self.both('declared in part, or more than there are', [
            x(w.parse('s', 'SELECT $1 + $2', [23]), w.describe('S', 's')), x(w.bind('', 's', ['1', '2']), w.execute()),
            x(w.parse('m', 'SELECT $1', [23, 25, 20]), w.describe('S', 'm')), x(w.bind('', 'm', ['1', 'b', '3']), w.execute()), x(w.bind('', 'm', ['1']))])

    def test_23_ddl_of_another_session(self):
        """Through pgporter or past it: who prepared before is refused where the result is another one, and goes on where it isn't; who
        prepares again sees what is there, and has no error that isn't its own."""
        refusing = ('ALTER TABLE ddl ADD COLUMN c int DEFAULT 3', 'ALTER TABLE ddl DROP COLUMN b', 'ALTER TABLE ddl ALTER a TYPE bigint')
        harmless = ('CREATE INDEX ON ddl (a)', 'ALTER TABLE ddl SET (fillfactor = 50)', 'ANALYZE ddl')
        for number, (through, change) in enumerate(itertools.product((True, False), refusing + harmless)):
            with self.subTest(change, through=through):
                goes_on = change in harmless
                server.sql('DROP TABLE IF EXISTS acme.ddl; CREATE TABLE acme.ddl AS SELECT 1 AS a, 2 AS b; ALTER TABLE acme.ddl OWNER TO app', 'app')
                before, other, direct = self.wire(), self.wire(), self.direct()
                text = 'SELECT *, %d AS round FROM ddl' % number
                for wire in (before, direct):
                    self.say(wire, w.parse('s', text), w.describe('S', 's'))
                    self.ask(wire, w.bind('', 's'), w.execute())
                if through:
                    other.run(change)
                else:
                    server.sql('SET search_path = acme; ' + change, 'app')
                got, want = [[(k, b) for k, b in self.say(wire, w.bind('', 's'), w.execute())] for wire in (before, direct)]
                self.assertEqual(self.errors(got), self.errors(want))
                self.assertEqual(self.errors(got), [] if goes_on else ['0A000'])
                fresh = self.wire()
                self.assertEqual(self.ask(fresh, w.parse('s', text), w.describe('S', 's'), w.bind('', 's'), w.execute()), direct.run(text))
                for wire in (before, direct):
                    self.say(wire, w.close('S', 's'))
                self.assertEqual(*[self.say(wire, w.parse('s', text), w.describe('S', 's'), w.bind('', 's'), w.execute()) for wire in (before, direct)])

    def test_23_ddl_of_its_own_in_a_transaction(self):
        self.same_as_postgresql('undone by ROLLBACK', [
            x(w.parse('s', 'SELECT * FROM unique_n'), w.describe('S', 's')), q('BEGIN'), x(w.bind('', 's'), w.execute()),
            q('ALTER TABLE unique_n ADD b int'), q('SAVEPOINT p'), x(w.bind('', 's'), w.execute()), q('ROLLBACK TO p'),
            x(w.parse('t', 'SELECT * FROM unique_n'), w.bind('', 't'), w.describe('P'), w.execute()), q('ROLLBACK'), x(w.bind('', 's'), w.execute()),
            x(w.bind('', 't'), w.execute()), q('BEGIN'), q('DROP TABLE unique_n'), x(w.bind('', 's'), w.execute()), q('ROLLBACK'),
            x(w.bind('', 's'), w.execute())], ('whole',))

    def test_23_a_path_of_its_own(self):
        """Sessions of one tenant with other paths don't take each other's plans; each has its own result, and no error."""
        server.sql('CREATE SCHEMA IF NOT EXISTS extra AUTHORIZATION app; DROP TABLE IF EXISTS extra.pathed, acme.pathed; '
                   "CREATE TABLE acme.pathed AS SELECT 1 AS v; CREATE TABLE extra.pathed AS SELECT 'two'::text AS v; "
                   'ALTER TABLE acme.pathed OWNER TO app; ALTER TABLE extra.pathed OWNER TO app', 'app')
        plain, own = self.wire(), self.wire()
        own.run('SET search_path TO extra, acme')
        for wire in (plain, own):
            self.say(wire, w.parse('s', 'SELECT v FROM pathed'), w.describe('S', 's'))
        for _ in range(3):
            self.assertEqual(self.ask(plain, w.bind('', 's'), w.execute()), [('1',)])
            self.assertEqual(self.ask(own, w.bind('', 's'), w.execute()), [('two',)])

    def test_24_everything_is_dropped(self):
        """What was told of a name is forgotten with it: the next statement of that name may be anything."""
        for drop in (w.query('DEALLOCATE ALL'), w.query('DISCARD ALL'), run('DEALLOCATE ALL') + w.sync(), run('DISCARD ALL') + w.sync(),
                     run('DEALLOCATE s') + w.sync(), w.query('DEALLOCATE s'), w.query('DEALLOCATE PREPARE ALL'), w.close('S', 's') + w.sync()):
            turns = [x(w.parse('s', 'SELECT 1 AS a'), w.describe('S', 's')), x(w.bind('', 's'), w.execute()), t(drop), x(w.bind('', 's')),
                     x(w.parse('s', "SELECT 'x'::text AS b, $1::int8 AS c"), w.describe('S', 's')), x(w.bind('', 's', ['1']), w.execute()), t(drop)]
            self.both('drop', turns, ('whole',))
        self.both('a statement of another name stays', [
            x(w.parse('s', 'SELECT 1'), w.parse('t', 'SELECT 1')), q('DEALLOCATE s'), x(w.bind('', 't'), w.execute()), x(w.bind('', 's'))])

    def test_long_statements(self):
        """Some megabytes, in pieces, shared and prepared again."""
        long = "SELECT '%s' AS v, $1::int" % ('l' * 3_000_000)
        self.same_as_postgresql('long', [x(w.parse('s', long)), x(w.bind('', 's', ['1']), w.execute()), x(w.describe('S', 's')),
                                         x(w.bind('', 's', ['2']), w.execute()), x(w.parse('s', long)), x(w.close('S', 's'))],
                                ('whole',), between=self.between())
        wire = self.wire()
        wire.send(w.parse('s', 'SELECT 1 --' + 'x' * 17_000_000) + w.sync())
        self.assertEqual(self.errors(wire.expect_eof()), ['54000'])
        self.works()

    def test_many_statements(self):
        """10,000 of one session is the bound: one more is refused by name, and the session goes on."""
        wire = self.wire()
        wire.timeout = 60.0
        step = 1000
        for first in range(0, NAMES_MAX, step):
            got = self.say(wire, *[w.parse('m%d' % i, 'SELECT %d' % i) for i in range(first, first + step)])
            self.assertEqual([k for k, _ in got], ['1'] * step + ['Z'])
        got = self.say(wire, w.parse('one too many', 'SELECT 1'), w.bind('', 'm1'))
        self.assertEqual(self.errors(got), ['53400'])
        self.assertEqual(self.ask(wire, w.bind('', 'm7'), w.execute(), w.bind('', 'm9999'), w.execute()), [('7',), ('9999',)])
        self.works('globex')
        self.say(wire, w.close('S', 'm5'))
        self.assertEqual(self.ask(wire, w.parse('one more', 'SELECT 11'), w.bind('', 'one more'), w.execute(), w.bind('', 'm6'), w.execute()),
                         [('11',), ('6',)])
        with self.assertRaises(ServerError) as caught:
            self.ask(wire, w.bind('', 'm5'))
        self.assertEqual(caught.exception.sqlstate, '26000')
        wire.run('DEALLOCATE ALL')
        self.assertEqual(self.ask(wire, w.parse('m7', 'SELECT 70'), w.bind('', 'm7'), w.execute()), [('70',)])


if __name__ == '__main__':
    fixture.main(__name__)
