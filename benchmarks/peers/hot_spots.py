"""Where pgporter's process spends its time: perf's samples of one run for each mode, the functions with the most of them, as text."""

import os
import subprocess

import pgbench

LINES = 20


def read(data, sort):
    done = subprocess.run(["perf", "report", "-q", "--stdio", "--no-children", "--sort", sort, "-i", data], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=120)
    return [line[:150].rstrip() for line in done.stdout.splitlines() if line.strip()]


def write(target, mode, clients, seconds, tls, folder, path):
    """One run, outside the timed ones. Returns why not, if it can't be had here."""
    data = os.path.join(folder, "perf.data")
    argv, database = pgbench.argv_of(target, mode, clients, folder)
    try:
        pgbench.run_argv(["perf", "record", "-q", "-e", "cpu-clock", "-F", "4000", "-p", str(target.daemon.pid), "-o", data, "--",
                          *argv, "-T", str(seconds), database], tls, seconds + 60)
        objects, functions = (read(data, sort) for sort in ("dso", "dso,symbol"))
    except (pgbench.Refused, OSError, subprocess.SubprocessError) as error:
        return str(error)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"# {target.name}, {mode}, {clients} clients{', TLS' if tls else ''}: share of its CPU time, object, function (k: kernel)\n")
        file.write("\n".join([*objects[:5], "", *functions[:LINES]]) + "\n")
    return None if functions else "perf saw nothing"
