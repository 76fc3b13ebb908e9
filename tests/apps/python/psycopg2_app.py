"""An application on psycopg2: one pool of connections, the tenant named by whoever takes one from it."""
import io

import psycopg2
import psycopg2.extras

import program
from program import ADD, HERE, OWN, SETTING, path, refused

Error = psycopg2.Error


def connect():
    connection = psycopg2.connect(connect_timeout=20, **program.LOGIN)
    connection.autocommit = True
    return connection


pool = program.Pool(connect)


def rows(connection, text, values=None):
    with connection.cursor() as cursor:
        cursor.execute(text, values)
        return cursor.fetchall() if cursor.description else []


def read_own(turn, connection):
    turn.here(rows(connection, HERE)[0])
    turn.own(rows(connection, OWN), 10)
    turn.own(rows(connection, 'SELECT tenant FROM items WHERE n < %s OR n >= %s LIMIT 10', (5, 5)), 10)


def insert(turn, connection, what=''):
    key = turn.key(what)
    turn.own(rows(connection, 'INSERT INTO ledger (id) VALUES (%s) RETURNING tenant', (key,)), 1)
    return key


def nobody(connection):
    """Where no tenant is named, nobody's rows are seen."""
    program.nobody(lambda: rows(connection, HERE), Error)


def transactions(turn, connection, name):
    """psycopg2's own transactions: it sends BEGIN before the first statement, and that statement names the tenant."""
    connection.autocommit = False
    try:
        name()
        read_own(turn, connection)
        key = insert(turn, connection)
        rows(connection, ADD, (turn.worker,))
        connection.commit()
        turn.committed(key)
        turn.added()

        name()
        gone = insert(turn, connection, '-gone')
        connection.rollback()
        turn.rolled_back(gone)

        name()
        kept, undone = insert(turn, connection, '-kept'), turn.key('-undone')
        rows(connection, 'SAVEPOINT one')
        rows(connection, 'INSERT INTO ledger (id) VALUES (%s)', (undone,))
        with refused('23505', Error):
            rows(connection, 'INSERT INTO ledger (id) VALUES (%s)', (kept,))
        with refused('25P02', Error):
            rows(connection, HERE)
        rows(connection, 'ROLLBACK TO SAVEPOINT one')
        read_own(turn, connection)
        rows(connection, 'RELEASE SAVEPOINT one')
        connection.commit()
        turn.committed(kept)
        turn.rolled_back(undone)
    finally:
        connection.rollback()
        connection.autocommit = True


def path_set(turn):
    """SET search_path"""
    with pool.connection() as connection:
        rows(connection, "SET search_path = '%s','public'" % turn.tenant)
        assert rows(connection, 'SHOW search_path') == [('%s, public' % turn.tenant,)]
        read_own(turn, connection)
        key = insert(turn, connection)
        turn.committed(key)
        with refused('23505', Error):
            rows(connection, 'INSERT INTO ledger (id) VALUES (%s)', (key,))
        with refused('42703', Error):
            rows(connection, 'SELECT no_such_column FROM items')
        transactions(turn, connection, lambda: None)
        rows(connection, "SET search_path = 'public'")
        nobody(connection)


def path_begin(turn):
    """SET after BEGIN"""
    with pool.connection() as connection:
        rows(connection, 'RESET search_path')
        transactions(turn, connection, lambda: rows(connection, 'SET search_path TO ' + path(turn.tenant)))
        read_own(turn, connection)
        connection.autocommit = False
        rows(connection, 'RESET search_path')
        nobody(connection)
        connection.rollback()
        connection.autocommit = True
        read_own(turn, connection)


def path_local(turn):
    """SET LOCAL, isolation levels"""
    with pool.connection() as connection:
        rows(connection, 'DISCARD ALL')
        transactions(turn, connection, lambda: rows(connection, 'SET LOCAL search_path TO %s, public' % turn.tenant))
        nobody(connection)
        for level in ('SERIALIZABLE', 'REPEATABLE READ'):
            connection.autocommit = False
            connection.set_session(isolation_level=level, readonly=True)
            rows(connection, 'SET LOCAL search_path TO %s, public' % turn.tenant)
            assert rows(connection, "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')") == [
                (level.lower(), 'on')]
            read_own(turn, connection)
            with refused('25006', Error):
                insert(turn, connection)
            connection.rollback()
            connection.set_session(isolation_level='DEFAULT', readonly='DEFAULT', autocommit=True)


def path_multi(turn):
    """one query of several statements"""
    with pool.connection() as connection:
        turn.here(rows(connection, 'SET search_path TO %s; %s' % (turn.tenant, HERE))[0])
        key, gone = turn.key(), turn.key('-gone')
        rows(connection, "BEGIN; SET LOCAL search_path TO %s, public; INSERT INTO ledger (id) VALUES ('%s'); COMMIT" % (turn.tenant, key))
        turn.committed(key)
        with refused('22012', Error):
            rows(connection, "SET search_path TO %s, public; INSERT INTO ledger (id) VALUES ('%s'); SELECT 1/0" % (turn.tenant, gone))
        turn.rolled_back(gone)
        read_own(turn, connection)


def path_config(turn):
    """set_config"""
    with pool.connection() as connection:
        assert rows(connection, "SELECT set_config('search_path', %s, false)", ('%s,public' % turn.tenant,)) == [('%s,public' % turn.tenant,)]
        read_own(turn, connection)
        rows(connection, 'RESET ALL')
        transactions(turn, connection, lambda: rows(connection, "SELECT pg_catalog.set_config('search_path', %s, true) AS path", (turn.tenant,)))
        nobody(connection)


def path_cursors(turn):
    """cursors on the server"""
    with pool.connection() as connection:
        rows(connection, 'SET search_path TO %s,public' % turn.tenant)
        connection.autocommit = False
        with connection.cursor('of_%s' % turn.tenant) as cursor:
            cursor.itersize = 3
            cursor.execute(OWN)
            turn.own(cursor, 10)
        connection.commit()
        connection.autocommit = True
        with connection.cursor('held_by_%s' % turn.tenant, withhold=True) as cursor:
            cursor.execute(OWN)
            turn.own(cursor.fetchmany(4), 4)
            read_own(turn, connection)
            turn.own(cursor.fetchall(), 6)


def path_prepare(turn):
    """PREPARE and EXECUTE"""
    with pool.connection() as connection:
        rows(connection, 'SET search_path TO %s,public' % turn.tenant)
        rows(connection, 'PREPARE own_items (int) AS SELECT tenant FROM items ORDER BY id LIMIT $1')
        try:
            turn.own(rows(connection, 'EXECUTE own_items(%s)', (7,)), 7)
            turn.own(rows(connection, 'EXECUTE own_items(3)'), 3)
        finally:
            rows(connection, 'DEALLOCATE own_items')
        with refused('26000', Error):
            rows(connection, 'EXECUTE own_items(1)')


def path_copy(turn):
    """COPY and many values"""
    with pool.connection() as connection:
        rows(connection, "SET SESSION search_path TO '%s', public" % turn.tenant)
        ids = [turn.key('-copied') for _ in range(30)]
        with connection.cursor() as cursor:
            cursor.copy_expert('COPY ledger (id) FROM STDIN', io.StringIO('\n'.join(ids) + '\n'))
            turn.committed(*ids)
            out = io.StringIO()
            cursor.copy_expert('COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT', out)
            assert out.getvalue() == turn.tenant + '\n', out.getvalue()
            gone = turn.key('-gone')
            with refused('22P02', Error):
                cursor.copy_expert('COPY ledger (id, amount) FROM STDIN', io.StringIO('%s\tnot a number\n' % gone))
            turn.rolled_back(gone)
            more = [turn.key('-many') for _ in range(20)]
            psycopg2.extras.execute_values(cursor, 'INSERT INTO ledger (id) VALUES %s', [(key,) for key in more], page_size=8)
            turn.committed(*more)
        read_own(turn, connection)


def path_unknown(turn):
    """an unknown schema"""
    with pool.connection() as connection:
        for name in ("SET search_path = 'nobody', 'public'", "SELECT set_config('search_path', 'nobody', false)", "SET SCHEMA 'nobody'"):
            rows(connection, 'SET search_path TO %s,public' % turn.tenant)
            read_own(turn, connection)
            program.nobody_after(lambda: rows(connection, name), lambda: rows(connection, HERE), Error)
        rows(connection, 'SET search_path TO %s,public' % turn.tenant)
        read_own(turn, connection)


def path_cancel(turn):
    """cancel"""
    with pool.connection() as connection:
        rows(connection, 'SET search_path TO %s,public' % turn.tenant)
        with program.cancelled_soon(connection.cancel), refused('57014', Error):
            rows(connection, 'SELECT pg_sleep(20)')
        read_own(turn, connection)


def setting_set(turn):
    """SET and RESET of the tenant setting"""
    with pool.connection() as connection:
        rows(connection, "SET %s = '%s'" % (SETTING, turn.tenant))
        assert rows(connection, 'SHOW ' + SETTING) == [(turn.tenant,)]
        read_own(turn, connection)
        turn.committed(insert(turn, connection))
        transactions(turn, connection, lambda: None)
        rows(connection, 'RESET ' + SETTING)
        nobody(connection)


def setting_local(turn):
    """SET LOCAL of the tenant setting"""
    with pool.connection() as connection:
        rows(connection, 'DISCARD ALL')
        transactions(turn, connection, lambda: rows(connection, 'SET LOCAL %s TO %%s' % SETTING, (turn.tenant,)))
        nobody(connection)


def setting_config(turn):
    """set_config of the tenant setting"""
    with pool.connection() as connection:
        rows(connection, 'DISCARD ALL')
        transactions(turn, connection, lambda: rows(connection, 'SELECT set_config(%s, %s, true)', (SETTING, turn.tenant)))
        nobody(connection)
        assert rows(connection, "SELECT set_config('%s', '%s', false)" % (SETTING, turn.tenant)) == [(turn.tenant,)]
        read_own(turn, connection)
        rows(connection, "SELECT set_config('%s', '', false)" % SETTING)
        nobody(connection)


program.run('psycopg2', program.call('setting_' if SETTING else 'path_', dict(globals())))
