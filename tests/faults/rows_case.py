"""A case whose tenant is rows of shared tables, with a neighbour at work on the same tables: the history is the same, kept apart by policies."""
import psycopg2

import fault_world
import history
from fault_world import fixture, wait_for

# The keys contain the tenant, or a number that a sequence draws: moves have a way back. Batches come by COPY, which policies don't allow.
OWNER = "tenant_id text NOT NULL DEFAULT nullif(current_setting('app.tenant', true), '')"
SCHEMA = """
GRANT USAGE, CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE ledger ({owner}, id text NOT NULL, copy bigserial PRIMARY KEY);
CREATE TABLE counters ({owner}, id int, n bigint NOT NULL DEFAULT 0, PRIMARY KEY (tenant_id, id));
CREATE TABLE accounts ({owner}, id int, balance bigint NOT NULL, PRIMARY KEY (tenant_id, id));
CREATE TABLE keys ({owner}, id text, value bigint NOT NULL, PRIMARY KEY (tenant_id, id));
CREATE TABLE orders ({owner}, id text, PRIMARY KEY (tenant_id, id));
CREATE TABLE lines ({owner}, id text, order_id text NOT NULL, PRIMARY KEY (tenant_id, id), FOREIGN KEY (tenant_id, order_id) REFERENCES orders);
CREATE TABLE batches ({owner}, id text NOT NULL, line int NOT NULL, PRIMARY KEY (tenant_id, id, line));
CREATE TABLE filling ({owner}, id int, text text NOT NULL, PRIMARY KEY (tenant_id, id));
DO $$ DECLARE t text; BEGIN
  FOREACH t IN ARRAY ARRAY['ledger', 'counters', 'accounts', 'keys', 'orders', 'lines', 'filling'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = nullif(current_setting(''app.tenant'', true), ''''))', t);
  END LOOP;
END $$;
RESET ROLE;
""".format(owner=OWNER)
FILLING = """
SET app.tenant = '{0}';
INSERT INTO counters SELECT '{0}', i, 0 FROM generate_series(0, 9) i;
INSERT INTO accounts SELECT '{0}', i, 1000 FROM generate_series(0, 9) i;
INSERT INTO filling SELECT '{0}', i, repeat(md5(i::text), 8) FROM generate_series(1, {1}) i;
"""


class RowsCase(fault_world.Case):
    COMPARED = fault_world.Case.COMPARED[:3]  # batches show everybody's rows

    def __init__(self, world, filling=300, clients_each=2, seed=0):  # pylint: disable=super-init-not-called
        self.world = world
        world.tenants += 1
        self.tenant, self.neighbour, self.database = 'r%d' % world.tenants, 'n%d' % world.tenants, 'shared%d' % world.tenants
        world.source.sql('CREATE DATABASE %s OWNER app' % self.database)
        world.source.sql(SCHEMA, self.database)
        for name in (self.tenant, self.neighbour):
            world.source.sql(FILLING.format(name, filling), self.database)
        clusters = {'main': {'port': world.ports['source']}, 'own': {'port': world.ports['target']}}
        place = {'kind': 'rows', 'cluster': 'main', 'database': self.database}
        tenants = fixture.document(clusters, {}, databases=[
            {'cluster': 'main', 'name': self.database, 'tenant_setting': 'app.tenant', 'tenant_column': 'tenant_id'}])
        tenants['tenants'] = [{'name': name, 'placement': place} for name in (self.tenant, self.neighbour)]
        world.instances[0].apply(tenants)
        for instance in world.instances:
            wait_for(lambda: instance.http('GET', '/v1/tenants/' + self.neighbour)[0] == 200, 'the tenants are known')
        doors = {instance.name: self.door(instance, self.tenant) for instance in world.instances}
        self.neighbours = history.History({'neighbour': self.door(world.instances[0], self.neighbour)}, clients_each, seed=seed + 1)
        self.history = history.History(dict(doors, bypass=self.bypass), clients_each, seed=seed)
        self.move = None
        self.before = set(self.artefacts())
        self.history.go_on(15)
        self.neighbours.go_on(10)

    def door(self, instance, tenant):
        def connect():
            return psycopg2.connect(host='127.0.0.1', port=instance.client_port, user='app', password=fixture.PASSWORDS['app'],
                                    dbname=self.database, options='-c pgporter.tenant=' + tenant, connect_timeout=5)
        return connect

    def as_app(self, server, database, tenant):
        return psycopg2.connect(host='127.0.0.1', port=server.port, user='app', password=fixture.PASSWORDS['app'], dbname=database,
                                options='-c app.tenant=' + tenant, connect_timeout=5)

    def bypass(self):
        return self.as_app(self.world.source, self.database, self.tenant)

    def home(self):
        cluster, database = self.place()
        return self.as_app(self.world.source if cluster == 'main' else self.world.target, database, self.tenant)

    def artefacts(self):
        """Without the closed gate that a completed move leaves: a schema with nothing but a table."""
        gates = {'schema ' + row[0] for row in self.world.source.sql(
            "SELECT n.nspname FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid WHERE n.nspname LIKE 'pgporter%%' AND c.relname = 'gate' "
            "AND obj_description(c.oid, 'pg_class') LIKE 'fenced %%' AND NOT EXISTS (SELECT FROM pg_proc p WHERE p.pronamespace = n.oid)", self.database)}
        found = [row[0] for row in self.world.source.sql(fault_world.ARTEFACTS, self.database)]
        if self.has_target():
            found += ['target: ' + row[0] for row in self.world.target.sql(fault_world.ARTEFACTS, self.tenant)]
        return [artefact for artefact in found if artefact not in getattr(self, 'before', ()) and artefact not in gates]

    def judge_neighbours(self, test):
        if self.neighbours is None:
            return
        self.neighbours.go_on(10)
        self.neighbours.stop()
        there = self.as_app(self.world.source, self.database, self.neighbour)
        test.assertEqual(self.neighbours.judge(there), [])
        there.close()
        self.neighbours = None

    def end(self, test, state=None, timeout=40, no_failures=()):
        self.wait_state(*([state] if state else [fault_world.MOVED, 'aborted']), timeout=timeout)
        self.judge_neighbours(test)
        return super().end(test, state, timeout, no_failures)
