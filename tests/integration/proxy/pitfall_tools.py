"""What the tests of the pitfalls share: a server that misbehaves as it is told, a relay that changes what a real server says, and the comparison
with PostgreSQL.
"""
import select
import socket
import struct
import threading
import unittest

import conversation
import fixture
import wire_client as w


class FakeServer:
    """Accepts connections and lets `behave(socket)` answer them, each in a thread of its own; what came is in `received`."""

    def __init__(self, workspace, behave):
        self.behave, self.received, self.accepted = behave, [], 0
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        workspace.servers.append(self)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        peer.settimeout(15)
        try:
            self.behave(peer, self)
        except (OSError, struct.error):
            pass
        finally:
            peer.close()

    def stop(self, mode='fast'):
        self.listener.close()


def read_startup(peer, fake):
    (size,) = struct.unpack('!i', read_exactly(peer, 4))
    body = read_exactly(peer, size - 4)
    fake.received.append(body)
    return body


def read_message(peer, fake):
    head = read_exactly(peer, 5)
    body = read_exactly(peer, struct.unpack('!i', head[1:])[0] - 4)
    fake.received.append(head + body)
    return chr(head[0]), body


def read_exactly(peer, size):
    data = b''
    while len(data) < size:
        more = peer.recv(size - len(data))
        if not more:
            raise OSError('closed')
        data += more
    return data


class Relay:
    """A TCP relay in front of a server: `change(data, number)` may rewrite what the server says; number counts the reads of a connection, of
    which the first `pieces_of_login` are passed on a byte at a time. `cut(data)`, if set, gives the pieces in which it leaves."""

    def __init__(self, workspace, port, change=None, pieces_of_login=0):
        self.target, self.change, self.pieces_of_login = port, change or (lambda data, number: data), pieces_of_login
        self.cut, self.pairs = None, []
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        workspace.servers.append(self)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(peer,), daemon=True).start()

    def _carry(self, peer):
        try:
            server = socket.create_connection(('127.0.0.1', self.target))
        except OSError:
            peer.close()
            return
        self.pairs.append((peer, server))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = 0
        try:
            while True:
                for ready in select.select([peer, server], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is server:
                        data = self.change(data, number)
                        number += 1
                        if number <= self.pieces_of_login:
                            for byte in data[:-1]:
                                peer.sendall(bytes([byte]))
                            data = data[-1:]
                        if self.cut:
                            for piece in self.cut(data):
                                peer.sendall(piece)
                            continue
                    (peer if ready is server else server).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            peer.close()
            server.close()

    def stop(self, mode='fast'):
        self.listener.close()
        for peer, server in self.pairs:
            peer.close()
            server.close()


class Base(unittest.TestCase):
    """`server` and `proxy` are given by setUpModule of the file."""
    server = proxy = None
    maxDiff = None

    def wire(self, tenant='acme', **more):
        wire = self.proxy.wire(tenant, **more)
        wire.timeout = 10.0
        self.addCleanup(wire.close)
        return wire

    def direct(self, tenant='acme', database='app', **params):
        wire = w.Wire(self.server.port).login('app', fixture.PASSWORDS['app'], database, dict({'search_path': tenant + ', public'}, **params))
        self.addCleanup(wire.close)
        return wire

    def same_as_postgresql(self, name, turns, modes=('whole', 'dribble', 'coalesced'), between=None, **more):
        """Plays it with PostgreSQL and through pgporter; returns the last transcript."""
        case = conversation.Conversation(name, turns, **more)
        got = []
        for mode in modes:
            expected = conversation.play(self.direct(), case, mode)
            got = conversation.play(self.wire(), case, mode, between)
            self.assertEqual(conversation.difference(expected, got), '', '%s [%s]' % (name, mode))
        return got

    def works(self, tenant='acme'):
        """A new session of the tenant is served, and on a server connection that keeps nothing of anybody."""
        wire = self.wire(tenant)
        self.assertEqual(wire.run('SELECT tenant FROM whoami'), [(tenant,)])
        wire.close()

    def state_of(self, messages):
        errors = [w.error_fields(body) for kind, body in messages if kind == 'E']
        self.assertLessEqual(len(errors), 1, messages)
        return errors[0]['C'] if errors else None
