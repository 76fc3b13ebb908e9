"""The parts of benchmarks/compare: what each measures, and its table."""

import os
import sys
import tempfile

import bulk
import counts
import hot_spots
import loader
import pgbench
import report
from report import cell, with_range
import usage

TITLES = {"transactions": "transactions", "counts": "system calls and heap allocations of one transaction",
          "bulk": "big results and COPY, one connection",
          "logins": "logins with SCRAM"}


def ways(arguments):
    """Plain, over TLS, or both."""
    return {None: (False,), "only": (True,), "both": (False, True)}[arguments.tls]


def transactions(arguments, stage, show):
    for tls in ways(arguments):
        for clients in arguments.clients:
            for mode in arguments.modes:
                labels = {"part": "transactions", "mode": mode, "clients": clients, "tls": tls}
                samples, refused = report.interleave(
                    stage.targets, arguments.rounds, f"{mode}, {clients} clients",
                    lambda target, warm, mode=mode, clients=clients, tls=tls: pgbench.run(
                        target, mode, clients, 1 + clients // 100 if warm else arguments.seconds, tls, stage.folder), pgbench.Refused)
                rows = report.rows_of(labels, samples, refused, ("direct", stage.peer))
                if clients == 1:
                    report.added_latency(samples, refused, stage.peer, rows[-1])
                show(rows)


def profile(arguments, stage, _):
    """Texts in the folder that --profile names; nothing for the table."""
    clients = nearest_16(arguments.clients)
    for tls in ways(arguments):
        for mode in arguments.modes:
            path = os.path.join(arguments.profile, f"{mode}{'-tls' * tls}.txt")
            trouble = hot_spots.write(stage.targets[-1], mode, clients, max(2, arguments.seconds), tls, stage.folder, path)
            print(f"  profile of {mode}: {'n/a: ' + trouble if trouble else path}", file=sys.stderr, flush=True)


def nearest_16(clients):
    return min(clients, key=lambda number: abs(number - 16))


def count_one(target, mode, clients, tls, stage, counter):
    """The row's figures, and what couldn't be counted."""
    figures, trouble = {}, []
    try:
        figures.update(counts.syscalls(target, mode, clients, tls, stage.folder, stage.arguments.counted))
    except counts.Uncountable as reason:
        trouble.append(f"system calls: {reason}")
    except pgbench.Refused as reason:
        return {}, [str(reason)]
    if counter:
        allocations, counted = counter
        try:
            figures.update(allocations.per_transaction(counted, mode, clients, tls, stage.folder, stage.arguments.counted))
        except (counts.Uncountable, pgbench.Refused) as reason:
            trouble.append(f"allocations: {reason}")
    return {key: {"median": value, "min": value, "max": value} for key, value in figures.items()}, trouble


def count(arguments, stage, show):
    """Each pooler once more with the counter preloaded, for the allocations; the system calls are those of the usual one."""
    clients, counters = nearest_16(arguments.clients), {}
    try:
        shim, made = counts.compile_shim(stage.folder), {}

        def environment_of(name):
            made[name] = counts.Allocations(tempfile.mkdtemp(dir=stage.folder_for_all), shim)
            return made[name].environment()
        for target in stage.start("-counted", env_of=environment_of):
            if target.daemon:
                counters[target.name] = (made[target.name], target)
    except counts.Uncountable as reason:
        print(f"compare: no heap allocations: {reason}", file=sys.stderr)
    for tls in ways(arguments):
        for mode in arguments.modes:
            rows = []
            for target in stage.targets:
                if target.daemon is None:
                    continue
                figures, trouble = count_one(target, mode, clients, tls, stage, counters.get(target.name))
                row = {"part": "counts", "mode": mode, "clients": clients, "tls": tls, "target": target.name}
                rows.append({**row, **({"figures": figures} if figures else {}), **({"refused": "; ".join(trouble)} if trouble else {})})
            show(rows)


def move_bulk(arguments, stage, show):
    for tls in ways(arguments):
        for what in bulk.WHAT:
            samples, refused = report.interleave(
                stage.targets, arguments.rounds, what, lambda target, warm, what=what, tls=tls: bulk.run(target, what,
                    10 if warm else arguments.mib, tls),
                (bulk.BulkFailed, bulk.wire_client.ServerError, bulk.wire_client.WireError, OSError))
            show(report.rows_of({"part": "bulk", "mode": what, "clients": 1, "tls": tls}, samples, refused, ("direct", stage.peer)))


def log_in(arguments, stage, show):
    """16 clients that connect, log in and leave. The generator computes PBKDF2 once, so that it isn't what limits them."""
    targets = stage.start("-scram", scram=True)
    for tls in (False, True):
        def run(target, warm, tls=tls):
            before = usage.cpu_seconds(target.daemon)
            done = loader.logins(arguments.load, target, 16, 0.5 if warm else arguments.seconds, tls)
            cpu = usage.cpu_seconds(target.daemon) - before
            return {"per_s": done["logins"] / done["seconds"], "cpu_ms": 1000 * cpu / done["logins"] if target.daemon and done["logins"] else None}
        samples, refused = report.interleave(targets, arguments.rounds, "logins" + (" over TLS" if tls else ""), run, loader.LoadFailed)
        show(report.rows_of({"part": "logins", "mode": "scram", "clients": 16, "tls": tls}, samples, refused, ("direct", stage.peer)))


PARTS = {"transactions": transactions, "counts": count, "bulk": move_bulk, "logins": log_in}

# ---- tables

def where(row):
    return f"{row['mode']}, {row['clients']} client{'s' if row['clients'] > 1 else ''}" + (", TLS" if row["tls"] else "")


def columns_of(part, peer):
    """(heading, what a row shows there)."""
    def figure(key, form):
        return lambda row: cell(row["figures"].get(key), form)

    def spread(key, form):
        return lambda row: with_range(row["figures"].get(key), form)

    def against(name, key):
        return lambda row: with_range(row.get("against", {}).get(name, {}).get(key), ".2f")
    if part == "transactions":
        return [("tps", spread("tps", ".0f")), ("p50 ms", figure("p50_ms", ".3f")), ("p95 ms", figure("p95_ms", ".3f")),
                ("p99 ms", figure("p99_ms", ".3f")),
                ("CPU us", spread("cpu_us", ".1f")), ("machine us", figure("machine_us", ".0f")), ("tps / direct", against("direct", "tps")),
                (f"tps / {peer}", against(peer, "tps")), (f"CPU / {peer}", against(peer, "cpu_us")), ("p99", against(peer, "p99_ms"))]
    if part == "counts":
        return [("system calls", figure("syscalls", ".2f")), ("of these EAGAIN", figure("eagain", ".2f")),
                ("allocations", figure("allocations", ".3f")),
                ("bytes", figure("allocated_bytes", ".0f"))]
    key, form = {"bulk": ("mb_per_s", ".0f"), "logins": ("per_s", ".0f")}[part]
    cpu, cpu_form = {"bulk": ("cpu_s_per_gb", ".2f"), "logins": ("cpu_ms", ".3f")}[part]
    heads = {"bulk": ("MB/s", "CPU s/GB"), "logins": ("logins/s", "CPU ms/login")}[part]
    return [(heads[0], spread(key, form)), (heads[1], spread(cpu, cpu_form)), (f"{heads[0]} / direct", against("direct", key)),
            (f"{heads[0]} / {peer}", against(peer, key)), (f"CPU / {peer}", against(peer, cpu))]


def print_part(part, rows, peer):
    columns = columns_of(part, peer)
    print(f"\n{TITLES[part]}")
    lines, last = [], None
    for row in rows:
        if where(row) != last:
            lines.append(["", where(row)])
            last = where(row)
        if "figures" in row:
            lines.append([row["target"], *(show(row) for _, show in columns)])
        if row.get("refused"):
            lines.append([row["target"], "n/a: " + row["refused"]])
        for key, value in row.get("added", {}).items():
            lines.append([row["target"], f"adds to PostgreSQL's {key[:3]} {with_range(value, '.2f')} of what {peer} adds"])
    report.print_table(["", *(head for head, _ in columns)], lines)
