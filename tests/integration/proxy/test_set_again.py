"""An application that names its tenant before each request, in the same words: SET to what is set already is answered at once, and still it
is set again, since a function may have turned the session to somebody else in between. Each conversation is PostgreSQL's own as well."""
import unittest

import fixture
import naming_world
from wire_client import ServerError, bind, execute, parse, query, row_values, sync

PATHS = ['acme', '"acme", "public"', "'acme','public'", 'acme, shared', 'ACME , "$user"', "acme, 'with space'", '"acme", "quo""te", \'back\\slash\'']
TURN_SQL = """
CREATE FUNCTION public.turn(setting text, value text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.set_config(setting, value, false); END $$;
"""


def setUpModule():
    global workspace, server, proxy, small
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    naming_world.make(server)
    for database in ('app', 'reference'):
        server.sql(TURN_SQL, database)
    proxy = naming_world.start(workspace, server)


def tearDownModule():
    workspace.close()


def read(wire, count):
    """The answers to so many Queries, without what differs from server to server."""
    answers = []
    for _ in range(count):
        for kind, body in wire.recv_until('Z'):
            if kind == 'D':
                answers.append(row_values(body))
            elif kind not in 'ST':
                answers.append((kind, body if kind in 'CZ' else b''))
    return answers


class SetAgain(unittest.TestCase):
    def wires(self, through):
        for wire in (naming_world.direct(server, 'initech'), through.wire('initech')):
            wire.timeout = 8.0
            self.addCleanup(wire.close)
            yield wire

    def setUp(self):
        self.wire = next(iter(reversed(list(self.wires(proxy)))))

    def both(self, statements, through=None, at_once=False):
        answers = []
        for wire in self.wires(through or proxy):
            if at_once:
                wire.send(b''.join(map(query, statements)))
                answers.append(read(wire, len(statements)))
                continue
            said = []
            for sql in statements:
                wire.send(query(sql))
                said.append(read(wire, 1))
            answers.append(said)
        self.assertEqual(answers[1], answers[0], statements)
        return answers[1]

    def test_what_a_function_has_changed_is_put_right(self):
        for path in PATHS:
            named = 'SET search_path TO ' + path
            request = [named, 'SHOW search_path', 'SELECT tenant FROM whoami', "SELECT public.turn('search_path', 'globex')", named,
                       'SELECT tenant FROM acme.whoami', 'SHOW search_path', named, 'SELECT public.turn(\'search_path\', \'globex\')', named,
                       'SELECT tenant FROM whoami']
            said = self.both(request * 3)
            self.assertEqual(said[-1][0], [b'acme'])

    def test_settings_as_well(self):
        for value in ("'acme'", 'acme', "E'acme'"):
            named = 'SET app.current_tenant = ' + value
            request = [named, 'SELECT tenant FROM public.rls_items', "SELECT public.turn('app.current_tenant', 'globex')", named,
                       'SELECT tenant FROM public.rls_items', "SELECT public.turn('app.current_tenant', 'globex')", named, 'SHOW app.current_tenant',
                       'SELECT tenant FROM public.rls_items']
            self.assertEqual(self.both(request * 2)[-1][0], [b'acme'])

    def test_a_statement_that_fails_takes_it_along(self):
        named = 'SET search_path TO acme'
        said = self.both([named, 'SELECT 1', "SELECT public.turn('search_path', 'globex')", named, 'SELECT 1/0', 'SELECT tenant FROM acme.whoami',
                          'SHOW search_path', named, 'SELECT nothing', named, 'INSERT INTO nowhere VALUES (1)', named, 'SELECT tenant FROM whoami'])
        self.assertEqual(said[-1][0], [b'acme'])

    def test_answers_come_in_their_order(self):
        named = 'SET search_path TO acme'
        self.both([named, 'SELECT 1', named, named, 'SELECT tenant FROM whoami', named, 'DISCARD ALL', 'SHOW search_path', named, 'BEGIN', named, 'ROLLBACK',
                   'RESET search_path', named, 'nonsense', named, 'SET search_path TO globex', 'SELECT tenant FROM whoami', named,
                   'SELECT tenant FROM whoami'], at_once=True)

    def test_many_answers_at_once(self):
        named = "SET search_path TO 'acme', 'public', %s" % ', '.join("'%s'" % (c * 60) for c in 'abc')
        self.both([named, 'SELECT 1'] + [named] * 9000 + ['SELECT tenant FROM whoami'], at_once=True)

    def test_our_statements_do_not_crowd_out_the_clients(self):
        crowded = naming_world.start(workspace, server, limits={'server_statements_max': 4}, name='crowded')
        wires = list(self.wires(crowded))
        for wire in wires:
            for number in range(4):
                wire.send(parse('mine%d' % number, 'SELECT tenant, $1::int FROM whoami') + sync())
                wire.recv_until('Z')
        for path in PATHS + ['acme']:
            for sql in ('SET search_path TO ' + path, "SELECT public.turn('search_path', 'globex')", 'SET search_path TO ' + path, 'SHOW search_path'):
                answers = []
                for wire in wires:
                    wire.send(query(sql))
                    answers.append(read(wire, 1))
                self.assertEqual(answers[1], answers[0], sql)
            for number in range(4):
                wires[1].send(bind('', 'mine%d' % number, ('%d' % number,)) + execute() + sync())
                self.assertEqual([row_values(body) for kind, body in wires[1].recv_until('Z') if kind == 'D'], [[b'acme', b'%d' % number]])

    def test_a_catalog_that_has_changed_since(self):
        """What was answered under one catalog is looked at anew under the next: the user may no longer speak for that tenant."""
        named = 'SET search_path TO globex'
        for _ in range(3):
            self.wire.run(named)
            self.assertEqual(self.wire.run('SELECT tenant FROM whoami'), [('globex',)])
        everybody = naming_world.document(server)
        only_initech = naming_world.document(server)
        only_initech['users'][0]['tenants'] = ['initech']
        self.addCleanup(proxy.apply, everybody)
        proxy.apply(only_initech)

        def is_refused():
            try:
                self.wire.run(named)
            except ServerError as error:
                self.assertEqual(error.sqlstate, '3F000')
                return True
            return False
        fixture.wait_for(is_refused, 'the refusal of a tenant who may no longer be spoken for')


if __name__ == '__main__':
    fixture.main(__name__)
