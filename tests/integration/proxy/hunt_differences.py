"""Hunts differences between PostgreSQL and pgporter: plays the generated conversations of many seeds, in every way of test_differential.py,
for so many seconds, and prints each difference with the fewest messages that show it. No test of its own: run it by hand.

    hunt_differences.py SECONDS [FIRST_SEED] [MODE ..]
"""
import copy
import importlib
import os
import random
import struct
import sys
import time

sys.argv, arguments = sys.argv[:1], sys.argv[1:]
os.environ.setdefault('PGPORTER_TEST_CORPUS_SIZE', '20')
os.environ.setdefault('PGPORTER_TEST_STRAY_PORTALS', '1')

import conversation
import conversations_generated
import conversations_pipelined
import test_differential
import wire_client as w

MODES = ('whole', 'dribble', 'coalesced', 'shared')
FOUND_MAX = 8


def messages_of(data):
    parts, at = [], 0
    while at < len(data):
        size = 1 + struct.unpack_from('!i', data, at + 1)[0]
        parts.append(data[at:at + size])
        at += size
    return parts


def difference(case, mode, between=None):
    """None: PostgreSQL itself can't play it; '': none."""
    wire = test_differential.direct(case.params)
    wire.timeout = 5.0
    try:
        expected = conversation.play(wire, case, 'whole' if mode == 'shared' else mode)
    except Exception:
        return None
    finally:
        wire.close()
    wire = test_differential.proxied(case.params)
    wire.timeout = 4.0
    try:
        return conversation.difference(expected, conversation.play(wire, case, 'whole' if mode == 'shared' else mode, between))
    except Exception as error:
        return '%s: %s' % (type(error).__name__, error)
    finally:
        wire.close()


def shrunk(case, mode, between):
    """The same kind of conversation with as few messages as still differ."""
    case = copy.deepcopy(case)
    for turn in case.turns:
        turn.answered = True
    if not difference(case, mode, between):
        return None
    deadline = time.monotonic() + 40
    smaller = True
    while smaller and time.monotonic() < deadline:
        smaller = False
        places = [(t, m) for t, turn in enumerate(case.turns) for m in range(len(messages_of(turn.data)))]
        random.Random(1).shuffle(places)
        for t, m in sorted(places, reverse=True):
            attempt = copy.deepcopy(case)
            parts = messages_of(attempt.turns[t].data)
            if m >= len(parts) or (len(parts) > 1 and m == len(parts) - 1 and parts[m][:1] == b'S'):
                continue
            del parts[m]
            attempt.turns[t].data = b''.join(parts)
            if not parts or parts == [w.sync()]:
                del attempt.turns[t]
                if not attempt.turns:
                    continue
            if difference(attempt, mode, between):
                case, smaller = attempt, True
                if time.monotonic() > deadline:
                    break
    return case


def spelled(part):
    kind, body = chr(part[0]), part[5:]
    return kind if not body else '%s %r' % (kind, body)


def report(case, mode, found, between):
    print('\n=== %s [%s]\n%s' % (case.name, mode, found), flush=True)
    smallest = None if any(chr(part[0]) in 'dcf' for turn in case.turns for part in messages_of(turn.data)) else shrunk(case, mode, between)
    if smallest:
        print('--- smallest:\n%s\n%s' % ('\n'.join('   ' + ' | '.join(spelled(p) for p in messages_of(turn.data)) for turn in smallest.turns),
                                       difference(smallest, mode, between)), flush=True)


def main():
    seconds, seed = float(arguments[0]), int(arguments[1]) if len(arguments) > 1 else random.randrange(1, 1 << 30)
    modes = arguments[2:] or MODES
    first, played, found_count = seed, 0, 0
    test_differential.setUpModule()
    between = test_differential.Interloper() if 'shared' in modes else None
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and found_count < FOUND_MAX:
            os.environ['PGPORTER_TEST_CORPUS_SEED'] = str(seed)
            importlib.reload(conversations_generated)
            importlib.reload(conversations_pipelined)
            cases = list(conversations_pipelined.conversations()) + list(conversations_generated.random_conversations())
            for case in cases:
                for mode in modes:
                    if (mode == 'shared' and not case.pooled) or time.monotonic() > deadline:
                        continue
                    played += 1
                    found = difference(case, mode, between if mode == 'shared' else None)
                    # A client that has lost its connection may leave a transaction behind for a moment: only what shows twice counts.
                    if found and difference(case, mode, between if mode == 'shared' else None):
                        found_count += 1
                        report(case, mode, found, between if mode == 'shared' else None)
                        break
                if found_count >= FOUND_MAX:
                    break
            seed += 1
    finally:
        test_differential.tearDownModule()
    print('\nseeds %d to %d: %d conversations played, %d differ' % (first, seed - 1, played, found_count))
    return 1 if found_count else 0


if __name__ == '__main__':
    sys.exit(main())
