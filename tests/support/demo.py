#!/usr/bin/env python3
"""The demonstration behind ./demo: two private PostgreSQL servers, pgporter, live traffic, one tenant moved while it works.

Owns every process it starts and ends each by its pid, whatever happens; ./demo builds the programs and hands over.
"""

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from private_pgporter import ApiError, PrivatePgporter, to_yaml, write_private  # noqa: E402
from private_postgres import POSTGRES_BIN, Daemon, PrivatePostgres, StartError  # noqa: E402

MOVED = "acme"
TENANTS = [MOVED, "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "tyrell", "cyberdyne", "soylent", "oscorp",
           "massive", "vandelay", "duff", "sirius", "gringotts", "monsters", "bluth", "dunder", "pied", "sterling", "prestige", "gekko"]
POSTGRES_SETTINGS = {"fsync": "on", "wal_level": "logical", "max_connections": "120", "shared_buffers": "256MB",
                     "max_wal_size": "2GB", "password_encryption": "scram-sha-256"}
BEFORE_HOLD = {"planned", "preflight", "schema", "gate", "slot", "copy", "index", "catchup", "verify"}
OPENED = {"opened", "reversing", "completed"}
GIVEN_UP = {"aborting", "aborted"}
MOVE_SECONDS_MAX = 240


class Plan:
    """How much of everything."""

    def __init__(self, quick):
        self.rows = 200 if quick else 400
        self.large_rows = 30_000 if quick else 300_000
        self.moved_clients = 8 if quick else 17
        self.rate = 10 if quick else 15
        self.phase_seconds = 3 if quick else 12
        self.clients = self.moved_clients + len(TENANTS) - 1


class Failed(Exception):
    """Something didn't hold, or couldn't be tried."""


def say(text=""):
    print(text, flush=True)


class Demo:
    def __init__(self, build, plan, folder):
        self.programs = os.path.join(build, "bin")
        self.plan = plan
        self.folder = folder
        self.running = []  # in the order in which they were started
        self.passwords = {role: secrets.token_hex(16) for role in ("app", "pgporter_mover", "pgporter_catalog")}
        self.shared = PrivatePostgres("shared", folder, POSTGRES_SETTINGS)
        self.dedicated = PrivatePostgres("dedicated", folder, POSTGRES_SETTINGS)
        self.porter = None
        self.traffic = None
        self.pass_file = write_private(os.path.join(folder, "pgpass"), f"*:*:*:app:{self.passwords['app']}\n")
        self.tenants_file = os.path.join(folder, "traffic-tenants")
        self.history_file = os.path.join(folder, "history")
        self.environment = {**os.environ, "PGPASSFILE": self.pass_file, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable", "PGOPTIONS": ""}

    # ---- what it runs on

    def start_servers(self):
        say("starting two PostgreSQL servers: shared, where all tenants live, and dedicated, which is empty")
        for server in (self.shared, self.dedicated):
            self.running.append(server)
            server.start()
        self.shared.sql(self._roles_sql(f"'{self.passwords['app']}'") + "CREATE ROLE pgporter_catalog LOGIN PASSWORD "
                        f"'{self.passwords['pgporter_catalog']}';\n"
                        "CREATE DATABASE pgporter_catalog OWNER pgporter_catalog;\nCREATE DATABASE app OWNER app;\n"
                        "GRANT CREATE ON DATABASE app TO pgporter_mover;")
        # The same verifier on both servers: what pgporter learns from a client's login opens either.
        self.dedicated.sql(self._roles_sql(f"'{self.verifier()}'"))

    def _roles_sql(self, app_password):
        return (f"CREATE ROLE app LOGIN PASSWORD {app_password};\n"
                f"CREATE ROLE pgporter_mover LOGIN REPLICATION CREATEDB PASSWORD '{self.passwords['pgporter_mover']}';\n"
                "GRANT app TO pgporter_mover;\nGRANT SET ON PARAMETER session_replication_role TO pgporter_mover;\n")

    def verifier(self):
        return self.shared.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")

    def load(self):
        with open(self.tenants_file, "w", encoding="ascii") as file:
            file.writelines(f"{name} {self.plan.moved_clients if name == MOVED else 1}\n" for name in TENANTS)
        say(f"loading {len(TENANTS)} tenants, each in a schema of its own; the largest is {MOVED}")
        rows = self.run_traffic("load", "--dsn", self.dsn(self.shared.port, "app"), "--tenants-file", self.tenants_file,
                                "--rows", str(self.plan.rows), "--large", MOVED, "--large-rows", str(self.plan.large_rows))
        return rows[MOVED]

    def start_pgporter(self):
        mover_secret = write_private(os.path.join(self.folder, "mover-password"), self.passwords["pgporter_mover"] + "\n")
        catalog_secret = write_private(os.path.join(self.folder, "catalog-password"), self.passwords["pgporter_catalog"] + "\n")
        config = {
            "catalog": {"dsn": f"host=127.0.0.1 port={self.shared.port} dbname=pgporter_catalog user=pgporter_catalog",
                        "password_file": catalog_secret, "snapshot_file": os.path.join(self.folder, "pgporter", "snapshot")},
            "server_logins": [{"user": "pgporter_mover", "password_file": mover_secret}],
            "mover": {"user": "pgporter_mover"},
        }
        self.porter = PrivatePgporter(self.folder, os.path.join(self.programs, "pgporter"), config)
        self.running.append(self.porter)
        self.porter.start()
        catalog = os.path.join(self.folder, "tenants.yaml")
        write_private(catalog, to_yaml({
            "clusters": [{"name": server.name, "host": "127.0.0.1", "port": server.port, "server_connections_max": 40}
                         for server in (self.shared, self.dedicated)],
            "users": [{"name": "app", "tenants": "*", "scram_verifier": self.verifier()}],
            "tenants": [{"name": name, "placement": {"kind": "schema", "cluster": "shared", "database": "app", "schema": name}}
                        for name in TENANTS],
        }))
        say(f"pgporter is up on port {self.porter.port}; its catalog is made to match {catalog}")
        applied = subprocess.run([self.porter.binary, "apply", "-f", catalog], env=self.porter.cli_environment(), text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        if applied.returncode != 0:
            raise Failed(f"pgporter apply: {applied.stdout.strip()}")

    # ---- the traffic program

    def dsn(self, port, database, tenant=""):
        options = f" options='-c pgporter.tenant={tenant}'" if tenant else ""
        return f"host=127.0.0.1 port={port} dbname={database} user=app{options}"

    def run_traffic(self, *arguments):
        """A subcommand that ends by itself; returns its JSON, also when what it found is bad (exit code 1)."""
        done = subprocess.run([os.path.join(self.programs, "traffic"), *arguments], env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        if done.returncode not in (0, 1) or not done.stdout.strip():
            raise Failed(f"traffic {arguments[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout.splitlines()[-1])

    def start_traffic(self):
        say(f"{self.plan.clients} clients work through pgporter, {self.plan.moved_clients} of them on {MOVED}")
        self.traffic = Daemon("traffic", [
            os.path.join(self.programs, "traffic"), "run", "--dsn", self.dsn(self.porter.port, "app", "{tenant}"),
            "--tenants-file", self.tenants_file, "--rate", str(self.plan.rate), "--focus", MOVED, "--history", self.history_file], os.path.join(self.folder, "traffic.log"), env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.running.append(self.traffic)

    def warm_up(self):
        """Until all are logged in and have done a little: what comes before is no measure of anything."""
        deadline = time.monotonic() + 60
        while self.traffic_status()["transactions"] < 10 * self.plan.clients:
            if time.monotonic() > deadline:
                raise Failed("the clients don't get going")
            time.sleep(0.1)

    def tell_traffic(self, *commands):
        try:
            self.traffic.process.stdin.write("".join(command + "\n" for command in commands).encode())
            self.traffic.process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(f"the traffic program ended: {self.traffic.log_tail()}") from error

    def traffic_status(self):
        self.tell_traffic("status")
        line = self.traffic.process.stdout.readline()
        if not line:
            raise Failed(f"the traffic program ended: {self.traffic.log_tail()}")
        return json.loads(line)

    def work_for(self, phase, seconds):
        self.tell_traffic(f"phase {phase}")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(3, max(0.01, deadline - time.monotonic())))
            status = self.traffic_status()
            say(f"  {phase}: {status['transactions']} transactions, {status['failed_queries']} failed queries")

    def end_traffic(self):
        self.tell_traffic("stop")
        self.traffic.process.stdin.close()
        text = self.traffic.process.stdout.read()
        self.traffic.process.wait()
        if not text.strip():
            raise Failed(f"the traffic program gave no report: {self.traffic.log_tail()}")
        return json.loads(text.splitlines()[-1])

    # ---- the move

    def promote(self):
        """Moves the tenant under traffic. Returns the move as the API tells it, and marks the cutover for the traffic report."""
        say(f"promoting {MOVED}: POST /v1/tenants/{MOVED}:promote")
        self.tell_traffic("phase during")
        move = self.porter.api("POST", f"/v1/tenants/{MOVED}:promote", {"to": {"cluster": "dedicated", "database": MOVED}})
        last_before_us = time.time_ns() // 1000
        deadline = time.monotonic() + MOVE_SECONDS_MAX
        said = ("", 0.0)
        while move["state"] not in OPENED:
            if move["state"] in GIVEN_UP:
                raise Failed(f"the move was aborted: {move['error']}; {move['progress']['note']}")
            if time.monotonic() > deadline:
                raise Failed(f"the move is still in '{move['state']}' after {MOVE_SECONDS_MAX} s: {move['progress']['note']}")
            if move["state"] != said[0] or time.monotonic() > said[1] + 2:
                progress = move["progress"]
                say(f"  {move['state']:<10} {progress['rows_copied']} rows copied, {progress['changes_applied']} changes applied, "
                    f"{progress['lag_bytes']} bytes behind  {progress['note']}")
                said = (move["state"], time.monotonic())
            time.sleep(0.02)
            asked_us = time.time_ns() // 1000
            move = self.porter.api("GET", f"/v1/moves/{move['id']}")
            if move["state"] in BEFORE_HOLD:
                last_before_us = asked_us
        opened_us = time.time_ns() // 1000
        say(f"  {move['state']:<10} {MOVED} lives on the dedicated server; the pause was {move['progress']['pause_ms']:.1f} ms")
        self.tell_traffic(f"window cutover {last_before_us} {opened_us}")
        return move

    # ---- what became of it

    def server_port_of(self, tenant):
        """Which server a new session of this tenant reaches through pgporter."""
        done = subprocess.run([f"{POSTGRES_BIN}/psql", "-X", "-A", "-t", "-c", "SELECT inet_server_port()",
                               self.dsn(self.porter.port, "app", tenant)], env={**self.environment, "PGCONNECT_TIMEOUT": "10"}, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        if done.returncode != 0:
            raise Failed(f"psql as {tenant}: {done.stderr.strip()}")
        return int(done.stdout)

    def is_fenced(self):
        """A write that goes around pgporter, to where the tenant lived."""
        try:
            self.shared.sql(f"INSERT INTO {MOVED}.ledger (client_id, seq, tenant, company_id, amount) VALUES (0, 0, '{MOVED}', 1, 0)", "app")
        except subprocess.CalledProcessError as error:
            return "ERROR" in error.stderr
        return False

    def artefacts_left(self):
        """What the move made and should have taken away again, on both servers; with the source's schema after `complete`."""
        count = 0
        for server, database in ((self.shared, "app"), (self.dedicated, MOVED)):
            count += int(server.sql(
                "SELECT (SELECT count(*) FROM pg_replication_slots) + (SELECT count(*) FROM pg_publication)"
                " + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgname NOT LIKE '%\\_touch')"
                " + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgporter%')", database))
        return count + int(self.shared.sql(f"SELECT count(*) FROM pg_namespace WHERE nspname = '{MOVED}'", "app"))

    def examine(self, report, move):
        say("comparing what every client was told with what the databases hold")
        on_dedicated = self.dsn(self.dedicated.port, MOVED)
        history = self.run_traffic("check", "--dsn", self.dsn(self.shared.port, "app"), "--dsn-of", f"{MOVED}={on_dedicated}",
                                   "--history", self.history_file)
        rows = self.run_traffic("compare", "--source", self.dsn(self.shared.port, "app"), "--target", on_dedicated, "--tenant", MOVED)
        neighbours = TENANTS[1:]
        strangers = int(self.dedicated.sql("SELECT count(*) FROM pg_namespace WHERE nspname IN ('" + "', '".join(neighbours) + "')", MOVED))
        placement = self.porter.api("GET", f"/v1/tenants/{MOVED}")["placement"]
        window = report["windows"]["cutover"]["focus"]
        return {
            "failed_queries": report["failed_queries"],
            "lost": history["lost"],
            "doubled": history["doubled"] + history["phantom"],
            "disordered": history["disordered"],
            "inconsistent_tenants": sorted(history["bad"]),
            "wrong_tenant": report["wrong_tenant"] + history["wrong_tenant"],
            "stale_reads": report["stale_reads"],
            "wrong_answers": report["wrong_answers"],
            "reconnects": report["reconnects"],
            "confirmed_writes": history["confirmed"],
            "pause_ms": {"p50": window["p50_ms"], "max": window["max_ms"], "mover": round(move["progress"]["pause_ms"], 3)},
            "longest_wait_ms": report["focus"]["during"]["max_ms"],
            "rows_copied": move["progress"]["rows_copied"],
            "changes_applied": move["progress"]["changes_applied"],
            "cutover_attempts": move["progress"]["cutover_attempts"],
            "transactions": {phase: report["phases"][phase]["transactions"] for phase in ("before", "during", "after")},
            "moved_p99_ms": {phase: report["focus"][phase]["p99_ms"] for phase in ("before", "during", "after")},
            "neighbours_p99_ms": {phase: report["others"][phase]["p99_ms"] for phase in ("before", "during")},
            "moved": placement["cluster"] == "dedicated" and self.server_port_of(MOVED) == self.dedicated.port,
            "neighbours_untouched": strangers == 0 and all(self.server_port_of(name) == self.shared.port for name in neighbours[:3]),
            "rows_equal": rows["ok"],
            "rows_different": rows["bad"],
            "source_fenced": self.is_fenced(),
        }

    def complete(self, move):
        say(f"completing the move: what {MOVED} left on the shared server goes away")
        self.porter.api("POST", f"/v1/moves/{move['id']}:complete")
        deadline = time.monotonic() + 60
        while self.porter.api("GET", f"/v1/moves/{move['id']}")["state"] != "completed":
            if time.monotonic() > deadline:
                raise Failed("the move isn't completed after 60 s")
            time.sleep(0.1)
        return self.artefacts_left()

    def stop(self):
        for started in reversed(self.running):
            started.stop()


ZERO = ("failed_queries", "lost", "doubled", "disordered", "wrong_tenant", "stale_reads", "wrong_answers", "reconnects", "rows_different",
        "artefacts_left")
TRUE = ("moved", "neighbours_untouched", "rows_equal", "source_fenced")


def what_broke(result):
    broken = [name for name in ZERO if result.get(name, 0) != 0]
    broken += [name for name in TRUE if result.get(name) is not True]
    broken += [f"inconsistent:{name}" for name in result["inconsistent_tenants"]]
    broken += [f"no transactions {phase}" for phase, count in result["transactions"].items() if count == 0]
    if result["rows_copied"] == 0:
        broken.append("no rows copied")
    return broken


def print_result(result, errors):
    transactions, pause = result["transactions"], result["pause_ms"]
    say()
    say(f"  transactions      {transactions['before']} before, {transactions['during']} during, {transactions['after']} after the move")
    say(f"  failed queries    {result['failed_queries']}; connections lost: {result['reconnects']}")
    say(f"  writes            {result['confirmed_writes']} acknowledged and there; lost: {result['lost']}; doubled: {result['doubled']}")
    say(f"  moved             {result['rows_copied']} rows copied, {result['changes_applied']} changes of the live traffic applied; "
        f"rows equal: {'yes' if result['rows_equal'] else 'NO'}")
    say(f"  the pause         {MOVED}'s clients waited {pause['p50']:.1f} ms in the median, {pause['max']:.1f} ms at the most; "
        f"held for {pause['mover']:.1f} ms")
    say(f"  the neighbours    p99 {result['neighbours_p99_ms']['before']:.1f} ms before, {result['neighbours_p99_ms']['during']:.1f} ms "
        "during the move")
    for error in errors[:10]:
        say(f"  error             {error['count']} x {error['tenant']}, {error['tried']}: {error['sqlstate']} {error['message']}")
    if result["broken"]:
        say(f"  DID NOT HOLD      {', '.join(result['broken'])}")
    say()


def print_where_to_look(demo, move):
    porter = demo.porter
    psql = f"PGPASSFILE={demo.pass_file} psql"
    bearer = f'-H "Authorization: Bearer $(cat {porter.token_file})"'
    say("Look around (everything ends with Ctrl-C):")
    for tenant in (MOVED, TENANTS[1]):
        say(f"  {psql} \"{demo.dsn(porter.port, 'app', tenant)}\"")
    say(f"  curl {bearer} {porter.admin_url}/v1/tenants/{MOVED}")
    say(f"  curl {bearer} {porter.admin_url}/v1/moves/{move['id']}")
    say(f"  curl {bearer} -X POST {porter.admin_url}/v1/moves/{move['id']}:complete     # drops what was left behind")
    say(f"  curl {bearer} -X POST -H 'Content-Type: application/json' -d '{{\"to\": {{\"cluster\": \"dedicated\"}}}}' "
        f"{porter.admin_url}/v1/tenants/{TENANTS[1]}:promote")
    say(f"  metrics: {porter.admin_url}/metrics    log: {porter.daemon.log}    configuration: {porter.config_file}")


def run(demo, is_check):
    demo.start_servers()
    rows = demo.load()
    demo.start_pgporter()
    demo.start_traffic()
    demo.warm_up()
    demo.work_for("before", demo.plan.phase_seconds)
    move = demo.promote()
    demo.work_for("after", demo.plan.phase_seconds)
    report = demo.end_traffic()
    result = demo.examine(report, move)
    result["rows_loaded"] = rows
    if is_check:
        result["artefacts_left"] = demo.complete(move)
    result["broken"] = what_broke(result)
    print_result(result, report["errors"])
    return result, report["errors"], move


def stay(demo):
    """Until Ctrl-C, or until something that it shows has ended."""
    while all(server.is_running() for server in (demo.shared.daemon, demo.dedicated.daemon, demo.porter.daemon)):
        time.sleep(0.5)
    raise Failed("a server has ended by itself; see the logs")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True, help="a build tree with pgporter and traffic in bin/")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    for program in ("pgporter", "traffic"):
        if not os.access(os.path.join(arguments.build, "bin", program), os.X_OK):
            sys.exit(f"demo: {arguments.build}/bin/{program} isn't there: cmake --build {arguments.build} --target {program}")
    for wanted in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(wanted, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    started = time.monotonic()
    folder = tempfile.mkdtemp(prefix="pgporter-demo.")
    os.chmod(folder, 0o755)  # the servers may run as another user
    demo, result, status, is_up = None, None, 1, False
    try:
        demo = Demo(os.path.abspath(arguments.build), Plan(arguments.quick), folder)
        result, errors, move = run(demo, arguments.check)
        status = 1 if result["broken"] else 0
        result = {"ok": status == 0, **result, "errors": errors[:10]}
        if not arguments.check:
            print_where_to_look(demo, move)
            is_up = True
            stay(demo)
    except KeyboardInterrupt:
        status = 0 if is_up and status == 0 else 130
        result = result or {"ok": False, "error": "interrupted"}
    except (Failed, StartError, ApiError, OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
        status = 1
        result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        if demo is not None and demo.porter is not None and demo.porter.daemon is not None:
            print(demo.porter.daemon.log_tail(25), file=sys.stderr)
        print(f"demo: {error}", file=sys.stderr)
        if isinstance(error, subprocess.CalledProcessError) and error.stderr:
            print(error.stderr, file=sys.stderr)
    finally:
        for wanted in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(wanted, signal.SIG_IGN)
        if demo is not None:
            demo.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.check:
        result["seconds"] = round(time.monotonic() - started, 1)
        say(json.dumps(result))
    return status


if __name__ == "__main__":
    sys.exit(main())
