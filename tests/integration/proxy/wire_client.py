"""A raw PostgreSQL wire client for tests: it builds and parses protocol messages, logs in (SCRAM-SHA-256, TLS) and can send any bytes,
split at any point. It never hides anything: what the server sent is what the test gets. One thread a connection.
"""
import base64
import hashlib
import hmac
import os
import select
import socket
import ssl
import struct
import time

PROTOCOL_3_0 = 196608
SSL_REQUEST = struct.pack('!ii', 8, 80877103)
GSSENC_REQUEST = struct.pack('!ii', 8, 80877104)


class WireError(Exception):
    """The other side did something that the protocol, or the deadline, doesn't allow."""


class ServerError(Exception):
    """An ErrorResponse, where the caller asked for an answer and not for messages."""

    def __init__(self, fields):
        super().__init__('%s %s: %s' % (fields.get('S'), fields.get('C'), fields.get('M')))
        self.fields = fields
        self.sqlstate = fields.get('C')


# ---- messages from the client ---------------------------------------------------------------------------------

def message(kind, body=b''):
    return kind.encode() + struct.pack('!i', len(body) + 4) + body


def zero(text):
    return (text if isinstance(text, bytes) else text.encode()) + b'\0'


def startup(params, version=PROTOCOL_3_0):
    body = struct.pack('!i', version)
    for name, value in params.items():
        body += zero(name) + zero(value)
    body += b'\0'
    return struct.pack('!i', len(body) + 4) + body


def cancel_request(pid, secret):
    return struct.pack('!iii', 12 + len(secret), 80877102, pid) + secret


def query(sql):
    return message('Q', zero(sql))


def parse(name, sql, oids=()):
    return message('P', zero(name) + zero(sql) + struct.pack('!h', len(oids)) + b''.join(struct.pack('!I', o) for o in oids))


def bind(portal='', statement='', values=(), formats=(), result_formats=()):
    body = zero(portal) + zero(statement) + struct.pack('!h', len(formats)) + b''.join(struct.pack('!h', f) for f in formats)
    body += struct.pack('!h', len(values))
    for value in values:
        if value is None:
            body += struct.pack('!i', -1)
        else:
            data = value if isinstance(value, bytes) else str(value).encode()
            body += struct.pack('!i', len(data)) + data
    body += struct.pack('!h', len(result_formats)) + b''.join(struct.pack('!h', f) for f in result_formats)
    return message('B', body)


def describe(kind, name=''):
    return message('D', kind.encode() + zero(name))


def execute(portal='', rows_max=0):
    return message('E', zero(portal) + struct.pack('!i', rows_max))


def close(kind, name=''):
    return message('C', kind.encode() + zero(name))


def sync():
    return message('S')


def flush():
    return message('H')


def terminate():
    return message('X')


def copy_data(data):
    return message('d', data if isinstance(data, bytes) else data.encode())


def copy_done():
    return message('c')


def copy_fail(why):
    return message('f', zero(why))


def function_call(oid, arguments=(), formats=(), result_format=0):
    body = struct.pack('!Ih', oid, len(formats)) + b''.join(struct.pack('!h', f) for f in formats)
    body += struct.pack('!h', len(arguments))
    for value in arguments:
        if value is None:
            body += struct.pack('!i', -1)
        else:
            body += struct.pack('!i', len(value)) + value
    return message('F', body + struct.pack('!h', result_format))


# ---- messages from the server ---------------------------------------------------------------------------------

def error_fields(body):
    fields = {}
    for part in body.rstrip(b'\0').split(b'\0'):
        if part:
            fields[chr(part[0])] = part[1:].decode('utf-8', 'replace')
    return fields


def row_values(body):
    (count,) = struct.unpack_from('!h', body)
    at, values = 2, []
    for _ in range(count):
        (size,) = struct.unpack_from('!i', body, at)
        at += 4
        if size < 0:
            values.append(None)
        else:
            values.append(body[at:at + size])
            at += size
    return values


def show(kind, body):
    """One line that a person can read."""
    if kind in 'EN':
        fields = error_fields(body)
        return '%s{%s}' % (kind, ' '.join('%s=%r' % (k, v) for k, v in fields.items()))
    if kind == 'Z':
        return 'Z(%s)' % body.decode('latin1')
    text = repr(body)
    return '%s %s' % (kind, text if len(text) < 200 else text[:160] + '... %d bytes' % len(body))


class Wire:
    """One connection. `messages` methods return lists of (type, body)."""

    def __init__(self, port, host='127.0.0.1', timeout=20.0, before=b''):
        """`host`: as libpq takes it, a directory of Unix-domain sockets too. `before`: bytes that a load balancer would put first."""
        self.timeout = timeout
        self.address = (host, port)
        if host.startswith('/'):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect('%s/.s.PGSQL.%d' % (host, port))
        else:
            self.socket = socket.create_connection(self.address, timeout=timeout)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(before)
        self.buffer = bytearray()
        self.eof = False
        self.parameters = {}
        self.pid = None
        self.secret = None
        self.status = None
        self.login_messages = []

    # -- bytes
    def close(self):
        try:
            self.socket.close()
        except OSError:
            pass

    def reset_connection(self):
        """Ends the connection with RST, as a killed client machine's peer sees it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.socket.close()

    def _pending(self):
        return isinstance(self.socket, ssl.SSLSocket) and self.socket.pending() > 0

    def _read_some(self):
        try:
            data = self.socket.recv(262144)
        except (ssl.SSLWantReadError, BlockingIOError):
            return
        except (ConnectionError, ssl.SSLError):
            data = b''
        if not data:
            self.eof = True
        self.buffer += data

    def send(self, data, pieces=None):
        """Sends it all, reading meanwhile, so that neither side can block the other. `pieces`: bytes a send() call."""
        deadline = time.monotonic() + self.timeout
        view = memoryview(data)
        step = pieces or len(data) or 1
        at = 0
        self.socket.setblocking(False)
        try:
            while at < len(view) and not self.eof:
                writable = [self.socket]
                readable, writable, _ = select.select([self.socket], writable, [], max(0.0, deadline - time.monotonic()))
                if not readable and not writable:
                    raise WireError('the other side read only %d of %d bytes in time' % (at, len(view)))
                if readable or self._pending():
                    self._read_some()
                if writable:
                    try:
                        at += self.socket.send(view[at:at + step])
                    except (ssl.SSLWantWriteError, ssl.SSLWantReadError, BlockingIOError):
                        pass
                    except ConnectionError:
                        break  # what it still said can be read
        finally:
            try:
                self.socket.settimeout(self.timeout)
            except OSError:
                pass

    def _fill(self, deadline):
        if self.eof:
            raise WireError('connection closed with %d bytes of a message: %r' % (len(self.buffer), bytes(self.buffer[:80])))
        left = deadline - time.monotonic()
        if left <= 0:
            raise WireError('nothing came in time')
        self.socket.settimeout(left)
        try:
            self._read_some()
        except socket.timeout:
            raise WireError('nothing came in time') from None

    def recv_byte(self):
        deadline = time.monotonic() + self.timeout
        while not self.buffer:
            self._fill(deadline)
        byte = bytes(self.buffer[:1])
        del self.buffer[:1]
        return byte

    def recv(self, timeout=None):
        """The next message, or (None, b'') at the end of the connection."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            if len(self.buffer) >= 5:
                (size,) = struct.unpack_from('!i', self.buffer, 1)
                if size < 4:
                    raise WireError('a message of length %d: %r' % (size, bytes(self.buffer[:40])))
                if len(self.buffer) >= size + 1:
                    kind, body = chr(self.buffer[0]), bytes(self.buffer[5:size + 1])
                    del self.buffer[:size + 1]
                    if kind == 'Z':
                        self.status = body.decode('latin1')
                    elif kind == 'S':
                        name, value = body.split(b'\0')[:2]
                        self.parameters[name.decode()] = value.decode('utf-8', 'replace')
                    return kind, body
            if self.eof and not self.buffer:
                return None, b''
            self._fill(deadline)

    def recv_until(self, kinds, count=1, timeout=None):
        """Messages up to and including the count-th one whose type is in `kinds`, or the end of the connection (type None)."""
        messages = []
        deadline = time.monotonic() + (timeout or self.timeout)
        while count:
            try:
                got = self.recv(max(0.001, deadline - time.monotonic()))
            except WireError as error:
                raise WireError('%s; so far: %s' % (error, [show(*m) for m in messages[-20:]])) from None
            messages.append(got)
            if got[0] is None:
                break
            if got[0] in kinds:
                count -= 1
        return messages

    def expect_eof(self, timeout=None):
        return self.recv_until('', timeout=timeout)[:-1]

    def quiet(self, seconds):
        """True when nothing comes for so long. Only for proving that nothing is sent."""
        if self.buffer or self._pending():
            return False
        return not select.select([self.socket], [], [], seconds)[0]

    # -- login
    def request_tls(self, context, server_hostname=None):
        self.send(SSL_REQUEST)
        answer = self.recv_byte()
        if answer != b'S':
            raise WireError('TLS asked for, answered %r' % answer)
        if self.buffer:
            raise WireError('bytes after the answer to SSLRequest: %r' % bytes(self.buffer))
        self.socket = context.wrap_socket(self.socket, server_hostname=server_hostname)

    def login(self, user, password=None, database=None, params=None, pieces=None, version=PROTOCOL_3_0):
        """Logs in; raises ServerError when refused. The messages since AuthenticationOk are in login_messages."""
        sent = {'user': user}
        if database is not None:
            sent['database'] = database
        sent.update(params or {})
        self.send(startup(sent, version), pieces)
        self.authenticate(password, pieces)
        return self

    def authenticate(self, password, pieces=None):
        scram = None
        while True:
            kind, body = self.recv()
            if kind is None:
                raise WireError('closed during login')
            if kind == 'E':
                raise ServerError(error_fields(body))
            if kind != 'R':
                self.login_messages.append((kind, body))
            if kind == 'Z':
                return
            if kind == 'K':
                self.pid, self.secret = struct.unpack('!i', body[:4])[0], body[4:]
            if kind == 'R':
                (code,) = struct.unpack_from('!i', body)
                if code == 10:
                    scram = Scram(password or '')
                    first = scram.client_first()
                    self.send(message('p', zero('SCRAM-SHA-256') + struct.pack('!i', len(first)) + first), pieces)
                elif code == 11:
                    self.send(message('p', scram.client_final(body[4:])), pieces)
                elif code == 12:
                    scram.check_server_final(body[4:])
                elif code != 0:
                    raise WireError('authentication request %d' % code)

    # -- conveniences
    def run(self, sql, timeout=None):
        """One simple Query: its rows as text; raises ServerError after ReadyForQuery."""
        self.send(query(sql))
        return self._rows(self.recv_until('Z', timeout=timeout))

    def run_prepared(self, sql, values=(), name=''):
        self.send(parse(name, sql) + bind('', name, values) + execute() + sync())
        return self._rows(self.recv_until('Z'))

    def _rows(self, messages):
        rows, error = [], None
        for kind, body in messages:
            if kind == 'D':
                rows.append(tuple(None if v is None else v.decode('utf-8', 'replace') for v in row_values(body)))
            elif kind == 'E':
                error = error or ServerError(error_fields(body))
            elif kind is None:
                raise error or WireError('connection closed')
        if error:
            raise error
        return rows

    def cancel(self, secret=None, extra=b'', port=None):
        """Sends a cancel request on a connection of its own; waits until that is closed; returns what came (should be nothing)."""
        other = Wire(port or self.address[1], self.address[0], self.timeout)
        other.send(cancel_request(self.pid, self.secret if secret is None else secret) + extra)
        deadline = time.monotonic() + self.timeout
        while not other.eof:
            other._fill(deadline)
        other.close()
        return bytes(other.buffer)


class Scram:
    """The client's half of SCRAM-SHA-256 without channel binding (RFC 5802, 7677)."""

    def __init__(self, password, nonce=None):
        self.password = password.encode()
        self.nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self.bare = 'n=,r=' + self.nonce
        self.salt = None
        self.iterations = None
        self.server_signature = None

    def client_first(self):
        return ('n,,' + self.bare).encode()

    def client_final(self, server_first):
        text = server_first.decode()
        parts = dict(p.split('=', 1) for p in text.split(','))
        if not parts['r'].startswith(self.nonce) or parts['r'] == self.nonce:
            raise WireError('the server did not add to the nonce')
        self.salt, self.iterations = base64.b64decode(parts['s']), int(parts['i'])
        salted = hashlib.pbkdf2_hmac('sha256', self.password, self.salt, self.iterations)
        client_key = hmac.digest(salted, b'Client Key', 'sha256')
        without_proof = 'c=biws,r=' + parts['r']
        auth = ','.join([self.bare, text, without_proof]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, 'sha256')
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = hmac.digest(hmac.digest(salted, b'Server Key', 'sha256'), auth, 'sha256')
        return (without_proof + ',p=' + base64.b64encode(proof).decode()).encode()

    def check_server_final(self, server_final):
        if base64.b64decode(server_final.decode().split('v=', 1)[1]) != self.server_signature:
            raise WireError('the server does not know the password')


def scram_verifier(password, salt=None, iterations=4096):
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac('sha256', password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b'Client Key', 'sha256')).digest()
    server = hmac.digest(salted, b'Server Key', 'sha256')
    text = [base64.b64encode(x).decode() for x in (salt, stored, server)]
    return 'SCRAM-SHA-256$%d:%s$%s:%s' % (iterations, text[0], text[1], text[2])
