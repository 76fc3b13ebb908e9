"""What the tests of the rules for tenants in SQL share: one world, one pgporter with a home, and questions to a session.
PGPORTER_TEST_DIRECT=1 plays both sides with PostgreSQL: for the comparisons of test_sql_naming_rules.py.
"""
import os
import unittest

import conversation
import fixture
import naming_world
import wire_client as w
from wire_client import ServerError

DIRECT_ONLY = os.environ.get('PGPORTER_TEST_DIRECT') == '1'
workspace = server = proxy = None


def start(names):
    """For setUpModule: `names` gets workspace, server and proxy. User `other` may speak for globex only."""
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    naming_world.make(server)
    server.sql('GRANT USAGE ON SCHEMA globex TO other; GRANT SELECT ON globex.whoami TO other', 'app')
    verifier = w.scram_verifier
    proxy = None if DIRECT_ONLY else naming_world.start(workspace, server, users=[
        {'name': 'app', 'scram_verifier': verifier(fixture.PASSWORDS['app']), 'tenants': '*'},
        {'name': 'other', 'scram_verifier': verifier(fixture.PASSWORDS['other']), 'tenants': ['globex']}])
    names.update(workspace=workspace, server=server, proxy=proxy)


def end():
    workspace.close()


class Base(unittest.TestCase):
    maxDiff = None

    def wire(self, tenant=None, **more):
        wire = naming_world.direct(server, tenant) if DIRECT_ONLY else proxy.wire(tenant, **more)
        wire.timeout = 6.0
        self.addCleanup(wire.close)
        return wire

    def who(self, wire):
        return wire.run('SELECT tenant FROM whoami')[0][0]

    def who_is_nobody(self, wire):
        """The SQLSTATE for reading a tenant's table where no tenant is in force."""
        with self.assertRaises(ServerError) as caught:
            self.who(wire)
        return caught.exception.sqlstate

    def refused(self, wire, sql, sqlstate, *words, prepared=False, values=()):
        """The ERROR for one statement. It stands alone: it says of whom, and never of an address, a port or a class of ours."""
        try:
            rows = wire.run_prepared(sql, values) if prepared else wire.run(sql)
        except ServerError as error:
            self.assertEqual((error.sqlstate, error.fields['S']), (sqlstate, 'ERROR'), '%s for %s' % (error, sql))
            text = ' '.join(error.fields.get(part, '') for part in 'MDH')
            for word in words:
                self.assertIn(word, text, sql)
            self.assertNotIn(str(server.port), text)
            self.assertEqual(error.fields['M'][:1], error.fields['M'][:1].lower())
            return error
        self.fail('not refused: %s gave %s' % (sql, rows))

    def both(self, name, turns, login='', reads=None, modes=('whole', 'dribble', 'coalesced'), **more):
        """The same answers as PostgreSQL's, however it is sent."""
        case = conversation.Conversation(name, turns, **more)
        for mode in modes:
            wire = naming_world.direct(server, login)
            expected = conversation.play(wire, case, mode)
            wire.close()
            got = conversation.play(self.wire(login), case, mode)
            found = conversation.difference(*map(naming_world.without_table_oids, (expected, got)))
            self.assertEqual(found, '', '%s [%s]' % (name, mode))
            if reads is not None:
                self.assertEqual([r[0] if r else '' for r in naming_world.tenants_read(got)], reads, '%s [%s]' % (name, mode))
