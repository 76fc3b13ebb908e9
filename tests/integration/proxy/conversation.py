"""A conversation: what a client sends, in turns, and what ends each turn. Played against PostgreSQL and through pgporter in several
ways; the transcripts must be the same. See test_differential.py.
"""
import dataclasses
import struct

import wire_client as w


@dataclasses.dataclass
class Turn:
    data: bytes
    ready: int = 1      # ReadyForQuery messages that end the turn
    until: str = ''     # or: the first message of one of these types
    eof: bool = False   # or: the server closes the connection
    answered: bool = False  # or: every message has had its answer (no COPY in it): an error decides what else is answered


@dataclasses.dataclass
class Conversation:
    name: str
    turns: list
    params: dict = dataclasses.field(default_factory=dict)  # more startup parameters
    pooled: bool = True        # survives that other sessions use the server connection between its transactions
    big: bool = False          # too big to be sent a byte at a time
    coalesce: bool = True      # its meaning doesn't depend on waiting for an answer
    may_add_error: str = ''    # pgporter may say this SQLSTATE where PostgreSQL only closes the connection
    after_eof: bool = False    # nothing is sent after the last turn


def t(*messages, **ends):
    return Turn(b''.join(messages), **ends)


def q(sql):
    return t(w.query(sql))


def pipeline(*messages):
    """Messages in any order, of which errors may make PostgreSQL skip some, closed by Sync."""
    return t(*messages, w.sync(), answered=True)


def x(*messages):
    """A batch of the extended protocol, closed by Sync."""
    return t(*messages, w.sync())


def run(sql, values=(), statement='', **bind_options):
    """Parse, Bind, Describe, Execute of one statement, without Sync."""
    return w.parse(statement, sql) + w.bind('', statement, values, **bind_options) + w.describe('P') + w.execute()


def play(wire, conversation, mode, between=None):
    """Returns the transcript as a list of (type, body). `mode`: whole, dribble or coalesced."""
    transcript = []
    turns = list(conversation.turns)
    ends_open = not turns[-1].eof
    if ends_open:
        turns.append(t(w.query("SELECT 'still here'")))
    if mode == 'coalesced' and conversation.coalesce:
        merged = t(*[turn.data for turn in turns], ready=sum(turn.ready for turn in turns if not turn.until and not turn.eof))
        merged.eof = not ends_open
        merged.answered = any(turn.answered for turn in turns)
        turns = [merged]
    for turn in turns:
        wire.send(turn.data, 1 if mode == 'dribble' else None)
        if turn.eof:
            transcript += wire.expect_eof()
            transcript.append(('end', b''))
        elif turn.answered:
            transcript += recv_answers(wire, turn.data)
        elif turn.until:
            transcript += wire.recv_until(turn.until)
        elif turn.ready:
            transcript += wire.recv_until('Z', turn.ready)
        if transcript and transcript[-1][0] is None:
            transcript[-1] = ('end', b'')
            break
        if between and wire.status == 'I' and not turn.until and not turn.eof and turn.ready:
            between()
    return normalise(transcript)


def kinds_of(data):
    """The types of the client's messages."""
    kinds, at = '', 0
    while at < len(data):
        kinds += chr(data[at])
        at += 1 + struct.unpack_from('!i', data, at + 1)[0]
    return kinds


def recv_answers(wire, data):
    """What the server says to these messages, by its own rule: an error in the extended protocol skips everything up to Sync."""
    asked, at, skipping, messages = kinds_of(data), 0, False, []
    ends = {'P': '1E', 'B': '2E', 'C': '3E', 'D': 'TnE', 'E': 'CIsE', 'Q': 'Z', 'F': 'Z', 'S': 'Z'}
    while True:
        while at < len(asked) and (asked[at] == 'H' or (skipping and asked[at] != 'S')):
            at += 1
        if at == len(asked):
            return messages
        try:
            kind, body = wire.recv()
        except w.WireError as error:
            raise w.WireError('%s; asked %s, at %d; so far: %s' % (error, asked, at, [w.show(*m) for m in messages[-20:]])) from None
        messages.append((kind, body))
        if kind is None:
            return messages
        if kind in ends[asked[at]]:
            skipping = kind == 'E'
            at += 1


def normalise(transcript):
    """The process id in a NotificationResponse is the server's own. The order within a run of ParameterStatus has no meaning."""
    result, run_of_status = [], []
    for kind, body in transcript:
        if kind == 'S':
            run_of_status.append((kind, body))
            continue
        result += sorted(run_of_status)
        run_of_status = []
        result.append((kind, b'\0\0\0\0' + body[4:] if kind == 'A' else body))
    return result + sorted(run_of_status)


def without_source_location(body):
    """An ErrorResponse without the file, line and routine of PostgreSQL's source."""
    return b''.join(part + b'\0' for part in body.rstrip(b'\0').split(b'\0') if part[:1] not in (b'F', b'L', b'R')) + b'\0'


ABORTED = b'\0C25P02\0'


def same(want, have):
    """The same bytes; an error or a warning that pgporter makes itself has no place in PostgreSQL's source, and
    what makes PostgreSQL notice that the transaction has failed may be a message of pgporter's."""
    if want and have and want[0] == have[0] and want[0] in 'EN' and (b'\0F' not in have[1] or ABORTED in have[1]):
        return without_source_location(want[1]) == without_source_location(have[1])
    return want == have


def difference(expected, got):
    """'' when they are the same, else the first difference with what is around it."""
    for at in range(max(len(expected), len(got))):
        want = expected[at] if at < len(expected) else None
        have = got[at] if at < len(got) else None
        if not same(want, have):
            before = [w.show(*m) for m in expected[max(0, at - 3):at]]
            lines = ['message %d of %d (PostgreSQL) and %d (pgporter)' % (at + 1, len(expected), len(got)),
                     '  same before: %s' % '  '.join(before),
                     '  PostgreSQL:  %s' % (w.show(*want) if want else '(nothing more)'),
                     '  pgporter:    %s' % (w.show(*have) if have else '(nothing more)'),
                     '  PostgreSQL then: %s' % '  '.join(w.show(*m) for m in expected[at + 1:at + 5]),
                     '  pgporter then:   %s' % '  '.join(w.show(*m) for m in got[at + 1:at + 5])]
            return '\n'.join(lines)
    return ''
