"""One run of pgbench at one target: throughput, latencies, and what the target's process spent."""

import glob
import os
import re
import subprocess
import tempfile

from private_postgres import POSTGRES_BIN
from servers import SCALE, SWITCHED, TENANT, environment
import usage

# One transaction of these is a request: SET search_path, then SELECT, as two queries.
SCRIPTS = {
    "set": f"\\set aid random(1, 100000 * {SCALE})\nSET search_path TO {TENANT}, public;\n"
           "SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
    "switch": f"\\set tenant random(1, {SWITCHED})\n\\set id random(1, 1000)\nSET search_path TO tenant_:tenant, public;\n"
              "SELECT balance FROM small WHERE id = :id;\n",
}
MODES = ("simple", "extended", "prepared", *SCRIPTS)
LOGGED_PER_RUN = 6000  # transactions whose latency is written down, about
RATE_EXPECTED = 12000


class Refused(Exception):
    """The target can't run this mode."""


def argv_of(target, mode, clients, folder):
    workload, database = ["-S", "-M", mode], target.database
    if mode in SCRIPTS:  # the tenant is named by SQL in each request, on connections that name none
        script = os.path.join(folder, mode + ".sql")
        if not os.path.exists(script):
            with open(script, "w", encoding="ascii") as file:
                file.write(SCRIPTS[mode])
        workload, database = ["-f", script], "shared"
    return [f"{POSTGRES_BIN}/pgbench", "-n", *workload, "-c", str(clients), "-j", "1", "-h", "127.0.0.1",
            "-p", str(target.port), "-U", target.user], database


def run_argv(argv, tls, timeout_s):
    """pgbench's text and the transactions it counted."""
    done = subprocess.run(argv, env=environment(tls), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout_s, start_new_session=True)
    counted = re.search(r"number of transactions actually processed: (\d+)", done.stdout)
    failed = re.search(r"number of failed transactions: (\d+)", done.stdout)
    if done.returncode != 0 or not counted or (failed and int(failed.group(1)) > 0):
        errors = [line for line in done.stderr.splitlines() if "error" in line.lower()] or done.stderr.splitlines()[-1:]
        raise Refused(errors[0] if errors else f"pgbench ended with {done.returncode}")
    return done.stdout, int(counted.group(1))


def percentile(ordered, share):
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def latencies_of(prefix):
    """Milliseconds of the sampled transactions, in order. pgbench's log: client, transaction, microseconds ..."""
    values = []
    for path in glob.glob(prefix + "*"):
        with open(path, encoding="ascii") as file:
            values += [int(line.split(None, 3)[2]) / 1000 for line in file]
        os.unlink(path)
    return sorted(values)


def run(target, mode, clients, seconds, tls, folder):
    """One short timed run. A sample of the transactions is logged for the percentiles; that costs pgbench a fraction of a percent."""
    argv, database = argv_of(target, mode, clients, folder)
    share = min(1.0, LOGGED_PER_RUN / (seconds * RATE_EXPECTED))
    with tempfile.TemporaryDirectory(dir=folder) as home:
        prefix = os.path.join(home, "log")
        argv += ["-T", str(seconds), "-l", "--sampling-rate", f"{share:.3f}", "--log-prefix", prefix, database]
        before, machine = usage.cpu_seconds(target.daemon), usage.machine_seconds()
        text, transactions = run_argv(argv, tls, seconds * 4 + 60)
        cpu, machine = usage.cpu_seconds(target.daemon) - before, usage.machine_seconds() - machine
        latencies = latencies_of(prefix)
    tps = re.search(r"tps = ([\d.]+)", text)
    if not tps or transactions == 0:
        raise Refused(f"no transaction in {seconds} s")
    return {"tps": float(tps.group(1)), "cpu_us": 1e6 * cpu / transactions if target.daemon else None, "machine_us": 1e6 * machine / transactions,
            **{f"p{percent}_ms": percentile(latencies, percent / 100) if latencies else None for percent in (50, 95, 99)}}


def run_transactions(target, mode, clients, each, tls, folder, before=()):
    """So many transactions of each client, with nothing logged. `before`: what the command line begins with."""
    argv, database = argv_of(target, mode, clients, folder)
    return run_argv([*before, *argv, "-t", str(each), database], tls, 120)[1]
