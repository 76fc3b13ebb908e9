"""Figures of interleaved runs: medians with their spread, ratios within the rounds, tables."""

import os
import platform
import statistics
import sys


def spread(values):
    values = [value for value in values if value is not None]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)} if values else None


def ratio(samples, peers, key):
    """Of the ratios within each round; None where one of them has no such figure."""
    return spread([mine[key] / theirs[key] for mine, theirs in zip(samples, peers) if mine.get(key) and theirs.get(key)])


def interleave(targets, rounds, what, run, refusals):
    """Runs A B C, then B C A, and so on, so that no target always follows the same one. Returns each one's samples, and why one can't.
    `refusals`: the exceptions that mean that; then the others go on without it."""
    samples, refused = {target.name: [] for target in targets}, {}
    for number in range(-1, rounds):  # the first round warms: caches, server connections, and whether it can do this at all
        able = [target for target in targets if target.name not in refused]
        turn = number % max(len(able), 1)
        for target in able[turn:] + able[:turn]:
            try:
                sample = run(target, number < 0)
            except refusals as reason:
                refused[target.name] = str(reason)
                continue
            if number >= 0:
                samples[target.name].append(sample)
        print(f"\r  {what}: round {number + 1} of {rounds}   ", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
    return samples, refused


def rows_of(labels, samples, refused, peers):
    """One row for each target: its figures, and its ratios to each of `peers` that took part."""
    rows = []
    for name, runs in samples.items():
        row = {**labels, "target": name}
        if name in refused:
            row["refused"] = refused[name]
        elif runs:
            row["figures"] = {key: spread([run[key] for run in runs]) for key in runs[0]}
            row["against"] = {peer: {key: ratio(runs, samples[peer], key) for key in runs[0]} for peer in peers
                              if peer != name and peer not in refused and samples.get(peer)}
        rows.append(row)
    return rows


def added_latency(samples, refused, peer, row):
    """With one client: what pgporter adds to PostgreSQL's latency by what the peer adds, from the medians within the rounds."""
    if peer in refused or not all(samples.get(name) for name in ("direct", peer, "pgporter")):
        return
    for key in ("p50_ms", "p99_ms"):
        triples = zip(samples["pgporter"], samples[peer], samples["direct"])
        row.setdefault("added", {})[key] = spread([(ours[key] - direct[key]) / (theirs[key] - direct[key]) for ours, theirs, direct in triples
                                                   if None not in (ours[key], theirs[key], direct[key]) and theirs[key] > direct[key]])


def cell(figures, form):
    return "-" if figures is None else format(figures["median"], form)


def with_range(figures, form):
    return "-" if figures is None else f"{figures['median']:{form}} ({figures['min']:{form}}..{figures['max']:{form}})"


def print_table(heads, lines):
    """The first column to the left, the others to the right."""
    lines = [[str(cell) for cell in line] for line in lines]
    widths = [max(len(line[at]) for line in [heads, *(line for line in lines if len(line) == len(heads))]) for at in range(len(heads))]
    for line in [heads, *lines]:
        if len(line) == len(heads):
            print("  " + "  ".join(text.ljust(width) if at == 0 else text.rjust(width) for at, (text, width) in enumerate(zip(line, widths))).rstrip())
        else:
            print("  " + line[0].ljust(widths[0]) + "  " + "  ".join(line[1:]))
    sys.stdout.flush()


def machine():
    model = "unknown CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpus": os.cpu_count(), "model": model, "memory_gib": round(memory, 1), "kernel": platform.release()}
