"""What README and docs tell people to type: every pgporter command in them exists with its options, and the README's way from nothing to a moved
tenant is gone as it stands there, with the mover's role as docs/moves.md makes it. Only ports and the place of the servers are other ones."""
import contextlib
import glob
import os
import re
import shlex
import subprocess
import unittest

import psycopg2

import fixture
from fixture import PG_BIN, PGPORTER_BIN, REPOSITORY, wait_for


def setUpModule():
    global workspace
    workspace = fixture.Workspace()


def tearDownModule():
    workspace.close()


def pages():
    for path in [os.path.join(REPOSITORY, 'README.md')] + sorted(glob.glob(os.path.join(REPOSITORY, 'docs', '**', '*.md'), recursive=True)):
        with open(path, encoding='utf-8') as page:
            yield os.path.relpath(path, REPOSITORY), page.read()


def blocks(text, heading):
    """The indented blocks below a heading, without their indentation."""
    section = re.search(r'^## %s\n(.*?)(?=^## |\Z)' % re.escape(heading), text, re.M | re.S).group(1)
    return [re.sub(r'^    ', '', block, flags=re.M) for block in re.findall(r'(?:^(?:    .*)?\n)+', section, re.M) if block.strip()]


def commands(text):
    """`pgporter ..` in code spans and in indented lines, cut where a shell or a reader would."""
    found = re.findall(r'`(?:eval "\$\()?(pgporter [^`]*?)(?:\)")?`', text)
    found += re.findall(r'^ {4}(?:.*(?:&& |: {2}))?(pgporter [^\n]*)', text, re.M)
    for command in found:
        for part in re.split(r' (?:&&|\|) |; ', command):
            part = re.split(r' {2,}', part)[0]
            if part.startswith('pgporter ') and part.split()[1][0] != '-' and '<' not in part:
                yield part


class Commands(unittest.TestCase):
    def help(self, *words):
        done = subprocess.run([PGPORTER_BIN] + list(words) + ['--help'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20, check=False)
        return done.returncode, done.stdout

    def test_each_command_and_option_exists(self):
        _, overview = self.help()
        known = set(re.findall(r'^  ([a-z]+) ', overview.split('Subcommands:')[1], re.M))
        seen, helps = set(), {}
        for page, text in pages():
            for command in commands(text):
                words = command.rstrip('.,:').split('|')[0].split()
                for name in words[1].split('|'):
                    with self.subTest(page=page, command=command):
                        self.assertIn(name, known)
                    helps.setdefault(name, self.help(name)[1])
                    seen.add(name)
                    for option in re.findall(r'(?<= )--?[a-z][a-z-]*', command):
                        with self.subTest(page=page, command=command, option=option):
                            self.assertRegex(helps[name] + overview, r'(?<![\w-])%s(?![\w-])' % re.escape(option))
        self.assertGreaterEqual(len(seen), 8, seen)
        self.assertIn('doctor', seen)

    def test_the_api_paths_exist(self):
        with open(os.path.join(REPOSITORY, 'admin', 'api', 'routes.cpp'), encoding='utf-8') as source:
            routes = source.read()
        for page, text in pages():
            for path in re.findall(r'127\.0\.0\.1:6480(/[\w/]+)', text):
                self.assertIn('"%s"' % path, routes, page)


class ConnectionStrings(unittest.TestCase):
    def test_libpq_and_psycopg(self):
        """docs/applications.md's, of libpq's forms; each names acme in its own way. The drivers' own forms are run by tests/apps and test_python_drivers."""
        server = fixture.Postgres(workspace, 'strings')
        server.make_roles()
        server.make_world()
        proxy = fixture.Pgporter(workspace, server, 'strings-pgporter').start()
        proxy.apply(fixture.document({'main': server}, {'acme': {}, 'globex': {}}))
        with open(os.path.join(REPOSITORY, 'docs', 'applications.md'), encoding='utf-8') as page:
            text = page.read()
        strings = re.findall(r'^    (host=proxy port=6432 dbname=app .*|postgres(?:ql)?://.*)$', text, re.M)
        strings += [' '.join(found) for found in re.findall(r'psycopg\.connect\("([^"]*)", options="([^"]*)"\)', text)]
        self.assertGreaterEqual(len(strings), 4)
        for string in strings:
            if 'sslmode' in string:
                continue
            string = string.replace('proxy:6432', '127.0.0.1:%d' % proxy.port).replace('host=proxy port=6432', 'host=127.0.0.1 port=%d' % proxy.port)
            string = re.sub(r" (-c pgporter\.tenant=\w+)$", r" options='\1'", string)
            with self.subTest(string=string):
                connection = psycopg2.connect(string, password=fixture.PASSWORDS['app'])
                cursor = connection.cursor()
                cursor.execute('SELECT tenant FROM whoami')
                self.assertEqual(cursor.fetchone(), ('acme',))
                connection.close()


class Readme(unittest.TestCase):
    """The README's section "Serve by hand"."""

    def setUp(self):
        self.folder = os.path.join(workspace.path, 'readme')
        os.mkdir(self.folder)
        self.servers = {name: self.server(name) for name in ('shared', 'big')}
        self.admin_port, self.port = fixture.free_port(), fixture.free_port()
        self.process = None

    def server(self, name):
        made = fixture.Postgres(workspace, name)
        hba = os.path.join(made.data, 'pg_hba.conf')
        with open(hba, encoding='utf-8') as source:  # createuser's roles have no password: the machine's own users are trusted
            text = source.read()
        with open(hba, 'w', encoding='utf-8') as out:
            out.write(text.replace('scram-sha-256', 'trust'))
        made.sql('SELECT pg_reload_conf()')
        return made

    def environment(self, **more):
        return dict(os.environ, PATH=os.path.dirname(os.path.abspath(PGPORTER_BIN)) + ':' + PG_BIN + ':' + os.environ['PATH'], PGHOST='127.0.0.1',
                    PGPORT=str(self.servers['shared'].port), PGUSER='postgres', PGPORTER_URL='http://127.0.0.1:%d' % self.admin_port, **more)

    def shell(self, script, **more):
        done = subprocess.run(['bash', '-euc', script], cwd=self.folder, env=self.environment(**more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=90, check=False)
        self.assertEqual(done.returncode, 0, '%s\n%s%s' % (script, done.stdout, done.stderr))
        return done.stdout

    def placed(self, text):
        """With the ports of this test's own."""
        shared, big = self.servers['shared'].port, self.servers['big'].port
        for before, after in (('admin: {token_file: admin-token}', 'admin: {token_file: admin-token, port: %d}\nlisten: [{port: %d}]' % (self.admin_port, self.port)),
                              ('dsn: host=127.0.0.1 ', 'dsn: host=127.0.0.1 port=%d ' % shared), ('{name: shared, host: 127.0.0.1}',
                              '{name: shared, host: 127.0.0.1, port: %d}' % shared), ('port: 5433', 'port: %d' % big), ('6480', str(self.admin_port)),
                              ('port=6432', 'port=%d' % self.port)):
            text = text.replace(before, after)
        return text

    def application(self):
        """What is there before pgporter: an application with a schema for each tenant, and its role on both servers."""
        for server in self.servers.values():
            server.sql("CREATE ROLE app LOGIN PASSWORD 'app-secret'")
        self.servers['shared'].make_world('app', ('acme',))
        with open(os.path.join(REPOSITORY, 'docs', 'moves.md'), encoding='utf-8') as page:
            sql = next(block for block in blocks(page.read(), 'What the mover needs') if 'CREATE ROLE' in block)
        parts = dict(zip(('both', 'source'), re.split(r'^-- in the source database\n', sql.replace("'...'", "'mover-secret'"), flags=re.M)))
        for server in self.servers.values():
            server.sql(parts['both'])
        self.servers['shared'].sql(parts['source'], 'app')

    def test_from_nothing_to_a_moved_tenant(self):
        with open(os.path.join(REPOSITORY, 'README.md'), encoding='utf-8') as page:
            prepare, catalog, use = (self.placed(block) for block in blocks(page.read(), 'Serve by hand'))
        self.application()
        prepare, serve = prepare.rsplit('pgporter serve', 1)
        self.shell(prepare)
        log = open(os.path.join(self.folder, 'log'), 'wb')
        with log:
            self.process = subprocess.Popen(fixture.ends_with_us('KILL') + [PGPORTER_BIN, 'serve'] + shlex.split(serve), cwd=self.folder, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, env=self.environment())
        self.addCleanup(self.process.wait, 20)
        self.addCleanup(self.process.terminate)

        def is_ready():
            with contextlib.suppress(AssertionError):
                return self.shell('pgporter status --token-file admin-token')
            return None
        wait_for(is_ready, 'pgporter is ready', 20)
        verifier = self.shell("printf 'app-secret\\n' | pgporter verifier").strip()
        self.shell(catalog.replace('SCRAM-SHA-256$4096:...', verifier))
        psql, *rest = use.strip().splitlines()
        self.assertEqual(self.shell(psql + " -Atc 'SELECT tenant FROM whoami'", PGPASSWORD='app-secret').strip(), 'acme')
        self.shell('export PGPORTER_TOKEN_FILE=admin-token\n' + '\n'.join(rest))
        with psycopg2.connect(host='127.0.0.1', port=self.servers['big'].port, user='app', dbname='acme') as moved:
            cursor = moved.cursor()
            cursor.execute('SELECT count(*) FROM acme.items')
            self.assertEqual(cursor.fetchone(), (fixture.ROWS_EACH,))
        moved.close()
        self.assertEqual(self.shell(psql + " -Atc 'SELECT tenant FROM whoami'", PGPASSWORD='app-secret').strip(), 'acme')


if __name__ == '__main__':
    fixture.main(__name__)
