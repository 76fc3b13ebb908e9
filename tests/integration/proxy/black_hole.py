"""A port between pgporter and a server that goes silent: from then on whoever connects gets no answer at all, not even a refusal, as behind
a firewall that drops packets. What is connected already works on. Linux drops the SYN where a listener's queue is full."""
import contextlib
import select
import socket
import threading


class BlackHole:
    def __init__(self, target_port, passes=None):
        """`passes`: how many connections get through before it is silent; None: until silence() is called."""
        self.target_port, self.passes = target_port, passes
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.sockets, self.fillers = [], []
        self.silent, self.ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        passed, peers = 0, {}
        while not self.ended.is_set():
            is_open = not self.silent.is_set() and (self.passes is None or passed < self.passes)
            readable, _, _ = select.select(list(peers) + ([self.listener] if is_open else []), [], [], 0.02)
            for one in readable:
                if one is self.listener:
                    client, server = self.listener.accept()[0], socket.create_connection(('127.0.0.1', self.target_port))
                    peers.update({client: server, server: client})
                    self.sockets += [client, server]
                    passed += 1
                    continue
                if one not in peers:
                    continue
                try:
                    data = one.recv(65536)
                except OSError:
                    data = b''
                if data:
                    with contextlib.suppress(OSError):
                        peers[one].sendall(data)
                else:
                    for end in (one, peers[one]):
                        peers.pop(end, None)
                        end.close()

    def silence(self):
        """Returns when a new connection isn't answered any more."""
        self.silent.set()
        unanswered = 0
        while unanswered < 3:  # one alone may only have met a full queue that is being emptied
            filler = socket.socket()
            filler.settimeout(0.3)
            self.fillers.append(filler)
            try:
                filler.connect(('127.0.0.1', self.port))
                unanswered = 0
            except socket.timeout:
                unanswered += 1
        return self

    def speak(self):
        for filler in self.fillers:
            filler.close()
        self.fillers = []
        self.silent.clear()

    def close(self):
        self.ended.set()
        self.thread.join(5)
        for one in self.sockets + self.fillers + [self.listener]:
            one.close()
