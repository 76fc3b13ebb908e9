"""Conversations in the extended protocol: statements, portals, Flush, pipelines, errors at each step, COPY, function calls."""
import struct

import wire_client as w
from conversation import Conversation as C
from conversation import q, run, t, x

INT4 = 23
INT8 = 20
TEXT = 25


def _unnamed():
    yield C('x: one statement', [x(run('SELECT 1 AS one'))])
    yield C('x: parameters', [x(run('SELECT $1::int + 1, $2::text', ['41', 'ž']))])
    yield C('x: parameters with types given', [x(w.parse('', 'SELECT $1, $2', [INT4, TEXT]), w.describe('S'), w.bind('', '', ['1', None]),
                                                 w.execute())])
    yield C('x: binary parameters and results', [x(run('SELECT $1::int8, tenant, n FROM items WHERE n = $2 ORDER BY id',
                                                       [struct.pack('!q', 5), struct.pack('!i', 3)], formats=(1,), result_formats=(1,)))])
    yield C('x: mixed formats', [x(run('SELECT $1::int4, $2::int4', [struct.pack('!i', 1), '2'], formats=(1, 0), result_formats=(0, 1)))])
    yield C('x: rows of the tenant', [x(run('SELECT tenant, n FROM items ORDER BY id'))])
    yield C('x: empty query', [x(run('')), x(run('-- nothing')), x(run(';'))])
    yield C('x: no columns', [x(run('SELECT'))])
    yield C('x: nothing but Sync', [x(), x(), t(w.sync() * 3, ready=3)])
    yield C('x: Bind before Describe', [x(w.parse('', 'SELECT 1'), w.bind(), w.describe('P'), w.describe('S'), w.execute())])
    yield C('x: Execute twice', [x(run('SELECT n FROM items ORDER BY id LIMIT 2'), w.execute(), w.execute())])
    yield C('x: unnamed statement outlives Sync', [x(w.parse('', 'SELECT $1::int * 2')), x(w.bind('', '', ['4']), w.execute()),
                                                   x(w.bind('', '', ['5']), w.execute()), x(w.describe('S'))])
    yield C('x: unnamed statement ends with a Query', [x(w.parse('', 'SELECT 1')), q('SELECT 2'), x(w.bind(), w.execute())])
    yield C('x: unnamed statement ends with the next Parse', [x(w.parse('', 'SELECT 1'), w.parse('', 'SELECT 2'), w.bind(), w.execute())])
    yield C('x: unnamed statement after a failed Parse', [x(w.parse('', 'SELECT 1')), x(w.parse('', 'SELEKT')), x(w.bind(), w.execute())])
    yield C('x: unnamed portal ends with Sync', [x(w.parse('', 'SELECT 1'), w.bind()), x(w.execute())])
    yield C('x: several statements in one Parse', [x(w.parse('', 'SELECT 1; SELECT 2'), w.bind(), w.execute())])
    yield C('x: no statement at all', [x(w.bind(), w.execute()), x(w.describe('S')), x(w.execute())])
    yield C('x: notice', [x(run("SELECT say_notice('x')"))])
    yield C('x: 20 MB parameter', [x(run('SELECT length($1::text)', ['p' * 20_000_000]))], big=True)
    yield C('x: 20 MB result', [x(run("SELECT repeat('r', 20000000)"))], big=True)


def _named():
    yield C('x: named statement', [x(w.parse('s1', 'SELECT $1::int + 1')), x(w.bind('', 's1', ['1']), w.execute()),
                                   x(w.bind('', 's1', ['2']), w.describe('P'), w.execute()), x(w.describe('S', 's1'))])
    yield C('x: many named statements', [x(*[w.parse('m%d' % i, 'SELECT %d' % i) for i in range(30)]),
                                         x(*[w.bind('', 'm%d' % i) + w.execute() for i in reversed(range(30))])])
    yield C('x: same text under two names', [x(w.parse('a', 'SELECT 1 AS x'), w.parse('b', 'SELECT 1 AS x')), x(w.close('S', 'a')),
                                             x(w.bind('', 'b'), w.execute()), x(w.bind('', 'a'), w.execute())])
    yield C('x: name taken', [x(w.parse('s1', 'SELECT 1')), x(w.parse('s1', 'SELECT 2')), x(w.bind('', 's1'), w.execute())])
    yield C('x: name taken in the same batch', [x(w.parse('s1', 'SELECT 1'), w.parse('s1', 'SELECT 2'), w.bind('', 's1'), w.execute()),
                                                x(w.bind('', 's1'), w.execute())])
    yield C('x: Parse in a batch that fails later stays', [x(w.parse('s1', 'SELECT 1'), run('SELECT 1/0')), x(w.bind('', 's1'), w.execute())])
    yield C('x: name free again after a failed Parse', [x(w.parse('s1', 'SELEKT')), x(w.parse('s1', 'SELECT 1'), w.bind('', 's1'), w.execute())])
    for what, again in (('Parse', [w.parse('s1', 'SELECT 1'), w.bind('', 's1'), w.execute()]), ('Bind', [w.bind('', 's1')]),
                        ('Close', [w.close('S', 's1')])):
        yield C('x: %s of a name after its Parse failed, in the same transaction' % what, [
            q('BEGIN'), q('SAVEPOINT a'), x(w.parse('s1', 'SELEKT')), q('ROLLBACK TO a'), x(*again), q('ROLLBACK')])
    yield C('x: Parse skipped after an error', [x(run('SELECT 1/0'), w.parse('s1', 'SELECT 1')), x(w.bind('', 's1'), w.execute()),
                                                x(w.parse('s1', 'SELECT 2')), x(w.bind('', 's1'), w.execute())])
    yield C('x: Close skipped after an error', [x(w.parse('s1', 'SELECT 1')), x(run('SELECT 1/0'), w.close('S', 's1')),
                                                x(w.bind('', 's1'), w.execute())])
    yield C('x: Close and Parse again', [x(w.parse('s1', 'SELECT 1'), w.close('S', 's1'), w.parse('s1', 'SELECT 2'), w.bind('', 's1'),
                                           w.execute()), x(w.close('S', 's1')), x(w.bind('', 's1'), w.execute())])
    yield C('x: Close what was never there', [x(w.close('S', 'never'), w.close('P', 'never')), x(w.close('S'), w.close('P'))])
    yield C('x: Close portal of a statement\'s name', [x(w.parse('s1', 'SELECT 1')), x(w.close('P', 's1')), x(w.bind('', 's1'), w.execute())])
    yield C('x: Bind to an unknown statement', [x(w.bind('', 'nope'), w.execute()), x(w.describe('S', 'nope')),
                                                x(w.describe('P', 'nope')), x(w.execute('nope'))])
    yield C('x: quotes in names', [x(w.parse('we"ird \'ž', 'SELECT 1')), x(w.bind('', 'we"ird \'ž'), w.execute()),
                                   x(w.parse('we"ird \'ž', 'SELECT 1')), x(w.bind('', 'we"ird'), w.execute())])
    yield C('x: long names', [x(w.parse('n' * 200, 'SELECT 1')), x(w.bind('', 'n' * 200), w.execute()), x(w.bind('', 'n' * 199), w.execute())])
    yield C('x: names that look like ours', [x(w.parse('pgporter_1', 'SELECT 1'), w.parse('PGBOUNCER_1', 'SELECT 2'), w.parse('pp_1', 'SELECT 3')),
                                             x(w.bind('', 'pgporter_1'), w.execute(), w.bind('', 'PGBOUNCER_1'), w.execute(),
                                               w.bind('', 'pp_1'), w.execute()), x(w.bind('', 'pp_2'), w.execute())])
    yield C('x: DEALLOCATE of a wire statement', [x(w.parse('s1', 'SELECT 1')), q('DEALLOCATE s1'), x(w.bind('', 's1'), w.execute()),
                                                  q('DEALLOCATE s1'), x(w.parse('s1', 'SELECT 2')), x(w.bind('', 's1'), w.execute())])
    yield C('x: DEALLOCATE as PDO does', [x(w.parse('pdo_stmt_00000001', 'SELECT $1::text')),
                                          x(w.bind('', 'pdo_stmt_00000001', ['a']), w.describe('P'), w.execute()),
                                          q('DEALLOCATE pdo_stmt_00000001'), q('DEALLOCATE PREPARE "pdo_stmt_00000001"')])
    yield C('x: DEALLOCATE in the extended protocol', [x(w.parse('s1', 'SELECT 1')), x(run('DEALLOCATE s1')), x(w.bind('', 's1'), w.execute()),
                                                       x(run('DEALLOCATE s1')), x(run('DEALLOCATE PREPARE s1')), x(w.parse('s1', 'SELECT 2')),
                                                       x(w.bind('', 's1'), w.execute())])
    yield C('x: DEALLOCATE ALL', [x(w.parse('s1', 'SELECT 1'), w.parse('s2', 'SELECT 2')), q('DEALLOCATE ALL'), x(w.bind('', 's1'), w.execute()),
                                  x(w.parse('s1', 'SELECT 3')), x(w.bind('', 's1'), w.execute())])
    yield C('x: DEALLOCATE ALL in the extended protocol', [x(w.parse('s1', 'SELECT 1')), x(run('DEALLOCATE ALL')), x(w.bind('', 's1'), w.execute())])
    yield C('x: DISCARD ALL ends statements', [x(w.parse('s1', 'SELECT 1')), q('DISCARD ALL'), x(w.bind('', 's1'), w.execute()),
                                               x(w.parse('s1', 'SELECT 4')), x(w.bind('', 's1'), w.execute())])
    yield C('x: DISCARD ALL in the extended protocol', [x(w.parse('s1', 'SELECT 1')), x(run('DISCARD ALL')), x(w.bind('', 's1'), w.execute())])
    yield C('x: EXECUTE of a wire statement', [x(w.parse('s1', 'SELECT $1::int')), q('EXECUTE s1(5)')])
    yield C('x: Bind of a SQL PREPARE', [q('PREPARE p (int) AS SELECT $1 + 100'), x(w.bind('', 'p', ['1']), w.execute()), q('DEALLOCATE p')],
            pooled=False)
    yield C('x: statement in a rolled back transaction', [q('BEGIN'), x(w.parse('s1', 'SELECT 1')), q('ROLLBACK'), x(w.bind('', 's1'), w.execute())])
    yield C('x: statement in a failed transaction', [q('BEGIN'), x(w.parse('s1', 'SELECT 1'), w.parse('e1', 'ROLLBACK')), q('SELECT 1/0'),
                                                     x(w.bind('', 's1'), w.execute()), x(w.parse('s2', 'SELECT 1')),
                                                     x(w.bind('', 'e1'), w.execute()), x(w.bind('', 's1'), w.execute())])
    yield C('x: statement survives DDL', [q('CREATE TABLE diff_plan (a int)'), x(w.parse('s1', 'SELECT a FROM diff_plan')),
                                          x(w.bind('', 's1'), w.execute()), q('ALTER TABLE diff_plan ADD b int'),
                                          x(w.bind('', 's1'), w.execute()), q('DROP TABLE diff_plan'), x(w.bind('', 's1'), w.execute())])
    yield C('x: cached plan must not change result type', [
        q('CREATE TABLE diff_plan2 (a int)'), x(w.parse('s1', 'SELECT * FROM diff_plan2')), x(w.bind('', 's1'), w.execute()),
        q('ALTER TABLE diff_plan2 ADD b text'), x(w.bind('', 's1'), w.execute()), q('DROP TABLE diff_plan2')], pooled=False)
    yield C('x: statement of one tenant after a switch', [
        x(w.parse('s1', 'SELECT tenant FROM whoami')), x(w.bind('', 's1'), w.execute()), q('SET search_path TO globex, public'),
        x(w.bind('', 's1'), w.execute()), q('SET search_path TO acme, public'), x(w.bind('', 's1'), w.execute())])
    yield C('x: Describe alone', [x(w.parse('s1', 'INSERT INTO ledger (id) VALUES ($1) RETURNING tenant, amount')), x(w.describe('S', 's1')),
                                  x(w.describe('S', 's1'), w.describe('S', 's1'))])
    yield C('x: types of unknown parameters', [x(w.parse('s1', 'SELECT $1'), w.describe('S', 's1')),
                                               x(w.parse('s2', 'SELECT n FROM items WHERE payload = $1 AND n = $2'), w.describe('S', 's2'))])
    for count in (65535, 65536, 65540):  # counted in 16 bits where they are described, and in Bind
        sql = 'VALUES ' + ', '.join('($%d::int)' % number for number in range(1, count + 1))
        yield C('x: %d parameters' % count, [x(w.parse('s1', sql), w.describe('S', 's1')), x(w.describe('S', 's1')), x(w.bind('', 's1', ['1']), w.execute()),
                                             x(w.parse('', sql), w.describe('S')), q('SELECT 1'), x(w.describe('S', 's1'))], big=True)


def _portals():
    rows = 'SELECT n FROM items ORDER BY id'
    yield C('x: portal suspended', [x(w.parse('', rows), w.bind(), w.execute('', 3), w.execute('', 3), w.execute('', 0), w.execute('', 1))])
    yield C('x: exactly as many rows as asked', [x(w.parse('', 'SELECT 1'), w.bind(), w.execute('', 1), w.execute('', 1))])
    yield C('x: named portals interleaved', [x(w.parse('', rows), w.bind('a'), w.bind('b'), w.execute('a', 2), w.execute('b', 3), w.execute('a', 2),
                                               w.close('P', 'a'), w.execute('b', 2), w.execute('a', 1)), x()])
    yield C('x: portal lives through the transaction', [
        q('BEGIN'), x(w.parse('s', rows), w.bind('p', 's')), x(w.execute('p', 2)), q('SELECT 1'), x(w.execute('p', 2)), q('FETCH 1 FROM p'),
        x(w.close('P', 'p')), x(w.execute('p', 2)), q('ROLLBACK')])
    yield C('x: portal ends with the transaction', [q('BEGIN'), x(w.parse('s', rows), w.bind('p', 's'), w.execute('p', 1)), q('COMMIT'),
                                                    x(w.execute('p', 1))])
    yield C('x: portal name taken', [x(w.parse('', rows), w.bind('p'), w.bind('p'), w.execute('p'))])
    yield C('x: Describe of a portal', [x(w.parse('', rows), w.bind('p', result_formats=(1,)), w.describe('P', 'p'), w.execute('p', 1)),
                                        x(w.parse('', 'DELETE FROM ledger WHERE false'), w.bind('p'), w.describe('P', 'p'), w.execute('p'))])
    yield C('x: row limit on a command', [x(w.parse('', "UPDATE ledger SET amount = 1 WHERE false"), w.bind(), w.execute('', 5))])


def _flush():
    yield C('x: Flush', [t(w.parse('', 'SELECT 1'), w.flush(), until='1'), t(w.bind(), w.flush(), until='2'),
                         t(w.describe('P'), w.flush(), until='T'), t(w.execute(), w.flush(), until='C'), x()])
    yield C('x: Flush with an error', [t(w.parse('', 'SELEKT'), w.flush(), until='E'), t(w.bind(), w.flush(), w.query('SELECT 1'), ready=0), x(),
                                       q('SELECT 2')], coalesce=False)
    yield C('x: Flush between rows', [t(w.parse('', 'SELECT n FROM items ORDER BY id'), w.bind(), w.execute('', 2), w.flush(), until='s'),
                                      t(w.execute('', 2), w.flush(), until='s'), t(w.execute('', 0), w.flush(), until='C'), x()])
    yield C('x: Flush, then a Query', [t(w.parse('s1', 'SELECT 5'), w.bind('p', 's1'), w.execute('p'), w.flush(), until='C'), q('SELECT 6'),
                                       x(w.bind('', 's1'), w.execute()), x(w.execute('p'))])
    yield C('x: Flush of nothing', [t(w.flush(), w.flush(), w.query('SELECT 1'))])
    yield C('x: named statement, prepared with Flush only', [t(w.parse('s1', 'SELECT 7'), w.describe('S', 's1'), w.flush(), until='T'),
                                                             x(w.bind('', 's1'), w.execute()), x(w.bind('', 's1'), w.execute())])
    yield C('x: open batch is not a transaction in sight', [t(run("INSERT INTO ledger (id) VALUES ('flushed')"), w.flush(), until='C'),
                                                            x(run('SELECT 1/0')), q("SELECT count(*) FROM ledger WHERE id = 'flushed'")])


def _pipelines():
    yield C('x: pipelined Syncs', [t(*[run('SELECT %d' % i) + w.sync() for i in range(5)], ready=5)])
    yield C('x: pipeline with an error in the middle', [x(run('SELECT 1'), run('SELECT 1/0'), run('SELECT 3')), x(run('SELECT 4'))])
    yield C('x: errors between Syncs', [t(run('SELECT 1'), w.sync(), run('SELEKT'), run('SELECT 2'), w.sync(), run('SELECT 3'), w.sync(), ready=3)])
    yield C('x: Query inside a batch after an error', [t(run('SELECT 1/0'), w.query('SELECT 1'), w.query('SELECT 2'), w.sync()), q('SELECT 3')])
    yield C('x: Query inside a batch', [t(run('SELECT 1'), w.query('SELECT 2'), run('SELECT 3'), w.sync(), ready=2)])
    yield C('x: savepoint pipeline as Postgrex sends it', [
        q('BEGIN'), x(w.parse('s1', 'SELECT 1/$1::int')),
        t(w.query('SAVEPOINT e'), w.bind('', 's1', ['0']), w.execute(), w.query('RELEASE SAVEPOINT e'), w.sync(), ready=2),
        q('ROLLBACK TO SAVEPOINT e'), t(w.query('SAVEPOINT e'), w.bind('', 's1', ['1']), w.execute(), w.query('RELEASE SAVEPOINT e'), w.sync(),
                                        ready=3), q('COMMIT')])
    yield C('x: batch is a transaction', [x(run('DELETE FROM unique_n')), x(run('INSERT INTO unique_n (n) VALUES (1)'),
                                                                          run('INSERT INTO unique_n (n) VALUES (1)')),
                                          q('SELECT count(*) FROM unique_n')])
    yield C('x: BEGIN in a batch', [x(run('BEGIN'), run('SELECT 1')), x(run('SELECT 1/0')), x(run('SELECT 2')), x(run('COMMIT')), q('SELECT 3')])
    yield C('x: transaction in one batch', [x(run('BEGIN'), run('SELECT 1'), run('COMMIT'), run('SELECT 2'))])
    yield C('x: failed transaction in one batch', [x(run('BEGIN'), run('SELECT 1/0'), run('ROLLBACK')), x(run('ROLLBACK')), x(run('SELECT 2'))])
    yield C('x: BEGIN alone, then a pipeline', [x(run('BEGIN ISOLATION LEVEL SERIALIZABLE')), x(run('SHOW transaction_isolation'), run('COMMIT'))])
    yield C('x: empty transaction', [x(run('BEGIN')), x(run('COMMIT')), x(run('ROLLBACK')), x(w.parse('b', 'BEGIN'), w.parse('c', 'COMMIT')),
                                     x(w.bind('', 'b'), w.execute()), x(w.bind('', 'c'), w.execute())])
    yield C('x: BEGIN twice', [x(run('BEGIN')), x(run('BEGIN')), x(run('SELECT 1')), x(run('COMMIT'))])
    yield C('x: 10,000 pipelined statements', [x(*[run('SELECT 1')] * 10000)], big=True)
    yield C('x: 10,000 pipelined batches', [t((run('SELECT 1') + w.sync()) * 10000, ready=10000)], big=True)
    yield C('x: pipelined big results', [x(*[run("SELECT repeat('b', 500000)")] * 40)], big=True)
    yield C('x: pipelined big parameters and results', [x(*[run('SELECT $1::text', ['q' * 500000])] * 30)], big=True)


def _errors():
    yield C('x: error at Parse', [x(run('SELEKT 1')), x(run('SELECT 1'))])
    yield C('x: error at Bind', [x(run('SELECT $1::int', ['not a number'])), x(run('SELECT 1'))])
    yield C('x: error at Describe', [x(w.parse('', 'SELECT 1'), w.bind(), w.describe('P', 'nope'), w.execute()), x(run('SELECT 1'))])
    yield C('x: error at Execute', [x(run('SELECT 1/0')), x(run('SELECT 1/(5-n) FROM items ORDER BY id'))])
    yield C('x: error at Sync', [
        q('CREATE TABLE diff_def2 (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)'), x(run('INSERT INTO diff_def2 VALUES (1), (1)')),
        q('SELECT count(*) FROM diff_def2'), q('DROP TABLE diff_def2')])
    yield C('x: too few and too many parameters', [x(run('SELECT $1::int + $2::int', ['1'])), x(run('SELECT 1', ['1'])),
                                                   x(w.parse('s1', 'SELECT $1::int')), x(w.bind('', 's1', []), w.execute()),
                                                   x(w.bind('', 's1', ['1', '2']), w.execute()), x(w.bind('', 's1', ['3']), w.execute())])
    yield C('x: wrong number of formats', [x(run('SELECT $1::int', ['1'], formats=(0, 0))), x(run('SELECT 1', result_formats=(0, 0, 0)))])
    yield C('x: wrong format code', [x(run('SELECT 1', result_formats=(7,))), x(run('SELECT $1::int', ['1'], formats=(7,)))])
    yield C('x: broken binary parameter', [x(run('SELECT $1::int4', [b'\0\0'], formats=(1,)))])
    yield C('x: Parse without its zero', [t(w.message('P', b'SELECT'), w.sync()), q('SELECT 1')])
    yield C('x: Parse with a wrong count of types', [t(w.message('P', b'\0SELECT 1\0\0\5'), w.sync()), q('SELECT 1')])
    yield C('x: Bind cut short', [x(w.parse('s1', 'SELECT $1::int')), t(w.message('B', b'\0s1\0\0\0\0\1\0\0\0\x09x'), w.sync()), q('SELECT 1')])
    yield C('x: Bind with bytes left over', [x(w.parse('s1', 'SELECT 1')), t(w.message('B', b'\0s1\0\0\0\0\0\0\0junk'), w.sync()), q('SELECT 1')])
    yield C('x: Describe of an unknown kind', [t(w.message('D', b'Q\0'), w.sync()), t(w.message('C', b'Q\0'), w.sync()), q('SELECT 1')])
    yield C('x: empty Describe and Close', [t(w.message('D', b''), w.sync()), t(w.message('C', b''), w.sync()), t(w.message('E', b''), w.sync()),
                                            t(w.message('B', b''), w.sync()), t(w.message('P', b''), w.sync()), q('SELECT 1')])
    yield C('x: Terminate inside a batch', [t(run("INSERT INTO ledger (id) VALUES ('gone')"), w.terminate(), eof=True)])
    yield C('x: statement that cannot be prepared twice', [x(w.parse('v', 'VACUUM whoami')), q('BEGIN'), x(w.bind('', 'v'), w.execute()), q('ROLLBACK')])
    yield C('x: function call', [t(w.function_call(177, [struct.pack('!i', 20), struct.pack('!i', 22)], (1,), 1)),
                                 t(w.function_call(177, [b'20', b'22'])), t(w.function_call(177, [None, b'22'])),
                                 t(w.function_call(177, [b'1'])), t(w.function_call(4294967)), q('SELECT 1')])
    yield C('x: function call in a transaction', [q('BEGIN'), t(w.function_call(177, [b'1', b'2'])), t(w.function_call(177, [b'x', b'2'])),
                                                  t(w.function_call(177, [b'1', b'2'])), q('ROLLBACK')])
    yield C('x: function call first in a transaction and in a batch', [
        t(w.query('BEGIN'), w.function_call(177, [b'1', b'2']), w.query('COMMIT'), ready=3),
        t(run('SELECT 1'), w.function_call(177, [b'1', b'2']), w.sync(), ready=2)])


def _settings():
    yield C('x: SET', [x(run("SET DateStyle = 'German'")), x(run('SHOW DateStyle')), x(run('RESET DateStyle')), x(run('SHOW DateStyle'))])
    yield C('x: SET prepared as PDO does', [x(w.parse('pdo_stmt_1', 'set search_path to "globex"')), x(w.bind('', 'pdo_stmt_1'), w.describe('P'),
                                                                                                     w.execute()),
                                            q('DEALLOCATE pdo_stmt_1'), x(run('SELECT tenant FROM whoami')), x(run('SHOW search_path')),
                                            x(run('SET search_path TO acme, public')), x(run('SELECT tenant FROM whoami'))])
    yield C('x: set_config with parameters', [
        x(run('SELECT set_config($1, $2, $3)', ['search_path', 'globex, public', 'false'])), x(run('SELECT tenant FROM whoami')),
        x(run("SELECT set_config('search_path', $1, false)", ['acme, public'])), x(run('SELECT tenant FROM whoami'))])
    yield C('x: set_config prepared first, binary', [
        x(w.parse('sc', "SELECT set_config('search_path', $1, $2)"), w.describe('S', 'sc')),
        x(w.bind('', 'sc', ['globex, public', b'\0'], formats=(1,), result_formats=(1,)), w.describe('P'), w.execute()),
        x(run('SELECT tenant FROM whoami')), x(w.bind('', 'sc', ['acme, public', b'\0'], formats=(0, 1)), w.execute()),
        x(run('SELECT tenant FROM whoami'))])
    yield C('x: set_config as PostgREST sends it', [
        x(run('BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY')),
        x(run("select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true)",
              ['globex, public', 'app', '{"a": 1}'])), x(run('SELECT tenant FROM whoami')),
        x(run("SELECT current_setting('request.jwt.claims', true)")), x(run('COMMIT')), x(run('SELECT tenant FROM whoami'))])
    yield C('x: set_config, local, as Prisma sends it', [
        q('BEGIN'), x(w.parse('s0', 'SELECT set_config(\'app.current_company_id\', $1, TRUE)'), w.describe('S', 's0')),
        x(w.bind('', 's0', ['c1']), w.execute()), x(run("SELECT current_setting('app.current_company_id', true), tenant FROM whoami")), q('COMMIT'),
        x(run("SELECT current_setting('app.current_company_id', true)"))])
    yield C('x: SET in a batch that fails', [x(run("SET DateStyle = 'German'"), run('SELECT 1/0')), x(run('SHOW DateStyle'))])
    yield C('x: SET and use in one batch', [x(run('SET search_path TO globex, public'), run('SELECT tenant FROM whoami')),
                                            x(run('SELECT tenant FROM whoami')), x(run('RESET search_path')), x(run('SELECT tenant FROM whoami'))])
    yield C('x: wrong SET', [x(run("SET DateStyle = 'Klingon'")), x(run('SHOW DateStyle')), x(run('SET search_path TO'))])
    yield C('x: PREPARE in the extended protocol', [x(run('PREPARE pp AS SELECT 9')), x(run('EXECUTE pp')), x(run('DEALLOCATE pp')), x(run('EXECUTE pp'))],
            pooled=False)


def _copy():
    begin = 'COPY ledger (id, tenant, amount) FROM STDIN'
    rows = b'xone\tacme\t1\nxtwo\tacme\t2\n'
    clean = q("DELETE FROM ledger WHERE id IN ('xone', 'xtwo')")
    yield C('x: COPY out', [x(run('COPY (SELECT tenant, n FROM items ORDER BY id) TO STDOUT')), x(run('SELECT 1'))])
    yield C('x: COPY in', [t(run(begin), w.flush(), until='GE'), t(w.copy_data(rows), w.copy_done(), w.sync()), x(run('SELECT 1')), clean])
    yield C('x: COPY in, Sync sent with Execute', [t(run(begin), w.sync(), until='GE'), t(w.copy_data(rows), w.copy_done(), w.sync()), x(run('SELECT 1')), clean])
    yield C('x: CopyFail', [t(run(begin), w.flush(), until='GE'), t(w.copy_fail('no'), w.sync()), x(run('SELECT 1'))])
    yield C('x: COPY in, bad row', [t(run(begin), w.flush(), until='GE'), t(w.copy_data(b'xone\tacme\tbad\n'), w.copy_done(), w.sync()), x(run('SELECT 1'))])
    yield C('x: COPY in, bad row and a pipeline behind it', [t(run(begin), w.flush(), until='GE'),
                                                            t(w.copy_data(b'bad\n'), w.copy_data(rows), w.copy_done(), run('SELECT 1'), w.sync(),
                                                              run('SELECT 2'), w.sync(), ready=2)])
    yield C('x: COPY in, then more in the batch', [t(run(begin), w.flush(), until='GE'), t(w.copy_data(rows), w.copy_done(), run('SELECT 1'), w.sync()), clean])
    yield C('x: COPY in in a transaction', [q('BEGIN'), t(run(begin), w.flush(), until='GE'), t(w.copy_data(rows), w.copy_done(), w.sync()), q('ROLLBACK')])


def conversations():
    for group in (_unnamed, _named, _portals, _flush, _pipelines, _errors, _settings, _copy):
        yield from group()
