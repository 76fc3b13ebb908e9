"""Runs node_drivers.mjs. PGPORTER_NODE_MODULES is the folder with node_modules that npm ci filled (CTest's fixture does it)."""
import json
import os
import shutil
import subprocess
import unittest

import driver_world
from driver_world import PASSWORD, TENANTS, fixture


class Node(unittest.TestCase):
    def test_node_clients(self):
        node = shutil.which('node')
        self.assertTrue(node, 'node is not installed; ./check installs it')
        modules = os.environ.get('PGPORTER_NODE_MODULES', '')
        self.assertTrue(os.path.isdir(os.path.join(modules, 'node_modules', 'pg')), 'npm ci has not filled %r' % modules)
        world = driver_world.World()
        try:
            names = ('name', 'user', 'database', 'options', 'params')
            facts = {'port': world.port, 'password': PASSWORD, 'modules': modules, 'tenants': TENANTS,
                     'ways': {t: [dict(zip(names, way)) for way in world.ways(t)] for t in TENANTS}}
            script = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'node_drivers.mjs')
            done = subprocess.run([node, script], env=dict(os.environ, DRIVER_TEST=json.dumps(facts)), timeout=120, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            print(done.stdout)
            self.assertEqual(done.returncode, 0, done.stdout[-4000:])
            self.assertIn(' 0 failed', done.stdout)
        finally:
            world.close()


if __name__ == '__main__':
    fixture.main(__name__)
