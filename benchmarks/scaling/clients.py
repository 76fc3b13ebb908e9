"""10,000 idle clients: what each takes, what they cost while they are idle, and what 1,000 active ones lose by them. pgporter beside the others."""

import os
import sys
import time

import loader
import poolers
import report as figures
import servers
import usage

QUERY = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711"


def starters(arguments):
    """Who takes part: a name, and how it is started anew."""
    def bouncer(program, name):
        def start(folder, server, running, tls):
            daemon, port = poolers.start_pgbouncer(folder, server, running, program, tls, name=name)
            return poolers.Target(name, "", port, "shared", daemon)
        return start

    def odyssey(folder, server, running, tls):
        daemon, port = poolers.start_odyssey(folder, server, running, arguments.odyssey, tls)
        return poolers.Target("odyssey", "", port, "shared", daemon)

    def pgporter(folder, server, running, tls):
        porter = poolers.start_pgporter(folder, server, arguments.binary, running, tls)
        return poolers.Target("pgporter", "", porter.port, servers.TENANT, porter.daemon)
    out = {"pgporter": pgporter}
    for program in [poolers.DEBIAN_PGBOUNCER] * os.access(poolers.DEBIAN_PGBOUNCER, os.X_OK) + ([arguments.pgbouncer] if arguments.pgbouncer else []):
        out[poolers.name_of_pgbouncer(program)] = bouncer(program, poolers.name_of_pgbouncer(program))
    if arguments.odyssey:
        out["odyssey"] = odyssey
    return {name: start for name, start in out.items() if not arguments.who or name in arguments.who}


def warm(arguments, target, tls):
    with loader.Loader(arguments.load, target, 16, tls, sql=QUERY) as few:
        few.run(1)


def memory_and_idle(arguments, target, tls):
    """On a fresh process: bytes of an idle client, that has never sent a query, and after each has; and the share of a core that they cost."""
    warm(arguments, target, tls)
    before = usage.memory_bytes(target.daemon)
    with loader.Loader(arguments.load, target, arguments.idle, tls, sql=QUERY) as idle:
        time.sleep(1)
        after, cpu = usage.memory_bytes(target.daemon), usage.cpu_seconds(target.daemon)
        time.sleep(arguments.idle_seconds)
        share = (usage.cpu_seconds(target.daemon) - cpu) / arguments.idle_seconds
        # Each sends one query, evenly over two seconds.
        idle.run(2, 2000)
        time.sleep(1)
        queried = usage.memory_bytes(target.daemon)
    return {"bytes": (after - before) / arguments.idle, "bytes_after_a_query": (queried - before) / arguments.idle,
            "idle_share": share, "up_seconds": idle.up["seconds"]}


def active(arguments, target):
    """The active ones' transactions a second and the pooler's CPU for each, while the idle are there and when they are gone."""
    def work():
        with loader.Loader(arguments.load, target, arguments.active, sql=QUERY) as busy:
            busy.run(0.5)
            before = usage.cpu_seconds(target.daemon)
            done = busy.run(arguments.seconds)
            cpu = usage.cpu_seconds(target.daemon) - before
        return {"tps": done["transactions"] / done["seconds"], "p99_ms": done["p99_ms"], "cpu_us": 1e6 * cpu / max(1, done["transactions"])}
    with_idle, without = [], []
    for _ in range(arguments.rounds):
        with loader.Loader(arguments.load, target, arguments.idle):
            with_idle.append(work())
        without.append(work())
    return with_idle, without


def clients(arguments, folder, running, report):
    tls = servers.make_certificate(folder)
    server = servers.start_postgres(folder, running)
    servers.prepare_database(server, 1)
    count = f"{arguments.idle} idle clients"
    for name, start in starters(arguments).items():
        own = name == "pgporter"
        for with_tls in (False, True):
            mine = []
            home = os.path.join(folder, f"{name}{'-tls' * with_tls}")
            os.mkdir(home)
            os.chmod(home, 0o755)
            target = start(home, server, mine, tls)
            try:
                got = memory_and_idle(arguments, target, with_tls)
                kind, most = ("TLS", 15) if with_tls else ("plain", 3)
                kib, after = got["bytes"] / 1024, got["bytes_after_a_query"] / 1024
                report.add("clients", f"{name}: memory of each of {count}, {kind}", f"{kib:.2f}", "KiB", f"after a query {after:.2f}",
                           demand=f"<= {most}" if own else "", met=kib <= most if own else None)
                report.add("clients", f"{name}: CPU of {count}, {kind}", f"{100 * got['idle_share']:.3f}", "% of a core",
                           f"came up in {got['up_seconds']:.1f} s",
                           demand="< 0.1" if own else "", met=got["idle_share"] < 0.001 if own else None)
                report.figures.setdefault("clients", {}).setdefault(name, {})[kind] = got
                print(f"  clients: {name}, {kind}: {kib:.2f} KiB", file=sys.stderr, flush=True)
                if not with_tls:
                    with_idle, without = active(arguments, target)
                    report.figures["clients"][name]["active"] = {"with_idle": with_idle, "without": without}
                    ratio = figures.ratio(with_idle, without, "tps")
                    cpu = figures.ratio(with_idle, without, "cpu_us")
                    report.add_spread("clients", f"{name}: {arguments.active} active beside {count}", [run["tps"] for run in with_idle], "tps", ".0f",
                                      ratio=f"{ratio['median']:.2f} of without; CPU {cpu['median']:.2f}")
                    report.add_spread("clients", f"{name}: CPU a transaction of {arguments.active} active", [run["cpu_us"] for run in without], "us")
            finally:
                for started in reversed(mine):
                    started.stop()
