"""An application on asyncpg: its own pool, which resets a connection whenever it comes back; every statement is prepared, binary."""
import asyncio
import io

import asyncpg

import program
from program import HERE, OWN, SETTING, path, refused

Error = asyncpg.PostgresError
ADD = 'UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + $1::int'
INSERT = 'INSERT INTO ledger (id) VALUES ($1) RETURNING tenant'
# One column's type in each tenant's schema, and a value.
SHAPES = [('int', 1065353216), ('real', 1.0), ('bigint', 3)]
pool = None


async def read_own(turn, connection):
    turn.here(await connection.fetchrow(HERE))
    turn.own(await connection.fetch(OWN), 10)
    turn.own(await connection.fetch('SELECT tenant FROM items ORDER BY id LIMIT $1', 4), 4)


async def insert(turn, connection, what=''):
    key = turn.key(what)
    turn.own(await connection.fetch(INSERT, key), 1)
    return key


async def nobody(connection):
    try:
        found = await connection.fetch(HERE)
    except asyncpg.UndefinedTableError:
        return
    assert SETTING and not found, 'rows without a tenant: %s' % found


async def transactions(turn, connection, name, **options):
    async with connection.transaction(**options):
        await name()
        await read_own(turn, connection)
        key = await insert(turn, connection)
        await connection.execute(ADD, turn.worker)
    turn.committed(key)
    turn.added()
    transaction = connection.transaction(**options)
    await transaction.start()
    await name()
    gone = await insert(turn, connection, '-gone')
    await transaction.rollback()
    turn.rolled_back(gone)
    async with connection.transaction(**options):
        await name()
        kept, undone = await insert(turn, connection, '-kept'), turn.key('-undone')
        with refused('23505', Error):
            async with connection.transaction():
                await connection.execute('INSERT INTO ledger (id) VALUES ($1)', undone)
                await connection.execute('INSERT INTO ledger (id) VALUES ($1)', kept)
        await read_own(turn, connection)
    turn.committed(kept)
    turn.rolled_back(undone)


async def nothing():
    pass


async def path_set(turn):
    """SET search_path"""
    async with pool.acquire() as connection:
        await nobody(connection)
        await connection.execute('SET search_path TO ' + path(turn.tenant))
        await read_own(turn, connection)
        turn.committed(await insert(turn, connection))
        with refused('42703', Error):
            await connection.fetch('SELECT no_such_column FROM items WHERE n = $1', 1)
        await transactions(turn, connection, nothing)


async def path_config(turn):
    """set_config with a parameter"""
    async with pool.acquire() as connection:
        answer = await connection.fetchval("SELECT set_config('search_path', $1, false)", path(turn.tenant))
        assert answer == path(turn.tenant), answer
        await read_own(turn, connection)
        await connection.execute('RESET ALL')
        await nobody(connection)

        async def local():
            await connection.fetch("SELECT set_config('search_path', $1, $2)", turn.tenant, True)
        await transactions(turn, connection, local, isolation='repeatable_read')
        await nobody(connection)


async def path_local(turn):
    """SET LOCAL in a transaction"""
    async with pool.acquire() as connection:
        await transactions(turn, connection, lambda: connection.execute('SET LOCAL search_path TO %s, public' % turn.tenant))
        await nobody(connection)
        async with connection.transaction(isolation='serializable', readonly=True, deferrable=True):
            await connection.execute('SET LOCAL search_path TO %s, public' % turn.tenant)
            assert await connection.fetchval("SELECT current_setting('transaction_isolation')") == 'serializable'
            await read_own(turn, connection)


async def path_prepared(turn):
    """a prepared statement for several tenants"""
    async with pool.acquire() as connection:
        await connection.execute('SET search_path TO %s, public' % turn.tenant)
        statement = await connection.prepare('SELECT tenant, n FROM items ORDER BY id LIMIT $1')
        assert [(a.name, a.type.name) for a in statement.get_attributes()] == [('tenant', 'text'), ('n', 'int4')]
        turn.own(await statement.fetch(6), 6)
        for tenant in program.TENANTS:
            await connection.execute('SET search_path TO %s, public' % tenant)
            assert {row['tenant'] for row in await statement.fetch(6)} == {tenant}
        await connection.execute('SET search_path TO %s, public' % turn.tenant)
        turn.own(await statement.fetch(6), 6)
        async with connection.transaction():
            turn.own([row async for row in connection.cursor(OWN, prefetch=3)], 10)


async def path_shape(turn):
    """a table of another shape elsewhere"""
    number = program.TENANTS.index(turn.tenant)
    other = program.TENANTS[(number + 1) % len(program.TENANTS)]
    async with pool.acquire() as connection:
        await connection.execute('SET search_path TO %s, public' % turn.tenant)
        statement = await connection.prepare('SELECT tenant, value FROM shape WHERE value = $1')
        own = SHAPES[number][1]
        assert [tuple(row) for row in await statement.fetch(own)] == [(turn.tenant, own)]
        await connection.execute('SET search_path TO %s, public' % other)
        # The driver decodes what it was told at first. PostgreSQL doesn't let it do that with something else.
        with refused('0A000', Error):
            await statement.fetch(own)
        await connection.execute('SET search_path TO %s, public' % turn.tenant)
        assert [tuple(row) for row in await statement.fetch(own)] == [(turn.tenant, own)]


async def make_shapes(connection):
    for tenant, (kind, value) in zip(program.TENANTS, SHAPES):
        async with connection.transaction():
            await connection.execute('SET LOCAL search_path TO ' + path(tenant))
            await connection.execute("CREATE TABLE shape (tenant text DEFAULT '%s', value %s PRIMARY KEY)" % (tenant, kind))
            await connection.execute('INSERT INTO shape (value) VALUES ($1)', value)


async def path_copy(turn):
    """COPY and executemany"""
    async with pool.acquire() as connection:
        await connection.execute('SET search_path TO ' + path(turn.tenant))
        ids = [turn.key('-copied') for _ in range(30)]
        await connection.copy_records_to_table('ledger', records=[(key,) for key in ids], columns=['id'])
        turn.committed(*ids)
        gone = turn.key('-gone')
        with refused('23505', Error):
            await connection.copy_records_to_table('ledger', records=[(gone,), (ids[0],)], columns=['id'])
        turn.rolled_back(gone)
        out = io.BytesIO()
        await connection.copy_from_query('SELECT DISTINCT tenant FROM ledger', output=out)
        assert out.getvalue().decode() == turn.tenant + '\n', out.getvalue()
        more = [turn.key('-many') for _ in range(20)]
        await connection.executemany('INSERT INTO ledger (id) VALUES ($1)', [(key,) for key in more])
        turn.committed(*more)


async def path_cancel(turn):
    """a timeout cancels"""
    async with pool.acquire() as connection:
        await connection.execute('SET search_path TO ' + path(turn.tenant))
        try:
            await connection.fetch('SELECT pg_sleep($1)', 20, timeout=0.1)
        except asyncio.TimeoutError:
            pass
        else:
            raise AssertionError('no timeout')
        await read_own(turn, connection)


async def setting_local(turn):
    """the tenant setting in a transaction"""
    async with pool.acquire() as connection:
        await transactions(turn, connection, lambda: connection.execute('SELECT set_config($1, $2, true)', SETTING, turn.tenant))
        await nobody(connection)
        await transactions(turn, connection, lambda: connection.execute("SET LOCAL %s = '%s'" % (SETTING, turn.tenant)))
        await nobody(connection)


async def setting_session(turn):
    """SET of the tenant setting, reset by the pool"""
    async with pool.acquire() as connection:
        await nobody(connection)
        await connection.execute("SET %s = '%s'" % (SETTING, turn.tenant))
        await read_own(turn, connection)
        turn.committed(await insert(turn, connection))


async def main():
    global pool
    pool = await asyncpg.create_pool(min_size=5, max_size=5, timeout=20, **program.LOGIN)
    if not SETTING:
        async with pool.acquire() as connection:
            await make_shapes(connection)
    await program.run_async('asyncpg', program.call('setting_' if SETTING else 'path_', dict(globals())))


asyncio.run(main())
