"""Parts of the TLS tests: certificates made with the openssl program, a client that binds its login to the channel, and somebody in between."""
import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading

import wire_client
from wire_client import Scram, Wire

NAMES = {'server': 'DNS:localhost,IP:127.0.0.1', 'wrong': 'DNS:elsewhere.example', 'wild': 'DNS:*.tenants.example.com',
         'acme': 'DNS:acme.tenants.example.com'}


class Authority:
    """A folder with a certificate authority `ca`, one that nobody trusts (`stranger`), and whatever they sign."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder)
        for authority in ('ca', 'stranger'):
            self.openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', authority + '.key', '-out',
                         authority + '.crt', '-days', '2', '-subj', '/CN=' + authority)

    def openssl(self, *arguments):
        subprocess.run(['openssl'] + list(arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def pair(self, name):
        return self.path(name + '.crt'), self.path(name + '.key')

    def make(self, name, alternatives=None, common_name=None, authority='ca'):
        """NAME.crt and NAME.key; files that exist are replaced in one step each, as certbot does."""
        new = name + '.new'
        with open(self.path(new + '.extension'), 'w', encoding='utf-8') as out:
            out.write('subjectAltName=%s\n' % alternatives if alternatives else '')
        self.openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', new + '.key', '-out', new + '.csr',
                     '-subj', '/CN=' + (common_name or name))
        self.openssl('x509', '-req', '-in', new + '.csr', '-CA', authority + '.crt', '-CAkey', authority + '.key', '-CAcreateserial', '-out',
                     new + '.crt', '-days', '2', '-extfile', new + '.extension')
        os.rename(self.path(new + '.key'), self.path(name + '.key'))
        os.rename(self.path(new + '.crt'), self.path(name + '.crt'))
        return self.pair(name)

    def revoke(self, *names):
        """Writes ca.crl."""
        with open(self.path('ca.conf'), 'w', encoding='utf-8') as out:
            out.write('[ca]\ndefault_ca=d\n[d]\ndatabase=%s\ndefault_md=sha256\ndefault_crl_days=2\ncrlnumber=%s\n' %
                      (self.path('index'), self.path('number')))
        open(self.path('index'), 'a', encoding='utf-8').close()
        if not os.path.exists(self.path('number')):
            with open(self.path('number'), 'w', encoding='utf-8') as out:
                out.write('01\n')
        signer = ('-config', 'ca.conf', '-keyfile', 'ca.key', '-cert', 'ca.crt')
        for name in names:
            self.openssl('ca', *signer, '-revoke', name + '.crt')
        self.openssl('ca', *signer, '-gencrl', '-out', 'ca.crl.new')
        os.rename(self.path('ca.crl.new'), self.path('ca.crl'))

    def context(self, client=None, protocols=None, version=None, check_hostname=False):
        context = ssl.create_default_context(cafile=self.path('ca.crt'))
        context.check_hostname = check_hostname
        if client:
            context.load_cert_chain(*self.pair(client))
        if protocols:
            context.set_alpn_protocols(protocols)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    def expiry(self, name):
        text = subprocess.run(['openssl', 'x509', '-noout', '-enddate', '-in', self.path(name + '.crt')], check=True, stdout=subprocess.PIPE,
                              text=True).stdout
        return ssl.cert_time_to_seconds(text.strip().split('=', 1)[1])


class BoundScram(Scram):
    """SCRAM with a gs2 header of one's own and whatever is to be bound."""

    def __init__(self, password, header, bound=b''):
        super().__init__(password)
        self.header, self.bound = header.encode(), bound

    def client_first(self):
        return self.header + self.bare.encode()

    def client_final(self, server_first):
        text = server_first.decode()
        parts = dict(p.split('=', 1) for p in text.split(','))
        salted = hashlib.pbkdf2_hmac('sha256', self.password, base64.b64decode(parts['s']), int(parts['i']))
        client_key = hmac.digest(salted, b'Client Key', 'sha256')
        without_proof = 'c=%s,r=%s' % (base64.b64encode(self.header + self.bound).decode(), parts['r'])
        auth = ','.join([self.bare, text, without_proof]).encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth, 'sha256')
        self.server_signature = hmac.digest(hmac.digest(salted, b'Server Key', 'sha256'), auth, 'sha256')
        return (without_proof + ',p=' + base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()).encode()


class TlsWire(Wire):
    """Says what it is told to: `mechanism`, `header` and `bound` of SCRAM. `offered` is what the server offered."""
    mechanism, header, bound, offered = 'SCRAM-SHA-256', 'n,,', b'', None

    def begin_tls(self, context, server_name=None):
        """TLS at once, without SSLRequest."""
        self.socket = context.wrap_socket(self.socket, server_hostname=server_name)

    def bind_to_channel(self):
        self.mechanism, self.header = 'SCRAM-SHA-256-PLUS', 'p=tls-server-end-point,,'
        self.bound = hashlib.sha256(self.socket.getpeercert(True)).digest()
        return self

    def authenticate(self, password, pieces=None):
        scram = BoundScram(password or '', self.header, self.bound)
        while True:
            kind, body = self.recv()
            if kind is None:
                raise wire_client.WireError('closed during login')
            if kind == 'E':
                raise wire_client.ServerError(wire_client.error_fields(body))
            if kind == 'Z':
                return
            if kind == 'K':
                self.pid, self.secret = struct.unpack('!i', body[:4])[0], body[4:]
            if kind != 'R':
                continue
            (code,) = struct.unpack_from('!i', body)
            if code == 10:
                self.offered = [m.decode() for m in body[4:].split(b'\0') if m]
                first = scram.client_first()
                self.send(wire_client.message('p', wire_client.zero(self.mechanism) + struct.pack('!i', len(first)) + first))
            elif code == 11:
                self.send(wire_client.message('p', scram.client_final(body[4:])))
            elif code == 12:
                scram.check_server_final(body[4:])


class Middleman:
    """Ends the TLS of whoever connects with a certificate of its own and goes on to `port` with TLS: what a login without channel binding doesn't notice.
    With `pair` None it passes on bytes as they are. `to_client` may change what the server said; all of that is kept in `heard`."""

    def __init__(self, port, pair, to_client=lambda data: data):
        self.port_of_server, self.to_client, self.heard = port, to_client, bytearray()
        self.context = None
        if pair:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(*pair)
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError):
            server = socket.create_connection(('127.0.0.1', self.port_of_server))
            if self.context:
                request = client.recv(8)
                server.sendall(request)
                client.sendall(server.recv(1))
                trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
                server = trusting.wrap_socket(server)
                client = self.context.wrap_socket(client, server_side=True)
            threading.Thread(target=self._pump, args=(client, server, lambda data: data), daemon=True).start()
            self._pump(server, client, self._from_server)

    def _from_server(self, data):
        self.heard += data
        return self.to_client(data)

    @staticmethod
    def _pump(source, target, change):
        with contextlib.suppress(OSError):
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(change(data))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def psql(bin_folder, port, sql, **parameters):
    """Debian's psql, unmodified: (exit code, output, errors)."""
    words = {'host': '127.0.0.1', 'port': port, 'user': 'app', 'dbname': 'app', 'sslmode': 'require', 'connect_timeout': 15}
    words.update(parameters)
    done = subprocess.run([os.path.join(bin_folder, 'psql'), '-XAtq', '-c', sql, ' '.join("%s='%s'" % item for item in words.items())],
                          env=dict(os.environ, PGPASSWORD=words.get('password', 'app-secret'), HOME='/nonexistent'), stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.strip(), done.stderr.strip()


def s_client(port, *arguments, send=b''):
    """openssl s_client: everything it says."""
    done = subprocess.run(['openssl', 's_client', '-connect', '127.0.0.1:%d' % port] + list(arguments), input=send, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=30, check=False)
    return done.stdout.decode('utf-8', 'replace')


def copy(source, target):
    """Replaces a file in one step."""
    shutil.copy(source, target + '.new')
    os.rename(target + '.new', target)
