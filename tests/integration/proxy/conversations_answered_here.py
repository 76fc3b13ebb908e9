"""Conversations about what pgporter answers itself: transactions, savepoints, settings, unnamed and named statements and portals of the extended
protocol, in every order that PostgreSQL has an opinion about. Found by hunt_differences.py or thought of by hand.
"""
import struct

import wire_client as w
from conversation import Conversation as C
from conversation import pipeline, q, run, t, x

READ = 'SELECT tenant FROM whoami'
GLOBEX = 'SET search_path TO globex, public'
LOCAL_GLOBEX = 'SET LOCAL search_path TO globex, public'


def _portals():
    for begin in ('BEGIN', 'START TRANSACTION READ ONLY'):
        yield C('portal of %s is run twice' % begin, [pipeline(w.parse('', begin), w.bind(), w.execute(), w.execute()), q('ROLLBACK')])
        yield C('portal of %s in its transaction' % begin, [
            pipeline(run(begin)), pipeline(w.describe('P')), pipeline(run('SELECT 1', statement='s')), pipeline(w.bind('p', 's'), w.describe('P')),
            pipeline(w.close('P'), w.describe('P')), q('ROLLBACK')])
    yield C('portal of BEGIN behind a statement', [pipeline(w.parse('', 'BEGIN'), w.bind(), w.execute(), w.parse('s', READ), w.describe('P'),
                                                            w.execute()), q('ROLLBACK')])
    yield C('portal of BEGIN after an error', [pipeline(run('BEGIN'), w.execute('p')), pipeline(w.describe('P')), pipeline(w.execute()), q('ROLLBACK')])
    yield C('portal of BEGIN, named, run again later', [pipeline(w.parse('', 'BEGIN'), w.bind('p'), w.execute('p')), pipeline(w.execute('p', 1)),
                                                        q('ROLLBACK')])
    yield C('portal bound, then a server is needed', [pipeline(w.parse('', 'BEGIN'), w.bind('p'), w.parse('s', READ), w.execute('p'), w.bind('', 's'),
                                                               w.execute()), pipeline(w.execute('p')), q('ROLLBACK')])
    yield C('portal of SET bound, then a server is needed', [
        q('BEGIN'), pipeline(w.parse('g', GLOBEX), w.bind('p', 'g')), pipeline(run('SELECT 1')), pipeline(w.execute('p'), run(READ)), q('ROLLBACK'), q(READ)])
    yield C('portal name taken, both answered here', [pipeline(w.parse('c', 'BEGIN'), w.bind('o', 'c'), w.parse('', 'BEGIN'), w.bind('o')), q('SELECT 1')])
    yield C('portal name taken by one that was answered here', [
        pipeline(w.parse('', 'BEGIN'), w.bind('o'), w.execute('o')), pipeline(w.parse('', 'SELECT 1'), w.bind('o'), w.execute('o')), q('ROLLBACK')])
    yield C('portal name free again', [
        pipeline(w.parse('', 'BEGIN'), w.bind('o'), w.execute('o'), w.close('P', 'o')), pipeline(w.parse('', 'SELECT 1'), w.bind('o'), w.execute('o')),
        q('ROLLBACK')])
    yield C('portals end with their transaction', [
        pipeline(run('BEGIN'), w.parse('c', 'COMMIT'), w.bind('p', 'c'), w.execute('p'), w.describe('P', 'p')), pipeline(w.execute('p')),
        pipeline(run('BEGIN'), w.bind('p', 'c')), q('ROLLBACK'), pipeline(w.execute('p')), q('SELECT 1')])
    yield C('portals end with their savepoint', [
        q('BEGIN; SAVEPOINT s'), pipeline(w.parse('', 'SAVEPOINT r'), w.bind('p')), q('ROLLBACK TO s'), pipeline(w.describe('P', 'p')), q('ROLLBACK'),
        q('BEGIN; SAVEPOINT s'), pipeline(w.parse('', 'SAVEPOINT r'), w.bind('p')), q('RELEASE s'), pipeline(w.describe('P', 'p')), q('ROLLBACK')])
    yield C('SAVEPOINT is run twice', [q('BEGIN'), pipeline(w.parse('', 'SAVEPOINT s'), w.bind(), w.execute(), w.execute()), q('ROLLBACK')])
    yield C('set_config is run twice', [
        q('BEGIN'), pipeline(w.parse('', "SELECT set_config('search_path', 'globex', true)"), w.bind(), w.execute('', 1), w.execute(), w.execute()),
        pipeline(w.describe('P'), w.execute()), q(READ), pipeline(w.execute()), q('ROLLBACK')])
    yield C('set_config, then its portal behind a statement', [
        pipeline(w.parse('', "SELECT set_config('search_path', 'acme', false)"), w.bind('p'), w.execute('p'), run('SELECT 1'), w.describe('P', 'p'),
                 w.execute('p')), q(READ)])
    yield C('too many result formats', [pipeline(run("SELECT set_config('search_path', 'acme', false), set_config('search_path', 'acme', false), "
                                                     "set_config('search_path', 'acme', false)", result_formats=(0, 0))), q('SELECT 1')])
    yield C('Query drops the unnamed portal only', [
        q('BEGIN'), pipeline(w.parse('', 'SAVEPOINT s'), w.bind('p'), w.bind()), q('SAVEPOINT t'), pipeline(w.describe('P', 'p')),
        pipeline(w.describe('P')), q('ROLLBACK')])
    yield C('an empty Query drops no portal', [q('BEGIN'), pipeline(w.parse('', 'SAVEPOINT s'), w.bind()), q(''), pipeline(w.describe('P')), q('ROLLBACK')])


def _unnamed():
    for sql in ('DEALLOCATE ALL', 'SELECT 1', 'BEGIN', 'SET search_path TO acme, public', '', 'RESET ALL', 'SELEKT'):
        yield C('unnamed statement is gone after the Query "%s"' % sql, [x(w.parse('', 'SELECT 5')), t(w.query(sql)), pipeline(w.bind(), w.execute()),
                                                                       q('ROLLBACK')])
    yield C('unnamed statement is gone after DEALLOCATE', [x(w.parse('s', 'SELECT 4'), w.parse('', 'SELECT 5')), q('DEALLOCATE s'),
                                                           pipeline(w.bind(), w.execute()), pipeline(w.bind('', 's'))])
    yield C('unnamed statement of the session, an error, then again', [
        pipeline(w.parse('', 'RESET search_path')), pipeline(w.execute('', 1), w.bind('p')), pipeline(w.describe('S'))])
    yield C('unnamed statement survives a Parse that was skipped', [
        x(w.parse('', 'SELECT 5')), pipeline(w.execute('nope'), w.parse('', 'SELECT 6'), w.query('SELECT 7')), pipeline(w.bind(), w.execute())])
    yield C('unnamed statement survives a Close that was skipped', [
        x(w.parse('', 'SELECT 5')), pipeline(w.execute('nope'), w.close('S')), pipeline(w.bind(), w.execute())])
    yield C('unnamed statement is gone after a Parse that failed', [
        x(w.parse('', 'SELECT 5')), pipeline(w.parse('', 'SELEKT')), pipeline(w.bind(), w.execute()), pipeline(w.describe('S'))])
    yield C('unnamed statement, closed without a server, then bound', [
        pipeline(w.parse('', 'SELECT 5'), w.bind(), w.execute()), pipeline(w.close('S')), pipeline(w.bind(), w.execute())])
    yield C('unnamed statement of the server, then one of the session, then an error', [
        q('BEGIN'), pipeline(run('SELECT 5')), pipeline(w.parse('', 'SAVEPOINT s')), pipeline(w.bind(), w.execute()), pipeline(w.close('S')),
        pipeline(w.bind()), q('ROLLBACK')])
    yield C('DEALLOCATE in a failed transaction, pipelined', [
        x(w.parse('s', 'SELECT 4')), pipeline(w.query('BEGIN'), w.query('SELECT 1/0'), w.query('DEALLOCATE s'), w.query('ROLLBACK')),
        pipeline(w.bind('', 's'), w.execute())])
    yield C('DEALLOCATE that is skipped', [x(w.parse('s', 'SELECT 4')), pipeline(run('SELECT 1/0'), w.query('DEALLOCATE s')),
                                           pipeline(w.bind('', 's'), w.execute())])


def _queries():
    for front in ('BEGIN', 'BEGIN; SAVEPOINT s', 'BEGIN; COMMIT', LOCAL_GLOBEX, GLOBEX, 'BEGIN; ' + LOCAL_GLOBEX, 'BEGIN READ ONLY; ' + GLOBEX,
                  "SELECT set_config('search_path', 'globex, public', false)"):
        for rest in ('SELEKT', 'SELECT * FROM not_there', READ, "SELECT 'open", 'SELECT 1/0; SELECT 2', READ + '; SELEKT'):
            yield C('Query: %s; %s' % (front, rest), [pipeline(w.query('%s; %s' % (front, rest))), q('ROLLBACK'), q(READ)])
    yield C('Query in a transaction: savepoint and a syntax error', [q('BEGIN'), q(LOCAL_GLOBEX + '; SAVEPOINT s; SELEKT'), q(READ), q('ROLLBACK'), q(READ)])
    yield C('Query: SET TRANSACTION too late', [q('BEGIN; SELECT 1; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), q('ROLLBACK')])


def _ends():
    """The tenant of a transaction is no more behind its end, wherever the next statement stands."""
    for begin, end in ((GLOBEX, 'ROLLBACK'), (LOCAL_GLOBEX, 'COMMIT'), (LOCAL_GLOBEX, 'ROLLBACK'), (GLOBEX, 'COMMIT')):
        name = '%s, %s' % (begin, end)
        yield C('batch: ' + name, [pipeline(run('BEGIN'), run(begin), run(READ), run(end), run(READ)), q(READ), q('SHOW search_path')])
        yield C('batch, twice: ' + name, [pipeline(run('BEGIN'), run(begin), run(READ), run(end), run('BEGIN'), run(READ), run(end), run(READ)), q(READ)])
        yield C('chain: ' + name, [q('BEGIN'), q(begin), q(READ), q(end + ' AND CHAIN'), q(READ), q('SHOW search_path'), q(end), q(READ)])
        yield C('batch, chain: ' + name, [pipeline(run('BEGIN'), run(begin), run(READ), run(end + ' AND CHAIN'), run(READ), run('COMMIT'), run(READ)), q(READ)])


    # Found as a read of another tenant's row.
    yield C('RESET in a transaction of a tenant that was named before', [q('SET search_path TO initech, public'), q('BEGIN'), q('SELECT 1'),
                                                                        q('RESET search_path'), q(READ), q('COMMIT'), q(READ), q('SHOW search_path')])
    for default in ('RESET search_path', 'SET search_path TO DEFAULT', 'SET LOCAL search_path TO DEFAULT'):
        yield C('SET LOCAL, then ' + default, [q('BEGIN'), q(LOCAL_GLOBEX), q('SELECT 1'), q(default), q(READ), q('SHOW search_path'), q('COMMIT'), q(READ)])
        yield C('x: SET LOCAL, then ' + default, [q('BEGIN'), q(LOCAL_GLOBEX), x(run('SELECT 1')), x(run(default)), x(run(READ)), q('COMMIT'), q(READ)])
    yield C('RESET of another setting while a tenant is named locally', [q('BEGIN'), q('SELECT 1'), q(LOCAL_GLOBEX), q(READ), q('RESET work_mem'), q(READ),
                                                                         q('COMMIT'), q(READ)])
    for end in ('ROLLBACK', 'COMMIT'):
        yield C('what COMMIT AND CHAIN has kept, then ' + end, [
            q('SET search_path TO initech, public'), q('BEGIN'), q('SELECT 1'), q('SET search_path TO acme, public'), q('COMMIT AND CHAIN'), q(READ),
            q(end), q(READ), q('SHOW search_path')])


def _transactions():
    for begin in ('BEGIN', 'BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE', 'START TRANSACTION ISOLATION LEVEL REPEATABLE READ'):
        yield C('SHOW behind ' + begin, [q(begin), q('SHOW transaction_isolation'), q('SHOW transaction_read_only'), q('SHOW transaction_deferrable'),
                                         q("SELECT current_setting('transaction_isolation')"), q('COMMIT')])
    yield C('BEGIN, BEGIN with modes', [q('BEGIN'), q('BEGIN READ ONLY'), q('SHOW transaction_read_only'), q('COMMIT')])
    yield C('pipelined BEGIN, BEGIN', [x(run('BEGIN'), run('BEGIN')), x(run('COMMIT'), run('COMMIT'))])
    yield C('SET LOCAL outside', [q("SET LOCAL search_path TO globex"), q(READ), x(run("SET LOCAL search_path TO globex")), q('SET LOCAL work_mem = 4096'),
                                  q('SET TRANSACTION READ ONLY'), q('SET CONSTRAINTS ALL DEFERRED'), q('LOCK TABLE whoami')])
    yield C('savepoints that are not there', [q('BEGIN'), q('ROLLBACK TO nope'), q('RELEASE nope'), q('ROLLBACK'), q('BEGIN'), q('RELEASE nope'), q('ROLLBACK'),
                                              x(run('BEGIN'), run('ROLLBACK TO nope')), x(run('ROLLBACK'))])
    yield C('savepoints, nested and of one name', [q('BEGIN'), q('SAVEPOINT a'), q('SAVEPOINT a'), q('RELEASE a'), q('ROLLBACK TO a'), q('RELEASE a'),
                                                   q('RELEASE a'), q('ROLLBACK')])
    yield C('SET TRANSACTION in every place', [
        q('BEGIN'), q('SET TRANSACTION READ ONLY'), q('SAVEPOINT s'), q('SET TRANSACTION READ WRITE'), q('ROLLBACK'), q('BEGIN'), q('SELECT 1'),
        q('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE'), q('ROLLBACK'), q('BEGIN'), q("SET TRANSACTION SNAPSHOT 'x'"), q('ROLLBACK')])
    yield C('DISCARD in a transaction, and parts of it', [q('BEGIN'), q('DISCARD ALL'), q('ROLLBACK'), x(run('BEGIN')), x(run('DISCARD ALL')), q('ROLLBACK'),
                                             q('DISCARD PLANS'), q('DISCARD SEQUENCES'), q('DISCARD TEMP')])
    yield C('Sync twice, and alone', [t(w.sync(), w.sync(), ready=2), t(run('BEGIN'), w.sync(), w.sync(), ready=2), x(run('COMMIT')), x()])
    yield C('an empty statement in a failed transaction', [q('BEGIN'), q('SELECT 1/0'), x(run('')), q(';'), x(run('ROLLBACK'))])
    yield C('COMMIT of a failed transaction in a batch', [pipeline(run('BEGIN'), run('SELECT 1/0')), pipeline(run('COMMIT')), q(READ)])
    yield C('implicit transaction, then BEGIN in its batch', [pipeline(run("INSERT INTO ledger (id) VALUES ('implicit')"), run('BEGIN')), q('ROLLBACK'),
                                                              q("SELECT count(*) FROM ledger WHERE id = 'implicit'")])
    yield C('SET in a batch, then BEGIN, then ROLLBACK', [pipeline(run(GLOBEX), run('BEGIN'), run(READ)), q('ROLLBACK'), q(READ)])


def _others():
    yield C('cursors in the extended protocol', [
        q('BEGIN'), x(run('DECLARE c SCROLL CURSOR FOR SELECT n FROM items ORDER BY id')), x(run('FETCH 2 FROM c', result_formats=(1,))),
        x(run('MOVE BACKWARD 1 IN c')), x(run('FETCH ALL FROM c')), x(w.describe('P', 'c'), w.execute('c', 1)), x(w.close('P', 'c')),
        pipeline(run('FETCH c')), q('ROLLBACK')])
    yield C('refcursor from a bound portal', [
        q('BEGIN'), x(w.parse('', 'SELECT n FROM items ORDER BY id'), w.bind('cur'), w.execute('cur', 1)), q('FETCH 2 FROM cur'),
        x(w.execute('cur', 1)), q('CLOSE cur'), pipeline(w.execute('cur', 1)), q('ROLLBACK')])
    yield C('NOTIFY', [q('BEGIN'), q("NOTIFY diff_channel, 'x'"), q('COMMIT'), x(run('SELECT pg_notify($1, $2)', ['diff_channel', 'y'])), q('NOTIFY "a b"')])
    yield C('LISTEN, and NOTIFY of its own', [q('LISTEN diff_own'), q("NOTIFY diff_own, 'one'"), q('BEGIN'), q("NOTIFY diff_own, 'two'"), q('ROLLBACK'),
                                  x(run('NOTIFY diff_own')), q('UNLISTEN *'), q("NOTIFY diff_own, 'three'")], pooled=False)
    yield C('rows without columns', [q('SELECT FROM items'), x(run('SELECT FROM items')), x(w.parse('', 'SELECT FROM items'), w.bind(), w.execute('', 3))])
    yield C('format codes, none, one, each', [
        x(run('SELECT $1::int, $2::text', [struct.pack('!i', 7), b'x'], formats=(1,), result_formats=(1,))),
        x(run('SELECT $1::int, $2::text', [struct.pack('!i', 7), 'x'], formats=(1, 0), result_formats=(1, 0))),
        x(run('SELECT $1::int, $2::text', ['7', 'x'], result_formats=(0, 1)))])
    yield C('a thousand parameters', [x(run('SELECT ' + ', '.join('$%d::int' % (i + 1) for i in range(1000)), ['%d' % i for i in range(1000)]))])
    yield C('COPY out between errors', [pipeline(run('SELECT 1/0')), x(run('COPY whoami TO STDOUT')), q('COPY not_there TO STDOUT'), q('COPY whoami TO STDOUT'),
                                        q('BEGIN'), q('COPY whoami TO STDOUT'), q('COMMIT')])
    yield C('COPY in first in a transaction', [q('BEGIN'), t(w.query("COPY ledger (id) FROM STDIN"), until='GE'), t(w.copy_data('cc\n'), w.copy_done()),
                                               q("SELECT tenant FROM ledger WHERE id = 'cc'"), q('ROLLBACK')])
    yield C('messages of COPY that nobody asked for', [t(w.copy_data('x'), w.copy_done(), w.copy_fail('y'), w.query('SELECT 1')),
                                                       t(run('BEGIN'), w.copy_data('x'), w.sync()), q('COMMIT')])
    yield C('Describe and Close of what is not there', [pipeline(w.close('S', 'nope'), w.close('P', 'nope'), w.describe('S', 'nope')),
                                                        pipeline(w.describe('P', 'nope')), q('BEGIN'), pipeline(w.describe('P', 'nope')), q('ROLLBACK')])
    yield C('Flush behind what is answered here', [t(run('BEGIN'), w.flush(), until='C'), t(run(READ), w.flush(), until='C'), x(run('COMMIT'))])


def conversations():
    for group in (_portals, _unnamed, _queries, _ends, _transactions, _others):
        yield from group()
