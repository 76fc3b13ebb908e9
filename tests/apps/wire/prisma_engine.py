"""The statements of Prisma's own engine, which is a program that Prisma downloads: a statement is prepared by name and described, in a step of
its own (Parse, Describe, Sync), before there is a value to bind; then run by Bind, Execute, Sync in binary. BEGIN and COMMIT are simple
queries. With row-level security each operation is

    BEGIN; SELECT set_config('app.current_company_id', $1, TRUE); the query; COMMIT

and with `?schema=acme` a connection begins with the startup parameter search_path="acme", or, with `pgbouncer=true`, with a query for it.
"""
import struct

from program import BINARY, HERE, TENANTS, WORLD, Connection, Pool, Program, bind, describe, execute, parse, refused, sync

ITEMS = ('SELECT "{0}"."items"."id"::text, "{0}"."items"."tenant" FROM "{0}"."items" WHERE 1=1 ORDER BY "{0}"."items"."id" ASC LIMIT $1 OFFSET $2')
INSERT = 'INSERT INTO "{0}"."ledger" ("id","amount") VALUES ($1,$2) RETURNING "{0}"."ledger"."id", "{0}"."ledger"."tenant"'
UPDATE = 'UPDATE "{0}"."items" SET "n" = "n" + 1 WHERE ("{0}"."items"."id" = (SELECT min("id") FROM "{0}"."items") + $1::int4 AND 1=1)'


def int8(value):
    return struct.pack('!q', value)


def int4(value):
    return struct.pack('!i', value)


class Engine(Connection):
    def statement(self, sql, status, values=(), shape='2DCZ', described='1tTZ'):
        name = self.statements.get(sql)
        if name is None:
            name = 's%d' % len(self.statements)
            self.exchange(parse(name, sql) + describe('S', name) + sync(), described, self.wire.status)
            self.statements[sql] = name
        data = bind('', name, [v if isinstance(v, bytes) else v.encode() for v in values], [BINARY] * len(values), [BINARY]) + execute() + sync()
        return self.exchange(data, shape, status)

    def transaction(self, turn, name, work, isolation=None, end='COMMIT'):
        self.simple('BEGIN', 'T')
        try:
            if isolation:
                self.simple('SET TRANSACTION ISOLATION LEVEL ' + isolation, 'T')
            if name:
                (row,) = self.statement("SELECT set_config('%s', $1, TRUE)" % name, 'T', [turn.tenant])
                assert row == [turn.tenant], row
            result = work()
        except Exception:
            self.simple('ROLLBACK', 'I')
            raise
        self.simple(end, 'I')
        return result


def operations(one, turn, schema, setting):
    """What an application does, each operation a transaction that names the tenant when there is a setting for that."""
    def run(work, **more):
        return one.transaction(turn, setting, work, **more)
    turn.here(run(lambda: one.statement(HERE.replace('whoami', '"%s"."whoami"' % schema), 'T')))
    rows = run(lambda: one.statement(ITEMS.format(schema), 'T', [int8(10), int8(0)]))
    turn.own([row[1] for row in rows], 10)
    key = turn.key()
    (row,) = run(lambda: one.statement(INSERT.format(schema), 'T', [key, int4(3)]))
    turn.own([row[1]])
    turn.committed(key)
    run(lambda: one.statement(UPDATE.format(schema), 'T', [int4(turn.worker)], '2CZ', '1tnZ'), isolation='READ COMMITTED')
    turn.added()
    refused('23505', lambda: run(lambda: one.statement(INSERT.format(schema), 'T', [key, int4(3)])))
    gone = turn.key('-gone')
    run(lambda: one.statement(INSERT.format(schema), 'T', [gone, int4(3)]), end='ROLLBACK')
    turn.rolled_back(gone)


class App:
    def __init__(self):
        self.shared = self.pool_of(4, search_path='"public"')
        self.named, self.queried = {}, {}
        for tenant in TENANTS if not WORLD['setting'] else ():
            self.named[tenant] = self.pool_of(2, search_path='"%s"' % tenant)
            self.queried[tenant] = self.pool_of(2)
            for one in list(self.queried[tenant].free.queue):
                one.simple('SET search_path = "%s";\n' % tenant, 'I')

    @staticmethod
    def pool_of(size, **params):
        pool = Pool(0)
        for _ in range(size):
            pool.free.put(Engine(client_encoding='UTF8', **params))
        return pool

    def row_level_security(self, turn):
        # The rows of a tenant are in shared tables where PostgreSQL is alone, and in its own schema behind pgporter.
        schema = 'public' if WORLD['direct'] else turn.tenant
        self.shared.lend(lambda one: operations(one, turn, schema, WORLD['setting']))

    def schema_at_startup(self, turn):
        self.named[turn.tenant].lend(lambda one: operations(one, turn, turn.tenant, None))

    def schema_by_query(self, turn):
        self.queried[turn.tenant].lend(lambda one: operations(one, turn, turn.tenant, None))


if __name__ == '__main__':
    app = App()
    if WORLD['setting']:
        Program('prisma-engine-rls').run({'row-level security extension': app.row_level_security})
    else:
        Program('prisma-engine').run({'?schema= at startup': app.schema_at_startup, '?schema= by a query': app.schema_by_query})
