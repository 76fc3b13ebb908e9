"""PostgREST's statements, with the messages of its client library hasql: everything is prepared by name once a connection, BEGIN and COMMIT too,
in a step of its own (Parse, Sync), and run by Bind, Describe of the portal, Execute, Sync, with results in binary. A request is

    BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY
    select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true), ...
    the query, which is one statement
    COMMIT, or ABORT after an error
"""
import json

from program import BINARY, TENANTS, TEXT, WORLD, Connection, Pool, Program, bind, describe, execute, parse, refused, sync

UNKNOWN, JSON = 705, 114
CONFIG = ("select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true), "
          "set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', $6, true), "
          "set_config('request.cookies', $7, true)")
READ = ('WITH pgrst_source AS ( SELECT "{0}"."items".* FROM "{0}"."items"   ORDER BY "{0}"."items"."id"  LIMIT $1 OFFSET $2 )  '
        "SELECT null::bigint AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, coalesce(json_agg(_postgrest_t), '[]') AS body, "
        "nullif(current_setting('response.headers', true), '') AS response_headers, "
        "nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted "
        'FROM ( SELECT * FROM pgrst_source ) _postgrest_t')
INSERT = ('WITH pgrst_source AS (INSERT INTO "{0}"."ledger"("id", "amount") SELECT "pgrst_body"."id", "pgrst_body"."amount" FROM '
          '(SELECT $1 AS json_data) pgrst_payload, LATERAL (SELECT "id", "amount" FROM json_to_recordset(pgrst_payload.json_data) AS '
          '_("id" text, "amount" integer) ) pgrst_body  RETURNING "{0}"."ledger".*) '
          "SELECT '' AS total_result_set, pg_catalog.count(_postgrest_t) AS page_total, array[]::text[] AS header, "
          "coalesce(json_agg(_postgrest_t), '[]') AS body, nullif(current_setting('response.headers', true), '') AS response_headers, "
          "nullif(current_setting('response.status', true), '') AS response_status, '' AS response_inserted "
          'FROM (SELECT "ledger".* FROM "pgrst_source" AS "ledger") _postgrest_t')
WHO = ("SELECT json_build_object('tenant', tenant, 'database', current_database(), 'port', inet_server_port(), 'role', current_user, "
       "'path', current_setting('request.path'), 'claims', current_setting('request.jwt.claims')::json) FROM whoami")


class Hasql(Connection):
    def statement(self, sql, status, values=(), oids=(), shape='2TDCZ'):
        if sql not in self.statements:
            name = str(len(self.statements))
            self.exchange(parse(name, sql, oids) + sync(), '1Z', self.wire.status)
            self.statements[sql] = name
        name = self.statements[sql]
        data = bind('', name, values, [TEXT] * len(values), [BINARY]) + describe('P', '') + execute() + sync()
        return self.exchange(data, shape, status)

    def request(self, turn, mode, work, rollback=False):
        """One HTTP request: a transaction that ends as PostgREST's would."""
        claims = {'role': 'web_user', 'app_metadata': {'tenant_id': turn.tenant}}
        headers = {'host': '%s.example.com' % turn.tenant, 'accept-profile': turn.tenant}
        settings = ['"%s", "public"' % turn.tenant, 'web_user', json.dumps(claims), 'GET' if 'ONLY' in mode else 'POST', '/items', json.dumps(headers), '{}']
        self.statement('BEGIN ISOLATION LEVEL ' + mode, 'T', shape='2nCZ')
        try:
            rows = self.statement(CONFIG, 'T', settings, [UNKNOWN] * 7)
            assert rows == [settings], rows
            result = work()
        except Exception:
            if self.wire.status != 'I':
                self.statement('ABORT', 'I', shape='2nCZ')
            raise
        self.statement('ABORT' if rollback else 'COMMIT', 'I', shape='2nCZ')
        return result


class Postgrest:
    def __init__(self):
        self.pool = Pool(0)
        for _ in range(5):
            self.pool.free.put(Hasql(application_name='PostgREST', client_encoding='UTF8'))

    def get(self, turn, mode='READ COMMITTED READ ONLY'):
        def work(one):
            def read():
                rows = one.statement(READ.format(turn.tenant), 'T', ['10', '0'], [UNKNOWN] * 2)
                return rows, one.statement(WHO, 'T')
            (page,), ((who,),) = one.request(turn, mode, read)
            turn.own([item['tenant'] for item in json.loads(page[2])], 10)
            who = json.loads(who)
            turn.here([[who['tenant'], who['database'], who['port']]])
            assert who['role'] == 'web_user' and who['path'] == '/items' and who['claims']['app_metadata']['tenant_id'] == turn.tenant, who
        self.pool.lend(work)

    def insert(self, one, turn, keys, **more):
        body = json.dumps([{'id': key, 'amount': 1} for key in keys])
        (row,) = one.request(turn, 'READ COMMITTED READ WRITE', lambda: one.statement(INSERT.format(turn.tenant), 'T', [body], [JSON]), **more)
        turn.own([item['tenant'] for item in json.loads(row[3])], len(keys))

    def post(self, turn):
        def work(one):
            keys = [turn.key(), turn.key()]
            self.insert(one, turn, keys)
            turn.committed(*keys)
            again = turn.key('-gone')
            refused('23505', lambda: self.insert(one, turn, [again, keys[0]]))
            turn.rolled_back(again)
        self.pool.lend(work)

    def prefer_rollback(self, turn):
        gone = turn.key('-gone')
        self.pool.lend(lambda one: self.insert(one, turn, [gone], rollback=True))
        turn.rolled_back(gone)

    def failing_settings(self, turn):
        """An unknown role is refused by PostgreSQL itself, and the connection is as good as before."""
        def work(one):
            one.statement('BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY', 'T', shape='2nCZ')
            settings = ['"%s", "public"' % turn.tenant, 'nobody', '{}', 'GET', '/', '{}', '{}']
            refused('22023', lambda: (one.statement(CONFIG, 'T', settings, [UNKNOWN] * 7), one.statement(WHO, 'T')))
            assert one.wire.status == 'E', one.wire.status
            one.statement('ABORT', 'I', shape='2nCZ')
        self.pool.lend(work)
        self.get(turn)


if __name__ == '__main__':
    assert TENANTS and not WORLD['setting']
    app = Postgrest()
    Program('postgrest').run({'GET': app.get, 'GET, serializable': lambda turn: app.get(turn, 'SERIALIZABLE READ ONLY'), 'POST': app.post,
                              'tx=rollback': app.prefer_rollback, 'unknown role': app.failing_settings})
