"""A Parse means what it means at that moment, whoever has prepared the same text before, on whatever server connection: by the tables, functions and
types that there are now, by the session's own settings. Each scenario gives what PostgreSQL gives when it is asked directly.
"""
import time
import unittest

import fixture
import wire_client as w


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.sql('ALTER SCHEMA acme OWNER TO app; GRANT CREATE ON SCHEMA public TO app', 'app')
    server.sql('CREATE DATABASE own OWNER app')
    proxy = fixture.Pgporter(workspace, server).start()


def tearDownModule():
    workspace.close()


class Base(unittest.TestCase):
    """`connections`: with one all sessions share it; with two they find what others have left on either."""

    def both(self, scenario, connections=(1, 2)):
        expected = scenario(self.direct, 'direct')
        for number in connections:
            proxy.apply(fixture.document({'main': dict(port=server.port, server_connections_max=number)},
                                         {'acme': {}, 'umbrella': {'placement': {'kind': 'database', 'database': 'own'}}}))
            self.prepare_much(number)
            self.assertEqual(scenario(self.through, 'through%d' % number), expected)
        return expected

    def prepare_much(self, connections):
        """What is prepared on them is worth keeping from now on: DISCARD ALL isn't how they are wiped."""
        wires = [self.through() for _ in range(connections)]
        for wire in wires:
            wire.run('BEGIN')
            for i in range(40):
                self.use(wire, 'much %d' % i, 'SELECT %d' % i)
        for wire in wires:
            wire.run('COMMIT')
            wire.close()

    def opened(self, wire):
        self.addCleanup(wire.close)
        return wire

    def direct(self, **params):
        params.setdefault('search_path', 'acme,public')
        return self.opened(w.Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app', params))

    def through(self, **params):
        return self.opened(proxy.wire('acme', params=params))

    @staticmethod
    def use(wire, name, sql, values=()):
        """A named statement, parsed now: its rows, or the SQLSTATE; and the tag."""
        wire.send(w.parse(name, sql) + w.bind('', name, list(values)) + w.execute() + w.sync())
        found = []
        for kind, body in wire.recv_until('Z'):
            if kind == 'D':
                found.append(tuple(None if v is None else v.decode() for v in w.row_values(body)))
            elif kind == 'E':
                found.append(w.error_fields(body)['C'])
            elif kind == 'C':
                found.append(body[:-1].decode())
        return found


class TemporaryTables(Base):
    def test_temporary_table_hides_a_permanent_one(self):
        def scenario(connect, name):
            table = 'orders_' + name
            first = connect()
            first.run('DROP TABLE IF EXISTS %s; CREATE TABLE %s (id int); INSERT INTO %s VALUES (1), (2)' % (table, table, table))
            first.run('CREATE TEMP TABLE something (id int)')  # from now on the server process has a temporary schema
            first.close()
            second = connect()
            found = [tag.split()[0] for tag in self.use(second, 'd', 'DELETE FROM %s WHERE id = $1' % table, ['99'])]
            second.close()
            third = connect()
            third.run('CREATE TEMP TABLE %s (id int)' % table)
            found += self.use(third, 'd', 'DELETE FROM %s WHERE id = $1' % table, ['1'])
            third.close()
            found += self.use(connect(), 'd', 'SELECT id FROM %s ORDER BY 1' % table)
            return found
        self.assertIn(('1',), self.both(scenario))

    def test_what_was_prepared_before_the_first_temporary_table(self):
        def scenario(connect, name):
            table = 'early_' + name
            first = connect()
            first.run('DROP TABLE IF EXISTS %s; CREATE TABLE %s (id int); INSERT INTO %s VALUES (1)' % (table, table, table))
            first.run('CREATE TEMP TABLE something (id int)')
            first.close()
            second = connect()
            found = self.use(second, 's', 'SELECT count(*) FROM ' + table)
            second.run('BEGIN')
            second.run('CREATE TEMP TABLE %s (id int)' % table)
            second.send(w.bind('', 's') + w.execute() + w.sync())
            found += [w.row_values(body) for kind, body in second.recv_until('Z') if kind == 'D']
            second.run('COMMIT')
            second.close()
            third = connect()
            return found + self.use(third, 's', 'SELECT count(*) FROM ' + table)
        self.both(scenario, (1,))

    def test_after_a_temporary_table_the_permanent_one_is_meant_again(self):
        def scenario(connect, name):
            table = 'again_' + name
            first = connect()
            first.run('DROP TABLE IF EXISTS %s; CREATE TABLE %s (id int); INSERT INTO %s VALUES (1)' % (table, table, table))
            found = self.use(first, 's', 'SELECT * FROM ' + table)
            other = connect()
            other.run('CREATE TEMP TABLE %s (a text, b text)' % table)
            other.send(w.parse('s', 'SELECT * FROM ' + table) + w.describe('S', 's') + w.sync())
            other.recv_until('Z')
            found += self.use(other, 't', 'SELECT * FROM ' + table)
            other.close()
            first.send(w.bind('', 's') + w.execute() + w.sync())
            return found + [w.row_values(body) if kind == 'D' else body for kind, body in first.recv_until('Z') if kind in 'DE']
        self.both(scenario)

class MadeByStatements(Base):
    """A named statement that makes a temporary object itself, described or not, is run like any other: once, and again."""

    def ask(self, wire, *messages):
        wire.send(b''.join(messages) + w.sync())
        found = []
        for kind, body in wire.recv_until('Z'):
            found.append((kind, w.error_fields(body)['C'] if kind == 'E' else body if kind in 'CZ' else None))
        return found

    def test_made_by_named_statements(self):
        texts = ('CREATE TEMP TABLE made (i int)', 'CREATE TEMP TABLE made (i int) ON COMMIT DROP', 'CREATE TEMP TABLE made AS SELECT $1::int AS a',
                 'SELECT 1 AS a INTO TEMP made', 'CREATE TEMP VIEW made AS SELECT 1', 'CREATE TEMP SEQUENCE made',
                 'CREATE FUNCTION pg_temp.made() RETURNS int LANGUAGE sql AS $f$ SELECT 1 $f$', 'DROP TABLE IF EXISTS pg_temp.nothing')

        def scenario(connect, _):
            found = []
            for sql in texts:
                values = ['7'] if '$1' in sql else []
                used = [w.bind('', 'n', values), w.execute()]
                for begins in (b'', w.query('BEGIN')):
                    for parts in ([[w.parse('n', sql), w.describe('S', 'n')] + used, used], [[w.parse('n', sql), w.describe('S', 'n')], used, used],
                                  [[w.parse('n', sql)], used, used, used + [w.describe('S', 'n')], used]):
                        wire = connect()
                        if begins:
                            wire.run('BEGIN')
                        for part in parts:
                            found.append((sql, self.ask(wire, *part)))
                        wire.close()
            return found
        self.both(scenario)

    def test_again_and_again(self):
        """As drivers do that prepare what is run often: each time in a transaction of its own."""
        def scenario(connect, _):
            wire, found = connect(), []
            found.append(self.ask(wire, w.parse('n', 'CREATE TEMP TABLE often (i int) ON COMMIT DROP')))
            for turn in range(8):
                wire.run('BEGIN')
                found.append(self.ask(wire, *([w.describe('S', 'n')] if turn == 2 else []), w.bind('', 'n'), w.describe('P'), w.execute()))
                found.append(self.use(wire, 'i%d' % turn, 'INSERT INTO often VALUES (%d) RETURNING i' % turn))
                wire.run('COMMIT')
            return found
        self.both(scenario)


class TemporaryTablesOfItsOwnDatabase(TemporaryTables):
    """No search_path is set there, so that PostgreSQL itself sees no other path."""

    def direct(self, **params):
        return self.opened(w.Wire(server.port).login('app', fixture.PASSWORDS['app'], 'own', params))

    def through(self, **params):
        return self.opened(proxy.wire('umbrella', params=params))


class Meaning(Base):
    # -- what stands in front
    def test_table_in_front(self):
        def scenario(connect, name):
            table = 'front_' + name
            first = connect()
            first.run("DROP TABLE IF EXISTS public.%s, acme.%s; CREATE TABLE public.%s (a text); INSERT INTO public.%s VALUES ('shared')"
                      % ((table,) * 4))
            found = self.use(first, 'x', 'SELECT a FROM ' + table) + self.use(first, 'i', "INSERT INTO %s VALUES ('1st')" % table)
            first.run("CREATE TABLE acme.%s AS SELECT 'own'::text a" % table)
            first.close()
            second = connect()
            found += self.use(second, 'x', 'SELECT a FROM ' + table) + self.use(second, 'i', "INSERT INTO %s VALUES ('2nd')" % table)
            return found + [second.run('SELECT a FROM %s.%s ORDER BY 1' % (schema, table)) for schema in ('public', 'acme')]
        found = self.both(scenario)
        self.assertEqual(found[-1], [('2nd',), ('own',)])

    def test_table_in_front_that_pgporter_has_not_seen(self):
        def scenario(connect, name):
            table = 'unseen_' + name
            server.sql("DROP TABLE IF EXISTS public.{0}, acme.{0}; CREATE TABLE public.{0} AS SELECT 'shared'::text a; ALTER TABLE public.{0} OWNER TO app"
                       .format(table), 'app')
            holders = [connect() for _ in range(2 if name == 'through2' else 1)]
            for wire in holders:  # on every server connection that there is
                wire.run('BEGIN')
                self.use(wire, 'x', 'SELECT a FROM ' + table)
            for wire in holders:
                wire.close()
            found = []
            server.sql("CREATE TABLE acme.{0} AS SELECT 'own'::text a; ALTER TABLE acme.{0} OWNER TO app".format(table), 'app')
            wires = [connect() for _ in range(3)]
            for wire in wires:
                found += self.use(wire, 'x', 'SELECT a FROM ' + table)
            for _ in range(2):  # wherever they come to next
                for wire in wires:
                    wire.send(w.bind('', 'x') + w.execute() + w.sync())
                    found += [w.row_values(body)[0] for kind, body in wire.recv_until('Z') if kind == 'D']
            return found
        self.assertEqual(self.both(scenario)[-1], b'own')

    def test_overload(self):
        def scenario(connect, name):
            function = 'f_' + name
            first = connect()
            first.run('DROP FUNCTION IF EXISTS {0}(bigint); DROP FUNCTION IF EXISTS {0}(int); '
                      "CREATE FUNCTION {0}(bigint) RETURNS text LANGUAGE sql AS $$SELECT 'big'::text$$".format(function))
            found = self.use(first, 'x', 'SELECT %s(1)' % function)
            first.run('CREATE FUNCTION %s(int) RETURNS int LANGUAGE sql AS $$SELECT 7$$' % function)
            return found + self.use(connect(), 'x', 'SELECT %s(1)' % function)
        self.assertEqual(self.both(scenario)[-2:], [('7',), 'SELECT 1'])

    # -- types made anew
    def test_type_of_a_transaction_that_was_rolled_back(self):
        def scenario(connect, name):
            kind = 'mood_' + name
            first = connect()
            first.run('DROP TYPE IF EXISTS ' + kind)
            first.run('BEGIN')
            first.run("CREATE TYPE %s AS ENUM ('a')" % kind)
            found = self.use(first, 'x', 'SELECT $1::' + kind, ['a'])
            first.run('ROLLBACK')
            first.run("CREATE TYPE %s AS ENUM ('a')" % kind)
            found += self.use(first, 'y', 'SELECT $1::' + kind, ['a'])
            for _ in range(3):
                found += self.use(connect(), 'x', 'SELECT $1::' + kind, ['a'])
            return found
        self.assertEqual(self.both(scenario)[-2:], [('a',), 'SELECT 1'])

    def test_type_made_anew_in_a_block_and_elsewhere(self):
        def scenario(connect, name):
            kind = 'anew_' + name
            first = connect()
            first.run("DROP TYPE IF EXISTS %s; CREATE TYPE %s AS ENUM ('a')" % (kind, kind))
            found = self.use(first, 'x', 'SELECT $1::' + kind, ['a'])
            first.close()
            again = connect()
            again.run("DO $$ BEGIN DROP TYPE {0}; CREATE TYPE {0} AS ENUM ('a'); END $$".format(kind))
            found += self.use(again, 'x', 'SELECT $1::' + kind, ['a'])
            again.close()
            server.sql("DROP TYPE acme.{0}; CREATE TYPE acme.{0} AS ENUM ('a'); ALTER TYPE acme.{0} OWNER TO app".format(kind), 'app')
            for _ in range(3):
                found += self.use(connect(), 'x', 'SELECT $1::' + kind, ['a'])
            return found
        self.assertNotIn('XX000', self.both(scenario))

    def test_type_made_anew_while_somebody_prepares(self):
        def scenario(connect, name):
            kind = 'meanwhile_' + name
            first = connect()
            first.run("DROP TYPE IF EXISTS %s; CREATE TYPE %s AS ENUM ('a')" % (kind, kind))
            first.run('BEGIN')
            first.run('DROP TYPE ' + kind)
            first.run("CREATE TYPE %s AS ENUM ('a', 'b')" % kind)
            found = self.use(connect(), 'x', 'SELECT $1::' + kind, ['a'])
            first.run('COMMIT')
            for _ in range(3):
                found += self.use(connect(), 'x', 'SELECT $1::' + kind, ['a'])
            return found
        self.both(scenario, (2,))

    # -- settings at the moment of the Parse
    def test_settings(self):
        cases = (("SELECT extract(epoch FROM timestamptz '2020-01-01 00:00:00')::bigint", {'TimeZone': 'UTC'}, {'TimeZone': 'Asia/Tokyo'}),
                 ("SELECT to_char(date '01/02/2020', 'YYYY-MM-DD')", {'DateStyle': 'ISO,MDY'}, {'DateStyle': 'ISO,DMY'}),
                 ("SELECT '{NULL}'::text[]::text", {}, {'array_nulls': 'off'}),
                 ("SELECT interval '-1 2:03:04' = interval '-1 day -2:03:04'", {}, {'IntervalStyle': 'sql_standard'}),
                 ('SELECT count(*) FROM (VALUES (NULL::int)) v(a) WHERE a = NULL', {}, {'transform_null_equals': 'on'}))

        def scenario(connect, name):
            found = []
            for sql, first, second in cases:
                wires = [connect(**first), connect(**second), connect(**first)]
                found += [self.use(wire, 'x', sql)[0] for wire in wires]
                for wire in (*wires, *reversed(wires)):  # on either server connection
                    wire.send(w.bind('', 'x') + w.execute() + w.sync())
                    found += [w.row_values(body)[0] for kind, body in wire.recv_until('Z') if kind == 'D']
                for wire in wires:
                    wire.close()
            return found
        self.both(scenario)

    def test_settings_of_a_transaction_are_nobody_elses(self):
        def scenario(connect, name):
            sql = "SELECT extract(epoch FROM timestamptz '2020-01-01 00:00:00')::bigint -- " + name
            first = connect(TimeZone='UTC')
            first.run('BEGIN')
            first.run("SET LOCAL TimeZone TO 'Asia/Tokyo'")
            found = self.use(first, 'x', sql)
            first.run('COMMIT')
            other = connect(TimeZone='UTC')
            found += self.use(other, 'x', sql)
            first.run("SET TimeZone TO 'Asia/Tokyo'")
            found += self.use(first, 'y', sql)
            other.send(w.bind('', 'x') + w.execute() + w.sync())
            return found + [w.row_values(body)[0] for kind, body in other.recv_until('Z') if kind == 'D'] + self.use(other, 'z', sql)
        self.both(scenario)

    def test_now(self):
        def scenario(connect, name):
            sql = "SELECT clock_timestamp() - timestamptz 'now' < interval '4 seconds'"
            first = connect()
            found = self.use(first, 'x', sql)
            time.sleep(4.2)  # what 'now' was then is too long ago
            return found + self.use(connect(), 'x', sql) + self.use(first, 'y', sql)
        self.assertEqual(self.both(scenario).count(('t',)), 3)


if __name__ == '__main__':
    fixture.main(__name__)
