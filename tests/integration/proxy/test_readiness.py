"""What a socket says only once: an end that comes together with data, reads that end exactly where the buffer does, both directions full. None of it may
be waited for again.
"""
import contextlib
import socket
import struct
import unittest

import fixture
import wire_client as w

READ_BYTES = 65_536


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = fixture.Pgporter(workspace, server).start()
    proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 2}]))


def tearDownModule():
    workspace.close()


class Readiness(unittest.TestCase):
    def gone(self):
        fixture.wait_for(lambda: proxy.metric('pgporter_sessions') == 0 and proxy.metric('pgporter_leases') == 0, 'the session has ended', 3)

    def test_an_end_that_comes_with_the_last_data(self):
        """In one packet, so that one report is all there will be."""
        for last in (w.query('SELECT 1'), w.query('SELECT 1')[:-3], w.parse('', 'SELECT 1') + w.flush(), w.query('SELECT pg_sleep(30)'),
                     w.query('BEGIN; SELECT 1'), w.query('SELECT 1') * 2000):
            wire = proxy.wire()
            wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
            wire.send(last)
            wire.socket.shutdown(socket.SHUT_WR)
            self.gone()
            wire.close()
            fixture.wait_for(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND state = 'active' "
                                                'AND pid <> pg_backend_pid()') == [(0,)], 'nothing is slept for nobody', 5)

    def test_an_end_by_force(self):
        for last in (b'', w.query('SELECT pg_sleep(30)'), w.query('SELECT 1')[:-3]):
            wire = proxy.wire()
            wire.send(last)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            wire.socket.close()
            self.gone()

    def test_reads_that_end_where_the_buffer_does(self):
        with contextlib.closing(proxy.wire()) as wire:
            for size in range(READ_BYTES - 120, READ_BYTES + 8):
                self.assertEqual(len(wire.run("SELECT repeat('x', %d)" % size)[0][0]), size)
            for size in range(READ_BYTES - 40, READ_BYTES + 8):
                self.assertEqual(wire.run("SELECT length('%s')" % ('y' * size)), [(str(size),)])
            self.assertEqual(len(wire.run("SELECT repeat('x', %d)" % (64 * READ_BYTES))[0][0]), 64 * READ_BYTES)

    def test_a_server_connection_that_ends_while_idle_is_not_lent(self):
        wire = proxy.wire()
        for _ in range(20):
            pid = int(wire.run('SELECT pg_backend_pid()')[0][0])
            server.sql('SELECT pg_terminate_backend(%d)' % pid)
            fixture.wait_for(lambda: not server.sql('SELECT 1 FROM pg_stat_activity WHERE pid = %d' % pid), 'it has ended')
            self.assertEqual(wire.run('SELECT 1'), [('1',)])
        wire.close()


if __name__ == '__main__':
    fixture.main(__name__)
