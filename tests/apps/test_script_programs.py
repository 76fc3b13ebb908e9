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


if __name__ == '__main__':
    fixture.main(__name__)
