"""Repeated unnamed statements that share one Parse (limits.unnamed_reuses_max), against what goes wrong with that: whatever happens to tables, paths,
statements and connections in between, the client hears what PostgreSQL itself would say to the same messages. The first proxy keeps what
it has for a very long time, so that nothing is right by being made anew.
"""
import time
import unittest

import conversation
import fixture
import wire_client as w

FEW = 5


def setUpModule():
    global workspace, server, proxy, careful
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = started('proxy', {'unnamed_reuses_max': 1000000, 'unnamed_reuse_ms_max': 600000, 'server_statements_max': 8})
    careful = started('careful', {'unnamed_reuses_max': FEW, 'unnamed_reuse_ms_max': 600000})


def started(name, limits):
    one = fixture.Pgporter(workspace, server, name=name, limits=dict(limits, wait_ms_max=3000)).start()
    one.apply(fixture.document({'main': server}, {tenant: {} for tenant in fixture.TENANTS},
                               databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))
    return one


def tearDownModule():
    workspace.close()


def batch(sql, values=(), oids=()):
    return w.parse('', sql, oids) + w.bind('', '', values) + w.describe('P') + w.execute() + w.sync()


def say(wire, data, pieces=None):
    wire.send(data, pieces)
    return conversation.normalise(wire.recv_until('Z'))


class Reuse(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.wires = []
        self.reset = 'DROP TABLE IF EXISTS acme.t, public.t, public.shadow, acme.shadow CASCADE'
        server.sql(self.reset + '; CREATE TABLE acme.t AS SELECT i AS id, i * 10 AS a FROM generate_series(1, 9) i; ALTER TABLE acme.t OWNER TO app', 'app')
        self.through, self.direct = self.wire(), self.wire(direct=True)

    def tearDown(self):
        for wire in self.wires:
            wire.close()

    def wire(self, tenant='acme', direct=False, of=None):
        if direct:
            wire = w.Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app', {'search_path': tenant + ', public'})
        else:
            wire = (of or proxy).wire(tenant)
        self.wires.append(wire)
        return wire

    def both(self, *turns, pieces=None):
        """The same answers, message by message. Returns the last one's."""
        for data in turns:
            want, got = say(self.direct, data), say(self.through, data, pieces)
            alike = len(want) == len(got) and all(conversation.same(a, b) for a, b in zip(want, got))
            self.assertTrue(alike, '\nPostgreSQL: %s\npgporter:   %s' % ([w.show(*m) for m in want], [w.show(*m) for m in got]))
        return [kind for kind, _ in got]

    def counted(self, name='reuses', of=None):
        return (of or proxy).metric('pgporter_unnamed_%s_total' % name) or 0

    def warm(self, *batches):
        """They are reused from here on, as a counter shows."""
        for data in batches:
            self.both(data, data, data)
            before = self.counted()
            self.both(data)
            self.assertEqual(self.counted(), before + 1, 'it is not reused at all')

    def test_what_is_repeated_is_reused(self):
        replays = self.counted('replays')
        self.warm(batch('SELECT a FROM t WHERE id = $1', ['3']))
        for value in ('1', '2', None, '7'):
            self.both(batch('SELECT a FROM t WHERE id = $1', [value]))
        self.warm(batch('UPDATE t SET a = a + $1 WHERE id = $2', ['1', '2']), batch('INSERT INTO t VALUES ($1, $2) RETURNING a', ['10', '1']),
                  batch('DELETE FROM t WHERE id = $1', ['-1']))
        self.assertEqual(self.counted('replays'), replays)

    def test_what_is_not_reused(self):
        plain = batch('SELECT a FROM t WHERE id = $1', ['1'])
        self.warm(plain)
        before = self.counted()
        for sql, values in (("SELECT 'now'::timestamptz > $1::timestamptz", ['2020-01-01']), ('SELECT 1', []), ('BEGIN', []), ('COMMIT', []),
                            ("SELECT $1::text || E'x'", ['1']), ('SHOW search_path', [])):
            self.both(*[batch(sql, values)] * 4)
        self.both(*[w.query('SELECT a FROM t WHERE id = 1')] * 4)
        self.both(*[plain[:-5] + w.flush() + w.sync()] * 4)
        self.both(*[w.parse('', 'SELECT a FROM t WHERE id = $1') + w.sync(), w.bind('', '', ['1']) + w.execute() + w.sync()] * 4)
        self.assertEqual(self.counted(), before)
        self.both(*[plain] * 4, pieces=1)  # a byte at a time

    def test_time_does_not_stand_still(self):
        """A string is made a value by Parse: such a text isn't reused."""
        text = batch("SELECT 'now'::timestamptz = $1::timestamptz, clock_timestamp() - 'now'::timestamptz < interval '1 s'", ['2020-01-01'])
        for _ in range(5):
            say(self.through, text)
        time.sleep(1.1)
        rows = self.through._rows(say(self.through, text))
        self.assertEqual(rows, [('f', 't')])

    def test_a_result_that_changes_its_type(self):
        """By DDL that pgporter knows nothing of: "cached plan must not change result type" is never the client's."""
        changes = ('ALTER TABLE t ADD b int DEFAULT 5', 'ALTER TABLE t ALTER a TYPE text', 'ALTER TABLE t DROP b', 'ALTER TABLE t RENAME a TO z',
                   'ALTER TABLE t RENAME z TO a', 'DROP TABLE t; CREATE TABLE t AS SELECT 1 AS id, 2.5 AS a, true AS c')
        everything = batch('SELECT * FROM t WHERE id = $1', ['3'])
        self.warm(everything)
        for change in changes:
            server.sql('SET ROLE app; SET search_path = acme; ' + change, 'app')
            replays = self.counted('replays')
            self.both(everything)
            self.assertEqual(self.counted('replays'), replays + 1, change)
            self.both(everything, everything, everything)
        self.both(batch('SELECT a FROM t WHERE id = $1', ['1']))

    def test_errors_of_parse_are_errors_of_parse(self):
        """What was there when the text was parsed, and no longer is: no ParseComplete, and the position of the word."""
        text, other = batch('SELECT a, id FROM t WHERE id = $1', ['3']), batch('SELECT a FROM t WHERE id = $1', ['3'])
        self.warm(text, other)
        server.sql('ALTER TABLE acme.t RENAME a TO b', 'app')
        self.assertEqual(self.both(text), ['E', 'Z'])
        self.assertEqual(self.both(text), ['E', 'Z'])
        self.both(w.bind('', '', ['1']) + w.execute() + w.sync())  # a failed Parse leaves no unnamed statement
        server.sql('DROP TABLE acme.t', 'app')
        self.assertEqual(self.both(other), ['E', 'Z'])
        self.both(text, other, other)
        server.sql('CREATE TABLE acme.t AS SELECT 3 AS id, 4 AS a; ALTER TABLE acme.t OWNER TO app', 'app')
        self.warm(other)

    def test_errors_behind_parse(self):
        text = batch('SELECT 100 / a FROM t WHERE id = $1::int', ['3'])
        self.warm(text)
        self.assertEqual(self.both(batch('SELECT 100 / a FROM t WHERE id = $1::int', ['x'])), ['1', 'E', 'Z'])
        self.both(text, batch('SELECT 100 / a FROM t WHERE id = $1::int', ['1', '2']), text, batch('SELECT 100 / a FROM t WHERE id = $1::int'))
        server.sql('UPDATE acme.t SET a = 0 WHERE id = 3', 'app')
        self.assertEqual(self.both(text), ['1', '2', 'T', 'E', 'Z'])
        self.both(*[batch('SELECT no_such_function($1)', ['1'])] * 5, *[batch('SELEKT $1', ['1'])] * 5, text)
        server.sql('REVOKE ALL ON acme.t FROM app; ALTER TABLE acme.t OWNER TO postgres', 'app')
        self.both(text, text)

    def test_the_unnamed_statement_lives_as_long_as_ever(self):
        text = batch('SELECT a FROM t WHERE id = $1', ['3'])
        again, describe = w.bind('', '', ['4']) + w.execute() + w.sync(), w.describe('S') + w.sync()
        self.warm(text)
        self.both(text, again, again, text, describe, again, text, w.query('SELECT 1'), again, describe)
        self.both(text, batch('SELEKT', []), again, text, w.close('S') + w.sync(), again, text, w.query('BEGIN'), again, w.query('ROLLBACK'), again)
        self.both(text, w.parse('', 'SELECT 1') + w.sync(), w.bind() + w.execute() + w.sync(), text, w.bind('p', '', ['5']) + w.execute('p') + w.sync())
        self.both(text)
        server.sql('ALTER TABLE acme.t ALTER a TYPE bigint', 'app')
        for wire in (self.direct, self.through):  # the client was told another type
            (kind, error), _ = say(wire, again)
            self.assertEqual((kind, w.error_fields(error)['C']), ('E', '0A000'))

    def test_in_transactions_and_pipelines(self):
        text, bad = batch('SELECT a FROM t WHERE id = $1', ['3']), batch('SELECT a / $1 FROM t', ['0'])
        self.warm(text)
        self.both(w.query('BEGIN'), text, bad, text, w.query('ROLLBACK'), text, w.query('BEGIN; SELECT 1'), text, w.query('COMMIT'), text)
        for wire in (self.direct, self.through):
            wire.send(text + bad + text + text + w.query('SELECT 2') + text)
        got, want = [conversation.normalise(wire.recv_until('Z', 6)) for wire in (self.through, self.direct)]
        self.assertEqual(got, want)
        # One behind the other, without waiting for answers
        for wire in (self.direct, self.through):
            for _ in range(50):
                wire.send(text)
        got, want = [conversation.normalise(wire.recv_until('Z', 50)) for wire in (self.through, self.direct)]
        self.assertEqual(got, want)

    def test_a_replay_keeps_its_place_in_a_pipeline(self):
        text, insert = batch('SELECT * FROM t WHERE id = $1', ['3']), batch('INSERT INTO t (id) VALUES ($1) RETURNING id', ['77'])
        self.warm(text)
        server.sql('ALTER TABLE acme.t ADD b int', 'app')
        for wire in (self.direct, self.through):
            server.sql('DELETE FROM acme.t WHERE id = 77', 'app')
            wire.send(text)
            wire.send(insert)
            wire.send(batch('SELECT count(*) FROM t WHERE id = $1', ['77']))
        got, want = [conversation.normalise(wire.recv_until('Z', 3)) for wire in (self.through, self.direct)]
        self.assertEqual(got, want)
        self.assertEqual(server.sql('SELECT count(*) FROM acme.t WHERE id = 77', 'app'), [(1,)])

    def test_tenants_and_paths(self):
        """The same text, the only server connection, one after the other: each reads its own."""
        text = batch('SELECT tenant FROM whoami WHERE tenant <> $1', [''])
        wires = {tenant: self.wire(tenant) for tenant in fixture.TENANTS}
        for _ in range(5):
            for tenant, wire in wires.items():
                self.assertEqual(wire._rows(say(wire, text)), [(tenant,)])
        self.warm(text)
        for path in ('globex', 'acme', 'globex, public', 'public, initech', 'acme'):
            self.both(w.query('SET search_path TO ' + path), text, text, text)
        self.both(w.query('BEGIN; SET LOCAL search_path TO globex'), text, w.query('COMMIT'), text)
        self.both(w.query("SELECT set_config('search_path', 'initech', false)"), text, text, w.query('SET search_path TO acme, public'), text)

    def test_what_comes_to_stand_in_front(self):
        server.sql('CREATE TABLE public.shadow AS SELECT 1 AS id, 2 AS a; ALTER TABLE public.shadow OWNER TO app', 'app')
        text = batch('SELECT a FROM shadow WHERE id = $1', ['1'])
        self.warm(text)
        self.wire().run('CREATE TABLE acme.shadow AS SELECT 1 AS id, 3 AS a')
        self.both(text)
        self.warm(text)
        self.both(w.query('CREATE TEMP TABLE shadow AS SELECT 1 AS id, 4 AS a'))
        for _ in range(3):  # each session has a table of its own, which its rows' description names
            for wire in (self.direct, self.through):
                self.assertEqual(wire._rows(say(wire, text)), [('4',)])
        self.both(w.query('DROP TABLE pg_temp.shadow'), text, text)
        self.both(w.query("SELECT hidden_temp('x')"), text)
        for wire in (self.direct, self.through):
            self.assertEqual(wire._rows(say(wire, batch('SELECT tenant FROM hidden_temp_table WHERE tenant <> $1', ['']))), [('x',)])
        self.both(text)

    def test_statements_that_are_lost(self):
        text = batch('SELECT a FROM t WHERE id = $1', ['3'])
        for lose in ('DEALLOCATE ALL', 'DISCARD ALL', "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$", 'DISCARD PLANS'):
            self.warm(text)
            self.both(w.query(lose), w.query('SET search_path TO acme, public'), text, text, text)
        fill = [batch('SELECT a, %d FROM t WHERE id = $1' % i, ['3']) for i in range(12)]  # server_statements_max is 8
        for _ in range(3):
            self.both(*fill)
        kept = self.through.run("SELECT count(*) FROM pg_prepared_statements")
        self.assertLessEqual(int(kept[0][0]), 8)
        self.both(text)

    def test_another_session_gets_the_connection(self):
        text, other = batch('SELECT a FROM t WHERE id = $1', ['3']), self.wire()
        self.warm(text)
        for _ in range(3):
            other.run("SET DateStyle = 'German'; SELECT 1")
            other.run_prepared("SELECT 'theirs'")
            self.both(text, w.bind('', '', ['4']) + w.execute() + w.sync())

    def test_cancel_and_rows_at_a_time(self):
        self.warm(batch('SELECT pg_sleep($1)', ['0']))
        for wire in (self.direct, self.through):
            wire.send(batch('SELECT pg_sleep($1)', ['30']))
            fixture.wait_for(lambda: server.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"), 'it sleeps')
            wire.cancel()
        self.assertEqual(*[[m for m in conversation.normalise(wire.recv_until('Z')) if m[0] != 'E'] for wire in (self.through, self.direct)])
        some = w.parse('', 'SELECT a FROM t WHERE id > $1') + w.bind('', '', ['1']) + w.execute('', 2) + w.sync()
        self.warm(some)

    def test_few_executions_keep_plans_of_their_own(self):
        """PostgreSQL considers a generic plan after five executions: until then each is planned for its values, as without reuse."""
        wire = self.wire(of=careful)
        plans = "SELECT coalesce(sum(generic_plans), 0), max(custom_plans) FROM pg_prepared_statements WHERE statement LIKE 'SELECT a FROM t%'"
        for _ in range(23):
            say(wire, batch('SELECT a FROM t WHERE id = $1', ['3']))
            generic, custom = wire.run(plans)[0]
            self.assertEqual(generic, '0')
            self.assertLessEqual(int(custom or 0), FEW)
        self.assertGreater(self.counted(of=careful), 12)

    def test_names_are_no_others(self):
        """A client's own statement of the same text is another one, and stays."""
        wire, text = self.wire(of=careful), 'SELECT a FROM t WHERE id = $1'
        wire.send(w.parse('mine', text) + w.sync())
        wire.recv_until('Z')
        for _ in range(12):
            say(wire, batch(text, ['3']))
            self.assertEqual(wire._rows(say(wire, w.bind('', 'mine', ['4']) + w.execute() + w.sync())), [('40',)])


if __name__ == '__main__':
    fixture.main(__name__)
