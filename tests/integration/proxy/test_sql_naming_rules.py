"""Tenants named in SQL and transactions: SETs that are undone with their transaction, BEGIN that is held back with its options, a switch of
placement inside a transaction. Where PostgreSQL has an answer, pgporter must give the same.
"""
import fixture
import naming_case
import naming_world
import wire_client as w
from conversation import q, run, t, x
from wire_client import ServerError


def setUpModule():
    naming_case.start(globals())


def tearDownModule():
    naming_case.end()


class Transactions(naming_case.Base):
    def test_switch_of_placement_after_a_statement(self):
        for first, second in (('acme', 'umbrella'), ('umbrella', 'acme')):
            for sql in ('SET search_path TO %s', 'SET LOCAL search_path TO %s', "SELECT set_config('search_path', '%s', true)",
                "SET app.tenant = '%s'",
                        "SET SCHEMA '%s'"):
                wire = self.wire()
                wire.run('SET search_path TO ' + first)
                wire.run('BEGIN')
                self.assertEqual(wire.run("INSERT INTO ledger (id) VALUES ('switch') RETURNING tenant"), [(first,)])
                error = self.refused(wire, sql % second, '0A000' if 'app.' not in sql else '28000')
                self.assertIn(second, error.fields['M'])
                self.assertEqual(wire.status, 'E')
                self.refused(wire, 'SELECT tenant FROM whoami', '25P02')
                self.assertEqual(wire.run('ROLLBACK'), [])
                self.assertEqual(self.who(wire), first)
                self.assertEqual(wire.run("SELECT count(*) FROM ledger WHERE id = 'switch'"), [('0',)])

    def test_switch_of_placement_in_a_pipeline(self):
        """The statements behind the refused switch must not run anywhere."""
        wire = self.wire()
        wire.send(run('BEGIN') + run('SET search_path TO acme') + run("INSERT INTO ledger (id) VALUES ('pipe') RETURNING tenant") +
                  run('SET search_path TO umbrella') + run("INSERT INTO ledger (id) VALUES ('pipe') RETURNING tenant") + run('COMMIT') + w.sync())
        messages = wire.recv_until('Z')
        self.assertEqual([w.error_fields(b)['C'] for k, b in messages if k == 'E'], ['0A000'])
        self.assertEqual((naming_world.tenants_read(messages), wire.status), ([['acme']], 'E'))
        wire.run('ROLLBACK')
        for name, database in naming_world.DATABASE_OF.items():
            self.assertEqual(server.sql("SELECT count(*) FROM %s.ledger WHERE id = 'pipe'" % name, database), [(0,)])

    def test_switch_of_placement_in_one_query(self):
        wire = self.wire()
        self.refused(wire, "SET search_path TO acme; INSERT INTO ledger (id) VALUES ('one query'); SET search_path TO umbrella; "
                     "INSERT INTO ledger (id) VALUES ('one query')", '0A000')
        for name, database in naming_world.DATABASE_OF.items():
            self.assertEqual(server.sql("SELECT count(*) FROM %s.ledger WHERE id = 'one query'" % name, database), [(0,)])

    def test_switch_within_the_shared_database(self):
        """The same database: PostgreSQL can do it, so it is done."""
        turns = [q('SET search_path TO acme'), q('BEGIN'), q('SELECT tenant FROM whoami'), q('SET LOCAL search_path TO globex'),
            q('SELECT tenant FROM whoami'),
                 q('SAVEPOINT s'), q('SET search_path TO initech'), q('SELECT tenant FROM whoami'), q('ROLLBACK TO s'),
                 q('SELECT tenant FROM whoami'),
                 q('COMMIT'), q('SELECT tenant FROM whoami')]
        self.both('switch within the shared database', turns, reads=['acme', 'globex', 'initech', 'globex', 'acme'])

    def reads_of(self, wire, *sqls):
        """Each statement's rows of one column, or its SQLSTATE."""
        seen = []
        for sql in sqls:
            try:
                seen.append([row[0] for row in wire.run(sql)])
            except ServerError as error:
                seen.append(error.sqlstate)
        return seen

    def test_rollback_to_where_a_setting_named_another_tenant(self):
        """A setting, not search_path, names the tenant: ROLLBACK TO must lead back to the tenant's rows too, or to an error; and what the server
        connection is afterwards must be known, to this session and to the next one."""
        who = 'SELECT tenant FROM whoami'
        for first, second in (('acme', 'globex'), ('globex', 'umbrella'), ('umbrella', 'acme')):
            wire, others = self.wire(), [self.wire(name) for name in ('acme', 'globex', 'umbrella')]
            seen = self.reads_of(wire, 'BEGIN', "SET app.tenant = '%s'" % first, 'SAVEPOINT b', "SET app.tenant = '%s'" % second, who,
                'ROLLBACK TO b', who)
            self.assertEqual(seen[4], [second])
            self.assertIn(seen[6], ([first], '0A000', '42P01', '25P02'), '%s, then %s' % (first, second))
            self.assertEqual(self.reads_of(wire, 'COMMIT' if wire.status == 'T' else 'ROLLBACK'), [[]])
            if seen[6] == [first]:
                self.assertEqual(self.reads_of(wire, who, "INSERT INTO ledger (id) VALUES ('%s-%s') RETURNING tenant" % (first, second)),
                    [[first], [first]])
            for name, other in zip(('acme', 'globex', 'umbrella'), others):
                self.assertEqual(self.reads_of(other, who), [[name]])

    def test_switch_by_a_setting_within_the_shared_database(self):
        """The path of the tenant goes with it, although no statement says search_path."""
        who = 'SELECT tenant FROM whoami'
        for sql in ("SET LOCAL pgporter.tenant TO 'globex'", "SET app.tenant = 'globex'", "SELECT set_config('app.tenant', 'globex', true)"):
            wire = self.wire()
            seen = self.reads_of(wire, 'BEGIN', 'SET search_path TO "acme", public', who, 'SET search_path = DEFAULT', sql, who)
            self.assertEqual(seen[2], ['acme'])
            self.assertIn(seen[5], (['globex'], '0A000', '25P02', '42P01'), sql)
            wire.run('ROLLBACK')
            wire = self.wire('acme')
            seen = self.reads_of(wire, 'BEGIN', who, sql, who)
            self.assertIn(seen[3], (['globex'], '0A000', '25P02'), sql)
            wire.run('ROLLBACK')
            self.assertEqual(self.reads_of(wire, who), [['acme']])

    def test_reset_that_is_held_back(self):
        """RESET search_path in a held transaction goes back to the path of the tenant that a setting names."""
        who = 'SELECT tenant FROM whoami'
        wire = self.wire()
        self.assertEqual(self.reads_of(wire, 'BEGIN', "SET LOCAL search_path TO initech", 'SET search_path TO DEFAULT',
            "SET app.tenant = 'umbrella'", who)[-1],
                         ['umbrella'])
        wire = self.wire('globex')
        self.assertEqual(self.reads_of(wire, 'BEGIN', 'SET search_path TO acme', 'RESET search_path', who, 'COMMIT', who)[3:],
            [['globex'], [], ['globex']])

    def test_undo(self):
        s = q('SELECT tenant FROM whoami')
        self.both('ROLLBACK undoes SET', [q('SET search_path TO acme'), q('BEGIN'), q('SET search_path TO umbrella'), s, q('ROLLBACK'), s,
                                          q('BEGIN'), q('SET search_path TO umbrella'), q('ROLLBACK'), s, q('SHOW search_path')],
                  reads=['umbrella', 'acme', 'acme'])
        self.both('COMMIT keeps SET', [q('SET search_path TO acme'), q('BEGIN'), q('SET search_path TO umbrella'), s, q('COMMIT'), s,
                                       q('BEGIN'), q('SET search_path TO globex'), q('COMMIT'), s], reads=['umbrella', 'umbrella', 'globex'])
        self.both('ROLLBACK TO undoes SET', [
            q('SET search_path TO acme'), q('BEGIN'), q('SAVEPOINT a'), q('SET search_path TO umbrella'), q('SAVEPOINT b'),
                q('SET search_path TO globex'),
            q('ROLLBACK TO b'), s, q('COMMIT'), s, q('BEGIN'), q('SAVEPOINT a'), q('SET search_path TO acme'), q('ROLLBACK TO SAVEPOINT a'),
            q('COMMIT'), s],
            reads=['umbrella', 'umbrella', 'umbrella'])
        self.both('RELEASE keeps SET', [q('SET search_path TO acme'), q('BEGIN'), q('SAVEPOINT a'), q('SET search_path TO umbrella'),
            q('RELEASE a'), s,
                                        q('ROLLBACK TO a'), q('ROLLBACK'), s], reads=['umbrella', 'acme'])
        self.both('RELEASE, then ROLLBACK TO the outer one', [
            q('SET search_path TO acme'), q('BEGIN'), q('SAVEPOINT a'), q('SAVEPOINT b'), q('SET search_path TO umbrella'), q('RELEASE SAVEPOINT b'),
            q('ROLLBACK TO a'), s, q('COMMIT'), s], reads=['acme', 'acme'])
        self.both('savepoints of one name', [
            q('BEGIN'), q('SAVEPOINT a'), q('SET search_path TO acme'), q('SAVEPOINT A'), q('SET search_path TO umbrella'), q('SAVEPOINT "A"'),
            q('SET search_path TO globex'), q('ROLLBACK TO a'), s, q('COMMIT'), s], reads=['acme', 'acme'])
        self.both('SET LOCAL over SET', [q('SET search_path TO acme'), q('BEGIN'), q('SET search_path TO globex'),
            q('SET LOCAL search_path TO umbrella'), s,
                                         q('COMMIT'), s], reads=['umbrella', 'globex'])
        self.both('SET over SET LOCAL', [q('SET search_path TO acme'), q('BEGIN'), q('SET LOCAL search_path TO globex'),
            q('SET search_path TO umbrella'), s,
                                         q('COMMIT'), s], reads=['umbrella', 'umbrella'])
        self.both('RESET in a transaction', [q('SET search_path TO umbrella'), q('BEGIN'), q('RESET search_path'), q('ROLLBACK'), s,
                                             q('BEGIN'), q('RESET search_path'), s, q('COMMIT'), s], 'acme', ['umbrella', 'acme', 'acme'])
        self.both('a failed transaction undoes SET', [q('SET search_path TO acme'), q('BEGIN'), q('SET search_path TO umbrella'), q('SELECT 1/0'),
            q('COMMIT'),
                                                      s], reads=['acme'])
        self.both('extended, undone', [x(run('SET search_path TO acme')), x(run('BEGIN'), run('SET search_path TO umbrella')),
                                       x(run('SELECT tenant FROM whoami')), x(run('ROLLBACK')), x(run('SELECT tenant FROM whoami'))],
                  reads=['umbrella', 'acme'])
        self.both('a failing batch undoes its SET', [
            x(run('SET search_path TO acme')), x(run('SET search_path TO umbrella'), run('SELECT 1/0')), x(run('SELECT tenant FROM whoami')),
            x(run('SET search_path TO umbrella'), run('SELEKT')), x(run('SELECT tenant FROM whoami')),
            x(run('SET search_path TO umbrella'), w.bind('', 'nope')),
            x(run('SELECT tenant FROM whoami'))], reads=['acme', 'acme', 'acme'])

    def test_set_local_outside_a_transaction(self):
        """PostgreSQL warns, and nothing changes."""
        self.both('SET LOCAL outside', [
            q('SET search_path TO acme'), q('SET LOCAL search_path TO umbrella'), q('SELECT tenant FROM whoami'),
                x(run('SET LOCAL search_path TO umbrella')),
            x(run('SELECT tenant FROM whoami')), q("SET LOCAL app.tenant = 'umbrella'"), q("SELECT set_config('search_path', 'umbrella', true)"),
            q('SELECT tenant FROM whoami')], reads=['acme', 'acme', 'acme'])
        wire = self.wire()
        wire.send(w.query('SET LOCAL search_path TO acme'))
        notices = [w.error_fields(b) for k, b in wire.recv_until('Z') if k == 'N']
        self.assertEqual([(n['S'], n['C']) for n in notices], [('WARNING', '25P01')])

    def test_set_local_in_an_implicit_transaction(self):
        self.both('SET LOCAL in a multi-statement', [q('SET search_path TO globex'),
            q('SET LOCAL search_path TO umbrella; SELECT tenant FROM whoami'),
                                                     q('SELECT tenant FROM whoami')], reads=['umbrella', 'globex'])
        self.both('set_config local in a batch', [
            q('SET search_path TO globex'), x(run("SELECT set_config('search_path', 'umbrella', true)"), run('SELECT tenant FROM whoami')),
            x(run('SELECT tenant FROM whoami'))], reads=['umbrella', 'globex'])
        self.both('SET LOCAL in a batch', [q('SET search_path TO globex'),
            x(run('SET LOCAL search_path TO umbrella'), run('SELECT tenant FROM whoami')),
                                           x(run('SELECT tenant FROM whoami'))])

    def test_lazy_begin_with_each_option(self):
        options = ('', 'WORK', 'TRANSACTION', 'ISOLATION LEVEL SERIALIZABLE', 'ISOLATION LEVEL REPEATABLE READ', 'ISOLATION LEVEL READ COMMITTED',
                   'ISOLATION LEVEL READ UNCOMMITTED', 'READ ONLY', 'READ WRITE', 'ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE',
                   'TRANSACTION ISOLATION LEVEL SERIALIZABLE READ WRITE NOT DEFERRABLE')
        for verb in ('BEGIN', 'START TRANSACTION'):
            for option in options:
                if verb == 'START TRANSACTION' and option in ('WORK', 'TRANSACTION') or 'TRANSACTION ' in option and verb != 'BEGIN':
                    continue
                look = [q('SET LOCAL search_path TO umbrella'), q('SELECT tenant FROM whoami'), q('SHOW transaction_isolation'),
                        q('SHOW transaction_read_only'), q('SHOW transaction_deferrable'), q("INSERT INTO ledger (id) VALUES ('lazy')"),
                        q('ROLLBACK')]
                self.both('%s %s' % (verb, option), [q('%s %s' % (verb, option)), *look], modes=('whole', 'coalesced'), reads=['umbrella'])
                self.both('x: %s %s' % (verb, option), [x(run('%s %s' % (verb, option))), *look], modes=('whole',), reads=['umbrella'])

    def test_a_pool_of_connections_resets_them(self):
        """What asyncpg sends when a connection goes back to its pool, whoever was named, and wherever that one and the login's tenant live."""
        reset = 'SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;'
        for login in (None, 'acme', 'umbrella'):
            for named in ('acme', 'globex', 'umbrella'):
                for sql in (reset, 'RESET ALL', 'DISCARD ALL', 'RESET search_path', 'SELECT 1; RESET search_path'):
                    for prepared in (False, True):
                        if prepared and ';' in sql:
                            continue
                        with self.subTest(login=login, named=named, sql=sql, prepared=prepared):
                            wire = self.wire(login)
                            wire.run('SET search_path TO %s, public' % named)
                            self.assertEqual(self.who(wire), named)
                            wire.run_prepared(sql) if prepared else wire.run(sql)
                            if login:
                                self.assertEqual(self.who(wire), login)
                            else:
                                self.assertEqual(self.who_is_nobody(wire), '42P01')
                            wire.close()

    def test_wrong_begin(self):
        self.both('wrong BEGIN', [q('BEGIN ISOLATION LEVEL CHAOS'), q('BEGIN READ'), q('BEGIN,'), q('BEGIN READ ONLY,'), q('START'),
            q('BEGIN DEFERRED'),
                                  x(run('BEGIN ISOLATION')), q('SELECT 1')])
        self.both('contradicting options', [q('BEGIN READ ONLY READ WRITE'), q('SHOW transaction_read_only'), q('ROLLBACK')])

    def test_set_transaction_held_back(self):
        self.both('SET TRANSACTION', [q('BEGIN'), q('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), q('SET LOCAL search_path TO umbrella'),
                                      q('SHOW transaction_isolation'), q('SELECT tenant FROM whoami'), q('ROLLBACK'),
                                      q('BEGIN'), q('SET TRANSACTION READ ONLY'), q('COMMIT'), q('SET TRANSACTION READ ONLY')])

    def test_empty_transactions_need_no_server_connection(self):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        fixture.wait_for(lambda: not naming_world.backends(server), 'no server connections')
        wire = self.wire()
        for turn in ('BEGIN', 'COMMIT', 'START TRANSACTION READ ONLY', 'ROLLBACK', 'BEGIN; COMMIT', 'begin work', 'SAVEPOINT a',
            'SET LOCAL search_path TO acme',
                     "SELECT set_config('search_path', 'umbrella', true)", 'ROLLBACK TO a', 'RELEASE a', 'end', 'SET search_path TO umbrella',
                     "SET app.tenant = 'umbrella'",
                     'RESET app.tenant'):
            wire.run(turn)
            self.assertEqual(naming_world.backends(server), {}, turn)
        for sql in ('BEGIN', 'SET LOCAL search_path TO acme', 'ROLLBACK'):
            wire.run_prepared(sql)
            self.assertEqual(naming_world.backends(server), {}, sql)
        self.assertEqual(self.who(wire), 'umbrella')
        self.assertEqual(naming_world.backends(server), {'umbrella': 1})

    def test_begin_in_begin(self):
        self.both('BEGIN in BEGIN', [q('BEGIN'), q('BEGIN'), q('BEGIN ISOLATION LEVEL SERIALIZABLE'), q('SET LOCAL search_path TO umbrella'),
                                     q('SELECT tenant FROM whoami'), q('SHOW transaction_isolation'), q('BEGIN'), q('COMMIT'), q('COMMIT')])
        self.both('BEGIN in BEGIN in one query', [q('BEGIN; BEGIN; SELECT 1'), q('ROLLBACK')])

    def test_commit_and_chain(self):
        self.both('AND CHAIN', [q('SET search_path TO acme'), q('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY'),
            q('SET LOCAL search_path TO globex'),
                                q('SELECT tenant FROM whoami'), q('COMMIT AND CHAIN'), q('SHOW transaction_isolation'),
                                q('SHOW transaction_read_only'),
                                q('SHOW search_path'), q('ROLLBACK AND CHAIN'), q('SHOW transaction_isolation'), q('COMMIT AND NO CHAIN'),
                                q('SELECT 1')],
                  reads=['globex'])
        self.both('AND CHAIN with nothing between', [q('BEGIN ISOLATION LEVEL SERIALIZABLE'), q('COMMIT AND CHAIN'), q('COMMIT AND CHAIN'),
                                                     q('SHOW transaction_isolation'), q('ROLLBACK'), q('COMMIT AND CHAIN'), q('ROLLBACK AND CHAIN')])

    def test_chain_does_not_move_a_tenant(self):
        """After COMMIT AND CHAIN the SET LOCAL is gone: what follows is of the tenant before it, in another database."""
        wire = self.wire()
        wire.run('SET search_path TO acme')
        wire.run('BEGIN')
        wire.run('SET LOCAL search_path TO umbrella')
        self.assertEqual(self.who(wire), 'umbrella')
        wire.run('COMMIT AND CHAIN')
        try:
            self.assertEqual(self.who(wire), 'acme')
        except ServerError as error:
            self.assertIn(error.sqlstate, ('0A000', '42P01'))  # never rows of umbrella
        wire.run('ROLLBACK')
        self.assertEqual(self.who(wire), 'acme')

    def test_failed_set_in_a_lazy_transaction(self):
        for prepared in (False, True):
            wire = self.wire()
            wire.run('BEGIN')
            self.refused(wire, 'SET search_path TO nosuch', '3F000', prepared=prepared)
            self.assertEqual(wire.status, 'E')
            self.refused(wire, 'SELECT 1', '25P02', 'current transaction is aborted', prepared=prepared)
            self.refused(wire, 'SET search_path TO acme', '25P02', prepared=prepared)
            self.refused(wire, 'SAVEPOINT x', '25P02', prepared=prepared)
            self.refused(wire, 'BEGIN', '25P02', prepared=prepared)
            wire.send(w.query('COMMIT'))
            messages = wire.recv_until('Z')
            self.assertEqual([(k, b) for k, b in messages], [('C', b'ROLLBACK\0'), ('Z', b'I')])
            wire.run('SET search_path TO acme')
            self.assertEqual(self.who(wire), 'acme')

    def test_failed_set_and_a_savepoint(self):
        wire = self.wire()
        wire.run('BEGIN')
        wire.run('SET LOCAL search_path TO umbrella')
        wire.run('SAVEPOINT a')
        self.refused(wire, 'SET search_path TO nosuch', '3F000')
        self.refused(wire, 'ROLLBACK TO nosuch', '3B001', 'savepoint "nosuch" does not exist')
        wire.run('ROLLBACK TO a')
        self.assertEqual(wire.status, 'T')
        self.assertEqual(self.who(wire), 'umbrella')
        wire.run('COMMIT')

    def test_aborted_lazy_transaction_like_postgresql(self):
        self.both('aborted before anything', [q('BEGIN'), q('SELEKT'), q('SET search_path TO acme'), q(''), x(run('SELECT 1')), x(run('')),
            q('COMMIT'),
                                              q('BEGIN'), q('ROLLBACK TO nowhere'), q('SELECT 1'), q('ROLLBACK'), q('BEGIN'),
                                              q('RELEASE nowhere'), q('COMMIT')])

    def test_pipelined_begin(self):
        self.both('pipelined', [t(w.query('BEGIN'), w.query("SET LOCAL search_path TO umbrella"), w.query('SELECT tenant FROM whoami'),
            w.query('COMMIT'), ready=4),
                                t(run('BEGIN'), run('SET LOCAL search_path TO acme'), run('SELECT tenant FROM whoami'), run('COMMIT'), w.sync()),
                                t(run('BEGIN'), w.sync(), run('SET LOCAL search_path TO umbrella'), w.sync(), run('SELECT tenant FROM whoami'),
                                w.sync(),
                                  run('COMMIT'), w.sync(), ready=4)], reads=['umbrella', 'acme', 'umbrella'])
        self.both('flushed', [t(run('BEGIN'), w.flush(), until='C'), t(run('SET LOCAL search_path TO umbrella'), w.flush(), until='C'),
                              t(run('SELECT tenant FROM whoami'), w.flush(), until='C'), x(run('COMMIT'))], reads=['umbrella'])

    def test_prepared_once_run_for_many(self):
        turns = [x(w.parse('s', 'SELECT tenant FROM whoami')),
            x(w.parse('b', 'BEGIN'), w.parse('c', 'COMMIT'), w.parse('e', 'SET LOCAL search_path TO umbrella'))]
        self.both('named statements across placements', [q('SET search_path TO acme'),
            *turns] + [turn for name in ('acme', 'umbrella', 'globex', 'umbrella') for turn in (
            q('SET search_path TO ' + name), x(w.bind('', 's'), w.describe('P'), w.execute()), x(w.bind('', 'b'), w.execute()),
                x(w.bind('', 'e'), w.execute()),
            x(w.bind('', 's'), w.describe('P'), w.execute()), x(w.bind('', 'c'), w.execute()))],
            reads=[r for name in ('acme', 'umbrella', 'globex', 'umbrella') for r in (name, 'umbrella')])

    def test_copy_and_cursors_across_placements(self):
        turns = [turn for name in ('umbrella', 'acme', 'umbrella') for turn in (
            q('SET search_path TO ' + name), q('COPY whoami TO STDOUT'), t(w.query('COPY unique_n (n) FROM STDIN'), until='GE'),
            t(w.copy_data(b'1\n'), w.copy_done()), q('DELETE FROM unique_n RETURNING tenant'), q('BEGIN'),
            q('DECLARE c CURSOR FOR SELECT tenant FROM items'),
            q('FETCH 2 FROM c'), q('COMMIT'))]
        self.both('COPY and cursors', turns)

    def test_copy_behind_what_names_the_tenant(self):
        """Its input must come through although what is sent behind such a transaction waits for its end."""
        turns = [turn for name in ('umbrella', 'acme') for copy in (w.query('COPY unique_n (n) FROM STDIN'), None) for turn in (
            q('BEGIN'), q('SET LOCAL search_path TO ' + name),
            t(copy, until='GE') if copy else t(w.parse('', 'COPY unique_n (n) FROM STDIN'), w.bind(), w.execute(), w.sync(), until='GE'),
            t(w.copy_data(b'1\n'), w.copy_data(b'2\n'), w.copy_done(), *(() if copy else (w.sync(),))), q('DELETE FROM unique_n RETURNING tenant'),
            q('COMMIT'))]
        turns += [t(w.query('SET search_path TO acme; SET lock_timeout = 0; COPY unique_n (n) FROM STDIN; SELECT 1'), until='GE'),
                  t(w.copy_data(b'1\n'), w.copy_done()), q('DELETE FROM unique_n RETURNING tenant')]
        self.both('COPY behind SET LOCAL', turns)


if __name__ == '__main__':
    fixture.main(__name__)
