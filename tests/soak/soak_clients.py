"""Clients of the soak: each logs in as some tenant by some way, does random things (acts.py), checks that what it reads is its tenant's, and leaves:
politely, or in the middle of anything, by whatever end a connection can come to.
"""
import os
import random
import socket
import threading
import time

from soak_world import TENANTS, fixture, tls_parts, wire_client as w

ServerError, WireError = w.ServerError, w.WireError

# An end without a word is for the event that is going on to excuse.
CLOSED = 'closed'


class Left(Exception):
    """The client is gone, as it was meant to."""


class LeavingWire(tls_parts.TlsWire):
    """Leaves after so many bytes sent, or so many messages read, at whatever point of the conversation that is."""
    naming = None  # the setting by which its SQL names tenants

    def __init__(self, *arguments, dice=None, leave=None, **more):
        self.dice, self.way = dice, leave
        self.bytes_left = self.messages_left = None
        if leave is not None:
            if dice.random() < 0.5:
                self.bytes_left = dice.choice([dice.randrange(1, 60), dice.randrange(1, 400), dice.randrange(1, 4000), dice.randrange(1, 40000)])
            else:
                self.messages_left = dice.choice([dice.randrange(0, 16), dice.randrange(0, 60), dice.randrange(0, 600)])
        super().__init__(*arguments, **more)

    def send(self, data, pieces=None):
        if self.bytes_left is not None:
            self.bytes_left -= len(data)
            if self.bytes_left <= 0:
                super().send(data[:len(data) + self.bytes_left], pieces)
                self.leave()
        super().send(data, pieces)

    def recv(self, timeout=None):
        if self.messages_left is not None:
            self.messages_left -= 1
            if self.messages_left < 0:
                self.leave()
        return super().recv(timeout)

    def leave(self):
        way = self.way
        self.bytes_left = self.messages_left = None
        try:
            if way == 'reset':
                self.reset_connection()
            elif way == 'terminate':
                super().send(w.terminate())
            elif way == 'half':
                self.socket.shutdown(socket.SHUT_WR)
                self.quiet(self.dice.random() * 0.3)
            elif way == 'stare':  # without reading, for a while
                time.sleep(self.dice.random() * 0.6)
        except (OSError, WireError):
            pass
        self.close()
        raise Left(way)


WAYS = ('close', 'reset', 'terminate', 'half', 'stare')


class Client(threading.Thread):
    """Comes and goes until stop() is called."""

    def __init__(self, world, acts, seed):
        super().__init__(daemon=True, name='client %s' % seed)
        self.world, self.acts = world, acts
        self.dice = random.Random(seed)
        self.stopping = threading.Event()
        self.doing = 'nothing'
        self.clusters = {'main'}  # whose trouble is its own

    def run(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            tenant = self.dice.choice(list(TENANTS))
            self.clusters = {TENANTS[tenant][0]}
            wire = None
            try:
                if self.dice.random() < 0.12:
                    self.doing = 'a login that fails'
                    self.fail_to_log_in()
                    self.slow(time.monotonic() - began)
                    continue
                self.doing = 'login as ' + tenant
                wire = self.come(tenant)
                self.slow(time.monotonic() - began)
                for _ in range(self.dice.choice([1, 3, 8, 20])):
                    act = self.dice.choice(self.acts)
                    self.doing = '%s as %s (backend %s)' % (act.__name__, tenant, wire.pid)
                    self.world.count(act.__name__)
                    act_began = time.monotonic()
                    try:
                        act(self, wire, tenant)
                    finally:
                        self.slow(time.monotonic() - act_began)
                    if self.stopping.is_set():
                        break
                self.doing = 'leaving'
                wire.way = self.dice.choice(WAYS)
                wire.leave()
            except Left as how:
                self.slow(time.monotonic() - began)
                self.world.count('left by ' + str(how))
            except (ServerError, WireError, OSError) as error:
                self.judge(error, tenant, began)
            except Exception as error:  # a defect of the test
                self.world.say_wrong('%s: %r' % (self.doing, error))
                raise
            finally:
                if wire is not None:
                    wire.close()

    def judge(self, error, tenant, since):
        code = error.sqlstate if isinstance(error, ServerError) else CLOSED
        self.world.count('error ' + str(code))
        if tenant == 'moody' and code in ('57P03', '25006', '53400', '53300', '57014', '25P03', '25P04', '42501', CLOSED):
            return
        if not self.world.excuses.excuse(self.clusters, since, code):
            self.world.say_wrong('%s in %.1f s: %s %s' % (self.doing, time.monotonic() - since, code, error))

    def slow(self, seconds):
        if seconds > 4 and os.environ.get('PGPORTER_SOAK_VERBOSE'):
            print('  %.1f s: %s' % (seconds, self.doing), flush=True)

    def expect(self, condition, what):
        if not condition:
            self.world.say_wrong('%s: %s' % (self.doing, what))

    # -- coming
    def open(self, leave=None):
        instance = self.world.instance
        host = instance.folder if self.dice.random() < 0.15 else '127.0.0.1'
        wire = LeavingWire(instance.port, host, timeout=45.0, dice=self.dice, leave=leave)
        if host != '127.0.0.1':
            return wire
        kind = self.dice.random()
        if kind < 0.3:
            wire.request_tls(self.world.tls)
            if self.dice.random() < 0.3:
                wire.bind_to_channel()
        elif kind < 0.4:
            wire.begin_tls(self.world.authority.context(protocols=['postgresql']))
        return wire

    def come(self, tenant):
        """A logged-in connection as this tenant, by one of the ways to name it."""
        wire = self.open(self.dice.choice(WAYS) if self.dice.random() < 0.5 else None)
        try:
            user, database, params = 'app', 'app', {}
            way = self.dice.choice(['options', 'plain', 'user', 'database', 'both'])
            if way == 'options':
                params['options'] = '-c pgporter.tenant=' + tenant
            elif way == 'plain':
                params['pgporter.tenant'] = tenant
            elif way == 'user':
                user = 'app.' + tenant
            elif way == 'database':
                database = tenant
            else:
                database = 'app@' + tenant
            if self.dice.random() < 0.5:
                params['application_name'] = 'soak of ' + tenant
            pieces = self.dice.choice([None, None, None, 1, 7])
            return wire.login(user, fixture.PASSWORDS['app'], database, params, pieces, self.dice.choice([w.PROTOCOL_3_0, w.PROTOCOL_3_0, 196610]))
        except BaseException:
            wire.close()
            raise

    def fail_to_log_in(self):
        kind = self.dice.choice(['password', 'user', 'tenant', 'junk', 'silence', 'http', 'hello', 'long'])
        self.doing = 'a login that fails: ' + kind
        self.world.count('failed login: ' + kind)
        if kind in ('password', 'user', 'tenant'):
            wire = self.open()
            try:
                user = {'password': 'other', 'user': 'nobody%d' % self.dice.randrange(50), 'tenant': 'app'}[kind]
                tenant = 'nowhere%d' % self.dice.randrange(1000) if kind == 'tenant' else 'acme'
                wire.login(user, 'app-secret', 'app', {'pgporter.tenant': tenant})
                self.world.say_wrong('%s was let in' % self.doing)
            except ServerError as error:
                # 28000: too many of them from this address.
                self.expect(error.sqlstate in (('3D000', '28P01') if kind == 'tenant' else ('28P01', '28000')), error)
            finally:
                wire.close()
            return
        wire = LeavingWire(self.world.instance.port, timeout=10.0)
        try:
            if kind == 'silence':
                time.sleep(self.dice.random() * 0.3)
                return
            wire.send({'junk': lambda: self.dice.randbytes(self.dice.randrange(1, 300)), 'http': lambda: b'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
                       'hello': lambda: w.SSL_REQUEST + b'\x16\x03\x01' + self.dice.randbytes(self.dice.randrange(1, 80)),
                       'long': lambda: w.startup({'user': 'app', 'options': 'x' * 20000})}[kind]())
            wire.quiet(0.2)
        except (OSError, WireError):
            pass
        finally:
            wire.close()


def clients(world, acts, number, seed):
    return [Client(world, acts, '%s/%d' % (seed, i)) for i in range(number)]


def stop(running, timeout=90):
    """All of them leave; returns those that don't."""
    for client in running:
        client.stopping.set()
    deadline = time.monotonic() + timeout
    for client in running:
        client.join(max(0.1, deadline - time.monotonic()))
    return [client for client in running if client.is_alive()]
