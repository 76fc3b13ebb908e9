"""How fast a backlog of changes is applied: by pgporter's mover and by a native subscription, from the same log, taking turns; and the mover's memory
meanwhile. The backlog is written while the one is stopped (SIGSTOP) and the other disabled.
"""

import os
import signal
import statistics
import subprocess
import sys
import time

from world import POSTGRES_BIN, MoveFailed, World, calm, connect, run_sql

TENANT = """
CREATE SCHEMA stream AUTHORIZATION app;
SET ROLE app;
CREATE TABLE stream.account (id int PRIMARY KEY, owner text NOT NULL, balance numeric(14, 2) NOT NULL, note text NOT NULL, at timestamptz NOT NULL);
CREATE INDEX ON stream.account (owner);
CREATE TABLE stream.entry (id bigint PRIMARY KEY, account int NOT NULL REFERENCES stream.account, amount numeric(14, 2) NOT NULL, what text NOT NULL,
                           at timestamptz NOT NULL);
CREATE INDEX ON stream.entry (account);
CREATE TABLE stream.mark (id int PRIMARY KEY);
INSERT INTO stream.account SELECT i, 'owner ' || i % 5000, i, repeat('n', 60), now() FROM generate_series(1, 200000) i;
INSERT INTO stream.entry SELECT i, 1 + i % 200000, i / 100.0, 'opening entry ' || i, now() FROM generate_series(1, 200000) i;
RESET ROLE;
ANALYZE;
"""
# Each makes `changes` row changes; {0} is the first free id of stream.entry.
SHAPES = {
    # One entry, its account, and now and then an old entry: what an application's request does.
    "short transactions": (3, """DO $$ BEGIN
  FOR i IN {0} .. {0} + {1} / 3 - 1 LOOP
    INSERT INTO stream.entry VALUES (i, 1 + i::bigint * 7919 % 200000, i / 100.0, 'entry ' || i, now());
    UPDATE stream.account SET balance = balance + 1, at = now() WHERE id = 1 + i::bigint * 7919 % 200000;
    IF i % 4 = 0 THEN DELETE FROM stream.entry WHERE id = i - 3; ELSE UPDATE stream.account SET note = 'changed ' || i WHERE id = 1 + i::bigint * 104729 % 200000; END IF;
    COMMIT;
  END LOOP; END $$"""),
    # 500 new entries, 400 accounts, 100 old entries: a job that works in batches.
    "transactions of 1,000 rows": (1000, """DO $$ BEGIN
  FOR t IN 0 .. {1} / 1000 - 1 LOOP
    INSERT INTO stream.entry SELECT {0} + t * 500 + i, 1 + (t * 500 + i)::bigint * 7919 % 200000, i / 100.0, 'entry ' || i, now() FROM generate_series(0, 499) i;
    UPDATE stream.account SET balance = balance + 1, at = now() WHERE id BETWEEN 1 + t * 400 % 199000 AND t * 400 % 199000 + 400;
    DELETE FROM stream.entry WHERE id BETWEEN {0} + t * 500 AND {0} + t * 500 + 99;
    COMMIT;
  END LOOP; END $$"""),
}


def write_backlog(world, shape, changes, number):
    per, text = SHAPES[shape]
    first = run_sql(world.source, "SELECT max(id) + 1 FROM stream.entry", "app")[0][0]
    changes -= changes % per
    connection = connect(world.source, "app")
    cursor = connection.cursor()
    cursor.execute("SET synchronous_commit = off")
    cursor.execute(text.format(first, changes))
    cursor.execute("SET synchronous_commit = on")
    cursor.execute("INSERT INTO stream.mark VALUES (%s)", (number,))
    connection.close()
    return changes


def wait_marked(world, database, number, sample=None, timeout_s=3600):
    connection = connect(world.target, database)
    cursor = connection.cursor()
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        cursor.execute("SELECT 1 FROM stream.mark WHERE id = %s", (number,))
        if cursor.fetchone():
            connection.close()
            return
        if sample:
            sample()
        time.sleep(0.02)
    raise MoveFailed(f"the backlog isn't applied in {database} after {timeout_s} s")


def by_pgporter(world, number):
    """Seconds, and the most memory meanwhile (MiB)."""
    most = [world.rss_mib()]
    began = time.monotonic()
    os.kill(world.porter.daemon.pid, signal.SIGCONT)
    wait_marked(world, "stream", number, lambda: most.append(world.rss_mib()))
    return time.monotonic() - began, max(most)


def by_subscription(world, number):
    began = time.monotonic()
    run_sql(world.target, "ALTER SUBSCRIPTION native ENABLE", "native")
    wait_marked(world, "native", number)
    return time.monotonic() - began


def subscribe(world):
    """The same schema and rows in a database `native` of the target, kept by a subscription of PostgreSQL's own."""
    run_sql(world.target, "CREATE DATABASE native OWNER app")
    dumped = subprocess.run([f"{POSTGRES_BIN}/pg_dump", "-s", "-n", "stream", "-h", "127.0.0.1", "-p", str(world.source.port), "-U", "postgres", "app"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True, start_new_session=True).stdout
    world.target.sql(dumped, "native")
    run_sql(world.source, "CREATE PUBLICATION native FOR TABLE stream.account, stream.entry, stream.mark", "app")
    run_sql(world.target, f"CREATE SUBSCRIPTION native CONNECTION 'host=127.0.0.1 port={world.source.port} user=postgres dbname=app' PUBLICATION native",
            "native")
    deadline = time.monotonic() + 600
    while run_sql(world.target, "SELECT 1 FROM pg_subscription_rel WHERE srsubstate <> 'r'", "native"):
        if time.monotonic() > deadline:
            raise MoveFailed("the native subscription doesn't get ready")
        time.sleep(0.1)
    run_sql(world.target, "ANALYZE", "native")


def rows_of(world, server, database):
    return run_sql(server, "SELECT (SELECT sum(hashtext(e::text))::bigint FROM stream.entry e), (SELECT sum(hashtext(a::text))::bigint FROM stream.account a)",
                   database)


def apply(arguments, folder, running, report):
    world = World(folder, arguments.binary, running)
    run_sql(world.source, TENANT, "app")
    world.add_tenants(["stream"])
    subscribe(world)
    move = world.promote("stream", cutover=False)
    world.wait_compared(move)
    report.figures["apply"] = {}
    number = 0
    for shape in SHAPES:
        rates, memory = {"pgporter": [], "subscription": []}, []
        cpu = {name: [] for name in rates}
        for turn in range(arguments.rounds):
            number += 1
            quiet_mib = world.rss_mib()
            os.kill(world.porter.daemon.pid, signal.SIGSTOP)
            run_sql(world.target, "ALTER SUBSCRIPTION native DISABLE", "native")
            changes = write_backlog(world, shape, arguments.changes, number)
            calm(world.source, world.target)
            for name in (("pgporter", "subscription"), ("subscription", "pgporter"))[turn % 2]:
                before = world.cpu_seconds()
                if name == "pgporter":
                    took, most = by_pgporter(world, number)
                    memory.append((quiet_mib, most))
                else:
                    took = by_subscription(world, number)
                rates[name].append(changes / took)
                cpu[name].append((world.cpu_seconds() - before) / changes * 1e6)
                print(f"  apply: {shape}, {name}: {changes / took:.0f} changes/s, {cpu[name][-1]:.1f} us of CPU each", file=sys.stderr, flush=True)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(*rates.values()))
        report.add_spread("apply", f"{changes} changes in {shape}: pgporter", rates["pgporter"], "changes/s", ".0f",
                          ratio=f"{ratio:.2f} of the subscription", demand=">= 1.0", met=ratio >= 1)
        report.add_spread("apply", "a native subscription", rates["subscription"], "changes/s", ".0f")
        for name, values in cpu.items():
            report.add_spread("apply", f"CPU of a change, {name} with both servers", values, "us")
        report.add("apply", "pgporter's memory before, and most while it caught up",
                   " / ".join(f"{value:.0f}" for value in max(memory, key=lambda pair: pair[1] - pair[0])), "MiB")
        report.figures["apply"][shape] = {"rates": rates, "cpu_us": cpu, "memory_mib": memory, "changes": changes}
    states = {rows_of(world, world.source, "app")[0], rows_of(world, world.target, "stream")[0], rows_of(world, world.target, "native")[0]}
    report.add("apply", "source, pgporter's target and the subscription's hold the same", "", "", demand="yes", met=len(states) == 1)
    run_sql(world.target, "ALTER SUBSCRIPTION native DISABLE", "native")
    run_sql(world.target, "ALTER SUBSCRIPTION native SET (slot_name = NONE)", "native")
    world.cancel(move)
