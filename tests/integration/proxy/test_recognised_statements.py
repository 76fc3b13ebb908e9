"""Statements that pgporter answers by itself: PostgreSQL gives the same tags, rows, errors and the same settings afterwards. Each
conversation runs directly and through pgporter, message by message; a text that PostgreSQL refuses is refused by both."""
import json
import unittest

import fixture
import wire_client
from wire_client import Wire, bind, describe, error_fields, execute, parse, query, row_values, sync

PEOPLE = ('acme', 'globex')
LONG = 'n' * 70
ACCENT = 'n' * 62 + 'éé'

# What a search_path may be set to; each is set by itself and then shown.
PATHS = ['acme', 'acme, public', "'acme','public'", '"acme", "public"', 'ACME', '"Upper"', 'Upper', "'Upper'", '"user"', "'user'", "'order', acme",
         '"select"', 'left', 'int', 'true', "'with space'", '"with space", acme', "'a,b'", '"quo""te"', "'quo\"te'", "''", "'', acme", '1', '-2',
         '- 2', '+1', LONG, "'%s'" % LONG, '"%s"' % LONG, ACCENT, "'%s'" % ACCENT, 'ünï', 'a$b', '_x', "'1a'", "'it''s'", "E'it''s'", '$$acme$$',
         '$x$acme$x$', '"$user", public', "'$user'", 'pg_catalog, acme', 'default', 'DEFAULT', 'acme/**/,--x\npublic', "'back\\slash'"]
BAD_PATHS = ['user', 'select', 'acme,', ',acme', 'acme public', '""', 'acme, default', 'default, acme', "'acme' 'public'", 'null', '$1', '(acme)',
             "'acme'; SET", 'acme..public', '1.2.3', '5x', "-'acme'", 'acme =', "U&'acme", "E'acme", '/* acme']
VALUES = ['acme', "'acme'", '"acme"', 'ACME', "''", 'globex', 'E\'acme\'', '$$acme$$', 'default']
BAD_VALUES = ['user', '""', 'acme, globex', "'acme' globex", '(acme)', '1.2.3', '12x', '$1', "'acme", 'null', '+acme', '= acme']
SETS = ['SET search_path TO %s', 'set SESSION search_path=%s', 'SET/**/Search_Path = %s', 'SET "search_path" = %s;', 'BEGIN; SET LOCAL search_path = %s']
TRANSACTIONS = ['BEGIN', 'begin work', 'START TRANSACTION', 'BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
                'BEGIN READ WRITE NOT DEFERRABLE', 'START TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'BEGIN ISOLATION LEVEL READ UNCOMMITTED']
BAD_TRANSACTIONS = ['START', 'START WORK', 'BEGIN READ', 'BEGIN READ ONLY,', 'BEGIN , READ ONLY', 'BEGIN ISOLATION LEVEL CHAOS', 'BEGIN NOT', 'BEGIN ATOMIC',
                    'BEGIN\v', 'BEGIN WORK TRANSACTION', 'START TRANSACTION WORK', "BEGIN 'x'", 'BEGIN; SET "a']
# Behind BEGIN; SAVEPOINT a; SAVEPOINT a; SET LOCAL search_path = acme.
WITHIN = ['SAVEPOINT b', 'savepoint "B c"', 'SAVEPOINT savepoint; RELEASE savepoint', 'SAVEPOINT int', 'RELEASE a', 'RELEASE SAVEPOINT A', 'ROLLBACK TO a',
          'ROLLBACK WORK TO SAVEPOINT a', 'ROLLBACK TO a; ROLLBACK TO a; RELEASE a; ROLLBACK TO a', 'RELEASE a; RELEASE a', 'COMMIT', 'END', 'ABORT',
          'ROLLBACK', 'COMMIT WORK AND NO CHAIN', 'COMMIT AND CHAIN', 'ROLLBACK AND CHAIN', 'END AND CHAIN; SAVEPOINT a; COMMIT',
          'SET search_path = globex; ROLLBACK TO a', 'SET search_path = acme; COMMIT', 'SET LOCAL search_path = acme; RELEASE a; COMMIT',
          'SAVEPOINT %s; ROLLBACK TO %s' % (LONG, LONG[:63]), 'COMMIT; BEGIN']
BAD_WITHIN = ['SAVEPOINT', 'SAVEPOINT user', 'SAVEPOINT left', 'SAVEPOINT ""', "SAVEPOINT 'b'", 'SAVEPOINT b c', 'ABORT TO a', 'RELEASE b', 'ROLLBACK TO b',
              'RELEASE "A"', 'ROLLBACK TO SAVEPOINT', 'RELEASE a; RELEASE a; RELEASE a', 'COMMIT AND', 'COMMIT AND CHAIN x', 'ROLLBACK TO a AND CHAIN',
              'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'SET TRANSACTION', 'SET TRANSACTION READ ONLY,']
CALLS = ["set_config('search_path', 'acme', false)", "SET_CONFIG('Search_Path', 'acme,public', 'f')", "pg_catalog.set_config('search_path', '\"\"', false)",
         "\"set_config\"('search_path', '\"Upper\", acme', false)", "set_config('search_path', ' ACME ,  public ', false)",
         "set_config('search_path'::text, 'acme'::varchar, 'false'::bool) AS path", "set_config('search_path', 'acme', false) \"a B\"",
         "set_config('search_path', 'acme', false) user", "set_config('search_path', 'acme', false) AS from", "set_config('search_path', $$acme$$, true)",
         "set_config('search_path', 'acme', false) a, set_config('app.tenant', 'acme', false) b", "set_config('app.tenant', '', false)",
         "set_config('search_path', '%s', false)" % LONG]
BAD_CALLS = ["\"SET_CONFIG\"('search_path', 'acme', false)", "set_config('search_path', 'acme', false) over", "set_config('search_path', 'acme', false) from",
             "set_config('search_path', 'acme', false) AS", "set_config('search_path', 'acme', false) AS \"\"", "set_config('search_path', 'acme')",
             "set_config('search_path', 'acme': :text, false)", "set_config('search_path', 'a b', false)", "set_config('search_path', '\"a', false)",
             "set_config('search_path', 'acme', false),", "set_config('search_path', 'acme', 'maybe')", "set_config(NULL, 'acme', false)",
             "set_config('search_path', $1, false)", "set_config('search_path', 'acme', 1)", "pg_catalog set_config('search_path', 'acme', false)"]


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world(tenants=PEOPLE)
    proxy = fixture.Pgporter(workspace, server)
    proxy.start()
    proxy.apply(fixture.document({'main': server}, {name: {} for name in PEOPLE}))


def tearDownModule():
    workspace.close()


def said(messages):
    """What a client sees of the answers, without what differs between servers."""
    out = []
    for kind, body in messages:
        if kind == 'E':
            out.append(('E', error_fields(body)['C']))
        elif kind == 'N':
            out.append(('N', error_fields(body)['C']))
        elif kind == 'D':
            out.append(('D', row_values(body)))
        elif kind != 'S':
            out.append((kind, body))
    return out


def codes(answers):
    return [body for kind, body in answers if kind == 'E']


class Recognised(unittest.TestCase):
    def connect(self, port):
        return Wire(port).login('app', fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=acme -c search_path=acme,public'})

    def conversation(self, port, steps):
        wire = self.connect(port)
        try:
            answers = []
            for step in steps:
                wire.send(step if isinstance(step, bytes) else query(step))
                answers.append(said(wire.recv_until('Z')))
            return answers
        finally:
            wire.close()

    def compare(self, steps, is_refused=None):
        with self.subTest(str(steps)):
            direct, through = self.conversation(server.port, steps), self.conversation(proxy.port, steps)
            if is_refused is not None:
                self.assertEqual(any(codes(answers) for answers in direct), is_refused, 'PostgreSQL itself: %s' % direct)
            if not is_refused:
                self.assertEqual(through, direct)
                return
            # Our refusal of a statement that isn't understood may have another SQLSTATE; that there is one must be the same.
            for step, ours, theirs in zip(steps, through, direct):
                self.assertEqual(bool(codes(ours)), bool(codes(theirs)), '%r: %s, PostgreSQL: %s' % (step, ours, theirs))
                self.assertEqual(ours[-1], theirs[-1], 'status behind %r' % (step,))

    def test_paths(self):
        for number, path in enumerate(PATHS):
            # Where a name is cut, PostgreSQL says so before it runs the first of several statements.
            forms = SETS[:-1] if 'nnn' in path else SETS
            self.compare([forms[number % len(forms)] % path, 'SHOW search_path', 'COMMIT', 'SHOW search_path'], False)
            if path.lower() != 'default':  # within a transaction, that is the server's own default
                self.compare(['BEGIN', 'SET search_path = ' + path, "SELECT current_setting('search_path')", 'COMMIT', 'SHOW search_path'], False)

    def test_paths_that_postgresql_refuses(self):
        for number, path in enumerate(BAD_PATHS):
            # Of several statements PostgreSQL runs none if it can't parse one; those before it are answered here. So: one.
            self.compare([SETS[number % (len(SETS) - 1)] % path, 'ROLLBACK', 'SHOW search_path'], True)
            self.compare(['BEGIN', 'SET search_path = ' + path, 'SELECT 1', 'COMMIT', 'SHOW search_path'], True)

    def test_schema(self):
        for sql in ("SET SCHEMA 'acme'", "SET SESSION SCHEMA 'Upper'", "SET SCHEMA 'a,b'", "SET SCHEMA ''", "SET schema $$user$$"):
            self.compare([sql, 'SHOW search_path'], False)
        for sql in ('SET SCHEMA acme', "SET SCHEMA 'acme', 'public'", 'SET SCHEMA', "SET SCHEMA TO 'acme'", "SET SCHEMA = 'acme'"):
            self.compare([sql, 'SHOW search_path'], True)

    def test_values(self):
        shown = "SELECT current_setting('app.tenant')"
        for value in VALUES:
            self.compare(['SET app.tenant = ' + value, 'BEGIN', shown, 'COMMIT'], False)
            self.compare(['BEGIN', 'SET LOCAL App . Tenant TO ' + value, shown, 'ROLLBACK'], False)
        for value in BAD_VALUES:
            self.compare(['BEGIN', 'SET app.tenant = ' + value, 'SELECT 1', 'ROLLBACK'], True)
        for sql in ('SET app..tenant = acme', "SET app.tenant 'acme'", 'SET app.tenant TO', 'SET app.tenant := acme', 'SET .tenant = acme'):
            self.compare(['BEGIN', sql, 'ROLLBACK'], True)

    def test_numbers(self):
        """A tenant whose name is a number is named by what PostgreSQL makes of it: what it makes, pgporter knows as well."""
        for text in ('42', '007', '-0', '+5', '- 5', '1.50', '-1.', '2147483647', '2147483648', '002147483648', '99999999999999999999'):
            self.compare(['BEGIN', 'SET app.workspace_id = ' + text, "SELECT current_setting('app.workspace_id')", 'COMMIT'], False)

    def test_transactions(self):
        for sql in TRANSACTIONS:
            self.compare([sql, 'SHOW transaction_isolation', 'SHOW transaction_read_only', 'SHOW transaction_deferrable', 'COMMIT'], False)
            self.compare([sql + '; COMMIT', sql, 'ROLLBACK'], False)
            self.compare([sql, 'COMMIT AND CHAIN', 'SHOW transaction_isolation', 'SHOW transaction_read_only', 'COMMIT'], False)
        for sql in BAD_TRANSACTIONS:
            self.compare([sql, 'ROLLBACK'], True)
        for sql in ('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'SET LOCAL TRANSACTION READ ONLY', 'SET TRANSACTION READ ONLY, DEFERRABLE'):
            self.compare(['BEGIN', sql, 'SHOW transaction_isolation', 'SHOW transaction_read_only', 'COMMIT'], False)
        self.compare(['BEGIN', "SELECT set_config('search_path', 'acme', true)", 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE', 'ROLLBACK'], True)

    def test_within_a_transaction(self):
        begin = ['BEGIN', 'SAVEPOINT a; SAVEPOINT a', 'SET LOCAL search_path = acme']
        for sql in WITHIN:
            self.compare(begin + [sql, 'SHOW search_path', 'COMMIT', 'SHOW search_path'], False)
        for sql in BAD_WITHIN:
            self.compare(begin + [sql, 'SELECT 1', 'SAVEPOINT b', 'RELEASE a', 'ROLLBACK TO b', 'ROLLBACK TO a', 'SHOW search_path', 'COMMIT'], True)
            self.compare(begin + [sql, 'COMMIT', 'SHOW search_path'], True)

    def test_set_config(self):
        for call in CALLS:
            self.compare(['SELECT ' + call, 'SHOW search_path'], False)
            self.compare(['BEGIN', 'SELECT ' + call, 'SHOW search_path', 'COMMIT', 'SHOW search_path'], False)
        for call in BAD_CALLS:
            self.compare(['SELECT ' + call, 'SHOW search_path'], True)
            self.compare(['BEGIN', 'SELECT ' + call, 'SELECT 1', 'ROLLBACK', 'SHOW search_path'], True)

    def test_several_statements(self):
        for sql in ("SET search_path = acme; SHOW search_path", 'BEGIN; SET search_path = acme; ROLLBACK; SHOW search_path',
                    'SET search_path = acme; BEGIN; ROLLBACK', 'BEGIN; COMMIT; SET search_path = acme; SELECT 1',
                    "SET search_path = acme; SELECT set_config('search_path', 'public', true); SHOW search_path", 'SET search_path = acme;;; -- x'):
            self.compare([sql, 'SHOW search_path'], False)
        for sql in ('SET search_path = acme; SELECT 1/0', 'BEGIN; COMMIT; SET search_path = public; SELECT nothing', 'SET search_path = public; nonsense'):
            self.compare([sql, 'SHOW search_path'], True)

    def test_text_that_is_not_utf8(self):
        for sql in (b'BEGIN /* \xff */', b"SET search_path = acme -- \xc3\n", b"SET search_path = '\xed\xa0\x80'", b"SAVEPOINT \xf5"):
            self.compare(['BEGIN', wire_client.message('Q', sql + b'\0'), 'ROLLBACK', 'SHOW search_path'], True)

    def test_extended(self):
        call = "SELECT set_config('search_path', $1, $2)"
        for sql, values in ((call, ('acme', 'false')), (call, ('"Upper", acme', 't')), ("SELECT set_config($1, 'acme', true) AS x", ('search_path',)),
                            ('BEGIN', ()), ("SET search_path = 'user'", ()), ('SAVEPOINT a', ())):
            batch = parse('', sql) + describe('S') + bind('', '', values) + describe('P') + execute() + sync()
            if not sql.startswith('SAVEPOINT'):
                self.compare([batch, 'SHOW search_path', 'ROLLBACK', 'SHOW search_path'], False)
            if sql != 'BEGIN':
                self.compare(['BEGIN', batch, 'SHOW search_path', 'COMMIT', 'SHOW search_path'], False)
        for values in (('a b', 'f'), ('acme', 'maybe'), ('acme',), ('acme', 'f', 'x'), (b'acme\xff', 'f'), (b'ac\0me', 'f')):
            batch = parse('', call) + bind('', '', values) + execute() + sync()
            self.compare(['BEGIN', batch, 'SELECT 1', 'ROLLBACK', 'SHOW search_path'], True)

    def test_pairs_in_json(self):
        sql = 'select set_config(el->>0, el->>1, true) from json_array_elements($1%s) el'
        for cast in ('', '::json'):
            for pairs in ([['search_path', 'acme'], ['app.user', '5']], [], [['search_path', 'public']]):
                batch = parse('', sql % cast) + describe('S') + bind('', '', (json.dumps(pairs),)) + execute() + sync()
                self.compare(['begin', batch, 'SHOW search_path', 'commit', 'SHOW search_path'], False)
        batch = parse('', sql % '') + bind('', '', ('[["search_path", "globex"]]',)) + execute() + sync()
        wire = self.connect(proxy.port)
        for step in (query('BEGIN'), batch):
            wire.send(step)
            self.assertFalse(codes(said(wire.recv_until('Z'))))
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('globex',)])
        wire.run('COMMIT')
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        wire.close()
        for bad in ('[', '{}', '[[null, "x"]]', '[["no such setting", "x"]]'):
            batch = parse('', sql % '') + bind('', '', (bad,)) + execute() + sync()
            self.compare(['begin', batch, 'rollback', 'SHOW search_path'], True)


if __name__ == '__main__':
    fixture.main(__name__)
