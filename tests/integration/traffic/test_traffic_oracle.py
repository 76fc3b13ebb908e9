#!/usr/bin/env python3
"""The traffic program against PostgreSQL itself: honest runs pass, and every kind of damage is found.

    test_traffic_oracle.py PATH_TO_TRAFFIC
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "support"))
from private_postgres import POSTGRES_BIN, PrivatePostgres  # noqa: E402

TRAFFIC = ""
TENANTS = ["acme", "globex", "initech"]


class TrafficOracle(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="pgporter-traffic.")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.chmod(cls.folder, 0o755)
        cls.server = PrivatePostgres("traffic", cls.folder, {"fsync": "off", "log_min_messages": "fatal"})
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()
        cls.tenants_file = os.path.join(cls.folder, "tenants")
        with open(cls.tenants_file, "w", encoding="ascii") as file:
            file.write("".join(f"{name} 2\n" for name in TENANTS))
        cls.environment = {**os.environ, "PGPASSWORD": cls.server.password, "PGOPTIONS": ""}

    def setUp(self):
        self.server.sql("CREATE DATABASE app")
        self.addCleanup(self.server.sql, "DROP DATABASE app WITH (FORCE)")
        self.history = os.path.join(self.folder, "history")
        self.traffic("load", "--dsn", self.dsn(), "--tenants-file", self.tenants_file, "--rows", "200", expect=0)

    def dsn(self, database="app"):
        return f"host=127.0.0.1 port={self.server.port} user=postgres dbname={database}"

    def traffic(self, *arguments, expect=None):
        done = subprocess.run([TRAFFIC, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if expect is not None:
            self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return json.loads(done.stdout.splitlines()[-1])

    def run_traffic(self, expect=0):
        return self.traffic("run", "--dsn", self.dsn() + " options='-c search_path={tenant}'", "--tenants-file", self.tenants_file,
                            "--switching-clients", "2", "--switching-dsn", self.dsn(), "--seconds", "1.5", "--rate", "0",
                            "--history", self.history, expect=expect)

    def check(self, expect):
        return self.traffic("check", "--dsn", self.dsn(), "--history", self.history, expect=expect)

    def test_an_honest_run_passes(self):
        report = self.run_traffic()
        self.assertGreater(report["acknowledged_writes"], 100)
        self.assertEqual(report["failed_queries"], 0, report["errors"])
        verdict = self.check(expect=0)
        self.assertEqual(verdict["confirmed"], report["acknowledged_writes"])

    def test_damage_is_found(self):
        self.run_traffic()
        damages = {
            "lost": "DELETE FROM acme.ledger WHERE ctid = (SELECT ctid FROM acme.ledger LIMIT 1)",
            "doubled": "ALTER TABLE globex.ledger DROP CONSTRAINT ledger_pkey; DROP INDEX globex.ledger_entry;"
                       "INSERT INTO globex.ledger SELECT * FROM globex.ledger LIMIT 1",
            "phantom": "INSERT INTO initech.ledger (client_id, seq, tenant, company_id, amount)"
                       " SELECT client_id, max(seq) + 1000, 'initech', 1, 0 FROM initech.ledger GROUP BY client_id LIMIT 1",
            "disordered": "UPDATE initech.ledger SET entry_id = -seq WHERE client_id = (SELECT max(client_id) FROM initech.ledger)",
            "wrong_tenant": "UPDATE acme.ledger SET tenant = 'globex' WHERE ctid = (SELECT ctid FROM acme.ledger LIMIT 1)",
        }
        before = self.check(expect=0)
        for name, sql in damages.items():
            self.assertEqual(before[name], 0)
            self.server.sql(sql, "app")
            self.assertGreater(self.check(expect=1)[name], 0, name)

    def test_an_update_applied_twice_is_found(self):
        self.run_traffic()
        self.server.sql("UPDATE acme.companies SET balance = balance + 1 WHERE id = 1", "app")
        self.assertEqual(self.check(expect=1)["bad"]["acme"]["inconsistent"], {"balances": 1})

    def test_a_tenant_in_the_wrong_schema_is_noticed_by_its_clients(self):
        self.server.sql("ALTER SCHEMA acme RENAME TO tmp; ALTER SCHEMA globex RENAME TO acme; ALTER SCHEMA tmp RENAME TO globex", "app")
        self.assertGreater(self.run_traffic(expect=1)["wrong_tenant"], 0)

    def test_lost_connections_are_failures_and_no_lost_writes(self):
        argv = [TRAFFIC, "run", "--dsn", self.dsn() + " options='-c search_path={tenant}'", "--tenants-file", self.tenants_file,
                "--rate", "0", "--history", self.history]
        with subprocess.Popen(argv, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            self.addCleanup(process.kill)
            for _ in range(3):
                self.wait_for_transactions(process, 200)
                self.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'")
            self.wait_for_transactions(process, 200)
            report = json.loads(process.communicate("stop\n")[0].splitlines()[-1])
        self.assertEqual(process.returncode, 1)
        self.assertGreaterEqual(report["failed_queries"], len(TENANTS))
        self.assertGreaterEqual(report["reconnects"], len(TENANTS))
        self.check(expect=0)

    def wait_for_transactions(self, process, more):
        """Until the clients have done so many more."""
        wanted = None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            process.stdin.write("status\n")
            process.stdin.flush()
            count = json.loads(process.stdout.readline())["transactions"]
            wanted = count + more if wanted is None else wanted
            if count >= wanted:
                return
            time.sleep(0.02)
        self.fail("the clients stand still")

    def test_a_copy_is_compared_row_by_row(self):
        self.run_traffic()
        self.server.sql("CREATE DATABASE moved")
        self.addCleanup(self.server.sql, "DROP DATABASE moved WITH (FORCE)")
        dump = subprocess.run([f"{POSTGRES_BIN}/pg_dump", "-n", "acme", "-d", self.dsn()], env=self.environment, stdout=subprocess.PIPE,
                              text=True, check=True)
        self.server.sql(dump.stdout, "moved")

        def compare(expect):
            return self.traffic("compare", "--source", self.dsn(), "--target", self.dsn("moved"), "--tenant", "acme", expect=expect)
        self.assertGreater(compare(expect=0)["same"], 100)
        self.server.sql("UPDATE acme.companies SET name = 'changed later' WHERE id = 1", "moved")  # its trigger notes the time
        self.assertEqual(compare(expect=0)["tables"]["companies"]["changed_since"], 1)
        self.server.sql("ALTER TABLE acme.leads DISABLE TRIGGER ALL; UPDATE acme.leads SET score = score + 1 WHERE id = 2", "moved")
        self.assertEqual(compare(expect=1)["tables"]["leads"]["different"], 1)
        self.server.sql("DELETE FROM acme.ledger WHERE ctid = (SELECT ctid FROM acme.ledger LIMIT 1)", "moved")
        self.assertEqual(compare(expect=1)["tables"]["ledger"]["missing"], 1)


if __name__ == "__main__":
    TRAFFIC = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
