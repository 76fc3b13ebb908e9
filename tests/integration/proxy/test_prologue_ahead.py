"""The prologue that goes ahead of a client's first bytes (decision 0019). One server connection for several sessions: each transaction comes behind
somebody else's, so each of them has a prologue in front. PostgreSQL is the judge where it can play it alone.
"""
import os
import signal
import threading

import fixture
import pitfall_tools as tools
import wire_client as w
from conversation import q, run, t, x
from wire_client import ServerError

# What a function does to the session, where no look at the client's text shows it.
HIDDEN_SQL = """
CREATE FUNCTION public.hidden_run(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN what; END $$;
"""


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    server.sql(HIDDEN_SQL, 'app')
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 8000}).start()
    proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


class Ahead(tools.Base):
    def setUp(self):
        self.a, self.b = self.wire('acme'), self.wire('globex')

    def repeated(self):
        return proxy.metric('pgporter_prologues_repeated_total') or 0

    def extended(self, wire, *messages):
        wire.send(b''.join(messages) + w.sync())
        return wire.recv_until('Z')

    def codes(self, messages):
        return [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']

    def prepare(self, wire, names):
        """Statements that are worth keeping on the server connection: it is wiped in parts then."""
        for name in names:
            self.extended(wire, w.parse(name, "SELECT tenant, $1::text, '%s' FROM whoami" % name))

    def test_first_statements_that_stand_alone(self):
        """What can't share a transaction with a prologue, or must be the first of one."""
        between = lambda: self.b.run('SELECT 1')
        self.same_as_postgresql('first statements', [
            q('VACUUM items'), q('BEGIN ISOLATION LEVEL SERIALIZABLE'), q('SHOW transaction_isolation'), q('COMMIT'), q('SELECT 1/0'), q('SELECT tenant FROM whoami'),
            q(''), q('SELECT 1; SELECT 2'), q('COMMIT'), q('ROLLBACK'), x(run('VACUUM items')), x(run('SELECT tenant FROM whoami')), x(run('SELEKT')),
            x(run('SELECT 1 / $1::int', ['0'])), q("SELECT n FROM items WHERE tenant = 'nobody'"), x(run('ROLLBACK')), x(w.bind('', 'unknown')),
            t(w.function_call(89, [])), q('CREATE TABLE ahead_table (n int)'), q('DROP TABLE ahead_table'), q('SET TimeZone = \'Asia/Tokyo\''), q('SHOW TimeZone'),
            q('RESET TimeZone')], ('whole', 'coalesced'), between=between)
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_a_failed_statement_leaves_the_context(self):
        for wire, tenant in ((self.a, 'acme'), (self.b, 'globex')) * 3:
            with self.assertRaises(ServerError):
                wire.run('SELECT 1/0')
            self.assertEqual(wire.run('SELECT tenant, current_schema FROM whoami'), [(tenant, tenant)])

    def test_nothing_of_another_session_is_left(self):
        """Neither where all is discarded, nor where prepared statements are kept."""
        left = {"SELECT hidden_set('app.left', 'over')": ("SELECT current_setting('app.left', true)", ([(None,)], [('',)])),
                "SELECT hidden_run('LISTEN left_over')": ('SELECT count(*) FROM pg_listening_channels()', ([('0',)],)),
                "SELECT hidden_lock(4711)": ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", ([('0',)],)),
                "SELECT hidden_run('DECLARE left_over CURSOR WITH HOLD FOR SELECT 1')": ('SELECT count(*) FROM pg_cursors WHERE is_holdable', ([('0',)],)),
                "SELECT hidden_run('SET ROLE pg_monitor')": ('SELECT current_user = session_user', ([('t',)],)),
                "SELECT hidden_temp('acme')": ("SELECT to_regclass('pg_temp.hidden_temp_table')", ([(None,)],)),
                "SELECT hidden_path('acme')": ('SELECT tenant FROM whoami', ([('globex',)],))}
        server.sql('GRANT pg_monitor TO app', 'app')
        for keeps in (False, True):
            if keeps:
                self.prepare(self.a, ['k1', 'k2', 'k3'])
            for does, (looks, wanted) in left.items():
                self.a.run(does)
                self.assertIn(self.b.run(looks), wanted, does)
            # The unnamed statement of one is nothing to the other.
            self.extended(self.a, w.parse('', "SELECT 'mine'"))
            self.assertEqual(self.codes(self.extended(self.b, w.bind('', ''), w.execute())), ['26000'])

    def test_discard_all_undoes_what_a_function_did(self):
        """On the session's own server connection, which has what the session asked for: as far as anybody can see."""
        for _ in range(3):
            self.a.run("SELECT hidden_path('globex')")
            self.a.run('DISCARD ALL')
            self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_a_function_drops_what_wipes(self):
        """Our own prepared statements may be gone: the prologue fails, is made again, and nobody notices."""
        self.prepare(self.a, ['s1', 's2', 's3'])
        for turn in range(4):
            self.b.run('SELECT 1')
            self.a.run("SELECT hidden_run('DEALLOCATE ALL')")
            before = self.repeated()
            said = self.b.run('SELECT tenant FROM whoami') if turn % 2 else self.b._rows(self.extended(self.b, run('SELECT tenant FROM whoami')))
            self.assertEqual(said, [('globex',)])
            self.assertEqual(self.repeated(), before + 1)
            self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])
            self.prepare(self.a, ['t%d%d' % (turn, i) for i in range(3)])

    def test_deallocate_all_is_followed(self):
        """Sent by a client and seen by us: no prologue fails for that."""
        before = self.repeated()
        for turn in range(3):
            self.prepare(self.a, ['d%d%d' % (turn, i) for i in range(3)])
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
            self.a.run('BEGIN; DEALLOCATE ALL; COMMIT')
            self.prepare(self.a, ['o%d%d' % (turn, i) for i in range(3)])
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
        self.assertEqual(self.repeated(), before)

    def test_a_batch_without_its_sync_is_sent_again_too(self):
        self.prepare(self.a, ['u1', 'u2', 'u3'])
        self.b.run('SELECT 1')
        self.a.run("SELECT hidden_run('DEALLOCATE ALL')")
        before = self.repeated()
        self.b.send(run('SELECT tenant FROM whoami'))
        self.b.send(w.flush())
        said = self.b.recv_until('C')
        self.assertEqual([w.row_values(body) for kind, body in said if kind == 'D'], [[b'globex']])
        self.b.send(run('SELECT 2') + w.sync())
        self.assertEqual([w.row_values(body) for kind, body in self.b.recv_until('Z') if kind == 'D'], [[b'2']])
        self.assertEqual(self.repeated(), before + 1)

    def test_a_context_that_can_not_be_made(self):
        """The session's own role is dropped behind its back: what it asks is refused as it would be without pgporter, and it goes on."""
        server.sql('CREATE ROLE fleeting; GRANT fleeting TO app', 'app')
        for keeps in (False, True):
            if keeps:
                self.prepare(self.b, ['r1', 'r2', 'r3'])
            server.sql('SET ROLE postgres; DROP ROLE IF EXISTS fleeting; CREATE ROLE fleeting; GRANT fleeting TO app; GRANT USAGE ON SCHEMA acme TO fleeting', 'app')
            self.a.run('SET ROLE fleeting')
            self.assertEqual(self.a.run('SELECT current_user'), [('fleeting',)])
            self.b.run('SELECT 1')
            server.sql('REVOKE ALL ON SCHEMA acme FROM fleeting; DROP ROLE fleeting', 'app')
            for _ in range(3):
                with self.assertRaises(ServerError) as caught:
                    self.a.run("INSERT INTO ledger (id) VALUES ('never')")
                self.assertEqual((caught.exception.sqlstate, self.a.status), ('22023', 'I'))
                self.assertEqual(self.codes(self.extended(self.a, run('SELECT 1'), run('SELECT 2'))), ['22023'])
                self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
            self.a.run('RESET ALL')
            self.a.run('DISCARD ALL')
            self.assertEqual(self.a.run("SELECT tenant FROM whoami"), [('acme',)])
            self.assertEqual(server.sql("SELECT count(*) FROM acme.ledger WHERE id = 'never'", 'app'), [(0,)])

    def test_nothing_stands_behind_a_sync(self):
        """EXECUTE in SQL of a statement that must be prepared first brings a Sync of ours along: behind it PostgreSQL would act again, here as globex."""
        server.sql('CREATE ROLE brief; GRANT brief TO app; GRANT USAGE ON SCHEMA acme TO brief; GRANT INSERT, SELECT ON acme.ledger TO brief', 'app')
        self.extended(self.a, w.parse('write', 'INSERT INTO ledger (id) SELECT gen_random_uuid()::text RETURNING tenant'))
        self.a.run('SET ROLE brief')
        self.assertEqual(self.a.run('EXECUTE write'), [('acme',)])
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        fixture.wait_for(lambda: not server.backends(), 'the server process is gone')
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])  # and the new one has nothing prepared
        server.sql('DROP OWNED BY brief; DROP ROLE brief', 'app')
        rows = 'SELECT (SELECT count(*) FROM acme.ledger), (SELECT count(*) FROM globex.ledger)'
        before = server.sql(rows, 'app')
        with self.assertRaises(ServerError) as caught:
            self.a.run('EXECUTE write')
        self.assertEqual(caught.exception.sqlstate, '22023')
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
        self.assertEqual(server.sql(rows, 'app'), before)

    def test_messages_in_pieces_and_big_ones(self):
        long = 'x' * 300_000
        for _ in range(3):
            self.b.run('SELECT 1')
            self.a.send(w.parse('', "SELECT length($1), tenant FROM whoami"))
            self.a.send(w.bind('', '', [long]), 50_000)
            self.a.send(w.execute() + w.sync())
            self.assertEqual(self.a._rows(self.a.recv_until('Z')), [('300000', 'acme')])
            self.b.run('SELECT 1')
            self.assertEqual(self.a.run("SELECT length('%s'), tenant FROM whoami" % long), [('300000', 'acme')])
            self.b.run('SELECT 1')
            # A whole message, and the beginning of one that doesn't fit into the same turn.
            self.a.send(w.parse('', 'SELECT length($1), tenant FROM whoami') + w.bind('', '', [long]) + w.execute() + w.sync())
            self.assertEqual(self.a._rows(self.a.recv_until('Z')), [('300000', 'acme')])

    def test_copy(self):
        for _ in range(2):
            self.b.run('SELECT 1')
            self.a.send(w.query('COPY ledger (id) FROM STDIN') + w.copy_data('ahead\n') + w.copy_done())
            self.assertIn(('C', b'COPY 1\0'), self.a.recv_until('Z'))
            self.b.run('SELECT 1')
            self.assertEqual(self.a.run("DELETE FROM ledger WHERE id = 'ahead' RETURNING tenant"), [('acme',)])

    def test_parameters_are_told_when_they_change(self):
        """A client hears of its own changes, and nothing of what the other sessions have."""
        other = self.wire('globex', params={'application_name': 'other', 'TimeZone': 'Asia/Tokyo'})
        mine = self.wire('acme', params={'application_name': 'mine'})
        for _ in range(3):
            for wire in (other, mine):
                wire.send(w.query('SELECT 1'))
                self.assertEqual([kind for kind, _ in wire.recv_until('Z') if kind == 'S'], [])
        mine.send(w.query("SET application_name = 'renamed'; SELECT 1"))
        self.assertEqual([body for kind, body in mine.recv_until('Z') if kind == 'S'], [b'application_name\0renamed\0'])
        other.run('SELECT 1')
        self.assertEqual(mine.run("SELECT current_setting('application_name')"), [('renamed',)])
        self.assertEqual(other.run("SELECT current_setting('application_name'), current_setting('TimeZone')"), [('other', 'Asia/Tokyo')])

    def test_a_cancel_while_the_proof_is_owed(self):
        for sql in ('SELECT pg_sleep(30) /* owed */', None):
            self.b.run('SELECT 1')
            failed = []

            def wait():
                if sql:
                    failed.extend(self.codes((self.a.send(w.query(sql)), self.a.recv_until('Z'))[1]))
                else:
                    failed.extend(self.codes(self.extended(self.a, run('SELECT pg_sleep(30) /* owed */'))))
            thread = threading.Thread(target=wait, daemon=True)
            thread.start()
            fixture.wait_for(lambda: [b for b in server.backends() if b[1] == 'active' and 'owed' in b[2]], 'the statement runs')
            self.a.cancel()
            thread.join(15)
            self.assertEqual(failed, ['57014'])
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
            self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])

    def test_a_client_that_leaves_while_the_proof_is_owed(self):
        for goes in ('close', 'terminate'):
            gone = self.wire('acme')
            self.b.run('SELECT 1')
            gone.send(w.query('SELECT pg_sleep(60) /* left */'))
            fixture.wait_for(lambda: [b for b in server.backends() if b[1] == 'active' and 'left' in b[2]], 'the statement runs')
            if goes == 'terminate':
                gone.send(w.terminate())
            gone.close()
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_a_server_that_ends_the_connection(self):
        self.b.run('SELECT 1')
        with self.assertRaises(ServerError) as caught:
            self.a.run('SELECT pg_terminate_backend(pg_backend_pid())')
        self.assertEqual(caught.exception.sqlstate, '57P01')
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
        # Killed between two transactions, and while the next one's prologue is on its way.
        mine = self.wire('acme')
        mine.run('SELECT 1')
        os.kill(server.backends()[0][0], signal.SIGTERM)
        fixture.wait_for(lambda: not server.backends(), 'the server process is gone')
        self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_server_processes_that_end_while_idle(self):
        """The prologue meets the end of its server process: nothing was done, so it is asked elsewhere and nobody notices."""
        self.prepare(self.a, ['e1', 'e2', 'e3'])
        with server.connect('app') as superuser:
            with superuser.cursor() as cursor:
                for turn in range(60):
                    # One alone: what is asked again elsewhere mustn't meet the next one that is about to end.
                    cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' ORDER BY state_change DESC LIMIT 1")
                    wire, tenant = ((self.a, 'acme'), (self.b, 'globex'))[turn % 2]
                    if turn % 3:
                        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [(tenant,)])
                    elif wire is self.a:
                        self.assertEqual(self.a._rows(self.extended(self.a, w.bind('', 'e1', ['x']), w.execute())), [('acme', 'x', 'e1')])
                    else:
                        self.assertEqual(wire._rows(self.extended(wire, run('SELECT tenant FROM whoami'))), [(tenant,)])

    def test_it_goes_ahead(self):
        """No round trip of its own: the server process answers prologue and statement with one write."""
        before = proxy.metric('pgporter_prologues_total')
        for _ in range(5):
            self.assertEqual(self.a.run('SELECT tenant FROM whoami'), [('acme',)])
            self.assertEqual(self.b.run('SELECT tenant FROM whoami'), [('globex',)])
        self.assertEqual(proxy.metric('pgporter_prologues_total') - before, 10)


if __name__ == '__main__':
    fixture.main(__name__)
