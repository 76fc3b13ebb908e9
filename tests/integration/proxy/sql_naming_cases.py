"""How frameworks name their tenant in SQL, each with the bytes that it sends: simple or extended protocol, the names of statements, Describe
and Sync where they are. Every case says which tenants its SELECTs must read, in order. Played by test_sql_naming.py.
"""
import dataclasses
import struct

import wire_client as w
from conversation import Conversation, q, run, t, x

WHO = q('SELECT tenant FROM whoami')
RLS = q('SELECT tenant FROM public.rls_items')
XWHO = x(run('SELECT tenant FROM whoami'))
XRLS = x(run('SELECT tenant FROM public.rls_items'))
JSON, BOOL, TEXT = 114, 16, 25


@dataclasses.dataclass
class Case:
    conversation: Conversation
    reads: list               # what each SELECT of `tenant` reads: a name, a list of names, '' for no row
    login: str = ''           # the tenant named at login
    whoami_by_setting: bool = False  # asks by search_path for who was named by a setting: PostgreSQL can't know


def case(name, turns, reads, login='', **more):
    by_setting = more.pop('whoami_by_setting', False)
    return Case(Conversation(name, turns, **more), [[r] if r and isinstance(r, str) else list(r) for r in reads], login, by_setting)


# ---- what drivers send for one statement ---------------------------------------------------------------------

def pdo(number, sql, values=()):
    """PHP's PDO: PQprepare, PQexecPrepared, and DEALLOCATE when the statement object goes."""
    name = 'pdo_stmt_%08x' % number
    return [x(w.parse(name, sql)), x(w.bind('', name, values, (0,) * len(values), (0,)), w.describe('P'), w.execute()), q('DEALLOCATE ' + name)]


def pgjdbc(sql, statement='', rows_max=0, oids=(), values=()):
    return w.parse(statement, sql, oids) + w.bind('', statement, values, (0,) * len(values)) + w.describe('P') + w.execute('', rows_max)


def pgjdbc_begin(statement=''):
    """What pgjdbc puts in front of the first statement with autoCommit=false, in the same batch."""
    return w.parse(statement, 'BEGIN') + w.bind('', statement) + w.execute()


def prisma(number, sql, values=(), oids=()):
    """Prisma's engine (tokio-postgres): prepared and described first, closed by Sync, and only then bound, with binary values."""
    name = 's%d' % number
    return [x(w.parse(name, sql, oids), w.describe('S', name)),
            x(w.bind('', name, values, (1,) * len(values), (1,)), w.execute()), x(w.close('S', name))]


def node(sql, values=()):
    """node-postgres with values: one unnamed statement, no formats given."""
    return x(w.parse('', sql), w.bind('', '', values, (0,) * len(values), (0,)), w.describe('P'), w.execute())


def visits(names):
    """One turn after the other: where the tenants live alternates between the shared database and a dedicated one."""
    return [turn for name in names for turn in name]


ROUND = ('acme', 'umbrella', 'globex', 'umbrella', 'acme', 'initech')


def each(make, who=WHO, names=ROUND):
    return visits([[*make(name), who] for name in names]), list(names)


# ---- schemas --------------------------------------------------------------------------------------------------

def django_tenants():
    turns, reads = each(lambda n: [q("SET search_path = '%s','public'" % n)])
    yield case('django-tenants 3.5', turns + [q("SET search_path = 'public'"), q('SHOW search_path')], reads)
    turns, reads = each(lambda n: [q("SET search_path = '%s','public'" % n)] * 3)
    yield case('django-tenants 3.5, before every cursor', turns, reads)
    turns, reads = each(lambda n: [q('SET search_path = %s,public' % n)])
    yield case('django-tenants 3.3', turns, reads)
    turns, reads = each(lambda n: [q("SET search_path = '%s','public','extensions','shared'" % n)])
    yield case('django-tenants with PG_EXTRA_SEARCH_PATHS', turns, reads)
    yield case('django-tenants, atomic', visits([[
        q('BEGIN'), q("SET search_path = '%s','public'" % n), q("INSERT INTO ledger (id) VALUES ('atomic') RETURNING tenant"),
        q("SET search_path = '%s','public'" % n), WHO, q('ROLLBACK')] for n in ('acme', 'umbrella')]), ['acme', 'acme', 'umbrella', 'umbrella'])
    yield case('django-tenants, request that fails', [
        q("SET search_path = 'umbrella','public'"), WHO, q('BEGIN'), q("SET search_path = 'umbrella','public'"), q('SELECT 1/0'), q('ROLLBACK'),
        q("SET search_path = 'acme','public'"), WHO], ['umbrella', 'acme'])
    yield case('django-tenants, a new tenant', [
        q('DROP SCHEMA IF EXISTS "newbie" CASCADE'), q('CREATE SCHEMA "newbie"'), q('CREATE TABLE newbie.notes (n int)'),
            q('DROP SCHEMA "newbie" CASCADE')], [])


def apartment():
    start = [q("SET client_min_messages TO 'warning'"), q('SET standard_conforming_strings = on'), q('SET intervalstyle = iso_8601'),
             q("SET SESSION timezone TO 'UTC'"), q('SELECT t.oid, t.typname FROM pg_type as t WHERE t.typname IN (\'int2\', \'bool\') ORDER BY 1')]
    turns, reads = each(lambda n: [q('SET search_path TO "%s", "public"' % n)])
    yield case('Apartment v3, switch in and out', start + visits([
        [q('SET search_path TO "%s", "public"' % n), XWHO, q('SET search_path TO "public"')] for n in ROUND]), ROUND)
    yield case('Apartment v4, one pool a tenant', start + turns, reads)


def laravel():
    start = [turn for number, sql in enumerate(("set names 'utf8'", "set time zone 'UTC'"), 1) for turn in pdo(number, sql)]
    yield case('Laravel, archtechx schema manager', start + visits([[*pdo(3, 'set search_path to "%s"' % n),
                                                                    *pdo(4,
                                                                    'select "tenant" from "whoami" where "tenant" <> ?'.replace('?', '$1'), ['x'])]
                                                                   for n in ROUND]), ROUND)
    yield case('Laravel, several schemas', visits([[*pdo(1, 'set search_path to "%s", "public"' % n), XWHO] for n in ROUND]), ROUND)
    yield case('Laravel, archtechx row-level security', visits([
        [*pdo(1, "SET my.current_tenant = '%s'" % n), XRLS, *pdo(2, 'RESET my.current_tenant'), XRLS] for n in ('acme', 'umbrella')]),
        ['acme', '', 'umbrella', ''])


def hibernate():
    def set_schema(n):
        return [x(pgjdbc("SET SESSION search_path TO '%s'" % n, rows_max=1))]
    turns, reads = each(set_schema, XWHO)
    yield case('pgjdbc setSchema, autocommit', turns + set_schema('public') + [x(pgjdbc('SET SESSION search_path TO DEFAULT', rows_max=1)),
                                                                              q('SHOW search_path')], reads)
    turns = visits([[x(pgjdbc_begin(s), pgjdbc("SET SESSION search_path TO '%s'" % n, rows_max=1)), XWHO, x(pgjdbc('COMMIT')), XWHO]
                    for n, s in (('acme', ''), ('umbrella', ''), ('globex', ''))])
    yield case('pgjdbc setSchema, BEGIN in front of it in the batch', turns, [n for n in ('acme', 'umbrella', 'globex') for _ in 'xx'])
    yield case('pgjdbc setSchema, BEGIN as S_1', [
        x(pgjdbc_begin('S_1'), pgjdbc("SET SESSION search_path TO 'umbrella'", rows_max=1)), XWHO, x(pgjdbc('COMMIT', 'S_2')),
        x(w.bind('', 'S_1'), w.execute(), pgjdbc("SET SESSION search_path TO 'acme'", rows_max=1)), XWHO,
        x(w.bind('', 'S_2'), w.execute()), XWHO], ['umbrella', 'acme', 'acme'])
    yield case('pgjdbc setSchema and the query in one batch', [
        x(pgjdbc_begin(), pgjdbc("SET SESSION search_path TO 'umbrella'", rows_max=1), pgjdbc('SELECT tenant FROM whoami')),
        x(pgjdbc('ROLLBACK'))], ['umbrella'])
    yield case('SET SCHEMA', visits([[q("SET SCHEMA '%s'" % n), WHO, x(pgjdbc("SET SCHEMA '%s'" % n)), XWHO, q('SHOW search_path')] for n in ROUND]),
               [n for n in ROUND for _ in 'xx'])
    yield case("Grails' SET SCHEMA without quotes is a syntax error", [q('SET SCHEMA acme'), q("SET SCHEMA 'acme'"), WHO], ['acme'])
    yield case('HikariCP: the rollback reverts the path', [
        x(pgjdbc("SET SESSION search_path TO 'acme'", rows_max=1)),
        x(pgjdbc_begin(), pgjdbc("SET SESSION search_path TO 'umbrella'", rows_max=1)), XWHO, x(pgjdbc('ROLLBACK')), XWHO,
        x(pgjdbc_begin(), pgjdbc("SET SESSION search_path TO 'globex'", rows_max=1)), x(pgjdbc('ROLLBACK')), XWHO, q('SHOW search_path')],
        ['umbrella', 'acme', 'acme'])


def other_schemas():
    for name, sql in (('SQLAlchemy', 'SET search_path TO %s, public'), ('Prisma URL', 'SET search_path = "%s"'),
        ('knex', 'set search_path to "%s","public"'),
                      ('pg-promise', 'SET search_path TO %s'), ('Ecto after_connect', 'SET search_path TO %s,public'),
                      ('libpq string', "SET search_path TO '%s'")):
        yield case(name, *each(lambda n, sql=sql: [q(sql % n)]))
        yield case(name + ', extended', *each(lambda n, sql=sql: [node(sql % n)], XWHO))
    yield case('MikroORM', *each(lambda n: [node('set search_path to "%s"' % n)], XWHO))
    yield case('sequelize prependSearchPath', [q('SET search_path to %s; SELECT tenant FROM whoami;' % n) for n in ROUND] +
               visits([[q('SET search_path to %s; SELECT tenant FROM whoami;' % n), q('START TRANSACTION;'),
                        q('SET search_path to %s; SELECT tenant FROM whoami' % n), q('COMMIT;')] for n in ('umbrella', 'acme')]),
               list(ROUND) + ['umbrella', 'umbrella', 'acme', 'acme'])
    yield case('Prisma, qualified names', [q('SET search_path = "acme"'), *prisma(0, 'SELECT "acme"."whoami"."tenant" FROM "acme"."whoami"')],
        ['acme'])
    yield case('Ecto prefix, qualified names', [q('SET search_path TO acme'),
        x(run('SELECT w0."tenant" FROM "acme"."whoami" AS w0', statement='ecto_1')),
                                                x(w.bind('', 'ecto_1'), w.describe('P'), w.execute())], ['acme', 'acme'])


def npgsql():
    """Npgsql names the tenant at login (Search Path=) and puts DISCARD ALL in front when a connection comes from its pool."""
    select = run('SELECT tenant FROM whoami')
    yield case('Npgsql, DISCARD ALL leads back to the login\'s tenant', [
        x(select), q('SET search_path = globex, public'), x(select), t(w.query('DISCARD ALL'), select, w.sync(), ready=2), q('SHOW search_path'),
        q("SET app.tenant = 'acme'"), q('DISCARD ALL'), q("SELECT NULLIF(current_setting('app.tenant', true), '')"), x(select)],
        ['acme', 'globex', 'acme', 'acme'], 'acme', coalesce=False)
    yield case('DISCARD ALL without a tenant of the login', [q('SET search_path TO umbrella'), WHO, q('DISCARD ALL'), q('SHOW search_path'),
                                                             q('SET search_path TO acme'), WHO], ['umbrella', 'acme'])
    yield case('login for one, RESET after another', [WHO, q('SET search_path TO umbrella, public'), WHO, q('RESET search_path'), WHO,
                                                      q('SET search_path TO globex'), WHO, q('SET search_path TO DEFAULT'), WHO,
                                                      q('SET search_path TO umbrella'), q('RESET ALL'), WHO],
               ['acme', 'umbrella', 'acme', 'globex', 'acme', 'acme'], 'acme')


# ---- set_config and settings -----------------------------------------------------------------------------------

def prisma_rls():
    turns = visits([[q('BEGIN'), *prisma(0, "SELECT set_config('app.current_company_id', $1, TRUE)", [n.encode()]), XRLS, q('COMMIT'),
        XRLS] for n in ROUND])
    yield case('Prisma row-level security extension', turns, [r for n in ROUND for r in (n, '')])
    turns = visits([[q('BEGIN'), *prisma(0, "SELECT set_config('search_path', $1, $2)", [n.encode(), b'\1']), XWHO, q('COMMIT')] for n in ROUND])
    yield case('Prisma, search_path by set_config, binary', turns, ROUND)
    yield case('Prisma, one prepared statement for many tenants', [
        x(w.parse('s7', "SELECT set_config('app.current_company_id', $1, TRUE)"), w.describe('S', 's7'))] + visits([
            [q('BEGIN'), x(w.bind('', 's7', [n], (1,), (1,)), w.execute()), XRLS, q('COMMIT')] for n in ROUND]), ROUND)


def postgrest():
    text = ("select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.jwt.claims', $3, true), "
            "set_config('request.method', $4, true), set_config('request.path', $5, true), set_config('request.headers', $6, true)")

    def request(n, mode, formats=()):
        claims = '{"role": "app", "app_metadata": {"tenant_id": "%s"}}' % n
        values = ['"%s", "public"' % n, 'app', claims, 'GET', '/items', '{}']
        return [x(run('BEGIN ISOLATION LEVEL READ COMMITTED ' + mode)), x(run(text, values, formats=formats)),
                XWHO, XRLS, q('SHOW transaction_read_only'), x(run('COMMIT'))]
    yield case('PostgREST', visits([request(n, m) for n, m in (('acme', 'READ ONLY'), ('umbrella', 'READ WRITE'), ('globex', 'READ ONLY'))]),
               [n for n in ('acme', 'umbrella', 'globex') for _ in 'xx'])
    yield case('PostgREST, named statement, binary parameters', visits([request(n, 'READ ONLY', (1,)) for n in ('umbrella', 'acme')]),
               [n for n in ('umbrella', 'acme') for _ in 'xx'])
    yield case('request.jwt.claims alone', visits([[q('BEGIN'), x(run("select set_config('request.jwt.claims', $1, true)", [
        '{"app_metadata": {"tenant_id": "%s", "x": [1, {"y": null}]}}' % n])), XRLS, q('COMMIT')] for n in ROUND]), ROUND)


def set_config():
    for local in ('false', 'true'):
        frame = ([q('BEGIN')], [q('COMMIT')]) if local == 'true' else ([], [])
        turns = visits([[*frame[0], q("SELECT set_config('search_path', '%s, public', %s)" % (n, local)), WHO, *frame[1]] for n in ROUND])
        yield case('set_config with literals, local %s' % local, turns, ROUND)
        turns = visits([[*frame[0], x(run('SELECT pg_catalog.set_config($1, $2, $3) AS path', ['search_path', n + ', public', local],
                                          formats=(0,))), XWHO, *frame[1]] for n in ROUND])
        yield case('set_config, all of it bound, local %s' % local, turns, ROUND)
        flag = b'\1' if local == 'true' else b'\0'
        turns = visits([[*frame[0], x(w.parse('sc', 'SELECT set_config($1, $2, $3)', (TEXT, TEXT, BOOL)), w.describe('S', 'sc')),
                         x(w.bind('', 'sc', ['search_path', n, flag], (1,), (1,)), w.describe('P'), w.execute()), XWHO, x(w.close('S', 'sc')),
                         *frame[1]]
                        for n in ROUND])
        yield case('set_config, all of it bound in binary, local %s' % local, turns, ROUND)
    yield case('set_config, mixed formats and a list', [q('BEGIN'), x(run("SELECT set_config('search_path', $1, $2), set_config('app.x', $3, true)",
                                                                         ['umbrella', b'\1', 'v'], formats=(0, 1, 1))), XWHO, q('SHOW app.x'),
                                                                         q('COMMIT')],
               ['umbrella'])
    yield case('set_config with the value of every form', visits([[q("SELECT set_config('search_path', %s, false)" % sql), WHO] for sql in (
        "E'acme'", "'umbrella'::text", "$$globex$$", "'acme,public'", "'umbrella'", "'\"acme\"'")]),
        ['acme', 'umbrella', 'globex', 'acme', 'umbrella', 'acme'])


def settings():
    import naming_world
    for name in naming_world.SETTINGS:
        turns, reads = each(lambda n, name=name: [q("SET %s = '%s'" % (name, n))], RLS, ('acme', 'umbrella', 'globex'))
        yield case('SET %s' % name, turns + [q('RESET ' + name), RLS], reads + [''])
        yield case('SET LOCAL %s' % name, visits([[q('BEGIN'), q("SET LOCAL %s TO '%s'" % (name, n)), RLS, q('SHOW ' + name), q('COMMIT'), RLS]
                                                  for n in ('acme', 'umbrella')]), ['acme', '', 'umbrella', ''])
        yield case('set_config of %s, bound' % name, visits([[x(run('SELECT set_config($1, $2, false)', [name, n])), XRLS] for n in ('umbrella',
            'acme')]),
                   ['umbrella', 'acme'])
    yield case('AWS: SET at checkout', *each(lambda n: [q("SET app.current_tenant = '%s'" % n)], RLS))
    yield case('Nile', *each(lambda n: [node("SET nile.tenant_id = '%s'" % n)], XRLS))
    yield case('a setting names the schema too', visits([[q("SET app.tenant = '%s'" % n), WHO] for n in ('acme', 'umbrella')]), ['acme', 'umbrella'],
               whoami_by_setting=True)
    yield case('pgporter.tenant names the schema too', visits([[q("SET pgporter.tenant TO '%s'" % n), WHO] for n in ROUND]), ROUND,
        whoami_by_setting=True)
    yield case('application_name names nobody', [q("SET application_name = 'app.acme'"), RLS, q('SHOW search_path')], [''])


# ---- the grammar ------------------------------------------------------------------------------------------------

def grammar():
    for number, sql in enumerate((
            'set search_path to umbrella', 'SET SEARCH_PATH = UMBRELLA', 'SET "search_path" TO umbrella', '  \t\n SET\nsearch_path\r\n=\tumbrella ; ',
            '/* one /* nested */ */ SET /* two */ search_path /**/ TO /* three */ umbrella -- end', '-- first\nSET search_path TO umbrella',
            ';;; SET search_path TO umbrella;;', 'SET SESSION search_path TO umbrella', 'SET search_path TO "umbrella"',
            'SET search_path TO "$user", umbrella',
            'SET search_path TO public, umbrella', 'SET search_path TO pg_catalog, umbrella, pg_temp', "SET search_path TO E'umbrella'",
            'SET search_path = umbrella , "public",extensions , shared', "SET SESSION SCHEMA 'umbrella'",
            "SET search_path TO 'umbrella'\n, 'public'", 'SET search_path TO umbrella, umbrella')):
        yield case('grammar %d: %s' % (number, sql.strip()[:40]), [q('SET search_path TO acme'), WHO, q(sql), WHO, q('SHOW search_path'),
                                                                  q('SET search_path TO acme'), x(run(sql)), XWHO], ['acme', 'umbrella', 'umbrella'])
    yield case('grammar: leading statements', [
        q('SET search_path TO umbrella; SET DateStyle = \'German\'; SELECT tenant FROM whoami; SHOW DateStyle'),
        q("SELECT set_config('search_path', 'acme', false); SELECT tenant FROM whoami"),
        q("BEGIN; SET LOCAL search_path TO umbrella; SELECT tenant FROM whoami; COMMIT"), WHO,
        q("BEGIN; SELECT set_config('search_path', 'globex', true); SELECT tenant FROM whoami; ROLLBACK"), WHO,
        q('SET search_path TO umbrella; SELECT 1/0'), WHO], ['umbrella', 'acme', 'umbrella', 'acme', 'globex', 'acme', 'acme'])
    yield case('grammar: what is none', [
        q('SET search_path TO acme'), q("SELECT 'SET search_path TO umbrella'"), q('/* SET search_path TO umbrella */ SELECT 1'),
        q('-- SET search_path TO umbrella\nSELECT 1'), q("SELECT $$SET search_path TO umbrella$$"), WHO], ['acme'])
    yield case('grammar: syntax errors are PostgreSQL\'s', [
        q('SET search_path TO acme'), q('SET search_path TO'), q('SET search_path umbrella'), q('SET search_path TO umbrella umbrella'),
        q('RESET search_path umbrella'), q("SET search_path TO 'umbrella"), q('SET SCHEMA umbrella'), WHO],
        ['acme'])
    yield case('grammar: SHOW', [q('SET search_path TO umbrella, public'), q('SHOW search_path'), q('SHOW SEARCH_PATH'),
                                 q("SELECT current_setting('search_path')"), q('SELECT current_schemas(true)')], [])
    yield case('shared schemas only name nobody', [q("SET search_path = 'public'"), q('SHOW search_path'), RLS,
        q('SET search_path TO public, extensions, shared'),
                                                   q('SHOW search_path'), q('SET search_path TO "$user", public, pg_catalog'),
                                                   q('SHOW search_path')], [''])


def cases():
    for group in (django_tenants, apartment, laravel, hibernate, other_schemas, npgsql, prisma_rls, postgrest, set_config, settings, grammar):
        for one in group():
            yield group.__name__, one
