"""Plays every conversation against PostgreSQL directly and through pgporter and compares the answers message by message: sent whole, a byte
at a time, all at once, and with other sessions on the only server connection between its transactions.
"""
import dataclasses
import os
import unittest

import conversation
import conversations_answered_here
import conversations_extended
import conversations_generated
import conversations_pipelined
import conversations_recorded
import conversations_simple
import fixture
import wire_client

# Each conversation is played twice before it is compared, and repeated unnamed statements share one Parse: that must make no difference.
REUSE = os.environ.get('PGPORTER_TEST_UNNAMED_REUSE') == '1'
DIRECT_ONLY = os.environ.get('PGPORTER_TEST_DIRECT') == '1'  # both sides are PostgreSQL: checks the conversations themselves
WRITTEN = list(conversations_simple.conversations()) + list(conversations_extended.conversations())
WRITTEN += list(conversations_answered_here.conversations())
GENERATED = list(conversations_generated.conversations()) + list(conversations_pipelined.conversations())
RECORDED = list(conversations_recorded.conversations())
ALL = WRITTEN + GENERATED + RECORDED


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = None
    if not DIRECT_ONLY:
        proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 3000, 'statement_bytes_max': 33554432, 'pending_replies_max': 60000})
        if REUSE:
            proxy.config['limits'].update({'unnamed_reuses_max': 1000000, 'unnamed_reuse_ms_max': 600000})
        proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
        proxy.start()
        proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                     databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))


def tearDownModule():
    workspace.close()


def direct(params=None, tenant='acme'):
    sent = dict({'search_path': tenant + ', public'} if tenant else {}, **(params or {}))
    return wire_client.Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app', sent)


def proxied(params=None, tenant='acme'):
    return direct(params, tenant) if DIRECT_ONLY else proxy.wire(tenant, params=params)


class Interloper:
    """Two sessions that use the only server connection in between, and leave all they can behind."""

    def __init__(self):
        self.sessions = [proxied(tenant='acme'), proxied(tenant='globex')]
        self.round = 0

    def __call__(self):
        self.round += 1
        for tenant, wire in zip(('acme', 'globex'), self.sessions):
            wire.run("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Pacific/Chatham'; SET application_name = 'interloper'")
            wire.run("SET statement_timeout = '11s'; SET app.x = 'theirs'; SET app.user_id = 'theirs'")
            wire.run("SELECT hidden_path('initech, public')" if self.round % 3 == 0 else 'SELECT 1')
            wire.run('SET search_path TO %s, public' % tenant)
            rows = wire.run_prepared('SELECT tenant FROM whoami')
            if rows != [(tenant,)]:
                raise AssertionError('the session in between is %s and read %s' % (tenant, rows))
            name = 's%d' % self.round
            wire.send(wire_client.parse(name, "SELECT 'theirs'") + wire_client.bind('', name) + wire_client.execute() +
                      wire_client.close('S', name) + wire_client.parse('', "SELECT 'their unnamed'") + wire_client.sync())
            wire.recv_until('Z')

    def close(self):
        for wire in self.sessions:
            wire.close()


def named_in_sql(case):
    """The same conversation of a session that logs in without a tenant and names it in SQL. None: it goes back to what the session began with."""
    text = b''.join(turn.data for turn in case.turns).lower()
    if any(word in text for word in (b'reset', b'default', b'discard', b'search_path', b'show all', b'current_company_id')) or 'search_path' in case.params:
        return None
    return dataclasses.replace(case, turns=[conversation.q('SET search_path TO acme, public')] + list(case.turns))


class Differential(unittest.TestCase):
    maxDiff = None

    def compare(self, mode, cases, between=None, play_direct_as=None, tenant='acme'):
        failures, played, silent = [], 0, 0
        for case in cases:
            try:
                wire = direct(case.params, tenant)
                expected = conversation.play(wire, case, play_direct_as or mode)
                wire.close()
            except wire_client.WireError as error:
                self.fail('the conversation "%s" does not work with PostgreSQL itself: %s' % (case.name, error))
            try:
                for _ in range(2 if REUSE and not case.big else 0):
                    wire = proxied(case.params, tenant)
                    conversation.play(wire, case, 'whole')
                    wire.close()
                wire = proxied(case.params, tenant)
                wire.timeout = 30.0 if case.big else 5.0  # PostgreSQL answers the small ones in milliseconds
                got = conversation.play(wire, case, mode, between)
                wire.close()
                found = conversation.difference(expected, self.without_added_error(case, expected, got))
            except Exception as error:
                found = '%s: %s' % (type(error).__name__, error)
                silent += isinstance(error, wire_client.WireError)
                wire.close()
            played += 1
            if found:
                if len(failures) >= 60 or silent >= 5:
                    failures.append('... and more: given up')
                    break
                failures.append('%s [%s]\n%s' % (case.name, mode, found))
        print('%d conversations, %s: %d differ' % (played, mode, len(failures)))
        if failures:
            self.fail('%d of %d conversations differ:\n\n%s' % (len(failures), played, '\n\n'.join(failures)))

    @staticmethod
    def without_added_error(case, expected, got):
        if case.may_add_error and len(got) == len(expected) + 1 and got[-2][0] == 'E' \
                and wire_client.error_fields(got[-2][1]).get('C') == case.may_add_error:
            return got[:-2] + got[-1:]
        return got

    def test_whole(self):
        self.assertGreaterEqual(len(ALL), 120)
        self.assertEqual(len(ALL), len({case.name for case in ALL}))
        self.compare('whole', WRITTEN)

    def test_dribble(self):
        self.compare('dribble', [case for case in WRITTEN if not case.big])

    def test_coalesced(self):
        self.compare('coalesced', WRITTEN)

    def test_with_sessions_in_between(self):
        self.compare_shared(WRITTEN)

    def compare_shared(self, cases):
        between = Interloper()
        try:
            self.compare('shared', [case for case in cases if case.pooled], between, play_direct_as='whole')
        finally:
            between.close()

    def test_named_in_sql(self):
        cases = [named for named in map(named_in_sql, WRITTEN) if named]
        self.assertGreater(len(cases), 150)
        self.compare('whole', cases, tenant='')

    def test_named_in_sql_with_sessions_in_between(self):
        between = Interloper()
        try:
            self.compare('shared', [named for named in map(named_in_sql, WRITTEN) if named and named.pooled], between, 'whole', '')
        finally:
            between.close()

    def test_recorded_whole(self):
        self.compare('whole', RECORDED)

    def test_recorded_dribble(self):
        self.compare('dribble', RECORDED)

    def test_generated_whole(self):
        self.compare('whole', GENERATED)

    def test_generated_dribble(self):
        self.compare('dribble', [case for case in GENERATED if not case.big])

    def test_generated_coalesced(self):
        self.compare('coalesced', GENERATED)

    def test_generated_with_sessions_in_between(self):
        self.compare_shared(GENERATED)

    def test_login_messages(self):
        """What comes after AuthenticationOk: the same parameters, a cancel key of the same shape, ready."""
        for params in ({}, {'application_name': 'x', 'DateStyle': 'SQL', 'client_encoding': 'LATIN1', 'TimeZone': 'Asia/Tokyo'}):
            answers = []
            for connect in (direct, proxied):
                wire = connect(params)
                messages = [(k, b'\0' * len(b) if k == 'K' else b) for k, b in wire.login_messages]
                self.assertEqual(messages[-1], ('Z', b'I'))
                self.assertEqual(messages[-2][0], 'K')
                answers.append(conversation.normalise(messages))
                wire.close()
            self.assertEqual(conversation.difference(*answers), '')


if __name__ == '__main__':
    fixture.main(__name__)
