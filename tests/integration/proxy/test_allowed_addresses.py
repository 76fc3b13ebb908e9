"""A tenant's allowed_addresses: at login, for sessions that live on while the list changes, and what a refusal tells. Addresses come in
through the PROXY protocol."""
import os
import unittest

import fixture
import wire_client
from fixture import wait_for
from test_doors import v4_header, v6_header
from wire_client import ServerError, Wire


def setUpModule():
    global workspace, server, proxy, proxy_port, sockets
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy_port = fixture.free_port()
    sockets = os.path.join(workspace.path, 'sockets')
    os.mkdir(sockets)
    proxy = fixture.Pgporter(workspace, server)
    proxy.config['listen'] += [{'address': '127.0.0.1', 'port': proxy_port, 'proxy_protocol': 'required'},
                               {'socket_directory': sockets, 'port': proxy.port}]
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()


def tearDownModule():
    workspace.close()


def allow(*blocks):
    users = [{'name': 'app', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['app'], b'0123456789abcdef'), 'tenants': '*'},
             {'name': 'other', 'scram_verifier': wire_client.scram_verifier(fixture.PASSWORDS['other'], b'0123456789abcdef'), 'tenants': ['globex']}]
    proxy.apply(fixture.document({'main': server}, {'acme': {'allowed_addresses': list(blocks)}, 'globex': {}}, users=users))


def log_in(address, tenant='acme', user='app', password=None):
    before = v6_header(address) if ':' in address else v4_header(address)
    return Wire(proxy_port, before=before).login(user, password or fixture.PASSWORDS[user], 'app', {'options': '-c pgporter.tenant=' + tenant})


def outcome(*arguments, **more):
    try:
        log_in(*arguments, **more).close()
    except ServerError as error:
        return error.sqlstate
    return 'in'


class AllowedAddresses(unittest.TestCase):
    def setUp(self):
        allow()
        wait_for(lambda: outcome('198.51.100.1') == 'in', 'everybody may come')

    def test_at_login(self):
        allow('192.0.2.0/24', '2001:db8::/32')
        wait_for(lambda: outcome('198.51.100.1') == '28000', 'the list holds')
        self.assertEqual(outcome('192.0.2.77'), 'in')
        self.assertEqual(outcome('2001:db8:5::1'), 'in')
        self.assertEqual(outcome('2001:db9::1'), '28000')
        self.assertEqual(outcome('198.51.100.1', 'globex'), 'in')
        with self.assertRaises(ServerError) as caught:  # no address at all
            Wire(proxy.port, sockets).login('app', fixture.PASSWORDS['app'], 'app', {'options': '-c pgporter.tenant=acme'})
        self.assertEqual(caught.exception.sqlstate, '28000')
        self.assertIn('acme', caught.exception.fields['M'])

    def test_only_who_may_speak_for_the_tenant_learns_of_the_list(self):
        allow('192.0.2.0/24')
        wait_for(lambda: outcome('198.51.100.1') == '28000', 'the list holds')
        self.assertEqual(outcome('198.51.100.1', password='wrong'), '28P01')
        for tenant in ('acme', 'never_heard_of'):
            with self.assertRaises(ServerError) as caught:
                log_in('198.51.100.1', tenant, 'other')
            self.assertEqual((caught.exception.sqlstate, caught.exception.fields['M'].replace(tenant, 'X')),
                             ('3D000', 'tenant "X" doesn\'t exist or user "other" may not speak for it'))

    def test_live_sessions_end_at_a_safe_point(self):
        idle, busy, far, elsewhere = log_in('192.0.2.1'), log_in('192.0.2.2'), log_in('198.51.100.1'), log_in('192.0.2.1', 'globex')
        busy.run("BEGIN; INSERT INTO ledger (id) VALUES ('in flight')")
        allow('198.51.100.0/24')
        messages = idle.expect_eof()
        self.assertEqual([wire_client.error_fields(b)['C'] for k, b in messages], ['57P01'])
        # The transaction goes on to its end, and nothing of it is lost.
        self.assertEqual(busy.run('SELECT count(*) FROM ledger'), [('1',)])
        busy.send(wire_client.query('COMMIT'))
        messages = busy.expect_eof()
        self.assertEqual([k for k, _ in messages], ['C', 'Z', 'E'])
        self.assertEqual(wire_client.error_fields(messages[-1][1])['C'], '57P01')
        self.assertIn('acme', wire_client.error_fields(messages[-1][1])['M'])
        self.assertEqual(far.run('SELECT count(*) FROM ledger'), [('1',)])
        self.assertEqual(elsewhere.run('SELECT tenant FROM whoami'), [('globex',)])
        far.close()
        elsewhere.close()

    def test_live_sessions_that_name_their_tenants_in_sql(self):
        """Refused at the next transaction, for that tenant alone; who keeps its server connection ends at a safe point."""
        def session(*statements):
            wire = Wire(proxy_port, before=v4_header('192.0.2.1')).login('app', fixture.PASSWORDS['app'], 'app')
            for sql in ('SET search_path TO acme',) + statements:
                wire.run(sql)
            self.addCleanup(wire.close)
            return wire
        idle, held, busy, pinned, gone = (session(), session('BEGIN'), session('BEGIN', "INSERT INTO ledger (id) VALUES ('named')"),
                                          session('LISTEN acme_news', 'SELECT 1'), session("SELECT 1"))
        gone.run('SET search_path TO globex')
        allow('198.51.100.0/24')
        messages = pinned.expect_eof()
        self.assertEqual([(wire_client.error_fields(b)['C'], 'acme' in wire_client.error_fields(b)['M']) for k, b in messages], [('57P01', True)])
        self.assertEqual(busy.run("SELECT count(*) FROM ledger WHERE id = 'named'"), [('1',)])
        busy.send(wire_client.query('COMMIT'))
        messages = busy.expect_eof()
        self.assertEqual([k for k, _ in messages], ['C', 'Z', 'E'])
        for wire in (idle, held):
            with self.assertRaises(ServerError) as caught:
                wire.run('SELECT tenant FROM whoami')
            self.assertEqual(caught.exception.sqlstate, '28000')
        held.run('ROLLBACK')
        for wire in (idle, held, gone):
            wire.run('SET search_path TO globex')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('globex',)])
            with self.assertRaises(ServerError) as caught:
                wire.run('SET search_path TO acme')
                wire.run('SELECT tenant FROM whoami')
            self.assertEqual(caught.exception.sqlstate, '28000')
        self.assertEqual(server.sql("SELECT count(*) FROM acme.ledger WHERE id = 'named'", 'app'), [(1,)])


if __name__ == '__main__':
    fixture.main(__name__)
