"""An application on psycopg 3: statements with parameters go by the extended protocol, pipelines, prepared statements, server-side cursors."""

import psycopg

import program
from program import ADD, HERE, OWN, SETTING, path, refused

Error = psycopg.Error


def connect():
    login = dict(program.LOGIN, dbname=program.WORLD['database'])
    del login['database']
    connection = psycopg.connect(connect_timeout=20, autocommit=True, **login)
    connection.prepare_threshold = 2
    return connection


pool = program.Pool(connect)


def read_own(turn, connection):
    turn.here(connection.execute(HERE).fetchone())
    turn.own(connection.execute(OWN), 10)
    # Named statements, prepared once and used for every tenant of this connection.
    turn.own(connection.execute('SELECT tenant, %s::int FROM items ORDER BY id LIMIT %s', (turn.worker, 4), prepare=True), 4)
    turn.own(connection.execute('SELECT tenant, n FROM items ORDER BY id LIMIT %b', (5,), prepare=True, binary=True), 5)


def insert(turn, connection, what=''):
    key = turn.key(what)
    turn.own(connection.execute('INSERT INTO ledger (id) VALUES (%s) RETURNING tenant', (key,)), 1)
    return key


def nobody(connection):
    program.nobody(lambda: connection.execute(HERE).fetchall(), Error)


def transactions(turn, connection, name):
    with connection.transaction():
        name()
        read_own(turn, connection)
        key = insert(turn, connection)
        connection.execute(ADD, (turn.worker,))
    turn.committed(key)
    turn.added()
    with connection.transaction():
        name()
        gone = insert(turn, connection, '-gone')
        raise psycopg.Rollback()
    turn.rolled_back(gone)
    with connection.transaction():
        name()
        kept, undone = insert(turn, connection, '-kept'), turn.key('-undone')
        with refused('23505', Error):
            with connection.transaction():
                connection.execute('INSERT INTO ledger (id) VALUES (%s)', (undone,))
                connection.execute('INSERT INTO ledger (id) VALUES (%s)', (kept,))
        read_own(turn, connection)
    turn.committed(kept)
    turn.rolled_back(undone)


def path_set(turn):
    """SET search_path"""
    with pool.connection() as connection:
        connection.execute('SET search_path TO ' + path(turn.tenant))
        read_own(turn, connection)
        turn.committed(insert(turn, connection))
        with refused('42703', Error):
            connection.execute('SELECT no_such_column FROM items WHERE n = %s', (1,))
        transactions(turn, connection, lambda: None)
        connection.execute('RESET search_path', prepare=True)
        nobody(connection)


def path_parameter(turn):
    """set_config with parameters"""
    with pool.connection() as connection:
        answer = connection.execute("SELECT set_config('search_path', %s, %s)", (path(turn.tenant), False)).fetchone()
        assert answer == (path(turn.tenant),), answer
        read_own(turn, connection)
        connection.execute("SELECT set_config('search_path', %s, false)", ('public',), prepare=True)
        nobody(connection)
        for binary in (False, True):
            transactions(turn, connection, lambda: connection.execute(
                "SELECT set_config(%t, %t, %b)", ('search_path', turn.tenant + ',public', True), prepare=True, binary=binary))
        nobody(connection)


def path_local(turn):
    """SET LOCAL in a transaction"""
    with pool.connection() as connection:
        connection.execute('DISCARD ALL')
        connection._prepared.clear()
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        transactions(turn, connection, lambda: connection.execute('SET LOCAL search_path TO %s, public' % turn.tenant))
        connection.isolation_level = None
        nobody(connection)


def path_pipeline(turn):
    """pipeline mode"""
    with pool.connection() as connection:
        connection.execute('RESET search_path')
        with connection.pipeline():
            connection.execute('SET search_path TO %s, public' % turn.tenant)
            found = [connection.execute('SELECT tenant, %s::int FROM items ORDER BY id LIMIT 3', (number,)) for number in range(40)]
        for number, cursor in enumerate(found):
            turn.own(cursor, 3)
        keys = [turn.key('-piped') for _ in range(10)]
        with connection.pipeline():
            for key in keys:
                with connection.transaction():
                    connection.execute('SET LOCAL search_path TO ' + path(turn.tenant))
                    connection.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
        turn.committed(*keys)
        gone = turn.key('-gone')
        with refused('22012', Error):
            with connection.pipeline() as pipeline:
                connection.execute('BEGIN')
                connection.execute("SELECT set_config('search_path', %s, true)", (turn.tenant,))
                connection.execute('INSERT INTO ledger (id) VALUES (%s)', (gone,))
                connection.execute('SELECT 1 / %s', (0,))
                connection.execute('SELECT tenant FROM whoami')
                pipeline.sync()
        connection.rollback()
        turn.rolled_back(gone)
        read_own(turn, connection)


def path_switch_in_pipeline(turn):
    """several tenants in one pipeline"""
    with pool.connection() as connection:
        with connection.pipeline() as pipeline:
            found = []
            for tenant in program.TENANTS:
                connection.execute("SELECT set_config('search_path', %s, false)", (tenant + ',public',))
                found.append((tenant, connection.execute(HERE)))
                pipeline.sync()
            connection.execute('SET search_path TO ' + turn.tenant)
            own = connection.execute(HERE)
        for tenant, cursor in found:
            assert cursor.fetchone()[0] == tenant
        turn.here(own.fetchone())


def path_cursors(turn):
    """cursors on the server"""
    with pool.connection() as connection:
        connection.execute("SET search_path = '%s', 'public'" % turn.tenant)
        with connection.transaction(), connection.cursor('of_' + turn.tenant) as cursor:
            cursor.execute('SELECT tenant FROM items WHERE id > %s ORDER BY id LIMIT 10', (0,))
            turn.own(cursor.fetchmany(3) + cursor.fetchall(), 10)
        with connection.cursor('held_by_' + turn.tenant, withhold=True) as cursor:
            cursor.execute(OWN)
            turn.own(cursor.fetchmany(4), 4)
            turn.own(cursor.fetchall(), 6)
    # libpq 15 doesn't leave the single-row mode when a pipeline begins later: not on a pooled connection.
    with connect() as connection, connection.cursor() as cursor:
        connection.execute('SET search_path TO ' + path(turn.tenant))
        turn.own(cursor.stream('SELECT tenant FROM items, generate_series(1, %s)', (50,)))


def path_copy(turn):
    """COPY and executemany"""
    with pool.connection() as connection:
        connection.execute('SET search_path TO ' + path(turn.tenant))
        ids, gone = [turn.key('-copied') for _ in range(30)], turn.key('-gone')
        with connection.cursor() as cursor:
            with cursor.copy('COPY ledger (id, amount) FROM STDIN') as copy:
                for key in ids:
                    copy.write_row((key, 2))
            turn.committed(*ids)
            with refused('57014', Error):
                with cursor.copy('COPY ledger (id) FROM STDIN') as copy:
                    copy.write_row((gone,))
                    raise psycopg.errors.QueryCanceled('given up')
            turn.rolled_back(gone)
            with cursor.copy('COPY (SELECT tenant FROM ledger) TO STDOUT (FORMAT binary)') as copy:
                copy.set_types(['text'])
                turn.own(copy.rows())
            more = [turn.key('-many') for _ in range(20)]
            cursor.executemany('INSERT INTO ledger (id, amount) VALUES (%s, %s)', [(key, 3) for key in more])
            turn.committed(*more)
        read_own(turn, connection)


def path_cancel(turn):
    """cancel"""
    with pool.connection() as connection:
        connection.execute('SET search_path TO ' + path(turn.tenant))
        with program.cancelled_soon(connection.cancel), refused('57014', Error):
            connection.execute('SELECT pg_sleep(%s)', (20,))
        read_own(turn, connection)


def setting_local(turn):
    """set_config of the tenant setting in a transaction"""
    with pool.connection() as connection:
        transactions(turn, connection, lambda: connection.execute('SELECT set_config(%s, %s, true)', (SETTING, turn.tenant)))
        nobody(connection)
        transactions(turn, connection, lambda: connection.execute("SET LOCAL %s = '%s'" % (SETTING, turn.tenant)))
        nobody(connection)


def setting_session(turn):
    """SET of the tenant setting"""
    with pool.connection() as connection:
        connection.execute("SET %s TO '%s'" % (SETTING, turn.tenant))
        read_own(turn, connection)
        turn.committed(insert(turn, connection))
        connection.execute('RESET ' + SETTING)
        nobody(connection)


def setting_pipeline(turn):
    """the tenant setting in a pipeline"""
    with pool.connection() as connection:
        key = turn.key()
        with connection.pipeline():
            with connection.transaction():
                connection.execute('SELECT set_config(%s, %s, true)', (SETTING, turn.tenant))
                connection.execute('INSERT INTO ledger (id) VALUES (%s)', (key,))
                found = connection.execute(HERE)
        turn.here(found.fetchone())
        turn.committed(key)
        nobody(connection)


program.run('psycopg3', program.call('setting_' if SETTING else 'path_', dict(globals())))
