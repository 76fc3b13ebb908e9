#!/usr/bin/env python3
"""Moves under seeded faults: each seed is one tenant with its traffic and one move, completed or rolled back, with one to three faults on the way
there and on the way on, at moments that the seed decides. After each the history is judged, and nothing of the move may be left.

    soak.py --seeds 300             seeds 1 to 300
    soak.py --seeds 40 --first 7    seeds 7 to 46
    soak.py --seconds 60            as many as fit
"""
import argparse
import os
import random
import sys
import threading
import time
import traceback
import unittest

import fault_world
from fault_world import Case, step_into, wait_for
from tcp_switch import CUT, DEAF, OPEN, STALL

SERVERS = ('source', 'target', 'catalog')
# Moments: what goes by between the mover and a server.
MOMENTS = [('catalog', step_into(state)) for state in fault_world.STATES_BEFORE_FLIP + ('flipped', 'opened', 'reversing')] + [
    ('source', [b'CREATE TRIGGER']), ('source', [b'CREATE PUBLICATION']), ('source', [b'CREATE_REPLICATION_SLOT']),
    ('source', [b'START_REPLICATION']), ('source', [b'fence:[0-9]+[^\\0]*', b'COMMIT']), ('source', [b'DISABLE TRIGGER']),
    ('target', [b'CREATE DATABASE']), ('target', [b'CREATE TABLE [a-z0-9]+.lines']), ('target', [b'COPY [^\\0]*filling']),
    ('target', [b'FOREIGN KEY']), ('target', [b'ANALYZE']), ('target', [b'INSERT INTO [^\\0]*ledger'])]

MOMENTS_OF_COMPLETE = [('catalog', step_into('completed')), ('source', [b'DROP SCHEMA']), ('target', [b'DROP_REPLICATION_SLOT|pg_drop_replication_slot'])]
MOMENTS_OF_ROLLBACK = [('catalog', step_into('rolling_back')), ('catalog', step_into('flipped')), ('catalog', step_into('rolled_back')),
                       ('target', [b'fence:[0-9]+[^\\0]*', b'COMMIT']), ('source', [b'DISABLE TRIGGER']), ('source', [b'DISABLE TRIGGER', b'COMMIT']),
                       ('source', [b'COMMIT']), ('target', [b'START_REPLICATION']), ('target', [b'DROP DATABASE'])]


class Fault:
    """What happens, once, and is over again after a while."""

    def __init__(self, world, dice):
        self.world = world
        self.kind = dice.choice(['kill instance', 'kill instance', 'kill server', 'kill server', 'cut', 'stall', 'deaf', 'stop instance', 'lose', 'nothing'])
        self.instance = dice.choice(world.instances)
        self.server = dice.choice(SERVERS)
        self.wide = dice.random() < 0.3  # for every instance
        self.seconds = dice.choice([0.05, 0.3, 1.0, 2.5])

    def __str__(self):
        what = {'kill instance': self.instance.name, 'stop instance': self.instance.name, 'kill server': self.server}.get(
            self.kind, '' if self.kind in ('lose', 'nothing') else '%s-%s' % ('all' if self.wide else self.instance.name, self.server))
        return '%s %s %.2f s' % (self.kind, what, self.seconds)

    def strike(self, trap):
        one = None if self.wide else self.instance.name
        if self.kind == 'kill instance' and self.instance.process.poll() is None:
            self.instance.kill()
        elif self.kind == 'stop instance' and self.instance.process.poll() is None:
            self.instance.pause()
        elif self.kind == 'kill server' and self.world.servers()[self.server].process.poll() is None:
            self.world.kill_server(self.server)
        elif self.kind in ('cut', 'stall', 'deaf'):
            self.world.switch.set(self.server, {'cut': CUT, 'stall': STALL, 'deaf': DEAF}[self.kind], one)
        if trap is not None and trap.sprung.is_set():
            if self.kind == 'lose' or trap.then == 'lose':
                trap.cut()  # no connection goes on behind a reply that got lost
            else:
                trap.let_go()

    def end(self):
        self.world.switch.set(self.server, OPEN, None if self.wide else self.instance.name)
        server = self.world.servers()[self.server]
        if server.process.poll() is not None:
            server.start()
        if self.instance.process.poll() is not None:
            if self.world.catalog.process.poll() is None:
                self.instance.launch()
        else:
            self.instance.wake()


def strike_on_the_way(world, dice, moments, is_over, begin):
    """One to three faults while what `begin` asks for goes on; returns what was done, in words. Everything runs again then."""
    said = []
    traps = []
    for _ in range(dice.choice([1, 1, 2, 3])):
        server, patterns = dice.choice(moments)
        trap = world.switch.trap(server, *patterns, then=dice.choice(['hold', 'lose']))
        traps.append((trap, Fault(world, dice), patterns))
    threading.Thread(target=begin, daemon=True).start()
    deadline = time.monotonic() + 20
    for trap, fault, patterns in traps:
        while not trap.sprung.wait(0.1) and time.monotonic() < deadline and not is_over():
            pass
        hit = trap.sprung.is_set()
        if trap.then == 'lose' and hit:
            trap.answered.wait(1)
        fault.strike(trap)
        said.append('%s %r: %s' % (trap.then if hit else 'no', patterns[0][:30], fault))
        time.sleep(fault.seconds)
        fault.end()
        trap.disarm()
    world.mend()
    return said


def run_seed(world, seed):
    dice = random.Random(seed)
    case = Case(world, filling=dice.choice([50, 300, 2000]), clients_each=1, seed=seed)
    ends = (fault_world.MOVED, 'aborted')
    said = strike_on_the_way(world, dice, MOMENTS, lambda: case.row()[0] in ends, case.promote_quietly)
    try:
        wait_for(case.find, 'the move is known', 1)
    except AssertionError:  # the request itself was lost
        case.promote()
        said.append('asked again')
    wait_for(lambda: case.row()[0] in ends, lambda: 'the move ends: %s\n%s' % (case.row(), case.logs()), 60, 0.1)
    end = case.row()[0]
    if end == fault_world.MOVED and dice.random() < 0.6:
        case.history.go_on(20)
        said.append('rollback')
        said += strike_on_the_way(world, dice, MOMENTS_OF_ROLLBACK, lambda: case.row()[0] == 'rolled_back', lambda: case.ask_quietly('rollback'))
        case.roll_back()
        end = 'rolled_back'
    elif end == fault_world.MOVED and dice.random() < 0.5:
        said.append('complete')
        said += strike_on_the_way(world, dice, MOMENTS_OF_COMPLETE, lambda: case.row()[0] == 'completed', lambda: case.ask_quietly('complete'))
        case.complete()
        end = 'completed'
    case.end(unittest.TestCase(), end, timeout=60)
    return '%s after %s' % (end, '; '.join(said))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, default=100000)
    parser.add_argument('--first', type=int, default=1)
    parser.add_argument('--seconds', type=float, default=0)
    parser.add_argument('--instances', type=int, default=2)
    arguments = parser.parse_args()
    failed = []
    world = fault_world.World(arguments.instances)
    began = time.monotonic()
    done = 0
    outcomes = {}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        if arguments.seconds and time.monotonic() - began > arguments.seconds:
            break
        done += 1
        try:
            said = run_seed(world, seed)
            outcomes[said.split()[0]] = outcomes.get(said.split()[0], 0) + 1
            print('seed %d: %s' % (seed, said), flush=True)
        except Exception:
            failed.append(seed)
            print('seed %d FAILED\n%s' % (seed, traceback.format_exc()), flush=True)
            # A world of its own for the next: what is wrong here must not spoil it.
            if os.environ.get('PGPORTER_TEST_KEEP') == '1':
                print('kept in %s' % world.workspace.path)
            world.close()
            world = fault_world.World(arguments.instances)
    world.close()
    print('%d seeds in %.0f s: %s; failed: %s' % (done, time.monotonic() - began, outcomes, failed or 'none'))
    sys.exit(1 if failed or not done else 0)


if __name__ == '__main__':
    main()
