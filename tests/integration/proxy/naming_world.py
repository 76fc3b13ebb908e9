"""The world of the tests about tenants named in SQL: acme, globex and initech have their schemas in the shared database, umbrella has a
database of its own, and `reference` has all four, so that PostgreSQL itself can play the same conversation. Every row says whose it is:
`whoami` and `items` by search_path, `public.rls_items` by row-level security that reads the run-time parameters which name tenants.
"""
import fixture
import wire_client

SHARED_TENANTS = ('acme', 'globex', 'initech')
TENANTS = SHARED_TENANTS + ('umbrella',)
SETTINGS = ('app.tenant', 'app.tenant_id', 'app.current_tenant', 'app.current_tenant_id', 'app.current_company_id', 'app.organisationId',
            'app.organization_id', 'app.workspace_id', 'my.current_tenant', 'rls.tenant_id', 'nile.tenant_id', 'pgporter.tenant')
DATABASE_OF = {'acme': 'app', 'globex': 'app', 'initech': 'app', 'umbrella': 'umbrella'}

RLS_SQL = """
CREATE SCHEMA shared; CREATE SCHEMA extensions;
GRANT USAGE ON SCHEMA shared, extensions TO app;
CREATE TABLE public.rls_items (tenant text PRIMARY KEY);
ALTER TABLE public.rls_items ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON public.rls_items TO app;
CREATE FUNCTION public.current_tenants() RETURNS text[] LANGUAGE sql STABLE AS $$ SELECT ARRAY[%s,
  NULLIF(current_setting('request.jwt.claims', true), '')::json #>> '{app_metadata,tenant_id}'] $$;
CREATE POLICY own ON public.rls_items FOR SELECT TO app USING (tenant = ANY (public.current_tenants()));
""" % ', '.join("current_setting('%s', true)" % name for name in SETTINGS)


def make(server):
    server.make_roles()
    for database, tenants in (('app', SHARED_TENANTS), ('umbrella', ('umbrella',)), ('reference', TENANTS)):
        server.make_world(database, tenants)
        server.sql(RLS_SQL, database)
        server.sql('INSERT INTO public.rls_items SELECT unnest(%s)', database, (list(tenants),))
        server.sql('GRANT CREATE ON DATABASE %s TO app' % database)


def document(server, connections=1, users=None):
    tenants = {name: {} for name in SHARED_TENANTS}
    tenants['umbrella'] = {'placement': {'kind': 'database', 'database': 'umbrella'}}
    return fixture.document({'main': server}, tenants, users=users, databases=[
        {'cluster': 'main', 'name': name, 'server_connections_max': connections} for name in ('app', 'umbrella')])


def start(workspace, server, limits=None, users=None, connections=1, name='pgporter', **config):
    proxy = fixture.Pgporter(workspace, server, name, limits=dict({'wait_ms_max': 4000}, **(limits or {})))
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.config.update(config)
    proxy.start()
    proxy.apply(document(server, connections, users))
    return proxy


def direct(server, tenant=None, params=None, user='app'):
    """PostgreSQL itself, in the database that has everybody."""
    sent = dict({'search_path': tenant + ', public'} if tenant else {}, **(params or {}))
    return wire_client.Wire(server.port).login(user, fixture.PASSWORDS[user], 'reference', sent)


def backends(server):
    """Server connections of the application by database."""
    return dict(server.sql("SELECT datname, count(*)::int FROM pg_stat_activity WHERE usename = 'app' AND datname IN ('app', 'umbrella') "
                           'GROUP BY 1'))


def tenants_read(transcript):
    """What the SELECTs of a transcript read from a first column named `tenant`: one list of values for each of them."""
    reads, open_ = [], None
    for kind, body in transcript:
        if kind == 'T':
            open_ = [] if body[2:9] == b'tenant\0' else None
            if open_ is not None:
                reads.append(open_)
        elif kind == 'D' and open_ is not None:
            open_.append(wire_client.row_values(body)[0].decode())
        elif kind == 'C':
            open_ = None
    return reads


def without_table_oids(transcript):
    """The one exception where tenants live in several databases: the OIDs of their tables in RowDescription."""
    result = []
    for kind, body in transcript:
        if kind == 'T':
            at, fixed = 2, bytearray(body)
            for _ in range(int.from_bytes(body[:2], 'big')):
                at = body.index(b'\0', at) + 1
                if int.from_bytes(body[at:at + 4], 'big') >= 16384:
                    fixed[at:at + 4] = b'\0\0\0\0'
                at += 18
            body = bytes(fixed)
        result.append((kind, body))
    return result
