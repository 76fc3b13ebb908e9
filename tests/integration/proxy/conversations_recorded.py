"""Conversations that real drivers had with PostgreSQL (psycopg2, psycopg 3, asyncpg, psql), from recorded_conversations.txt."""
import ast
import os

from conversation import Conversation, Turn


def _bytes(text):
    """Quotes of both kinds stand for themselves, escaped or not."""
    return ast.literal_eval("b'" + text.replace("'", "\\'").replace("\\\\'", "\\'") + "'")


def conversations():
    name, entries = None, []
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'recorded_conversations.txt'), encoding='ascii') as source:
        for line in source.read().splitlines():
            if line.startswith('#'):
                continue
            if line.startswith('== '):
                if name:
                    yield _conversation(name, entries)
                name, entries = line[3:], []
            elif line.startswith(' '):
                entries[-1] += line[1:]
            else:
                entries.append(line)
    yield _conversation(name, entries)


def _conversation(name, entries):
    turns = []
    for entry in entries:
        end, _, text = entry.partition(' ')
        data = _bytes(text)
        turns.append(Turn(data, ready=int(end[1:])) if end[0] == 'Z' and end[1:] else Turn(data, until=end))
    return Conversation('recorded: ' + name, turns, pooled=False, coalesce=False)
