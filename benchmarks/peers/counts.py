"""System calls and heap allocations of a pooler, for one transaction in the steady state. Never part of a timed run.

Each is counted over a short and a long run of the same clients; what counts is the difference, so that logins and the start cancel out.
"""

import mmap
import os
import re
import signal
import struct
import subprocess
import time

import pgbench

COUNTED = (2000, 8000)  # transactions of all clients, in the short run and in the long one
EAGAIN = 11
RECEIVES = {"read": 0, "recvfrom": 45, "recvmsg": 47}  # x86_64


class Uncountable(Exception):
    """This machine doesn't allow it; the message says what was tried."""


def per_transaction(clients, counted, count):
    """`count(each)` runs the clients and returns (transactions, the counters meanwhile). `counted`: see COUNTED."""
    count(max(1, counted[0] // clients // 4))  # warm
    short, long = (count(max(number, transactions // clients)) for number, transactions in enumerate(counted, 1))
    transactions = long[0] - short[0]
    return {key: (long[1][key] - short[1][key]) / transactions for key in long[1]}


def perf_counts(target, mode, clients, each, tls, folder):
    """All system calls by the kernel's own tracepoint, and among them the receives that found nothing. Costs about a tenth of a microsecond each."""
    out = os.path.join(folder, "perf.csv")
    receives = " || ".join(f"id == {number}" for number in RECEIVES.values())
    transactions = pgbench.run_transactions(target, mode, clients, each, tls, folder, before=[
        "perf", "stat", "-x", ",", "-o", out, "-p", str(target.daemon.pid), "-e", "raw_syscalls:sys_enter",
        "-e", "raw_syscalls:sys_exit", "--filter", f"ret == -{EAGAIN} && ({receives})", "--"])
    with open(out, encoding="ascii") as file:
        values = [line.split(",")[0] for line in file if "raw_syscalls" in line]
    if len(values) != 2 or not all(value.isdigit() for value in values):
        raise Uncountable("perf doesn't count here")
    return transactions, {"syscalls": int(values[0]), "eagain": int(values[1])}


def strace_counts(target, mode, clients, each, tls, folder):
    """The same by strace, where there is no perf. It slows the pooler down, which then finds more to do at each turn and makes fewer calls than it
    really does."""
    out = os.path.join(folder, "strace.txt")
    tracer = subprocess.Popen(["strace", "-c", "-f", "-q", "-o", out, "-p", str(target.daemon.pid)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        time.sleep(0.5)  # it says nothing when it has attached
        if tracer.poll() is not None:
            raise Uncountable("strace may not attach here")
        transactions = pgbench.run_transactions(target, mode, clients, each, tls, folder)
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait()
    calls = receives = 0
    with open(out, encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if len(fields) >= 5 and re.fullmatch(r"[\d.]+", fields[0]) and fields[-1] != "total":
                calls += int(fields[3])
                receives += int(fields[4]) if fields[-1] in RECEIVES and len(fields) == 6 else 0
    return transactions, {"syscalls": calls, "eagain": receives}


def syscalls(target, mode, clients, tls, folder, counted):
    """{syscalls, eagain} for one transaction; Uncountable."""
    trouble = []
    for way in (perf_counts, strace_counts):
        try:
            return per_transaction(clients, counted, lambda each, way=way: way(target, mode, clients, each, tls, folder))
        except (Uncountable, OSError) as error:
            trouble.append(str(error))
        except pgbench.Refused as error:  # perf itself may have refused
            trouble.append(str(error))
    raise Uncountable("; ".join(trouble))


def compile_shim(folder):
    """The counter of allocations, as a library to be preloaded; Uncountable where there is no compiler."""
    shim = os.path.join(folder, "allocations.so")
    try:
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-fno-builtin", "-o", shim,
                        os.path.join(os.path.dirname(os.path.abspath(__file__)), "allocations.c")],
                       check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise Uncountable(getattr(error, "output", None) or str(error)) from error
    os.chmod(shim, 0o755)
    return shim


class Allocations:
    """Counts what a process that is started with `environment()` asks of the heap. One process a counter."""

    def __init__(self, folder, shim):
        os.chmod(folder, 0o755)
        self.shim, self.path = shim, os.path.join(folder, "allocations")
        with open(self.path, "wb") as file:
            file.write(bytes(4096))
        os.chmod(self.path, 0o666)  # the pooler may run as another user

    def environment(self):
        return {**os.environ, "LD_PRELOAD": self.shim, "PGPORTER_ALLOCATIONS_FILE": self.path}

    def read(self):
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as view:
            return struct.unpack_from("=QQ", view)

    def per_transaction(self, target, mode, clients, tls, folder, counted):
        """{allocations, allocated_bytes}; Uncountable."""
        def count(each):
            before = self.read()
            transactions = pgbench.run_transactions(target, mode, clients, each, tls, folder)
            after = self.read()
            return transactions, {"allocations": after[0] - before[0], "allocated_bytes": after[1] - before[1]}
        if self.read()[0] == 0:
            raise Uncountable("the process wasn't started with the counter")
        return per_transaction(clients, counted, count)
