"""What a process uses: processor time and memory, as the kernel counts it."""

import os


def cpu_seconds(daemon):
    """User and system time of the process with all its threads, to the nanosecond where the kernel keeps it; 0 for nobody."""
    if daemon is None:
        return 0.0
    total = 0
    try:
        for task in os.listdir(f"/proc/{daemon.pid}/task"):
            with open(f"/proc/{daemon.pid}/task/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9
    except (OSError, ValueError, IndexError):
        return daemon.cpu_seconds()


def machine_seconds():
    """Of all processors: what wasn't idle or waiting for a disk."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def memory_bytes(daemon):
    """What the process alone has in memory (private pages, proportional share of the others)."""
    with open(f"/proc/{daemon.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
