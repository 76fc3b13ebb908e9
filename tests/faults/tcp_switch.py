"""A switch between the parts of a test's world: every TCP connection of pgporter to a PostgreSQL server, and of a client to pgporter, goes
through it. It knows which process opened a connection, and can cut, stall and half-close what lies between two parts, or spring a trap: hold a
request back, or lose its reply, when certain bytes go by. One thread of its own; the methods may be called from any.
"""
import os
import re
import selectors
import socket
import struct
import threading

OPEN, CUT, STALL, DEAF = 'open', 'cut', 'stall', 'deaf'  # deaf: requests arrive, replies don't
CHUNK = 65536
TAIL = 512  # of what went by, for patterns that lie across two pieces
BUFFER_MAX = 1 << 20


def family_of(pid):
    """The process and what it has started."""
    family, queue = [], [pid]
    while queue:
        one = queue.pop()
        family.append(one)
        try:
            for task in os.listdir('/proc/%d/task' % one):
                with open('/proc/%d/task/%s/children' % (one, task), encoding='ascii') as source:
                    queue.extend(int(child) for child in source.read().split())
        except OSError:
            pass
    return family


def socket_inode(port, peer_port):
    """Of the loopback socket that is bound to `port` and connected to `peer_port`."""
    wanted = '0100007F:%04X' % port, '0100007F:%04X' % peer_port
    with open('/proc/net/tcp', encoding='ascii') as source:
        for line in source:
            fields = line.split()
            if (fields[1], fields[2]) == wanted:
                return fields[9]
    return None


def owns_socket(pid, inode):
    name = 'socket:[%s]' % inode
    for one in family_of(pid):
        try:
            for descriptor in os.listdir('/proc/%d/fd' % one):
                try:
                    if os.readlink('/proc/%d/fd/%s' % (one, descriptor)) == name:
                        return True
                except OSError:
                    continue
        except OSError:
            continue
    return False


class Trap:
    """Waits until its patterns have gone by on one connection, one after the other; then that connection stands still. `then`:
    'hold' (the bytes with the last pattern are kept back) or 'lose' (they arrive, what is answered from then on doesn't). `cuts`: with the lost
    answer the server can't be reached any more, until that is healed.
    """

    def __init__(self, switch, server, patterns, then, instance, cuts=False):
        self.cuts = cuts
        self.switch, self.server, self.then, self.instance = switch, server, then, instance
        self.patterns = [re.compile(p if isinstance(p, bytes) else p.encode(), re.S) for p in patterns]
        self.sprung = threading.Event()
        self.answered = threading.Event()  # 'lose' only: the server has said something that got lost
        self.pipe = None
        self.armed = True

    def wait(self, timeout=20.0):
        event = self.answered if self.then == 'lose' else self.sprung
        if not event.wait(timeout):
            raise AssertionError('nothing like %s went by to %s within %.0f s' % ([p.pattern for p in self.patterns], self.server, timeout))
        return self

    def let_go(self):
        """What was held back goes on its way."""
        self.switch.call(lambda: self.pipe and self.pipe.resume())

    def cut(self):
        self.switch.call(lambda: self.pipe and self.pipe.close())

    def disarm(self):
        self.armed = False
        self.switch.call(lambda: self.switch.traps.remove(self) if self in self.switch.traps else None)


class Pipe:
    """One client connection and, once opened, the one to the server."""

    def __init__(self, switch, client, server, instance, target_port):
        self.switch, self.client, self.server, self.instance = switch, client, server, instance
        self.upstream = None
        self.target_port = target_port
        self.to_server, self.to_client = bytearray(), bytearray()
        self.client_eof = self.server_eof = False
        self.progress = {}  # trap -> (patterns seen so far, the last bytes since)
        self.trap = None
        self.kept_back = b''
        self.loses_replies = False
        self.closed = False
        self.masks = {}
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self):
        self.upstream = socket.socket()
        self.upstream.setblocking(False)
        self.upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.upstream.connect_ex(('127.0.0.1', self.target_port))
        self.connecting = True

    def mode(self):
        return self.switch.mode_of(self.instance, self.server)

    def watch(self, sock, mask):
        if self.masks.get(sock) == mask:
            return
        selector = self.switch.selector
        if self.masks.get(sock):
            if mask:
                selector.modify(sock, mask, self)
            else:
                selector.unregister(sock)
        elif mask:
            selector.register(sock, mask, self)
        self.masks[sock] = mask

    def update(self):
        """What to wait for, as things are."""
        if self.closed:
            return
        mode = self.mode()
        if mode == CUT:
            self.close()
            return
        if mode != STALL and self.upstream is None:
            self.connect()
        still = mode == STALL or self.trap is not None and self.trap.then == 'hold'
        read, write = selectors.EVENT_READ, selectors.EVENT_WRITE
        client = server = 0
        if not still:
            if not self.client_eof and len(self.to_server) < BUFFER_MAX:
                client |= read
            if self.to_client and mode != DEAF:
                client |= write
            if self.upstream is not None:
                if self.connecting or self.to_server:
                    server |= write
                if not self.connecting and not self.server_eof and len(self.to_client) < BUFFER_MAX:
                    server |= read
        self.watch(self.client, client)
        if self.upstream is not None:
            self.watch(self.upstream, server)

    def ready(self, sock, mask):
        try:
            if sock is self.client:
                if mask & selectors.EVENT_READ:
                    self.read_client()
                if mask & selectors.EVENT_WRITE and not self.closed:
                    del self.to_client[:self.client.send(self.to_client)]
            elif self.connecting:
                if self.upstream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    self.close()
                    return
                self.connecting = False
            else:
                if mask & selectors.EVENT_READ:
                    self.read_server()
                if mask & selectors.EVENT_WRITE and not self.closed:
                    del self.to_server[:self.upstream.send(self.to_server)]
            if self.closed:
                return
            if self.client_eof and not self.to_server or self.server_eof and not self.to_client:
                self.close(reset=False)
                return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        self.update()

    def read_client(self):
        data = self.client.recv(CHUNK)
        if not data:
            self.client_eof = True
            return
        self.look(data)

    def read_server(self):
        data = self.upstream.recv(CHUNK)
        if not data:
            self.server_eof = True
        elif self.loses_replies:
            self.trap.answered.set()
            if self.trap.cuts:
                self.switch.change(self.server, CUT)
        else:
            self.to_client += data

    def look(self, data):
        """Springs a trap or passes the bytes on."""
        for trap in list(self.switch.traps):
            if trap.server != self.server or trap.instance not in (None, self.instance):
                continue
            at, seen = self.progress.get(trap, (0, b''))
            seen += data
            while at < len(trap.patterns):
                match = trap.patterns[at].search(seen)
                if match is None:
                    break
                at, seen = at + 1, seen[match.end():]
            self.progress[trap] = at, seen[-TAIL:]
            if at == len(trap.patterns):
                self.spring(trap, data)
                return
        self.to_server += data

    def spring(self, trap, data):
        self.switch.traps.remove(trap)
        self.trap = trap
        trap.pipe = self
        if trap.then == 'hold':
            self.kept_back = data
        else:
            self.loses_replies = True
            self.to_server += data
        trap.sprung.set()

    def resume(self):
        if self.closed:
            return
        self.to_server += self.kept_back
        self.kept_back, self.trap, self.loses_replies = b'', None, False
        self.update()

    def close(self, reset=True):
        if self.closed:
            return
        self.closed = True
        self.switch.pipes.discard(self)
        for sock in (self.client, self.upstream):
            if sock is None:
                continue
            if self.masks.get(sock):
                self.switch.selector.unregister(sock)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            sock.close()
        if self.trap is not None:
            self.trap.answered.set()


class Switch:
    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.modes = {}   # (instance, server) -> mode; instance None: every instance
        self.traps = []
        self.pipes = set()
        self.processes = {}  # instance -> pid
        self.calls = []
        self.lock = threading.Lock()
        self.wake_read, self.wake_write = socket.socketpair()
        self.wake_read.setblocking(False)
        self.selector.register(self.wake_read, selectors.EVENT_READ, None)
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True, name='switch')
        self.thread.start()

    # -- from any thread
    def call(self, function):
        """Runs it on the switch's thread; returns when it has run."""
        done = threading.Event()
        with self.lock:
            self.calls.append((function, done))
        self.wake_write.send(b'x')
        done.wait(10)

    def link(self, server, target_port, instance=None):
        """A port that leads to the target; connections are those of `instance`, or of whichever process opened them."""
        listener = socket.create_server(('127.0.0.1', 0), backlog=256)
        listener.setblocking(False)
        self.call(lambda: self.selector.register(listener, selectors.EVENT_READ, (listener, server, target_port, instance)))
        return listener.getsockname()[1]

    def set(self, server, mode, instance=None):
        self.call(lambda: self.change(server, mode, instance))

    def heal(self):
        """Everything is open again, no trap waits; what stands still for a trap ends."""
        def change():
            self.modes.clear()
            self.traps.clear()
            for pipe in list(self.pipes):
                if pipe.trap is not None:
                    pipe.close()
                else:
                    pipe.update()
        self.call(change)

    def trap(self, server, *patterns, then='hold', instance=None, cuts=False):
        trap = Trap(self, server, patterns, then, instance, cuts)
        self.call(lambda: self.traps.append(trap))
        return trap

    def stop(self):
        self.stopping = True
        self.wake_write.send(b'x')
        self.thread.join(5)

    # -- on the thread
    def change(self, server, mode, instance=None):
        self.modes[(instance, server)] = mode
        for pipe in list(self.pipes):
            pipe.update()

    def mode_of(self, instance, server):
        for key in ((instance, server), (None, server)):
            if self.modes.get(key, OPEN) != OPEN:
                return self.modes[key]
        return OPEN

    def run(self):
        while not self.stopping:
            for key, mask in self.selector.select(1.0):
                if key.data is None:
                    self.wake_read.recv(4096)
                elif isinstance(key.data, tuple):
                    self.accept(*key.data)
                elif not key.data.closed:
                    key.data.ready(key.fileobj, mask)
            with self.lock:
                calls, self.calls = self.calls, []
            for function, done in calls:
                try:
                    function()
                finally:
                    done.set()

    def accept(self, listener, server, target_port, instance):
        try:
            client, address = listener.accept()
        except OSError:
            return
        if instance is None:
            inode = socket_inode(address[1], listener.getsockname()[1])
            instance = next((name for name, pid in self.processes.items() if inode and owns_socket(pid, inode)), None)
        pipe = Pipe(self, client, server, instance, target_port)
        self.pipes.add(pipe)
        pipe.update()
