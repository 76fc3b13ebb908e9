"""Large catalogs: start-up, memory of a tenant, what a change costs, and what a transaction costs when the tenant is one of very many."""

import os
import statistics
import sys
import time

import loader
import poolers
import report as figures
import servers
import usage
from world import run_sql

PLACED = ("INSERT INTO pgporter.tenants (name, kind, cluster, database, schema) "
          "SELECT 't' || i, 'schema', 'shared', 'shared', 't' || i FROM generate_series({0}, {1}) i")
CHANGES = 50


def started(porter):
    """Starts it again: seconds until it is ready."""
    porter.stop()
    began = time.monotonic()
    porter.start()
    return time.monotonic() - began


def served_version(porter):
    for line in porter.api("GET", "/metrics").splitlines():
        if line.startswith("pgporter_catalog_version "):
            return int(float(line.split()[1]))
    return 0


def version(server):
    return run_sql(server, "SELECT version FROM pgporter.catalog_version", "catalog")[0][0]


def wait_served(porter, wanted, pause=0.001, timeout_s=120):
    deadline = time.monotonic() + timeout_s
    while served_version(porter) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"version {wanted} of the catalog isn't served after {timeout_s} s")
        time.sleep(pause)


def one_change(server, porter, number):
    """Seconds from the commit of another's change to its being served here."""
    run_sql(server, f"UPDATE pgporter.tenants SET sessions_max = {number} WHERE name = 't{1 + number % 1000}'", "catalog")
    began = time.monotonic()
    wait_served(porter, version(server))
    return time.monotonic() - began


def change_costs(server, porter):
    """Milliseconds until a change is seen (median), the CPU of one in milliseconds, and the CPU and time of reading everything again."""
    seen = [one_change(server, porter, number) for number in range(20)]
    time.sleep(0.5)
    cpu = usage.cpu_seconds(porter.daemon)
    for number in range(100, 100 + CHANGES):
        run_sql(server, f"UPDATE pgporter.tenants SET sessions_max = {number} WHERE name = 't{1 + number % 1000}'", "catalog")
        time.sleep(0.02)  # so that each is an update of its own
    wait_served(porter, version(server), 0.05)
    one = (usage.cpu_seconds(porter.daemon) - cpu) / CHANGES
    cpu, began = usage.cpu_seconds(porter.daemon), time.monotonic()
    run_sql(server, "UPDATE pgporter.clusters SET server_connections_max = server_connections_max + 1", "catalog")
    wait_served(porter, version(server), 0.02)
    whole = time.monotonic() - began
    time.sleep(0.2)
    return {"seen_ms": [1000 * value for value in seen], "cpu_ms": 1000 * one, "whole_s": whole,
            "whole_cpu_s": usage.cpu_seconds(porter.daemon) - cpu}


def peak_bytes(daemon):
    with open(f"/proc/{daemon.pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))


def catalog(arguments, folder, running, report):
    server = servers.start_postgres(folder, running)
    server.sql("CREATE ROLE app LOGIN; CREATE DATABASE shared OWNER app; CREATE DATABASE catalog")
    home = os.path.join(folder, "catalog-home")
    os.mkdir(home)
    porter = poolers.start_pgporter(home, server, arguments.binary, running, tenants=[])
    empty_s = started(porter)
    empty = usage.memory_bytes(porter.daemon)
    report.add("catalog", "no tenants: start-up", f"{empty_s:.2f}", "s", f"memory {empty / 2**20:.1f} MiB")
    there = 0
    for count in arguments.tenants:
        run_sql(server, PLACED.format(there + 1, count), "catalog")
        run_sql(server, "ANALYZE pgporter.tenants", "catalog")
        there = count
        starts = [started(porter) for _ in range(2)]
        time.sleep(1)
        memory, peak = usage.memory_bytes(porter.daemon), peak_bytes(porter.daemon)
        each = (memory - empty) / count
        costs = change_costs(server, porter)
        later = usage.memory_bytes(porter.daemon)
        report.figures.setdefault("catalog", {})[count] = {"start_s": starts, "bytes": each, "memory": memory, "peak": peak,
                                                           "after_changes": later, **costs}
        print(f"  catalog: {count} tenants: {each:.0f} bytes each", file=sys.stderr, flush=True)
        what = f"{count} tenants"
        report.add_spread("catalog", f"{what}: start-up", starts, "s", ".2f")
        report.add("catalog", f"{what}: memory of each", f"{each:.0f}", "bytes", f"process {memory / 2**20:.0f} MiB, peak {peak / 2**20:.0f}, "
                   f"after a whole read {later / 2**20:.0f}", demand="<= 400", met=each <= 400)
        report.add_spread("catalog", f"{what}: a change in the catalog is served after", costs["seen_ms"], "ms")
        report.add("catalog", f"{what}: CPU of a change", f"{costs['cpu_ms']:.2f}", "ms")
        report.add("catalog", f"{what}: everything is read again", f"{costs['whole_s']:.2f}", "s", f"CPU {costs['whole_cpu_s']:.2f} s")


# ---- what naming one of very many costs

def work(arguments, target, database):
    with loader.Loader(arguments.load, target, arguments.named_clients, database=database,
                       sql="SELECT abalance FROM bench.pgbench_accounts WHERE aid = 4711") as busy:
        busy.run(1)
        before = usage.cpu_seconds(target.daemon)
        done = busy.run(arguments.seconds)
        cpu = usage.cpu_seconds(target.daemon) - before
    return {"tps": done["transactions"] / done["seconds"], "cpu_us": 1e6 * cpu / max(1, done["transactions"]), "p99_ms": done["p99_ms"]}


def named(arguments, folder, running, report):
    """The same clients: of the only tenant there is; of one among 100,000; each of another tenant among these."""
    server = servers.start_postgres(folder, running)
    servers.prepare_database(server, 1)
    run_sql(server, "; ".join(f"CREATE SCHEMA t{number} AUTHORIZATION app" for number in range(1000)), "shared")
    home = os.path.join(folder, "named-home")
    os.mkdir(home)
    alone = poolers.start_pgporter(os.path.join(home, "alone"), server, arguments.binary, running, tenants=poolers.schema_tenants(["t0"]))
    server.sql("CREATE DATABASE many")
    many = poolers.start_pgporter(os.path.join(home, "many"), server, arguments.binary, running, tenants=[], name="many",
                                  config={"catalog": {"dsn": poolers.CATALOG.format(port=server.port).replace("dbname=catalog", "dbname=many")}})
    run_sql(server, PLACED.format(0, arguments.named_tenants - 1), "many")
    started(many)
    targets = {"the only tenant": (poolers.Target("", "", alone.port, "t0", alone.daemon), "t0"),
               f"one of {arguments.named_tenants}": (poolers.Target("", "", many.port, "t0", many.daemon), "t0"),
               f"each another of {arguments.named_tenants}": (poolers.Target("", "", many.port, "t%", many.daemon), "t%")}
    runs = {name: [] for name in targets}
    for _ in range(arguments.rounds):
        for name, (target, database) in targets.items():
            runs[name].append(work(arguments, target, database))
    report.figures["named"] = runs
    first = next(iter(runs))
    for name, samples in runs.items():
        ratio = figures.ratio(samples, runs[first], "cpu_us") if name != first else None
        report.add_spread("named", f"{arguments.named_clients} clients, {name}: CPU a transaction", [run["cpu_us"] for run in samples], "us",
                          ratio=f"{ratio['median']:.2f}" if ratio else "", demand="<= 1.10" if ratio else "",
                          met=ratio["median"] <= 1.10 if ratio else None)
        report.add_spread("named", f"{arguments.named_clients} clients, {name}", [run["tps"] for run in samples], "tps", ".0f",
                          ratio=f"p99 {statistics.median(run['p99_ms'] for run in samples):.1f} ms")
