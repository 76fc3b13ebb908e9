"""What a program of tests/apps runs against, and the judge of what it did.

A program is somebody's application in any language: one pool of connections, one database user, no tenant named at login; it names the
tenant in SQL as its framework does. It repeats its rounds for every tenant until it is told that a tenant was moved, works on for some
rounds more, and reports a journal: which writes were acknowledged, which were rolled back, where each tenant was, what failed.

    program > stdout   ready                      every tenant was served by every way of naming; goes on
    stdin > program    moved                      one tenant lives elsewhere now; some more rounds, then the end
    program > stdout   report {...}               the journal (see judge())
    environment        APP_TEST={...}             port, user, password, database, tenants, setting, direct, library folders;
                       and APP_PASSWORD for programs that are told the rest on their command line

With PGPORTER_TEST_DIRECT=1 the programs run against PostgreSQL itself, without a move: that shows that the program is right.
"""
import json
import os
import queue
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, 'integration', 'proxy'))

import fixture  # noqa: E402  (found through the path above)

DIRECT = os.environ.get('PGPORTER_TEST_DIRECT') == '1'
TENANTS = ('acme', 'globex', 'initech')
MOVED = 'acme'
ROLES_SQL = 'CREATE ROLE web_user NOLOGIN; GRANT web_user TO app'

# The tenant's tables read the setting that the application names its tenant by, as tables with row-level security do.
GUARD_SQL = """
ALTER TABLE {0}.{1} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {0}.{1} FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON {0}.{1} USING (tenant = current_setting('{2}', true));
"""
# Without pgporter there are no placements: all tenants' rows share tables.
SHARED_SQL = """
SET ROLE app;
CREATE TABLE public.{0} (LIKE acme.{0} INCLUDING ALL);
ALTER TABLE public.{0} ALTER tenant SET DEFAULT current_setting('{1}');
"""
FILL_SQL = """
INSERT INTO public.items (id, tenant, payload, n) SELECT {0} * 1000 + i, '{1}', '{1} row ' || i, i FROM generate_series(1, 10) i;
INSERT INTO public.whoami VALUES ('{1}');
"""


class World:
    """Two PostgreSQL servers, the shared database with its tenants, and pgporter with few server connections, so that they are shared.

    setting: the run-time parameter that names the tenant, with row-level security behind it; None: the tenant is named by search_path.
    """

    def __init__(self, setting=None, direct=DIRECT, server_connections_max=3):
        self.setting, self.direct = setting, direct
        self.workspace = fixture.Workspace()
        self.server = fixture.Postgres(self.workspace)
        self.server.make_roles()
        self.server.sql(ROLES_SQL)
        self.server.make_world(tenants=TENANTS)
        self.port = self.server.port
        if setting and direct:
            self.make_shared_tables()
        elif setting:
            for tenant in TENANTS:
                for table in ('items', 'ledger', 'whoami'):
                    self.server.sql(GUARD_SQL.format(tenant, table, setting), 'app')
        for tenant in TENANTS:
            self.server.sql('GRANT USAGE ON SCHEMA {0} TO web_user; GRANT ALL ON ALL TABLES IN SCHEMA {0} TO web_user; '
                            'GRANT ALL ON ALL SEQUENCES IN SCHEMA {0} TO web_user'.format(tenant), 'app')
        if direct:
            return
        self.dedicated = fixture.Postgres(self.workspace, 'dedicated')
        self.dedicated.make_roles()
        self.dedicated.sql(ROLES_SQL)
        self.proxy = fixture.Pgporter(self.workspace, self.server)
        self.proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
        self.proxy.start()
        self.proxy.apply(fixture.document({'main': self.server, 'dedicated': self.dedicated}, {name: {} for name in TENANTS},
                                          databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': server_connections_max}]))
        self.port = self.proxy.port

    def close(self):
        self.workspace.close()

    def make_shared_tables(self):
        for table in ('items', 'ledger', 'whoami'):
            self.server.sql(SHARED_SQL.format(table, self.setting), 'app')
        for number, tenant in enumerate(TENANTS):
            self.server.sql(FILL_SQL.format(number, tenant), 'app')
        for table in ('items', 'ledger', 'whoami'):
            self.server.sql(GUARD_SQL.format('public', table, self.setting) + 'GRANT ALL ON public.%s TO web_user' % table, 'app')

    def facts(self, **more):
        """What a program is told."""
        return dict({'host': '127.0.0.1', 'port': self.port, 'user': 'app', 'password': fixture.PASSWORDS['app'], 'database': 'app',
                     'tenants': TENANTS, 'setting': self.setting or '', 'direct': self.direct}, **more)

    def promote(self, tenant=MOVED):
        """Moves a tenant to a database of its own, through the HTTP API, and returns when it works there."""
        status, move = self.proxy.http('POST', '/v1/tenants/%s:promote' % tenant, {'to': {'cluster': 'dedicated', 'database': tenant}})
        if status != 202:
            raise AssertionError('promote: %s %s' % (status, move))

        def opened():
            body = self.proxy.http('GET', '/v1/moves/%s' % move['id'])[1]
            if body['finished']:
                raise AssertionError('the move ended as %s: %s; log:\n%s' % (body['state'], body['error'], self.proxy.log()[-3000:]))
            return body if body['state'] in ('opened', 'reversing') else None
        return fixture.wait_for(opened, lambda: 'the move opens: %s' % self.proxy.http('GET', '/v1/moves/%s' % move['id'])[1], 60, 0.05)

    def home_of(self, tenant):
        """(server, database) where the tenant must be after the move."""
        return (self.dedicated, tenant) if tenant == MOVED and not self.direct else (self.server, 'app')

    def rows(self, tenant, table, columns):
        """A tenant's rows as the superuser reads them, where they must be."""
        server, database = self.home_of(tenant)
        if self.setting and self.direct:
            return server.sql("SELECT %s FROM public.%s WHERE tenant = '%s'" % (columns, table, tenant), database)
        return server.sql('SELECT %s FROM %s.%s' % (columns, tenant, table), database)


class Program:
    """A running program: its lines of output, and what is told to it."""

    def __init__(self, command, facts, cwd=None):
        self.lines, self.said = queue.Queue(), []
        environment = {key: value for key, value in os.environ.items() if not key.startswith('PG') or key.startswith('PGPORTER')}
        self.process = subprocess.Popen(fixture.ends_with_us('KILL') + command, env=dict(environment, APP_TEST=json.dumps(facts), APP_PASSWORD=facts['password']), cwd=cwd,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip('\n'))
        self.lines.put(None)

    def expect(self, word, seconds):
        """The rest of the line that begins with this word."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self.lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError('the program did not say %r within %d s; it said:\n%s' % (word, seconds, self.tail())) from None
            if line is None:
                raise AssertionError('the program ended with %s before it said %r; it said:\n%s' % (self.process.wait(10), word, self.tail()))
            if line.split(' ', 1)[0] == word:
                return line[len(word):].strip()
            self.said.append(line)

    def tail(self):
        return '\n'.join(self.said[-60:])[-6000:]

    def tell(self, word):
        self.process.stdin.write(word + '\n')
        self.process.stdin.flush()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.process.stdin.close()


def run(world, command, cwd=None, **facts):
    """Runs a program, moves a tenant in the middle, and returns its report; AssertionError when anything was wrong."""
    program = Program(command, world.facts(**facts), cwd)
    try:
        program.expect('ready', 60)
        if not world.direct:
            move = world.promote()
            print('moved %s: pause %.1f ms' % (MOVED, move['progress']['pause_ms']))
        program.tell('moved')
        report = json.loads(program.expect('report', 60))
    except AssertionError as error:
        log = '' if world.direct else '\npgporter said:\n' + '\n'.join(world.proxy.log().splitlines()[-25:])
        raise AssertionError(str(error) + log) from None
    finally:
        program.end()
    wrong = judge(world, report)
    if wrong:
        raise AssertionError('\n'.join(wrong[:20]) + '\n' + program.tail())
    rounds = sum(sum(counts) for tenants in report['done'].values() for counts in tenants.values())
    print('%d turns, %d writes acknowledged, ways: %s' % (rounds, sum(len(t['committed']) for t in report['tenants'].values()),
                                                          ', '.join(sorted(report['done']))))
    return report


def judge(world, report):
    """What is wrong, as texts. A report has

    failures: [text]; done: way -> tenant -> [turns before the move was told, turns after];
    tenants: name -> {committed: [id], rolled_back: [id], added: n, places: worker -> [[database, port]], in order of appearance}
    """
    wrong = ['failed: ' + text for text in report['failures']]
    if set(report['tenants']) != set(TENANTS):
        wrong.append('worked for %s only' % sorted(report['tenants']))
    for way, tenants in report['done'].items():
        for tenant in TENANTS:
            before, after = tenants.get(tenant, (0, 0))
            if not before or not after:
                wrong.append('%s: %d turns of %s before the move, %d after it' % (way, before, tenant, after))
    for tenant, journal in report['tenants'].items():
        server, database = world.home_of(tenant)
        here, shared = [database, server.port], ['app', world.server.port]
        for worker, places in journal['places'].items():
            if places != ([here] if here == shared else [shared, here]):
                wrong.append('worker %s found %s at %s' % (worker, tenant, places))
        present = dict(world.rows(tenant, 'ledger', 'id, tenant'))
        lost = [key for key in journal['committed'] if key not in present]
        undead = [key for key in journal['rolled_back'] if key in present]
        unknown = set(present) - set(journal['committed'])
        foreign = set(present.values()) | {row[0] for row in world.rows(tenant, 'items', 'tenant')}
        added = world.rows(tenant, 'items', 'coalesce(sum(n), 0)::int')[0][0] - sum(range(1, fixture.ROWS_EACH + 1))
        if lost:
            wrong.append('%s: %d acknowledged rows are lost, the first: %s' % (tenant, len(lost), lost[0]))
        if undead:
            wrong.append('%s: %d rolled back rows are there, the first: %s' % (tenant, len(undead), undead[0]))
        if unknown:
            wrong.append('%s: %d rows nobody knows of, one of them: %s' % (tenant, len(unknown), sorted(unknown)[0]))
        if foreign != {tenant}:
            wrong.append('%s: rows of %s' % (tenant, sorted(foreign)))
        if added != journal['added']:
            wrong.append('%s: %d increments acknowledged, %d are there' % (tenant, journal['added'], added))
    return wrong
