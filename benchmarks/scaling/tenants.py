"""Thousands of tenants, each active once a second, on few server connections: does anybody starve, and what does a transaction cost beside the same
load of a single tenant?
"""

import os
import statistics
import sys

import loader
import poolers
import report as figures
import servers
import usage
from world import run_sql

POOL = 50
QUERY = "SELECT balance FROM small WHERE id = 17"


def make_schemas(server, count):
    for first in range(0, count, 250):
        run_sql(server, "; ".join(
            f"CREATE SCHEMA t{number} AUTHORIZATION app; CREATE TABLE t{number}.small (id int PRIMARY KEY, balance int NOT NULL);"
            f"INSERT INTO t{number}.small SELECT i, 0 FROM generate_series(1, 20) i; ALTER TABLE t{number}.small OWNER TO app"
            for number in range(first, min(first + 250, count))), "shared")


def backend_mib(server):
    """What PostgreSQL's processes have in memory for themselves, the pool's: grows with the tenants whose tables they have seen."""
    pids = [row[0] for row in run_sql(server, "SELECT pid FROM pg_stat_activity WHERE usename = 'app'")]
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith(("Private_Clean", "Private_Dirty")))
        except OSError:
            continue
    return total / 1024 / max(1, len(pids))


def run(arguments, target, database):
    count = arguments.active_tenants
    with loader.Loader(arguments.load, target, count, database=database, sql=QUERY) as load:
        load.run(2, 1000)
        cpu, machine = usage.cpu_seconds(target.daemon), usage.machine_seconds()
        done = load.run(arguments.tenant_seconds, 1000)
        cpu, machine = usage.cpu_seconds(target.daemon) - cpu, usage.machine_seconds() - machine
    each = max(1, done["transactions"])
    return {**done, "cpu_us": 1e6 * cpu / each, "machine_us": 1e6 * machine / each}


def tenants(arguments, folder, running, report):
    server = servers.start_postgres(folder, running, settings={"max_locks_per_transaction": "1024"})
    server.sql("CREATE ROLE app LOGIN; CREATE DATABASE shared OWNER app; CREATE DATABASE catalog")
    make_schemas(server, arguments.active_tenants)
    home = os.path.join(folder, "tenants-home")
    os.mkdir(home)
    porter = poolers.start_pgporter(home, server, arguments.binary, running, pool=POOL,
                                    tenants=poolers.schema_tenants([f"t{number}" for number in range(arguments.active_tenants)]))
    target = poolers.Target("pgporter", "", porter.port, "t0", porter.daemon)
    runs, memory = {"a single tenant": [], "each a tenant": []}, {}
    for _ in range(arguments.rounds):
        for name, database in (("a single tenant", "t0"), ("each a tenant", "t%")):
            runs[name].append(run(arguments, target, database))
            memory.setdefault(name, []).append(backend_mib(server))
            print(f"  tenants: {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    report.figures["tenants"] = {"runs": runs, "backend_mib": memory}
    single = runs["a single tenant"]
    for name, samples in runs.items():
        what = f"{arguments.active_tenants} clients once a second, {name}"
        for key, title in (("cpu_us", "CPU of pgporter a transaction"), ("machine_us", "CPU of the machine a transaction")):
            ratio = figures.ratio(samples, single, key)
            is_many = samples is not single
            report.add_spread("tenants", f"{what}: {title}", [sample[key] for sample in samples], "us",
                              ratio=f"{ratio['median']:.2f}" if is_many else "",
                              demand="<= 1.5" if is_many else "", met=ratio["median"] <= 1.5 if is_many else None)
        for key in ("p50_ms", "p99_ms", "max_ms"):
            report.add_spread("tenants", f"{what}: latency {key[:3]}", [sample[key] for sample in samples], "ms")
        due = int(arguments.tenant_seconds)
        fewest, late = min(sample["fewest_of_a_client"] for sample in samples), statistics.median(sample["late"] for sample in samples)
        report.add("tenants", f"{what}: fewest of any client, of {due}", str(fewest), "", f"late for the next {late:.0f}, "
                   f"unanswered {max(sample['unanswered'] for sample in samples)}", demand=f">= {due - 1}", met=fewest >= due - 1)
        report.add_spread("tenants", f"{what}: memory of a server process", memory[name], "MiB")
