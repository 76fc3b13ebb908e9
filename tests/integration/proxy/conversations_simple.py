"""Conversations in the simple protocol: statements, errors, transactions, settings, COPY, broken messages."""
import struct

import wire_client as w
from conversation import Conversation as C
from conversation import q, t

BIG = 20_000_000


def _statements():
    yield C('one row', [q('SELECT 1 AS one')])
    yield C('rows of the tenant', [q('SELECT tenant, payload, n FROM items ORDER BY id')])
    yield C('no rows', [q('SELECT tenant FROM items WHERE false')])
    yield C('null and empty', [q("SELECT NULL::text, ''::text, E'\\n'::text")])
    yield C('many types', [q("SELECT 1::int2, 2::int8, 1.5::float8, 2.25::numeric, true, 'x'::bytea, '2020-01-02'::date, "
                             "'{1,2}'::int[], '{\"a\":1}'::jsonb, '1 day'::interval, '(1,2)'::point")])
    yield C('no columns', [q('SELECT')])
    yield C('empty query', [q(''), q('   '), q(';'), q('-- only a comment'), q('/* and /* nested */ one */')])
    yield C('multi-statement', [q('SELECT 1; SELECT 2; SELECT 3')])
    yield C('multi-statement with empties', [q(';;SELECT 1;;SELECT 2;')])
    yield C('multi-statement, error in the middle', [q('SELECT 1; SELECT 1/0; SELECT 3'), q('SELECT 4')])
    yield C('multi-statement, syntax error', [q('SELECT 1; SELEKT 2')])
    yield C('multi-statement is one transaction', [q('DELETE FROM unique_n'),
                                                   q('INSERT INTO unique_n (n) VALUES (1); INSERT INTO unique_n (n) VALUES (1)'),
                                                   q('SELECT count(*) FROM unique_n')])
    yield C('multi-statement with transaction control', [
        q('DELETE FROM unique_n'), q('INSERT INTO unique_n (n) VALUES (1); COMMIT; INSERT INTO unique_n (n) VALUES (1)'),
        q('SELECT count(*) FROM unique_n'), q('BEGIN; DELETE FROM unique_n; COMMIT; SELECT count(*) FROM unique_n')])
    yield C('multi-statement leaves a transaction open', [q('SELECT 1; BEGIN; SELECT 2'), q('SELECT 3'), q('COMMIT; SELECT 4')])
    yield C('multi-statement begins twice', [q('BEGIN; SELECT 1; BEGIN; SELECT 2'), q('ROLLBACK')])
    yield C('syntax error', [q('SELEKT 1')])
    yield C('undefined table', [q('SELECT * FROM no_such_table')])
    yield C('undefined column with hint', [q('SELECT paylod FROM items')])
    yield C('division by zero', [q('SELECT 1/0')])
    yield C('error after rows', [q('SELECT 1/(5-n) FROM items ORDER BY id')])
    yield C('unique violation with detail', [q('INSERT INTO whoami VALUES (\'acme\')')])
    yield C('not-null violation', [q('INSERT INTO items (id, tenant) VALUES (-1, NULL)')])
    yield C('error in a function has context', [q("SELECT hidden_set('no_such_parameter', '1')")])
    yield C('raised error with every field', [
        q("DO $$ BEGIN RAISE EXCEPTION 'loud' USING ERRCODE='P0009', DETAIL='d', HINT='h', COLUMN='c', CONSTRAINT='k', "
          "DATATYPE='t', TABLE='tt', SCHEMA='s'; END $$")])
    yield C('notice', [q("SELECT say_notice('a')"), q("DO $$ BEGIN RAISE WARNING 'w'; RAISE INFO 'i'; END $$")])
    yield C('notices switched off', [q('SET client_min_messages = error'), q("SELECT say_notice('a')"), q('RESET client_min_messages'),
                                     q("SELECT say_notice('b')")])
    yield C('non-ASCII text', [q("SELECT 'žluťoučký kůň ☃ 𝄞'")])
    yield C('invalid UTF-8 in a statement', [t(w.query(b"SELECT '\xff\xfe'")), q('SELECT 1')])
    yield C('dollar quotes and odd literals', [q("SELECT $$a;b$$, $x$;$$;$x$, E'\\';', U&'\\0061', 'it''s;'")])
    yield C('insert, update, delete tags', [q("INSERT INTO ledger (id) VALUES ('diff-1'), ('diff-2')"),
                                            q("UPDATE ledger SET amount = 2 WHERE id LIKE 'diff-%'"),
                                            q("DELETE FROM ledger WHERE id LIKE 'diff-%' RETURNING tenant, amount")])
    yield C('data-modifying CTE', [q("WITH d AS (DELETE FROM ledger WHERE false RETURNING *) SELECT count(*) FROM d")])
    yield C('DDL in a transaction', [q('BEGIN'), q('CREATE TABLE diff_ddl (a int)'), q('INSERT INTO diff_ddl VALUES (1)'),
                                     q('ALTER TABLE diff_ddl ADD b text'), q('SELECT a + 0, b || NULL FROM diff_ddl'), q('ROLLBACK'),
                                     q('SELECT * FROM diff_ddl')])
    yield C('DO block and CALL', [q('DO $$ BEGIN NULL; END $$'), q('CALL no_such_procedure()')])
    yield C('explain', [q('EXPLAIN (COSTS OFF) SELECT 1'), q('VALUES (1), (2)'), q('TABLE whoami')])
    yield C('vacuum inside a transaction', [q('BEGIN'), q('VACUUM whoami'), q('ROLLBACK'), q('ANALYZE whoami')])
    yield C('permission denied', [q('SELECT rolpassword FROM pg_authid'), q('CREATE ROLE nobody')])
    yield C('20 MB in one row', [q("SELECT repeat('x', %d)" % BIG)], big=True)
    yield C('20 MB in many rows', [q("SELECT i, repeat('y', 2000) FROM generate_series(1, 10000) i")], big=True)
    yield C('20 MB statement', [q("SELECT length('%s')" % ('z' * BIG))], big=True)
    yield C('10,000 pipelined queries', [t(w.query('SELECT 1') * 10000, ready=10000)], big=True)
    yield C('pipelined queries with errors', [t(w.query('SELECT 1') + w.query('SELECT 1/0') + w.query('SELECT 2'), ready=3)])
    yield C('pipelined transaction', [t(w.query('BEGIN') + w.query('SELECT 1') + w.query('SELECT 1/0') + w.query('SELECT 2') +
                                        w.query('COMMIT') + w.query('SELECT 3'), ready=6)])
    yield C('pipelined BEGIN and COMMIT with nothing between', [t(w.query('BEGIN') + w.query('COMMIT') + w.query('SELECT 3'), ready=3)])


def _transactions():
    yield C('transaction', [q('BEGIN'), q('SELECT 1'), q('COMMIT')])
    yield C('empty transaction', [q('BEGIN'), q('COMMIT'), q('START TRANSACTION'), q('ROLLBACK'), q('begin work'), q('end')])
    yield C('failed transaction', [q('BEGIN'), q('SELECT 1/0'), q('SELECT 1'), q('COMMIT'), q('SELECT 2')])
    yield C('failed transaction, rolled back', [q('BEGIN'), q('SELECT 1/0'), q(''), q('ROLLBACK'), q('SELECT 2')])
    yield C('syntax error as the first statement of a transaction', [q('BEGIN'), q('SELEKT'), q('SELECT 1'), q('ABORT')])
    yield C('BEGIN in a transaction', [q('BEGIN'), q('BEGIN'), q('SELECT 1'), q('BEGIN'), q('COMMIT')])
    yield C('COMMIT and ROLLBACK without a transaction', [q('COMMIT'), q('ROLLBACK'), q('END'), q('ABORT')])
    yield C('COMMIT AND CHAIN', [q('BEGIN ISOLATION LEVEL SERIALIZABLE'), q('SELECT 1'), q('COMMIT AND CHAIN'),
                                 q('SHOW transaction_isolation'), q('ROLLBACK AND CHAIN'), q('SHOW transaction_isolation'), q('COMMIT')])
    yield C('COMMIT AND CHAIN of an empty transaction', [q('BEGIN ISOLATION LEVEL SERIALIZABLE'), q('COMMIT AND CHAIN'),
                                                         q('SHOW transaction_isolation'), q('COMMIT'), q('COMMIT AND CHAIN')])
    yield C('transaction options', [q('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY'), q('SHOW transaction_isolation'),
                                    q('SHOW transaction_read_only'), q('DELETE FROM ledger'), q('ROLLBACK')])
    yield C('transaction options, spelled otherwise', [
        q('START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE, DEFERRABLE'), q('SHOW transaction_deferrable'),
        q('SHOW transaction_isolation'), q('COMMIT')])
    yield C('wrong transaction options', [q('BEGIN ISOLATION LEVEL CHAOS'), q('SELECT 1')])
    yield C('SET TRANSACTION', [q('BEGIN'), q('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ'), q('SHOW transaction_isolation'),
                                q('SELECT 1 FROM whoami'), q('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), q('ROLLBACK')])
    yield C('SET SESSION CHARACTERISTICS', [q('SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY'), q('SHOW transaction_read_only'),
                                            q('DELETE FROM ledger'), q('RESET default_transaction_read_only')])
    yield C('savepoints', [q('BEGIN'), q('SAVEPOINT a'), q('SELECT 1/0'), q('SELECT 1'), q('ROLLBACK TO a'), q('SELECT 2'),
                           q('RELEASE a'), q('ROLLBACK TO a'), q('COMMIT')])
    yield C('savepoint first', [q('BEGIN'), q('SAVEPOINT a'), q('ROLLBACK TO SAVEPOINT a'), q('RELEASE SAVEPOINT a'), q('COMMIT')])
    yield C('savepoint outside a transaction', [q('SAVEPOINT a'), q('RELEASE a'), q('ROLLBACK TO a')])
    yield C('nested savepoints of one name', [q('BEGIN'), q('SAVEPOINT a'), q("SET LOCAL DateStyle = 'German'"), q('SAVEPOINT a'),
                                              q("SET LOCAL DateStyle = 'SQL'"), q('ROLLBACK TO a'), q('SHOW DateStyle'), q('RELEASE a'),
                                              q('ROLLBACK TO a'), q('SHOW DateStyle'), q('ROLLBACK')])
    yield C('deferred constraint fails at COMMIT', [
        q('BEGIN; CREATE TABLE diff_def (a int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO diff_def VALUES (1), (1)'),
        q('COMMIT'), q('SELECT 1')])
    yield C('cursor', [q('BEGIN'), q('DECLARE c CURSOR FOR SELECT n FROM items ORDER BY id'), q('FETCH 3 FROM c'), q('MOVE 2 IN c'),
                       q('FETCH ALL c'), q('CLOSE c'), q('FETCH c'), q('ROLLBACK')])
    yield C('cursor WITH HOLD', [q('DECLARE c CURSOR WITH HOLD FOR SELECT n FROM items ORDER BY id'), q('FETCH 2 FROM c'),
                                 q('FETCH 2 FROM c'), q('CLOSE c')], pooled=False)
    yield C('cursor outside a transaction', [q('DECLARE c CURSOR FOR SELECT 1')])
    yield C('temporary table', [q('CREATE TEMP TABLE diff_temp (a int)'), q('INSERT INTO diff_temp VALUES (1)'),
                                q('SELECT a + 0 FROM diff_temp'), q('DROP TABLE diff_temp')], pooled=False)
    yield C('temporary table ON COMMIT DROP', [q('BEGIN'), q('CREATE TEMP TABLE diff_temp2 (a int) ON COMMIT DROP'),
                                               q('SELECT a + 0 FROM diff_temp2'), q('COMMIT'), q('SELECT * FROM diff_temp2')])
    yield C('sequence in one transaction', [q("BEGIN; SELECT setval('counter', 50)"), q("SELECT nextval('counter'), currval('counter')"),
                                            q('SELECT lastval()'), q('COMMIT')])
    yield C('advisory lock of a transaction', [q('BEGIN'), q('SELECT pg_try_advisory_xact_lock(7)'), q('COMMIT')])
    yield C('two-phase commit is off', [q('BEGIN'), q('SELECT 1'), q("PREPARE TRANSACTION 'x'"), q('SELECT 1')])


def _settings():
    yield C('reported parameters', [q("SET DateStyle = 'German, DMY'"), q("SELECT '2020-02-01'::date"), q("SET TimeZone = 'Asia/Tokyo'"),
                                    q("SELECT '2020-02-01 00:00Z'::timestamptz"), q("SET application_name = 'diff'"),
                                    q('SHOW application_name'), q("SET IntervalStyle = 'iso_8601'"), q("SELECT '1 day'::interval"),
                                    q('SET standard_conforming_strings = off'), q('RESET ALL'), q('SHOW DateStyle'), q('SHOW TimeZone')])
    yield C('client_encoding', [q("SET client_encoding = 'LATIN1'"), q("SELECT chr(233)"), q('SHOW client_encoding'),
                                q("SELECT chr(9731)"), q('RESET client_encoding'), q('SELECT chr(9731)')])
    yield C('SET NAMES and TIME ZONE', [q("SET NAMES 'UTF8'"), q("SET TIME ZONE 'Europe/Prague'"), q('SHOW TIME ZONE'),
                                        q("SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE"), q('SHOW TimeZone'),
                                        q('SET TIME ZONE LOCAL'), q('SHOW TimeZone'), q('SET SESSION TIME ZONE DEFAULT')])
    yield C('settings that are not reported', [q("SET statement_timeout = '50s'"), q('SHOW statement_timeout'), q("SET work_mem = '5MB'"),
                                               q('SHOW work_mem'), q('RESET work_mem'), q('SHOW work_mem'), q('SET extra_float_digits = 0'),
                                               q('SELECT 0.1::float8 + 0.2::float8'), q('SHOW statement_timeout')])
    yield C('statement_timeout works', [q('SET statement_timeout = 50'), q('SELECT pg_sleep(5)'), q('SET statement_timeout = 0')])
    yield C('own parameters', [q("SET app.user_id = '42'"), q("SELECT current_setting('app.user_id')"), q('SHOW app.user_id'),
                               q("SELECT set_config('app.user_id', '43', false)"), q('SHOW app.user_id'), q('RESET app.user_id'),
                               q('SHOW app.user_id'), q("SELECT current_setting('app.never_set', true)"), q('SHOW app.never_set')])
    yield C('SET rolled back', [q('BEGIN'), q("SET DateStyle = 'German'"), q('SHOW DateStyle'), q('ROLLBACK'), q('SHOW DateStyle')])
    yield C('SET committed', [q('BEGIN'), q("SET DateStyle = 'German'"), q('COMMIT'), q('SHOW DateStyle')])
    yield C('SET in a transaction that fails', [q('BEGIN'), q("SET DateStyle = 'German'"), q('SELECT 1/0'), q('COMMIT'), q('SHOW DateStyle')])
    yield C('SET in a multi-statement that fails', [q("SET DateStyle = 'German'; SELECT 1/0"), q('SHOW DateStyle'),
                                                    q("SET DateStyle = 'SQL'; SELECT 1"), q('SHOW DateStyle')])
    yield C('SET LOCAL', [q('BEGIN'), q("SET LOCAL DateStyle = 'German'"), q('SHOW DateStyle'), q('COMMIT'), q('SHOW DateStyle'),
                          q("SET LOCAL DateStyle = 'German'"), q('SHOW DateStyle')])
    yield C('set_config in a transaction', [q('BEGIN'), q("SELECT set_config('app.x', '1', true)"), q('SHOW app.x'), q('COMMIT'),
                                            q("SELECT current_setting('app.x', true)")])
    yield C('SET and ROLLBACK TO', [q('BEGIN'), q("SET app.x = 'outer'"), q('SAVEPOINT s'), q("SET app.x = 'inner'"), q('ROLLBACK TO s'),
                                    q('SHOW app.x'), q('COMMIT'), q('SHOW app.x')])
    yield C('SET and RELEASE', [q('BEGIN'), q('SAVEPOINT s'), q("SET app.x = 'inner'"), q('RELEASE s'), q('COMMIT'), q('SHOW app.x')])
    yield C('SET twice, SET LOCAL over SET', [q("SET app.x = 'a'"), q('BEGIN'), q("SET LOCAL app.x = 'b'"), q('SHOW app.x'),
                                              q("SET app.x = 'c'"), q('SHOW app.x'), q('COMMIT'), q('SHOW app.x')])
    yield C('wrong settings', [q("SET DateStyle = 'Klingon'"), q('SET no_such_parameter = 1'), q("SET TimeZone = 'Moon/Base'"),
                               q('SHOW no_such_parameter'), q("SET client_encoding = 'nonsense'"), q('SET server_version = 1'),
                               q('SET shared_buffers = 1'), q('SHOW DateStyle'), q('SHOW TimeZone')])
    yield C('SHOW search_path', [q('SHOW search_path'), q("SELECT current_schemas(false)"), q("SELECT current_setting('search_path')")])
    yield C('SET search_path to the same tenant', [q('SET search_path TO acme, public'), q('SHOW search_path'),
                                                   q('SELECT tenant FROM whoami'), q('RESET search_path'), q('SHOW search_path'),
                                                   q('SELECT tenant FROM whoami')])
    yield C('SET search_path, as frameworks spell it', [
        q("SET search_path = 'acme','public'"), q('SELECT tenant FROM whoami'), q('SET search_path TO "acme", "public"'),
        q('SELECT tenant FROM whoami'), q('set search_path to "acme"'), q('SHOW search_path'), q("SET SCHEMA 'acme'"),
        q('SHOW search_path'), q("SELECT set_config('search_path', 'acme, public', false)"), q('SELECT tenant FROM whoami')])
    yield C('SET search_path to another tenant', [
        q('SET search_path TO globex, public'), q('SHOW search_path'), q('SELECT tenant FROM whoami'),
        q('SET search_path TO acme, public'), q('SELECT tenant FROM whoami')])
    yield C('SET search_path to another tenant in a transaction', [
        q('BEGIN'), q('SET LOCAL search_path TO globex, public'), q('SELECT tenant FROM whoami'), q('COMMIT'),
        q('SELECT tenant FROM whoami'), q('BEGIN'), q('SET search_path TO globex, public'), q('SELECT tenant FROM whoami'),
        q('ROLLBACK'), q('SELECT tenant FROM whoami'), q('BEGIN'), q('SELECT 1'), q('SET search_path TO globex, public'),
        q('SELECT tenant FROM whoami'), q('COMMIT'), q('SELECT tenant FROM whoami'), q('RESET search_path'),
        q('SELECT tenant FROM whoami')])
    yield C('search_path set out of sight, then in sight', [
        q('BEGIN'), q("SELECT hidden_path('globex, public')"), q('SELECT tenant FROM whoami'), q('SET search_path TO acme, public'),
        q('SELECT tenant FROM whoami'), q('SHOW search_path'), q('COMMIT'), q('SELECT tenant FROM whoami')])
    yield C('leading SET of a multi-statement', [q('SET search_path TO globex, public; SELECT tenant FROM whoami'),
                                                 q('SELECT tenant FROM whoami'),
                                                 q('BEGIN; SET LOCAL search_path TO acme, public; SELECT tenant FROM whoami; COMMIT'),
                                                 q('SELECT tenant FROM whoami'), q('RESET search_path')])
    yield C('DISCARD ALL', [q("SET DateStyle = 'German'"), q("PREPARE p AS SELECT 1"), q('DISCARD ALL'), q('SHOW DateStyle'),
                            q('SHOW search_path'), q('EXECUTE p'), q('SELECT tenant FROM whoami')], pooled=False)
    yield C('DISCARD ALL in a transaction', [q('BEGIN'), q('DISCARD ALL'), q('ROLLBACK'), q('SELECT 1; DISCARD ALL'), q('SELECT 2')])
    yield C('other DISCARDs', [q('DISCARD PLANS'), q('DISCARD SEQUENCES'), q('DISCARD TEMP'), q('DISCARD NONSENSE')])
    yield C('SET ROLE', [q('SET ROLE app'), q('SELECT current_user'), q('RESET ROLE'), q('SET ROLE postgres'), q('SET ROLE NONE')])
    yield C('startup parameters', [q('SHOW application_name'), q('SHOW DateStyle'), q('SHOW TimeZone'), q("SET DateStyle = 'ISO'"),
                                   q('RESET DateStyle'), q('SHOW DateStyle'), q('DISCARD ALL'), q('SHOW TimeZone')],
            params={'application_name': 'from startup', 'DateStyle': 'SQL, DMY', 'TimeZone': 'Europe/Prague'})
    yield C('startup parameters that are not reported', [q('SHOW statement_timeout'), q('SHOW extra_float_digits'),
                                                         q('SHOW app.user_id'), q('RESET ALL'), q('SHOW app.user_id')],
            params={'statement_timeout': '77s', 'extra_float_digits': '0', 'app.user_id': '7'})
    yield C('client_encoding at startup', [q('SHOW client_encoding'), q('SELECT chr(233)')], params={'client_encoding': 'LATIN1'})
    yield C('PREPARE and EXECUTE in SQL', [q('PREPARE p (int) AS SELECT $1 + 1'), q('EXECUTE p (1)'), q('EXECUTE p (2)'),
                                           q('PREPARE p AS SELECT 1'), q('DEALLOCATE p'), q('EXECUTE p (1)'), q('DEALLOCATE p'),
                                           q('DEALLOCATE ALL')], pooled=False)
    yield C('LISTEN and NOTIFY', [q('LISTEN diff_channel'), q("NOTIFY diff_channel, 'hello'"), q("SELECT pg_notify('diff_channel', 'x')"),
                                  q('BEGIN'), q("NOTIFY diff_channel, 'in transaction'"), q('COMMIT'), q('UNLISTEN diff_channel'),
                                  q("NOTIFY diff_channel, 'not heard'")], pooled=False, coalesce=False)
    yield C('NOTIFY without LISTEN', [q("NOTIFY diff_channel, 'nobody'"), q('UNLISTEN *')])


def _copy():
    rows = b'one\tacme\t1\ntwo\tacme\t2\n'
    begin = 'COPY ledger (id, tenant, amount) FROM STDIN'
    clean = q("DELETE FROM ledger WHERE id IN ('one', 'two', 'three')")
    yield C('COPY out', [q('COPY items (tenant, n) TO STDOUT'), q('COPY (SELECT 1 WHERE false) TO STDOUT')])
    yield C('COPY out, CSV and binary', [q('COPY (SELECT tenant, n FROM items ORDER BY id) TO STDOUT (FORMAT csv, HEADER)'),
                                         q('COPY (SELECT 1, NULL::text) TO STDOUT (FORMAT binary)')])
    yield C('COPY out with an error on the way', [q('COPY (SELECT 1/(5-n) FROM items ORDER BY id) TO STDOUT'), q('SELECT 1')])
    yield C('COPY in', [t(w.query(begin), until='GE'), t(w.copy_data(rows), w.copy_done()),
                        q("SELECT * FROM ledger WHERE id IN ('one', 'two') ORDER BY id"), clean])
    yield C('COPY in, rows split between messages', [t(w.query(begin), until='GE'),
                                                     t(*[w.copy_data(rows[i:i + 1]) for i in range(len(rows))], w.copy_done()), clean])
    yield C('COPY in without rows', [t(w.query(begin), until='GE'), t(w.copy_done())])
    yield C('CopyFail', [t(w.query(begin), until='GE'), t(w.copy_data(rows), w.copy_fail('I changed my mind')), q('SELECT 1')])
    yield C('COPY in, bad row before CopyDone', [t(w.query(begin), until='GE'),
                                                 t(w.copy_data(b'one\tacme\tnot a number\n'), w.copy_data(rows), w.copy_done()),
                                                 q('SELECT 1')])
    yield C('COPY in, error at CopyDone', [t(w.query(begin), until='GE'), t(w.copy_data(b'one\tacme\t1\none\tacme\t'), w.copy_done()),
                                           q("SELECT count(*) FROM ledger WHERE id = 'one'")])
    yield C('COPY in with the old end marker', [t(w.query(begin), until='GE'), t(w.copy_data(rows + b'\\.\n'), w.copy_done()), clean])
    yield C('COPY in, stray Sync and Flush', [t(w.query(begin), until='GE'),
                                              t(w.copy_data(rows), w.sync(), w.flush(), w.sync(), w.copy_done()), q('SELECT 1'), clean])
    yield C('COPY in, a Query instead of data', [t(w.query(begin), until='GE'), t(w.query('SELECT 1')), q('SELECT 2')], coalesce=False)
    yield C('COPY in of an unknown table', [q('COPY no_such_table FROM STDIN'), t(w.copy_data(rows), w.copy_done(), w.query('SELECT 1'))])
    yield C('COPY data when nobody asked', [t(w.copy_data(b'x'), w.copy_done(), w.copy_fail('x'), w.query('SELECT 1'))])
    yield C('COPY in a transaction', [q('BEGIN'), t(w.query(begin), until='GE'), t(w.copy_data(rows), w.copy_done()), q('ROLLBACK'),
                                      q("SELECT count(*) FROM ledger WHERE id = 'one'")])
    yield C('COPY in fails in a transaction', [q('BEGIN'), t(w.query(begin), until='GE'), t(w.copy_fail('no')), q('SELECT 1'),
                                               q('COMMIT')])
    yield C('two COPYs in one Query', [t(w.query(begin + '; SELECT 1; ' + begin), until='GE'), t(w.copy_data(rows), w.copy_done(), until='GE'),
                                       t(w.copy_data(b'three\tacme\t3\n'), w.copy_done()), clean])
    yield C('two COPYs, the first fails', [t(w.query(begin + '; ' + begin), until='GE'), t(w.copy_fail('no')), q('SELECT 1')])
    yield C('COPY out and in in one Query', [t(w.query('COPY whoami TO STDOUT; %s; SELECT 5' % begin), until='GE'),
                                             t(w.copy_data(rows), w.copy_done()), clean])
    yield C('COPY with binary rows in', [t(w.query('COPY unique_n (n) FROM STDIN (FORMAT binary)'), until='GE'),
                                         t(w.copy_data(b'PGCOPY\n\xff\r\n\0' + struct.pack('!ii', 0, 0) + struct.pack('!hii', 1, 4, 77)),
                                           w.copy_data(struct.pack('!h', -1)), w.copy_done()),
                                         q('DELETE FROM unique_n WHERE n = 77')])
    yield C('COPY in, 20 MB', [q('BEGIN'), t(w.query('COPY items (payload) FROM STDIN'), until='GE'),
                               t(w.copy_data(b'x' * 999 + b'\n') * 20000, w.copy_done()), q('ROLLBACK')], big=True)
    yield C('COPY out, 20 MB', [q("COPY (SELECT repeat('c', 2000) FROM generate_series(1, 10000)) TO STDOUT")], big=True)
    yield C('COPY freeze refused', [q('COPY items FROM STDIN (FREEZE)'), q("COPY whoami TO '/tmp/x'"), q('COPY whoami FROM PROGRAM \'x\'')])


def _broken():
    yield C('Terminate', [t(w.query('SELECT 1')), t(w.terminate(), eof=True)])
    yield C('Query and Terminate at once', [t(w.query('SELECT 1'), w.terminate(), eof=True)])
    yield C('Terminate in a transaction', [q('BEGIN'), q("INSERT INTO ledger (id) VALUES ('never')"), t(w.terminate(), eof=True)])
    yield C('unknown message type', [t(w.message('y', b'abc'), eof=True)])
    yield C('server-only message type', [t(w.message('Z', b'I'), eof=True)])
    yield C('password message after login', [t(w.message('p', b'abc\0'), eof=True)])
    yield C('unknown message type in the extended protocol', [t(w.parse('', 'SELECT 1'), w.message('~', b''), eof=True)])
    yield C('message length 3', [t(b'Q\0\0\0\3', eof=True)], may_add_error='08P01')
    yield C('negative message length', [t(b'Q\xff\xff\xff\xff' + b'x' * 10, eof=True)], may_add_error='08P01')
    yield C('2 GB message length', [t(b'Q\x7f\xff\xff\xff' + b'x' * 10, eof=True)], may_add_error='08P01')
    yield C('Sync of a megabyte', [t(b'S\0\x10\0\0' + b'x' * 10, eof=True)], may_add_error='08P01')
    yield C('Query without its terminating zero', [t(w.message('Q', b'SELECT 1')), q('SELECT 2')])
    yield C('Query with bytes after its zero', [t(w.message('Q', b'SELECT 1\0junk\0')), q('SELECT 2')])
    yield C('empty Query body', [t(w.message('Q', b'')), q('SELECT 2')])
    yield C('Sync with a body', [t(w.message('S', b'x')), q('SELECT 2')])


def conversations():
    for group in (_statements, _transactions, _settings, _copy, _broken):
        yield from group()
