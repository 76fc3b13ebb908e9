"""What the tests of overload share: hosts that vanish, memory and processor time of a process, clients that ask again."""
import ctypes
import os
import socket
import struct
import time

import fixture
import pitfall_tools
from wire_client import ServerError, WireError

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27


def vanish(sock):
    """From now on the kernel drops what arrives for this socket before TCP sees it: nothing is acknowledged, as with a host that has lost its
    power. The socket must not be used for sending then."""
    drop_all = ctypes.create_string_buffer(struct.pack('HBBI', 0x06, 0, 0, 0))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack('HL', 1, ctypes.addressof(drop_all)))


def come_back(sock):
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


class VanishingRelay(pitfall_tools.Relay):
    """A server's address: what is connected through it can vanish, or freeze (its host answers, its program doesn't)."""

    def __init__(self, workspace, port):
        self.frozen = False
        super().__init__(workspace, port, change=self._pass)

    def _pass(self, data, number):
        while self.frozen:
            time.sleep(0.02)
        return data

    def vanish(self):
        for peer, _ in self.pairs:
            if peer.fileno() >= 0:
                vanish(peer)


def resident_bytes(pid):
    with open('/proc/%d/statm' % pid, encoding='ascii') as source:
        return int(source.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def address_space_bytes(pid):
    with open('/proc/%d/statm' % pid, encoding='ascii') as source:
        return int(source.read().split()[0]) * os.sysconf('SC_PAGESIZE')


def descriptors(pid):
    return len(os.listdir('/proc/%d/fd' % pid))


def processor_seconds(pid):
    with open('/proc/%d/stat' % pid, encoding='ascii') as source:
        return sum(int(v) for v in source.read().rsplit(')', 1)[1].split()[11:13]) / os.sysconf('SC_CLK_TCK')


def quiet_server(workspace, name, **settings):
    server = fixture.Postgres(workspace, name, settings=settings)
    server.make_roles()
    return server


def sqlstate_of(run):
    """The SQLSTATE that run() fails with; None when it succeeds, 'closed' when the connection ended without a word."""
    try:
        run()
    except ServerError as error:
        return error.sqlstate
    except (WireError, OSError):
        return 'closed'
    return None


def slowest(run, times):
    worst = 0.0
    for _ in range(times):
        began = time.monotonic()
        run()
        worst = max(worst, time.monotonic() - began)
    return worst
