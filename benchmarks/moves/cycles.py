"""Promote and roll back a tenant again and again while it works: what its clients wait, and what fails. And what neighbours feel of a copy."""

import os
import re
import statistics
import time

import load
from world import MOVED, World, percentile, run_sql

BEFORE, AFTER = 0.005, 0.030  # seconds around a pause in which a transaction counts as one that met it


def phases_of(folder):
    """Of every pause, from pgporter's log: what took how long (us)."""
    with open(os.path.join(folder, "pgporter", "pgporter.log"), encoding="utf-8") as log:
        found = re.findall(r'info (move_cut_over|move_rolled_back) .*phases_us="([^"]*)"', log.read())
    return {name: [[(words[i], int(words[i + 1])) for i in range(0, len(words), 2)] for kind, text in found if kind == name for words in [text.split()]]
            for name in ("move_cut_over", "move_rolled_back")}


def cycles(arguments, folder, running, report):
    world = World(folder, arguments.binary, running)
    for name in ("busy", "next_door"):
        run_sql(world.source, load.SCHEMA.format(name, load.ACCOUNTS), "app")
    world.add_tenants(["busy", "next_door"])
    clients = load.Load([world.client("busy")] * arguments.clients, arguments.rate)
    neighbours = load.Load([world.client("next-door")] * arguments.clients, arguments.rate)
    time.sleep(2)
    pauses, flips = {"promote": [], "rollback": []}, {"promote": [], "rollback": []}
    took, attempts = [], 0
    began = time.time()
    for _ in range(arguments.cycles):
        at = time.monotonic()
        move = world.promote("busy")
        moved = world.wait(move, MOVED)
        attempts += moved["progress"]["cutover_attempts"]
        took.append(time.monotonic() - at)
        back = world.roll_back(move)
        attempts += back["progress"]["cutover_attempts"]
        steps = world.steps(move)
        for way, body, state in (("promote", moved, "flipped"), ("rollback", back, "flipped_back")):
            pauses[way].append(body["progress"]["pause_ms"])
            flips[way].append((steps[state], body["progress"]["pause_ms"] / 1000))
    ended = time.time()
    samples, errors, written = clients.stop()
    others, other_errors, _ = neighbours.stop()
    stored = run_sql(world.source, "SELECT count(*), (SELECT sum(balance)::bigint FROM busy.account) FROM busy.ledger", "app")[0]
    # The flip is written shortly before its answer comes: the pause ends a little after it.
    longest = [max(load.met(samples, at - pause - BEFORE, at + AFTER), key=lambda sample: sample[1], default=(0, 0, 0, 0, 0))
               for way in flips for at, pause in flips[way]]
    waits = [sample[1] * 1000 for sample in longest]
    quiet = [sample[1] * 1000 for sample in samples if sample[0] < began]
    report.figures["cycles"] = {"pauses_ms": pauses, "client_waits_ms": waits, "longest": longest, "errors": errors[:20], "promote_seconds": took,
                                "gave_way": attempts, "transactions": len(samples)}
    both = pauses["promote"] + pauses["rollback"]
    kept = stored == (written, written)
    report.add("cycles", f"failed of {len(samples)} transactions in {arguments.cycles} cycles", len(errors) + len(other_errors), "", demand="0",
               met=not errors and not other_errors)
    report.add("cycles", f"writes acknowledged {written}, stored {stored[0]}, summed {stored[1]}", "", "", demand="equal", met=kept)
    for name, values in (("mover's pause", both), ("longest transaction of a client", waits)):
        for percent, bound in ((50, 10), (99, 40)):
            value = percentile(values, percent)
            report.add("cycles", f"{name}, p{percent}", f"{value:.1f}", "ms", f"{min(values):.1f}..{max(values):.1f} (n {len(values)})",
                       demand=f"<= {bound}", met=value <= bound)
    phases = phases_of(folder)
    report.figures["cycles"]["phases_us"] = phases
    for way, kind in (("promote", "move_cut_over"), ("rollback", "move_rolled_back")):
        parts = [f"{pauses_of[0][0]} {statistics.median(value for _, value in pauses_of) / 1000:.1f}"
                 for pauses_of in zip(*phases[kind]) if pauses_of[0][0] != "rows"]
        report.add("cycles", f"parts of the pause, {way}, medians", ", ".join(parts), "ms")
    for way in pauses:
        report.add_spread("cycles", f"mover's pause, {way}", pauses[way], "ms")
    parts = zip(("first answer", "writes", "commit"), (statistics.median(values) * 1000 for values in list(zip(*longest))[2:]))
    report.add("cycles", "parts of the longest transaction, medians", ", ".join(f"{name} {value:.1f}" for name, value in parts), "ms")
    report.add("cycles", "client latency before the first move, p50 / p99", f"{percentile(quiet, 50):.1f} / {percentile(quiet, 99):.1f}", "ms")
    next_door = [sample[1] * 1000 for sample in others if sample[0] >= began]
    report.add("cycles", "neighbour's latency during the cycles, p99", f"{percentile(next_door, 99):.1f}", "ms")
    report.add_spread("cycles", "promote from request to flip", took, "s", ".2f")
    report.add("cycles", "attempts that gave way", attempts, "", f"in {ended - began:.0f} s")


def neighbours(arguments, folder, running, report):
    from copying import SIZES, make_tenant  # the same tenant
    world = World(folder, arguments.binary, running)
    make_tenant(world.source, "app", "large", arguments.mb, SIZES)
    run_sql(world.source, load.SCHEMA.format("next_door", load.ACCOUNTS), "app")
    world.add_tenants(["large", "next_door"])
    ratios, during_all, quiet_all = [], [], []
    for _ in range(arguments.rounds):
        run_sql(world.source, "CHECKPOINT")
        clients = load.Load([world.client("next-door")] * arguments.clients, arguments.rate)
        time.sleep(arguments.quiet_seconds)
        move = world.promote("large", cutover=False)
        world.wait(move, "index")
        time.sleep(0.1)
        samples, errors, _ = clients.stop()
        steps = world.steps(move)
        world.cancel(move)
        quiet = [sample[1] * 1000 for sample in samples if 1 < sample[0] - samples[0][0] and sample[0] < steps["planned"]]
        during = load.within(samples, steps["copy"], steps["index"])
        if errors:
            report.add("neighbours", "failed", len(errors), "", demand="0", met=False)
        quiet_all.append(percentile(quiet, 99))
        during_all.append(percentile(during, 99))
        ratios.append(during_all[-1] / quiet_all[-1])
    report.figures["neighbours"] = {"quiet_p99_ms": quiet_all, "copy_p99_ms": during_all}
    report.add_spread("neighbours", "p99 while nothing moves", quiet_all, "ms")
    middle = sorted(ratios)[len(ratios) // 2]
    report.add_spread("neighbours", f"p99 while {arguments.mb} MB are copied", during_all, "ms", ratio=f"{middle:.2f} of the quiet one", demand="<= 1.5",
                      met=middle <= 1.5)
