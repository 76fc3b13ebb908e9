#!/usr/bin/env python3
"""Hours of everything at once: clients of every kind that come, work, and leave in the middle of anything; restarts, changes of the catalog, moves.
In rounds that are alike: at the end of each everybody leaves, and then nothing may be left, on pgporter's side or on the servers', and memory and
descriptors may not have grown since the first.

    soak.py --seconds 3600            as many rounds as fit
    soak.py --rounds 3 --round 10     three rounds of ten seconds of work
    soak.py --seed 7                  another seed (the first is printed)
"""
import argparse
import faulthandler
import json
import os
import shutil
import statistics
import sys
import tempfile
import time

# The reports of a pgporter that was built with sanitizers; bounded, so that memory can be compared.
REPORTS = tempfile.mkdtemp(prefix='pgporter-soak-')
os.chmod(REPORTS, 0o777)
# What a thread of glibc keeps of freed memory counts as allocated: megabytes, by chance.
os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.tcache_count=0'
for variable, options in (('ASAN_OPTIONS', 'detect_stack_use_after_return=1:strict_string_checks=1:detect_leaks=1:quarantine_size_mb=64'),
                          ('UBSAN_OPTIONS', 'print_stacktrace=1:halt_on_error=1'), ('TSAN_OPTIONS', 'halt_on_error=1:second_deadlock_stack=1')):
    os.environ[variable] = options + ':log_path=' + os.path.join(REPORTS, 'sanitizer')

if 'PGPORTER_BIN' in os.environ:
    os.environ['PGPORTER_BIN'] = os.path.abspath(os.environ['PGPORTER_BIN'])  # it is started elsewhere

import soak_acts  # noqa: E402
import soak_clients  # noqa: E402
import soak_events  # noqa: E402
import soak_world  # noqa: E402

# Growth by round that isn't noise, of bytes allocated. What caches hold at rest differs by so much from one rest to another; over many rounds it fades.
ALLOCATED_BYTES_BY_ROUND_MAX = 64 * 1024
ALLOCATED_BYTES_NOISE = 256 * 1024


def run_round(world, seed, clients, seconds):
    began = time.monotonic()
    world.excuses.forget()
    running = soak_clients.clients(world, soak_acts.ALL, clients, seed)
    for client in running:
        client.start()
    events = soak_events.Events(world, 'events of %s' % seed, seconds)
    move = soak_events.Move(world, events, 'move of %s' % seed)
    for thread in (move, events):
        thread.start()
    while time.monotonic() < began + seconds or move.is_alive() or events.is_alive():
        if world.instance.process.poll() is not None:
            raise AssertionError('pgporter ended with %s\n%s' % (world.instance.process.poll(), world.instance.log()[-6000:]))
        time.sleep(0.1)
    for client in soak_clients.stop(running):
        world.say_wrong('client hangs: ' + client.doing)
    worked = time.monotonic() - began
    measured = world.measure()
    world.clean()
    return worked, measured


def growth(rounds, key):
    """By round: the median of the slopes between any two rounds (Theil and Sen), the first left out, in which caches fill."""
    values = [measured[key] for measured in rounds[1:]]
    slopes = [(values[j] - values[i]) / (j - i) for i in range(len(values)) for j in range(i + 1, len(values))]
    return statistics.median(slopes) if slopes else 0


def judge(world, rounds):
    allocated_max = ALLOCATED_BYTES_BY_ROUND_MAX + ALLOCATED_BYTES_NOISE / max(1, len(rounds) - 2)
    for key, bound in (('allocated', allocated_max), ('descriptors', 0.5), ('threads', 0.5)):
        by_round = growth(rounds, key)
        if by_round > bound:
            world.say_wrong('%s grow by %s a round: %s' % (key, by_round, [measured[key] for measured in rounds]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=120, help='begin no round after this')
    parser.add_argument('--rounds', type=int, default=1000000)
    parser.add_argument('--round', type=float, default=20, help='seconds of work in a round, at least')
    parser.add_argument('--clients', type=int, default=10)
    parser.add_argument('--seed', default=str(int(time.time())))
    arguments = parser.parse_args()
    # Hung for longer than any bound of pgporter's: show where, and end.
    faulthandler.dump_traceback_later(arguments.seconds + 480, exit=True)
    print('seed %s, %s' % (arguments.seed, soak_world.fixture.PGPORTER_BIN), flush=True)
    began = time.monotonic()
    world = soak_world.World()
    rounds = []
    try:
        while len(rounds) < arguments.rounds and (len(rounds) < 4 or time.monotonic() - began < arguments.seconds) and not world.wrong:
            worked, measured = run_round(world, '%s/%d' % (arguments.seed, len(rounds)), arguments.clients, arguments.round)
            rounds.append(measured)
            print('round %d, %.0f s: %s' % (len(rounds), worked, json.dumps(measured)), flush=True)
    except (AssertionError, OSError) as error:
        world.say_wrong(str(error))
    judge(world, rounds)
    if world.wrong and os.environ.get('PGPORTER_TEST_KEEP') == '1':
        print('kept in %s' % world.workspace.path)
    world.close()
    reports = soak_world.sanitizer_reports(REPORTS)
    for report in reports:
        world.say_wrong(report)
    shutil.rmtree(REPORTS)
    print('what happened: %s' % json.dumps(world.counts, sort_keys=True))
    verdict = '%d wrong' % len(world.wrong) if world.wrong else 'ok'
    print('%d rounds in %.0f s, seed %s: %s' % (len(rounds), time.monotonic() - began, arguments.seed, verdict))
    sys.exit(1 if world.wrong or not rounds else 0)


if __name__ == '__main__':
    main()
