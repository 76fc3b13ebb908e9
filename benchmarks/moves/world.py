"""The servers of benchmarks/move: source, target and catalog with fsync on, one pgporter, and what is asked of it. Everything that is started is
in `running` and is ended by its own process id.
"""

import os
import statistics
import sys
import time

import psycopg2

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
from private_pgporter import ApiError, PrivatePgporter, to_yaml  # noqa: E402
from private_postgres import POSTGRES_BIN, Daemon, PrivatePostgres, StartError  # noqa: E402

ROLE = "app"
MOVED = "reversing"  # promoted, and its way back is followed
# A server as it is installed, but for what a move needs and for memory and log that fit the sizes here. No autovacuum: it would come by chance.
# Nobody hears from a mover that is stopped for a while (the backlog): no time limit on replication.
SETTINGS = {"wal_level": "logical", "fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "4GB", "autovacuum": "off",
            "max_connections": "150", "max_wal_senders": "12", "max_replication_slots": "12", "max_locks_per_transaction": "256",
            "wal_sender_timeout": "0"}
ENDS = {MOVED, "opened", "completed", "aborted", "rolled_back"}


class MoveFailed(Exception):
    """A move ended otherwise than it should."""


def connect(server, database, user="postgres", **more):
    connection = psycopg2.connect(host="127.0.0.1", port=server.port, dbname=database, user=user, connect_timeout=10, **more)
    connection.autocommit = True
    return connection


def run_sql(server, text, database="postgres", values=None):
    connection = connect(server, database)
    try:
        cursor = connection.cursor()
        cursor.execute(text, values)
        return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


class World:
    def __init__(self, folder, binary, running, mover=None, settings=None):
        self.servers = {}
        for name in ("source", "target", "catalog"):
            server = PrivatePostgres(name, folder, {**SETTINGS, **(settings or {})}, auth="trust")
            running.append(server)
            self.servers[name] = server.start()
            server.sql(f"CREATE ROLE {ROLE} LOGIN")
        self.source, self.target, self.catalog = self.servers.values()
        self.source.sql(f"CREATE DATABASE app OWNER {ROLE}")
        self.catalog.sql("CREATE DATABASE catalog")
        self.porter = PrivatePgporter(folder, binary, {
            "catalog": {"dsn": f"host=127.0.0.1 port={self.catalog.port} dbname=catalog user=postgres"},
            "mover": {"user": "postgres", **(mover or {})}, "limits": {"auth_failures_max": 0}}, client_auth="trust")
        running.append(self.porter)
        self.porter.start()
        self.tenants, self.databases = [], []

    def add_tenants(self, names, **placement):
        """Tenants with a schema of their name in the database app, or placed as `placement` says."""
        for name in names:
            entry = {"name": name.replace("_", "-"), "placement": {"kind": "schema", "cluster": "main", "database": "app", "schema": name}}
            if placement:
                entry = {"name": name, **placement}
            self.tenants.append(entry)
        document = {"clusters": [{"name": name, "host": "127.0.0.1", "port": server.port}
                                 for name, server in (("main", self.source), ("own", self.target))],
                    "users": [{"name": ROLE, "tenants": "*"}], "tenants": self.tenants}
        if self.databases:
            document["databases"] = self.databases
        self.porter.api("POST", "/v1/apply", to_yaml(document), content_type="application/yaml")

    def client(self, tenant):
        """What psycopg2.connect() needs to come in by pgporter's door."""
        return {"host": "127.0.0.1", "port": self.porter.port, "user": ROLE, "dbname": "app", "options": "-c pgporter.tenant=" + tenant,
                "connect_timeout": 15}

    # -- moves
    def promote(self, tenant, database=None, **more):
        """The move's id."""
        body = {"to": {"cluster": "own", "database": database or tenant}, **more}
        return self.porter.api("POST", f"/v1/tenants/{tenant}:promote", body)["id"]

    def move(self, move):
        return self.porter.api("GET", f"/v1/moves/{move}")

    def act(self, move, what):
        self.porter.api("POST", f"/v1/moves/{move}:{what}", {})

    def wait(self, move, *states, timeout_s=7200, every_s=0.05):
        deadline = time.monotonic() + timeout_s
        while True:
            body = self.move(move)
            if body["state"] in states:
                return body
            if body["state"] in ENDS - set(states) and body.get("finished") or time.monotonic() > deadline:
                raise MoveFailed(f"move {move} is {body['state']} and not {' or '.join(states)}: {body.get('error')} {body['progress']['note']}\n"
                                 + self.porter.daemon.log_tail())
            time.sleep(every_s)

    def wait_compared(self, move, timeout_s=7200):
        """Until a move without cutover waits for one."""
        deadline = time.monotonic() + timeout_s
        while True:
            body = self.move(move)
            if "waits for the cutover" in body["progress"]["note"]:
                return body
            if body["finished"] or time.monotonic() > deadline:
                raise MoveFailed(f"move {move} is {body['state']}: {body.get('error')}\n" + self.porter.daemon.log_tail())
            time.sleep(0.05)

    def cancel(self, move):
        self.act(move, "cancel")
        self.wait(move, "aborted")

    def roll_back(self, move):
        self.act(move, "rollback")
        return self.wait(move, "rolled_back", every_s=0.02)

    def steps(self, move):
        """When it entered each state (seconds since 1970); the last time counts."""
        return dict(run_sql(self.catalog, "SELECT state, extract(epoch FROM at)::float8 FROM pgporter.move_steps WHERE move = %s ORDER BY id",
                            "catalog", (move,)))

    def cpu_seconds(self):
        return cpu_seconds(self.source.daemon.pid, self.target.daemon.pid, self.porter.daemon.pid)

    def rss_mib(self):
        with open(f"/proc/{self.porter.daemon.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
        return 0.0


def cpu_seconds(*postmasters):
    """Of these processes and all they have started, living or gone: what a run has cost, whatever else the machine does."""
    total = 0
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(entry) in postmasters:
            total += sum(int(field) for field in fields[11:15])
        elif int(fields[1]) in postmasters:
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def calm(*servers):
    """Nobody pays for what another wrote before."""
    for server in servers:
        run_sql(server, "CHECKPOINT")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else None


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "count": len(values)}


class Report:
    """The lines of the one table, and the figures beside it."""

    def __init__(self):
        self.lines, self.figures = [], {}

    def add(self, scenario, what, value, unit, spread_text="", ratio="", demand="", met=None):
        self.lines.append((scenario, what, value, unit, spread_text, ratio, demand, {None: "", True: "yes", False: "NO"}[met]))

    def add_spread(self, scenario, what, values, unit, form=".1f", **more):
        figures = spread(values)
        self.add(scenario, what, format(figures["median"], form), unit, f"{figures['min']:{form}}..{figures['max']:{form}} (n {figures['count']})", **more)

    def show(self):
        heads = ("scenario", "what", "median", "unit", "spread", "ratio", "wanted", "met")
        widths = [max(len(str(line[column])) for line in [heads, *self.lines]) for column in range(len(heads))]
        for line in [heads, *self.lines]:
            print("  ".join(str(cell).rjust(width) if column == 2 else str(cell).ljust(width)
                            for column, (cell, width) in enumerate(zip(line, widths))).rstrip())
