"""Generated conversations: every class of SQLSTATE, random pipelines of the extended protocol with errors at any step, random programs that name
tenants of the shared database in SQL, and what psql's commands send. Seeded: PGPORTER_TEST_CORPUS_SEED, PGPORTER_TEST_CORPUS_SIZE.
"""
import os
import random

import wire_client as w
from conversation import Conversation as C
from conversation import Turn, q, run, t, x

SEED = int(os.environ.get('PGPORTER_TEST_CORPUS_SEED', '1'))
SIZE = int(os.environ.get('PGPORTER_TEST_CORPUS_SIZE', '40'))
# A portal of BEGIN, COMMIT or SET that is asked for again, long after it has run and behind errors: docs/applications.md names it as an exception.
STRAY_PORTALS = os.environ.get('PGPORTER_TEST_STRAY_PORTALS') == '1'

# The classes of PostgreSQL's appendix A, each by one of its codes.
SQLSTATES = ('03000', '08000', '08P01', '09000', '0A000', '0B000', '0F000', '0L000', '0P000', '0Z000', '20000', '21000', '22012', '23505',
    '24000', '25001', '25006',
             '25P02', '25P03', '26000', '27000', '28000', '28P01', '2B000', '2D000', '2F000', '34000', '38000', '39000', '3B001', '3D000',
             '3F000', '40001', '40P01',
             '42501', '42P01', '44000', '53000', '53100', '53200', '53300', '54000', '55000', '55P03', '57000', '57014', '57P01', '57P03',
             '58000', '58030', '72000',
             'F0000', 'HV000', 'P0001', 'P0002', 'XX000', 'XX001', 'ABCDE')


def _errors():
    def raised(code, level='EXCEPTION'):
        return "DO $$ BEGIN RAISE %s USING ERRCODE = '%s', MESSAGE = 'm %s', DETAIL = 'd', HINT = 'h', COLUMN = 'c', TABLE = 't', SCHEMA = 's', " \
               "CONSTRAINT = 'k', DATATYPE = 'y'; END $$" % (level, code, code)
    for code in SQLSTATES:
        yield C('raised: ' + code, [q(raised(code)), x(run(raised(code)), run('SELECT 1')), q('BEGIN'), q(raised(code)), q('SELECT 1'),
            q('ROLLBACK')])
    for level in ('DEBUG', 'LOG', 'INFO', 'NOTICE', 'WARNING'):
        yield C('raised: ' + level, [q('SET client_min_messages = debug1'), q(raised('01000', level)), x(run(raised('00000', level))),
            q('RESET client_min_messages'),
                                     q(raised('01000', level))])
    yield C('raised: a thousand notices', [q("DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE 'n %', i; END LOOP; END $$"),
                                           x(run("DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE 'n %', i; END LOOP; END $$"), run('SELECT 1'))])
    yield C('raised: a long message', [q("DO $$ BEGIN RAISE EXCEPTION '%', repeat('long ', 100000); END $$")], big=True)
    yield C('raised: within a row', [q('SELECT 1/(7-n), n FROM items ORDER BY id'), x(run('SELECT 1/(7-n), n FROM items ORDER BY id'))])


def _statement(chance):
    return chance.choice((('SELECT 1', ()), ('SELECT $1::int + 1', ('41',)), ('SELECT $1::int', ('x',)), ('SELECT 1/0', ()), ('SELEKT', ()), ('', ()),
                          ('SELECT tenant, n FROM items WHERE n < $1 ORDER BY id', ('4',)),
                          ("INSERT INTO unique_n (n) VALUES ($1)", (str(chance.randrange(3)),)),
                          ('DELETE FROM unique_n', ()), ('SELECT * FROM not_there', ()), ('SHOW search_path', ()), ("SELECT say_notice('p')", ()),
                          ('SELECT 1/(3-n) FROM items ORDER BY id', ()), ('UPDATE ledger SET amount = 2 WHERE false', ()), ('SELECT NULL::text', ())))


def _pipeline(chance):
    """Messages up to some Syncs; how many ReadyForQuery they owe is PostgreSQL's to say, so a Query is only put where nothing was skipped."""
    data, ready, names, portals = b'', 0, ['', 'a', 'b', 'c'], ['', 'p']
    for _ in range(chance.randrange(1, 14)):
        sql, values = _statement(chance)
        name, portal = chance.choice(names), chance.choice(portals)
        data += chance.choice((
            lambda: run(sql, values), lambda: run(sql, values), lambda: w.parse(name, sql), lambda: w.bind(portal, name, values),
                lambda: w.describe('S', name),
            lambda: w.describe('P', portal), lambda: w.execute(portal, chance.randrange(4)), lambda: w.close('S', name),
            lambda: w.close('P', portal), lambda: w.flush(),
            lambda: w.parse(name, sql) + w.bind(portal, name, values) + w.execute(portal, 2) + w.execute(portal),
            lambda: run(chance.choice(('BEGIN', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s', 'ROLLBACK TO s', 'BEGIN READ ONLY',
            "SET DateStyle = 'German'", 'RESET DateStyle'))) + (b'' if STRAY_PORTALS else w.close('P'))))()
        if chance.random() < 0.25:
            data, ready = data + w.sync(), ready + 1
    return Turn(data + w.sync(), ready=ready + 1)


def _random_pipelines():
    for number in range(SIZE):
        chance = random.Random(SEED * 100003 + number)
        turns = []
        for _ in range(chance.randrange(2, 8)):
            turns.append(_pipeline(chance))
            if chance.random() < 0.4:
                turns.append(q(chance.choice(('SELECT 1', 'ROLLBACK', 'BEGIN', 'COMMIT', 'SELECT 1/0', '', "SET DateStyle = 'SQL'; SELECT 2",
                    'DEALLOCATE ALL'))))
        yield C('random pipeline %d' % (SEED * 100003 + number), turns + [q('ROLLBACK'), q('DELETE FROM unique_n')])


def _naming_step(chance):
    name, local = chance.choice(('acme', 'globex', 'initech')), chance.random() < 0.4
    word, flag = ('SET LOCAL', 'true') if local else ('SET', 'false')
    sql, values = chance.choice((("%s search_path = '%s','public'" % (word, name), ()), ('%s search_path TO %s, public' % (word, name), ()),
                                 ("SELECT set_config('search_path', '%s, public', %s)" % (name, flag), ()),
                                 ("SELECT set_config('search_path', $1, %s)" % flag, [name]),
                                 ('SELECT set_config($1, $2, $3)', ['search_path', name + ',public', flag]), ('RESET search_path', ()),
                                 ("SET SCHEMA '%s'" % name, ()),
                                 ('SET search_path TO DEFAULT', ()), ('SHOW search_path', ()), ('SELECT tenant FROM whoami', ()),
                                 ('SELECT tenant FROM whoami', ())))
    if values or chance.random() < 0.4:
        return x(run(sql, values))
    return q(sql)


def _random_naming():
    transaction = ('BEGIN', 'START TRANSACTION READ ONLY', 'COMMIT', 'COMMIT', 'ROLLBACK', 'SAVEPOINT a', 'SAVEPOINT b', 'ROLLBACK TO a',
        'RELEASE a', 'ROLLBACK TO b',
                   'SELECT 1/0', 'COMMIT AND CHAIN', 'SELECT 1')
    for number in range(SIZE):
        chance = random.Random(SEED * 200003 + number)
        turns = []
        for _ in range(chance.randrange(6, 25)):
            turns.append(_naming_step(chance) if chance.random() < 0.65 else q(chance.choice(transaction)))
        yield C('random naming %d' % (SEED * 200003 + number), turns + [q('ROLLBACK'), q('SELECT tenant FROM whoami'), q('SHOW search_path')])


def _more():
    begin = 'COPY ledger (id, amount) FROM STDIN'
    for number, (rows, end) in enumerate(((b'g1\t1\ng1\t2\n', w.copy_done()), (b'g1\n', w.copy_done()), (b'g1\t1\t1\n', w.copy_done()),
        (b'g1\tx\n', w.copy_done()),
                                          (b'\xff\xfe\t1\n', w.copy_done()), (b'g1\t1\n', w.copy_fail('why')), (b'', w.copy_fail('')),
                                          (b'g1', w.copy_done()),
                                          (b'g1\t1\n\\.\ng2\t2\n', w.copy_done()))):
        yield C('COPY failure %d' % number, [t(w.query(begin), until='GE'), t(w.copy_data(rows), end), t(run(begin), w.sync(), until='GE'),
            t(w.copy_data(rows), end, w.sync()),
                                             q("DELETE FROM ledger WHERE id LIKE 'g%'"), q('BEGIN'), t(w.query(begin), until='GE'),
                                             t(w.copy_data(rows), end), q('ROLLBACK')])
    yield C('psql \\bind and \\g', [x(run('SELECT $1::int + $2::int', ['1', '2'])), x(run('SELECT $1', ['x'], result_formats=(0,))),
        x(run('SELECT $1::int', ['nope']))])
    yield C('psql \\watch', [q('SELECT tenant FROM whoami')] * 5)
    yield C('psql FETCH_COUNT', [q('BEGIN'), q('DECLARE _psql_cursor NO SCROLL CURSOR FOR\nSELECT n FROM items ORDER BY id'),
        q('FETCH FORWARD 4 FROM _psql_cursor'),
                                 q('FETCH FORWARD 4 FROM _psql_cursor'), q('FETCH FORWARD 4 FROM _psql_cursor'), q('CLOSE _psql_cursor'),
                                 q('COMMIT')])
    yield C('psql ON_ERROR_ROLLBACK', [q('begin'), q('SAVEPOINT pg_psql_temporary_savepoint'), q('select 1/0'),
        q('ROLLBACK TO pg_psql_temporary_savepoint'),
                                       q('SAVEPOINT pg_psql_temporary_savepoint'), q('select 2'), q('RELEASE pg_psql_temporary_savepoint'),
                                       q('commit')])
    yield C('empty queries in a pipeline', [x(run(''), run('SELECT 1'), run(';'), run('-- x')),
        t(w.query(''), w.query(';'), run(''), w.sync(), ready=3)])
    yield C('function calls with errors between', [t(w.function_call(177, [b'1', b'2']), w.function_call(177, [b'x', b'2']),
        w.function_call(177, [b'3', b'4']), ready=3),
                                                   t(w.function_call(0)), t(w.function_call(177, [b'1', b'2'], (0, 1)))])


def random_conversations():
    for group in (_random_pipelines, _random_naming):
        yield from group()


def conversations():
    for group in (_errors, random_conversations, _more):
        yield from group()
