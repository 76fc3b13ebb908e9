"""psycopg2, psycopg 3 and asyncpg through pgporter: every way to name the tenant, transactions, prepared statements, COPY, errors, many
sessions of two tenants on a pool of two.
"""
import asyncio
import io
import threading
import unittest

import asyncpg
import psycopg
import psycopg2
import psycopg2.extras

import driver_world
from driver_world import DIRECT, PASSWORD, TENANTS, fixture


def setUpModule():
    global world
    world = driver_world.World()


def tearDownModule():
    world.close()


def dsn(tenant, way=0, **more):
    _, user, database, options, params = [w for w in world.ways(tenant) if not w[4]][way]
    values = dict(host='127.0.0.1', port=world.port, user=user, dbname=database, password=PASSWORD)
    if options:
        values['options'] = options
    return dict(values, **more)


def in_threads(count, work):
    """Runs work(number) in threads; the errors of all."""
    errors = []

    def guarded(number):
        try:
            work(number)
        except Exception as error:
            errors.append('%d: %r' % (number, error))
    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        if thread.is_alive():
            errors.append('a thread hangs')
    return errors


class Psycopg2(unittest.TestCase):
    def connect(self, tenant='acme', way=0, **more):
        connection = psycopg2.connect(**dsn(tenant, way, **more))
        self.addCleanup(connection.close)
        return connection

    def test_ways(self):
        for tenant in TENANTS:
            for way in range(len([w for w in world.ways(tenant) if not w[4]])):
                connection = self.connect(tenant, way)
                with connection, connection.cursor() as cursor:
                    cursor.execute('SELECT tenant FROM whoami')
                    self.assertEqual(cursor.fetchall(), [(tenant,)])

    def test_transactions(self):
        connection = self.connect()
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO ledger (id) VALUES ('p2')")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            with connection, connection.cursor() as cursor:
                cursor.execute("UPDATE ledger SET amount = 9 WHERE id = 'p2'")
                cursor.execute("INSERT INTO ledger (id) VALUES ('p2')")
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM ledger WHERE id = 'p2' RETURNING amount, tenant")
            self.assertEqual(cursor.fetchall(), [(1, 'acme')])
        connection.set_session(isolation_level='SERIALIZABLE', readonly=True)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')")
            self.assertEqual(cursor.fetchone(), ('serializable', 'on'))

    def test_named_cursor(self):
        connection = self.connect()
        with connection.cursor('mine') as cursor:
            cursor.itersize = 3
            cursor.execute('SELECT n FROM items WHERE id <= 10 ORDER BY id')
            self.assertEqual([row[0] for row in cursor], list(range(1, 11)))

    def test_copy(self):
        connection = self.connect('globex')
        with connection, connection.cursor() as cursor:
            cursor.copy_expert('COPY ledger (id) FROM STDIN', io.StringIO('\n'.join('copy-%d' % i for i in range(5000)) + '\n'))
        out = io.StringIO()
        with connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY (SELECT DISTINCT tenant FROM ledger WHERE id LIKE 'copy-%') TO STDOUT", out)
            cursor.execute("DELETE FROM ledger WHERE id LIKE 'copy-%'")
            self.assertEqual((out.getvalue(), cursor.rowcount), ('globex\n', 5000))
        with self.assertRaises(psycopg2.errors.InvalidTextRepresentation):
            with connection, connection.cursor() as cursor:
                cursor.copy_expert('COPY ledger (id, amount) FROM STDIN', io.StringIO('x\tnot a number\n'))
        with connection, connection.cursor() as cursor:
            cursor.execute('SELECT 1')

    def test_execute_values_and_notices(self):
        connection = self.connect()
        with connection.cursor() as cursor:
            psycopg2.extras.execute_values(cursor, 'INSERT INTO ledger (id, amount) VALUES %s', [('v%d' % i, i) for i in range(500)], page_size=100)
            cursor.execute("SELECT count(*), sum(amount) FROM ledger WHERE id LIKE 'v%'")
            self.assertEqual(cursor.fetchone(), (500, 124750))
            cursor.execute("SELECT say_notice('p2')")
        self.assertEqual(connection.notices[-1].strip(), 'NOTICE:  hear: p2')
        connection.rollback()

    def test_encoding_and_cancel(self):
        connection = self.connect(client_encoding='LATIN1')
        with connection.cursor() as cursor:
            cursor.execute("SELECT 'é', current_setting('client_encoding')")
            self.assertEqual(cursor.fetchone(), ('é', 'LATIN1'))
            timer = threading.Timer(0.3, connection.cancel)
            timer.start()
            with self.assertRaises(psycopg2.errors.QueryCanceled):
                cursor.execute('SELECT pg_sleep(20)')
            timer.join()
        connection.rollback()

    def test_wrong_password_and_tenant(self):
        with self.assertRaisesRegex(psycopg2.OperationalError, 'password authentication failed'):
            psycopg2.connect(**dict(dsn('acme'), password='wrong'))
        if not DIRECT:
            with self.assertRaisesRegex(psycopg2.OperationalError, 'nobody'):
                psycopg2.connect(**dict(dsn('acme'), options='-c pgporter.tenant=nobody'))

    def test_many(self):
        def work(number):
            tenant = TENANTS[number % 2]
            connection = psycopg2.connect(**dsn(tenant))
            for turn in range(40):
                with connection, connection.cursor() as cursor:
                    cursor.execute('SELECT tenant FROM whoami')
                    assert cursor.fetchall() == [(tenant,)]
                    cursor.execute("INSERT INTO ledger (id) VALUES (%s) RETURNING tenant", ('many-%d-%d' % (number, turn),))
                    assert cursor.fetchone() == (tenant,)
            connection.close()
        self.assertEqual(in_threads(12, work), [])
        for tenant in TENANTS:
            connection = self.connect(tenant)
            with connection, connection.cursor() as cursor:
                cursor.execute("DELETE FROM ledger WHERE id LIKE 'many-%'")
                self.assertEqual(cursor.rowcount, 240)


class Psycopg3(unittest.TestCase):
    def connect(self, tenant='acme', way=0, **more):
        connection = psycopg.connect(**dsn(tenant, way, autocommit=True, **more))
        self.addCleanup(connection.close)
        return connection

    def test_ways(self):
        for tenant in TENANTS:
            for way in range(len([w for w in world.ways(tenant) if not w[4]])):
                self.assertEqual(self.connect(tenant, way).execute('SELECT tenant FROM whoami').fetchall(), [(tenant,)])

    def test_server_side_prepared(self):
        """Statements that are prepared after the first use, on sessions that share two server connections."""
        def work(number):
            tenant = TENANTS[number % 2]
            with psycopg.connect(**dsn(tenant, autocommit=True, prepare_threshold=0)) as connection:
                for turn in range(50):
                    for value in (turn, 'x%d' % turn):
                        assert connection.execute('SELECT %s, tenant FROM whoami', (value,)).fetchone() == (value, tenant)
        self.assertEqual(in_threads(10, work), [])

    def test_prepared_and_deallocated(self):
        connection = self.connect(prepare_threshold=0)
        connection.prepared_max = 3
        for turn in range(60):
            self.assertEqual(connection.execute('SELECT %d + %%s' % (turn % 7), (1,)).fetchone(), (turn % 7 + 1,))

    def test_pipeline(self):
        connection = self.connect()
        with connection.pipeline():
            cursors = [connection.execute('SELECT %s::int, tenant FROM whoami', (i,)) for i in range(200)]
        self.assertEqual([c.fetchone() for c in cursors], [(i, 'acme') for i in range(200)])

    def test_pipeline_error(self):
        connection = self.connect()
        with self.assertRaises(psycopg.errors.DivisionByZero):
            with connection.pipeline() as pipeline:
                connection.execute('SELECT 1')
                connection.execute('SELECT 1/0')
                connection.execute('SELECT 2')
                pipeline.sync()
        self.assertEqual(connection.execute('SELECT 3').fetchone(), (3,))

    def test_pipeline_transactions(self):
        connection = self.connect()
        with connection.pipeline():
            for turn in range(20):
                with connection.transaction():
                    connection.execute("INSERT INTO ledger (id) VALUES (%s)", ('pipe-%d' % turn,))
        self.assertEqual(connection.execute("DELETE FROM ledger WHERE id LIKE 'pipe-%'").rowcount, 20)

    def test_nested_transactions(self):
        connection = self.connect()
        with connection.transaction():
            connection.execute("INSERT INTO ledger (id) VALUES ('outer')")
            with self.assertRaises(psycopg.errors.UniqueViolation):
                with connection.transaction():
                    connection.execute("INSERT INTO ledger (id) VALUES ('outer')")
        self.assertEqual(connection.execute("DELETE FROM ledger WHERE id = 'outer'").rowcount, 1)

    def test_binary_and_executemany(self):
        connection = self.connect()
        cursor = connection.cursor(binary=True)
        cursor.execute('SELECT %b::int8, %b::bytea, n FROM items WHERE id = 3', (1 << 40, b'\0\xff'))
        self.assertEqual(cursor.fetchone(), (1 << 40, b'\0\xff', 3))
        cursor.executemany('INSERT INTO ledger (id, amount) VALUES (%s, %s)', [('em-%d' % i, i) for i in range(300)])
        self.assertEqual(connection.execute("DELETE FROM ledger WHERE id LIKE 'em-%'").rowcount, 300)

    def test_copy(self):
        connection = self.connect('globex')
        with connection.cursor() as cursor:
            with cursor.copy('COPY ledger (id, amount) FROM STDIN') as copy:
                for number in range(2000):
                    copy.write_row(('c3-%d' % number, number))
            with self.assertRaises(psycopg.errors.QueryCanceled):
                with cursor.copy('COPY ledger (id) FROM STDIN') as copy:
                    copy.write_row(('never',))
                    raise psycopg.errors.QueryCanceled('given up')
            with cursor.copy("COPY (SELECT tenant FROM ledger WHERE id LIKE 'c3-%') TO STDOUT (FORMAT binary)") as copy:
                copy.set_types(['text'])
                rows = list(copy.rows())
        self.assertEqual((len(rows), set(rows)), (2000, {('globex',)}))
        self.assertEqual(connection.execute("DELETE FROM ledger WHERE id LIKE 'c3-%'").rowcount, 2000)

    def test_server_cursor(self):
        connection = self.connect()
        with connection.transaction(), connection.cursor('named') as cursor:
            cursor.execute('SELECT n FROM items WHERE id <= 10 ORDER BY id')
            self.assertEqual(cursor.fetchmany(4) + cursor.fetchall(), [(i,) for i in range(1, 11)])

    def test_stream_and_notify(self):
        connection = self.connect()
        with connection.cursor() as cursor:
            self.assertEqual(len(list(cursor.stream('SELECT generate_series(1, 1000)'))), 1000)
        heard = []
        connection.add_notify_handler(lambda notify: heard.append((notify.channel, notify.payload)))
        connection.execute('LISTEN p3')
        connection.execute("NOTIFY p3, 'payload'")
        fixture.wait_for(lambda: connection.execute('SELECT 1') and heard, 'the notification', 5)
        self.assertEqual(heard, [('p3', 'payload')])
        connection.execute('UNLISTEN *')


class Asyncpg(unittest.IsolatedAsyncioTestCase):
    async def connect(self, tenant='acme', settings=None, **more):
        settings = settings or {'search_path': tenant + ', public'}
        values = dict(host='127.0.0.1', port=world.port, user='app', database='app', password=PASSWORD, server_settings=settings, timeout=15)
        connection = await asyncpg.connect(**dict(values, **more))
        self.addAsyncCleanup(connection.close)
        return connection

    async def test_ways(self):
        for tenant in TENANTS:
            for name, user, database, options, params in world.ways(tenant):
                settings = dict(params, options=options) if options else params
                connection = await self.connect(tenant, dict(settings, application_name=name), user=user, database=database)
                self.assertEqual(await connection.fetchval('SELECT tenant FROM whoami'), tenant)

    async def test_prepared(self):
        connection = await self.connect()
        statement = await connection.prepare('SELECT tenant, $1::int * 2 FROM whoami')
        other = await self.connect('globex')
        for turn in range(30):
            self.assertEqual(tuple(await statement.fetchrow(turn)), ('acme', turn * 2))
            self.assertEqual(await other.fetchval('SELECT tenant FROM whoami'), 'globex')
        self.assertEqual([a.name for a in statement.get_attributes()], ['tenant', '?column?'])

    async def test_transactions(self):
        connection = await self.connect()
        with self.assertRaises(asyncpg.UniqueViolationError):
            async with connection.transaction(isolation='serializable'):
                await connection.execute("INSERT INTO ledger (id) VALUES ('a')")
                await connection.execute("INSERT INTO ledger (id) VALUES ('a')")
        async with connection.transaction():
            await connection.execute("INSERT INTO ledger (id) VALUES ($1)", 'b')
            with self.assertRaises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.fetchval('SELECT 1/0')
        self.assertEqual(await connection.execute("DELETE FROM ledger WHERE id IN ('a', 'b')"), 'DELETE 1')

    async def test_cursor(self):
        connection = await self.connect()
        async with connection.transaction():
            seen = [row['n'] async for row in connection.cursor('SELECT n FROM items WHERE id <= 10 ORDER BY id', prefetch=3)]
        self.assertEqual(seen, list(range(1, 11)))

    async def test_executemany_and_copy(self):
        connection = await self.connect('globex')
        await connection.executemany('INSERT INTO ledger (id, amount) VALUES ($1, $2)', [('am-%d' % i, i) for i in range(500)])
        await connection.copy_records_to_table('ledger', records=[('ac-%d' % i, 'globex', i) for i in range(3000)])
        out = io.BytesIO()
        await connection.copy_from_query("SELECT DISTINCT tenant FROM ledger WHERE id LIKE 'a%-%'", output=out)
        self.assertEqual(out.getvalue(), b'globex\n')
        with self.assertRaises(asyncpg.UniqueViolationError):
            await connection.copy_records_to_table('ledger', records=[('ac-1', 'globex', 1)])
        self.assertEqual(await connection.execute("DELETE FROM ledger WHERE id LIKE 'a%-%'"), 'DELETE 3500')

    async def test_timeout_cancels(self):
        connection = await self.connect()
        with self.assertRaises(asyncio.TimeoutError):
            await connection.fetchval('SELECT pg_sleep(20)', timeout=0.3)
        self.assertEqual(await connection.fetchval('SELECT 5'), 5)

    async def test_pool(self):
        """asyncpg's own pool resets with several statements and an advisory unlock on every release."""
        pools = {}
        for tenant in TENANTS:
            pools[tenant] = await asyncpg.create_pool(host='127.0.0.1', port=world.port, user='app', database='app', password=PASSWORD,
                                                      server_settings={'search_path': tenant + ', public'}, min_size=4, max_size=4)

        async def work(number):
            tenant = TENANTS[number % 2]
            for turn in range(15):
                async with pools[tenant].acquire() as connection:
                    assert await connection.fetchval('SELECT tenant FROM whoami') == tenant
                    async with connection.transaction():
                        await connection.execute("SET LOCAL app.user_id = '%d'" % turn)
                        assert await connection.fetchval("SELECT current_setting('app.user_id')") == str(turn)
        await asyncio.gather(*[work(n) for n in range(16)])
        for pool in pools.values():
            await pool.close()

    async def test_listen(self):
        connection = await self.connect()
        heard = asyncio.get_running_loop().create_future()
        await connection.add_listener('a_channel', lambda *args: heard.set_result(args[2:]))
        await connection.execute("NOTIFY a_channel, 'x'")
        self.assertEqual(await asyncio.wait_for(heard, 5), ('a_channel', 'x'))
        await connection.reset()


if __name__ == '__main__':
    fixture.main(__name__)
