"""PostgreSQL goes away: idle connections and busy ones are killed, the server stops and comes back."""
import os
import time
import unittest

import fixture
import wire_client
from black_hole import BlackHole
from fixture import wait_for
from wire_client import ServerError


def setUpModule():
    global workspace, server, catalog_server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    catalog_server = fixture.Postgres(workspace, 'catalog-server')  # it stays up when the server is stopped
    catalog_server.make_roles()
    proxy = fixture.Pgporter(workspace, catalog_server, limits={'wait_ms_max': 3000, 'server_connect_ms_max': 1000, 'cancel_ms_max': 1500}).start()
    proxy.apply(fixture.document({'main': server}, {'acme': {}, 'globex': {}},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 3}]))


def tearDownModule():
    workspace.close()


class Servers(unittest.TestCase):
    def setUp(self):
        self.wires = []

    def tearDown(self):
        for wire in self.wires:
            wire.close()

    def wire(self, tenant='acme', **more):
        wire = proxy.wire(tenant, **more)
        self.wires.append(wire)
        return wire

    def terminate(self, where='true'):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND %s" % where)

    def test_idle_connection_killed(self):
        wire = self.wire()
        for _ in range(5):
            pid = wire.run('SELECT pg_backend_pid()')[0][0]
            self.terminate()
            wait_for(lambda: pid not in [str(b[0]) for b in server.backends()], 'the backend ended')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_killed_in_a_query(self):
        wire, other = self.wire(), self.wire()
        other.run('SELECT 1')
        wire.send(wire_client.query('SELECT pg_sleep(20) /* killed */'))
        wait_for(lambda: [b for b in server.backends() if 'killed' in b[2] and b[1] == 'active'], 'the query runs')
        self.terminate("query LIKE '%/* killed */'")
        self.one_clear_end(wire)
        self.assertEqual(other.run('SELECT 2'), [('2',)])

    def one_clear_end(self, wire):
        """One error, 57P01 or 08006; then the session is over, or ready and works."""
        messages = wire.recv_until('Z')
        errors = [wire_client.error_fields(b) for k, b in messages if k == 'E']
        self.assertEqual(len(errors), 1, messages)
        self.assertIn(errors[0]['C'], ('57P01', '08006'))
        if messages[-1][0] == 'Z':
            self.assertEqual(errors[0]['S'], 'ERROR')
            self.assertEqual(wire.run('SELECT 1'), [('1',)])
        else:
            self.assertEqual(errors[0]['S'], 'FATAL')

    def test_killed_in_an_idle_transaction(self):
        wire = self.wire()
        wire.run('BEGIN; SELECT 1')
        pid = wire.run('SELECT pg_backend_pid()')[0][0]
        self.terminate('pid = ' + pid)
        wait_for(lambda: pid not in [str(b[0]) for b in server.backends()], 'the backend ended')
        try:
            wire.send(wire_client.query('SELECT 2'))
        except OSError:
            pass
        self.one_clear_end(wire)

    def test_killed_in_copy(self):
        wire = self.wire()
        wire.send(wire_client.query('COPY ledger FROM STDIN'))
        wire.recv_until('G')
        self.terminate()
        wait_for(lambda: not server.backends(), 'the backend ended')
        wire.send(wire_client.copy_data('x\tacme\t1\n') + wire_client.copy_done())
        self.one_clear_end(wire)

    def test_killed_by_signal(self):
        """kill -9 of a backend: PostgreSQL restarts all; every session gets one clear end or goes on."""
        wire, idle = self.wire(), self.wire()
        idle.run('SELECT 1')
        wire.send(wire_client.query('SELECT pg_sleep(20) /* kill -9 */'))
        rows = wait_for(lambda: [b for b in server.backends() if 'kill -9' in b[2] and b[1] == 'active'], 'the query runs')
        os.kill(rows[0][0], 9)
        messages = wire.recv_until('Z')
        self.assertEqual([k for k, _ in messages if k == 'E'], ['E'])
        wait_for(self.server_answers, 'PostgreSQL recovered', 20)

        def works():
            try:
                return idle.run('SELECT 3') == [('3',)]
            except ServerError as error:
                self.assertIn(error.sqlstate[:2], ('57', '08'))
                return False
        wait_for(works, 'the idle session goes on', 10)

    @staticmethod
    def server_answers():
        try:
            return server.sql('SELECT 1')
        except Exception:
            return False

    def test_server_down_and_up_again(self):
        wire = self.wire()
        wire.run('SELECT 1')
        server.stop('fast')
        try:
            with self.assertRaises(ServerError) as caught:
                wire.run('SELECT 2')
            self.assertIn(caught.exception.sqlstate, ('08006', '08001', '57P03', '57P01'))
            self.assertEqual((caught.exception.fields['S'], wire.status), ('ERROR', 'I'))
            self.assertNotIn(str(server.port), str(caught.exception))
            late = self.wire('globex')  # the login needs no server
            with self.assertRaises(ServerError):
                late.run('SELECT 1')
        finally:
            server.start()
        for session in (wire, late):
            def works():
                try:
                    return session.run('SELECT 3') == [('3',)]
                except ServerError:
                    return False
            wait_for(works, 'the session works when the server is back', 10)

    def test_statements_survive_the_server_connection(self):
        wire = self.wire()
        wire.send(wire_client.parse('s', 'SELECT $1::int + 1') + wire_client.sync())
        wire.recv_until('Z')
        wire.run("SET app.user_id = '5'")
        wire.run('SELECT 1')  # what SET has changed has been asked for by now; before, the session would have to end
        self.terminate()
        wait_for(lambda: not server.backends(), 'the backends ended')
        wire.send(wire_client.bind('', 's', ['1']) + wire_client.execute() + wire_client.sync())
        self.assertEqual(wire._rows(wire.recv_until('Z')), [('2',)])
        self.assertEqual(wire.run('SHOW app.user_id'), [('5',)])


class Silence(unittest.TestCase):
    """A server's address that drops packets: nothing waits longer than its bound."""

    def setUp(self):
        self.hole = BlackHole(server.port)
        self.addCleanup(self.hole.close)
        self.addCleanup(proxy.apply, self.document(server.port))

    def document(self, port):
        return fixture.document({'main': server, 'far': {'port': port}}, {
            'acme': {}, 'globex': {}, 'initech': {'placement': {'kind': 'schema', 'cluster': 'far', 'database': 'app', 'schema': 'initech'}}},
            databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 3}, {'cluster': 'far', 'name': 'app', 'server_connections_max': 1}])

    def test_a_connect_that_is_never_answered(self):
        self.hole.silence()
        proxy.apply(self.document(self.hole.port))
        began = time.monotonic()
        with self.assertRaises(ServerError) as caught:
            proxy.wire('initech').run('SELECT 1')
        self.assertEqual(caught.exception.sqlstate, '08001', caught.exception)
        self.assertLess(time.monotonic() - began, 2.7)  # server_connect_ms_max is 1 s, wait_ms_max 3 s
        self.assertEqual(proxy.wire('acme').run('SELECT tenant FROM whoami'), [('acme',)])
        self.hole.speak()
        wait_for(lambda: self.works('initech'), 'the tenant is served again')

    def works(self, tenant):
        try:
            return proxy.wire(tenant).run('SELECT tenant FROM whoami') == [(tenant,)]
        except ServerError:
            return False

    def test_a_cancel_that_gets_no_answer(self):
        proxy.apply(self.document(self.hole.port))
        wire = proxy.wire('initech')
        wire.send(wire_client.query('SELECT pg_sleep(30) /* kept */'))
        wait_for(lambda: server.sql("SELECT 1 FROM pg_stat_activity WHERE query LIKE '%/* kept */' AND state = 'active'"), 'the query runs')
        self.hole.silence()
        began = time.monotonic()
        wire.cancel()  # until pgporter is done with it
        self.assertLess(time.monotonic() - began, 4)  # cancel_ms_max is 1.5 s
        # The server connection, the only one, is nobody's while the cancel may still come; but no longer.
        server.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%/* kept */' AND pid <> pg_backend_pid()")
        self.assertEqual([m[0] for m in wire.recv_until('Z')], ['T', 'E', 'Z'])
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('initech',)])
        wire.close()


if __name__ == '__main__':
    fixture.main(__name__)
