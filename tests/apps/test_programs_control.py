"""What shows that the programs and their judge can fail: Debian's PgBouncer in transaction mode, through which a program must see other tenants'
rows, and reports that don't agree with the database. None of it needs pgporter.
"""
import os
import shutil
import subprocess
import sys
import unittest

import psycopg2

import apps_world_programs
from apps_world_programs import HERE, fixture

MODULES = os.environ.get('PGPORTER_NODE_MODULES', '')
INI = """[databases]
app = host=127.0.0.1 port=%d dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
auth_type = scram-sha-256
auth_file = users
pool_mode = transaction
default_pool_size = 2
unix_socket_dir =
query_wait_timeout = 10
"""


class PgBouncer:
    def __init__(self, world):
        self.port = fixture.free_port()
        folder = os.path.join(world.workspace.path, 'pgbouncer')
        os.mkdir(folder, 0o755)
        for name, text in (('users', '"app" "%s"\n' % fixture.PASSWORDS['app']), ('ini', INI % (world.server.port, self.port))):
            with open(os.path.join(folder, name), 'w', encoding='utf-8') as out:
                out.write(text)
        with open(os.path.join(folder, 'log'), 'wb') as log:
            self.process = subprocess.Popen(fixture.ends_with_us('KILL') + [os.environ.get('PGPORTER_PGBOUNCER', '/usr/sbin/pgbouncer'), 'ini'],
                                            cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, **fixture.run_as_postgres())
        world.workspace.servers.append(self)

        def ready():
            try:
                psycopg2.connect(host='127.0.0.1', port=self.port, user='app', password=fixture.PASSWORDS['app'], dbname='app').close()
                return True
            except psycopg2.OperationalError:
                return False
        fixture.wait_for(ready, lambda: 'PgBouncer accepts connections: ' + open(os.path.join(folder, 'log'), encoding='utf-8').read())

    def stop(self, mode='fast'):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


class Control(unittest.TestCase):
    def setUp(self):
        self.world = apps_world_programs.World(direct=True)
        self.addCleanup(self.world.close)

    def test_pgbouncer_shows_other_tenants_rows(self):
        """If this program passed, it could not fail."""
        self.world.port = PgBouncer(self.world).port
        with self.assertRaises(AssertionError) as caught:
            apps_world_programs.run(self.world, [shutil.which('node'), os.path.join(HERE, 'node', 'knex.mjs')], modules=MODULES)
        self.assertRegex(str(caught.exception), 'a row of |rows without a tenant')

    def test_judge(self):
        report = apps_world_programs.run(self.world, [sys.executable, os.path.join(HERE, 'wire', 'prisma_engine.py')])
        self.assertEqual(apps_world_programs.judge(self.world, report), [])
        globex = report['tenants']['globex']
        sql = self.world.server.sql
        sql("DELETE FROM globex.ledger WHERE id = %s", 'app', (globex['committed'][3],))
        sql("INSERT INTO globex.ledger (id, tenant) VALUES (%s, 'initech'), ('nobody knows', 'globex')", 'app', (globex['rolled_back'][0],))
        sql('UPDATE globex.items SET n = n + 1 WHERE id = 2', 'app')
        globex['places']['0'] = [['app', 1]]
        way = next(iter(report['done'].values()))
        way['acme'][1] = 0
        wrong = ' | '.join(apps_world_programs.judge(self.world, report))
        for word in ('lost', 'rolled back', 'nobody knows', 'increments', 'rows of', 'found globex at', '0 after it'):
            self.assertIn(word, wrong)


if __name__ == '__main__':
    fixture.main(__name__)
