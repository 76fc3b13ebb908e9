"""Runs the programs in Python, Ruby, PHP and Perl: each with several tenants in one pool, and the live move of one of them in the middle."""
import os
import shutil
import unittest

import apps_world_programs
from apps_world_programs import HERE, fixture


class Scripts(unittest.TestCase):
    def run_program(self, command, *file, setting=None):
        self.assertTrue(shutil.which(command), '%s is not installed; ./check installs it' % command)
        world = apps_world_programs.World(setting)
        try:
            apps_world_programs.run(world, [command, os.path.join(HERE, *file)])
        finally:
            world.close()

    def python(self, name, setting=None, folder='python'):
        self.run_program('/usr/bin/python3', folder, name + '_app.py', setting=setting)

    def test_psycopg2(self):
        self.python('psycopg2')

    def test_psycopg2_rls(self):
        self.python('psycopg2', 'app.tenant')

    def test_psycopg3(self):
        self.python('psycopg3')

    def test_psycopg3_rls(self):
        self.python('psycopg3', 'app.tenant_id')

    def test_asyncpg(self):
        self.python('asyncpg')

    def test_asyncpg_rls(self):
        self.python('asyncpg', 'app.current_tenant')

    def test_sqlalchemy(self):
        self.python('sqlalchemy')

    def test_sqlalchemy_rls(self):
        self.python('sqlalchemy', 'rls.tenant_id')

    def test_django(self):
        self.python('django', folder='django')

    def test_django_rls(self):
        self.python('django', 'app.tenant', folder='django')

    def test_ruby_pg(self):
        self.run_program('ruby', 'ruby', 'pg_app.rb')

    def test_ruby_pg_rls(self):
        self.run_program('ruby', 'ruby', 'pg_app.rb', setting='my.current_tenant')

    def test_activerecord(self):
        self.run_program('ruby', 'ruby', 'activerecord_app.rb')

    def test_activerecord_rls(self):
        self.run_program('ruby', 'ruby', 'activerecord_app.rb', setting='app.current_tenant_id')

    def test_pdo(self):
        self.run_program('php', 'php', 'pdo_app.php')

    def test_pdo_rls(self):
        self.run_program('php', 'php', 'pdo_app.php', setting='my.current_tenant')

    def test_dbd_pg(self):
        self.run_program('perl', 'perl', 'dbd_pg_app.pl')

    def test_dbd_pg_rls(self):
        self.run_program('perl', 'perl', 'dbd_pg_app.pl', setting='app.workspace_id')


if __name__ == '__main__':
    fixture.main(__name__)
