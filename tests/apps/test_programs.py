"""Runs the programs of this folder: each with several tenants in one pool, and the live move of one of them in the middle."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import apps_world_programs
from apps_world_programs import HERE, fixture

MODULES = os.environ.get('PGPORTER_NODE_MODULES', '')
BUILD = os.environ.get('PGPORTER_APPS_BUILD', '')


class Node(unittest.TestCase):
    def run_program(self, name, setting=None, **facts):
        node = shutil.which('node')
        self.assertTrue(node, 'node is not installed; ./check installs it')
        self.assertTrue(os.path.isdir(os.path.join(MODULES, 'node_modules', 'knex')), 'npm ci has not filled %r' % MODULES)
        world = apps_world_programs.World(setting)
        try:
            apps_world_programs.run(world, [node, os.path.join(HERE, 'node', name + '.mjs')], modules=MODULES, **facts)
        finally:
            world.close()

    def test_node_postgres(self):
        self.run_program('node_postgres')

    def test_node_postgres_rls(self):
        self.run_program('node_postgres', 'app.current_tenant')

    def test_postgres_js(self):
        self.run_program('postgres_js')

    def test_postgres_js_rls(self):
        self.run_program('postgres_js', 'app.tenant_id')

    def test_knex(self):
        self.run_program('knex')

    def test_sequelize(self):
        self.run_program('sequelize')

    def test_typeorm(self):
        self.run_program('typeorm')

    def test_prisma(self):
        self.run_program('prisma', client=self.prisma_client())

    def test_prisma_rls(self):
        self.run_program('prisma', 'app.current_company_id', client=self.prisma_client())

    def prisma_client(self):
        """The folder of a client that Prisma generates for our models. The programs that it would download are not needed for that."""
        folder = tempfile.mkdtemp(prefix='pgporter-prisma-')
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(os.path.join(HERE, 'node', 'prisma.prisma'), os.path.join(folder, 'schema.prisma'))
        shutil.copy(os.path.join(HERE, 'package.json'), folder)
        os.symlink(os.path.join(MODULES, 'node_modules'), os.path.join(folder, 'node_modules'))
        environment = dict(os.environ, PRISMA_SCHEMA_ENGINE_BINARY='/bin/true', PRISMA_QUERY_ENGINE_LIBRARY='/bin/true', CHECKPOINT_DISABLE='1')
        done = subprocess.run([os.path.join(folder, 'node_modules', '.bin', 'prisma'), 'generate', '--schema', 'schema.prisma'], cwd=folder,
                              env=environment, timeout=60, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)
        return os.path.join(folder, 'client')


class Java(unittest.TestCase):
    JARS = ['/usr/share/java/%s.jar' % name for name in ('postgresql', 'HikariCP', 'slf4j-api', 'slf4j-nop')]

    def run_program(self, setting=None):
        folder = build_folder(self, 'java')
        path = ':'.join([folder] + self.JARS)
        sources = glob.glob(os.path.join(HERE, 'jdbc', '*.java'))
        build(self, ['javac', '-Xlint:all', '-Werror', '-d', folder, '-cp', path] + sources)
        world = apps_world_programs.World(setting)
        try:
            facts = world.facts()
            properties = {'port': facts['port'], 'user': facts['user'], 'database': facts['database'], 'tenants': ','.join(facts['tenants']),
                          'setting': facts['setting']}
            apps_world_programs.run(world, ['java', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', path] +
                                    ['-Dapp.%s=%s' % item for item in properties.items()] + ['TenantApp'])
        finally:
            world.close()

    def test_jdbc(self):
        self.run_program()

    def test_jdbc_rls(self):
        self.run_program('app.tenant')


class Go(unittest.TestCase):
    def test_lib_pq(self):
        folder = build_folder(self, 'go')
        program = os.path.join(folder, 'program')
        # Debian's own packages of libraries, not the network's.
        environment = {'GO111MODULE': 'off', 'GOPATH': '/usr/share/gocode', 'GOCACHE': os.path.join(folder, 'cache'), 'GOFLAGS': '', 'CGO_ENABLED': '0'}
        build(self, ['go', 'build', '-o', program] + sorted(glob.glob(os.path.join(HERE, 'go', '*.go'))), environment)
        world = apps_world_programs.World()
        try:
            apps_world_programs.run(world, [program])
        finally:
            world.close()


class Wire(unittest.TestCase):
    """Programs that can't be had here, by their exact messages."""

    def run_program(self, name, setting=None):
        world = apps_world_programs.World(setting)
        try:
            apps_world_programs.run(world, [sys.executable, os.path.join(HERE, 'wire', name + '.py')])
        finally:
            world.close()

    def test_postgrest(self):
        self.run_program('postgrest')

    def test_prisma_engine(self):
        self.run_program('prisma_engine')

    def test_prisma_engine_rls(self):
        self.run_program('prisma_engine', 'app.current_company_id')


def build_folder(test, name):
    """Where a compiled program goes: kept between runs when CTest says where."""
    if BUILD:
        folder = os.path.join(BUILD, name)
        os.makedirs(folder, exist_ok=True)
        return folder
    folder = tempfile.mkdtemp(prefix='pgporter-apps-')
    test.addCleanup(shutil.rmtree, folder)
    return folder


def build(test, command, environment=None):
    test.assertTrue(shutil.which(command[0]), '%s is not installed; ./check installs it' % command[0])
    done = subprocess.run(command, env=dict(os.environ, **(environment or {})), timeout=120, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    test.assertEqual(done.returncode, 0, done.stdout)


if __name__ == '__main__':
    fixture.main(__name__)
