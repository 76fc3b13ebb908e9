"""What happens to the world of the soak while its clients work: restarts, lost connections, tenants that come, change and go, new certificates, and a
tenant that is moved, there and back or for good, with a history of acknowledged writes that is judged at its end.
"""
import os
import random
import signal
import threading
import time
import unittest

from soak_world import fault_world, fixture, history, tls_parts, wait_for, wire_client as w

ServerError, WireError = w.ServerError, w.WireError

CLOSED = 'closed'
# What a client may be told while a server restarts, or whose server connection was ended.
RESTART = {CLOSED, '57P01', '57P02', '57P03', '08001', '08006', '53300'}


class Event:
    """`clusters`: whose clients may notice. Each happens once a round."""

    def __init__(self, world, dice):
        self.world, self.dice = world, dice

    def __call__(self):
        raise NotImplementedError


class RestartOfMain(Event):
    def __call__(self):
        with self.world.excuses.during({'main'}, RESTART):
            self.world.source.stop(self.dice.choice(['fast', 'immediate']))
            time.sleep(self.dice.random())
            self.world.start_again(self.world.source)


class RestartOfOwn(Event):
    def __call__(self):
        with self.world.excuses.during({'own'}, RESTART):
            self.world.target.stop(self.dice.choice(['fast', 'immediate']))
            time.sleep(self.dice.random())
            self.world.start_again(self.world.target)


class RestartOfCatalog(Event):
    """Nobody notices."""

    def __call__(self):
        self.world.catalog.stop(self.dice.choice(['fast', 'immediate']))
        time.sleep(self.dice.random() * 2)
        self.world.start_again(self.world.catalog)


class LostServerConnections(Event):
    def __call__(self):
        with self.world.excuses.during({'main'}, RESTART):
            for _ in range(4):
                self.world.source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' ORDER BY random() LIMIT 2")
                time.sleep(0.1)


class NewCertificates(Event):
    def __call__(self):
        self.world.authority.make('server', tls_parts.NAMES['server'])
        self.world.instance.process.send_signal(signal.SIGHUP)


class Scrapes(Event):
    """What monitoring and operators ask."""

    def __call__(self):
        wire = w.Wire(self.world.instance.port)
        try:
            wire.login('app', fixture.PASSWORDS['app'], 'pgbouncer')
            for what in ('POOLS', 'CLIENTS', 'SERVERS', 'STATS', 'DATABASES'):
                wire.run('SHOW ' + what)
        except ServerError as error:
            if error.sqlstate not in ('3D000', '28000', '42501'):
                raise
        finally:
            wire.close()
        for path in ('/v1/tenants', '/v1/moves', '/v1/clusters', '/metrics', '/openapi.json', '/healthz', '/readyz', '/v1/nothing'):
            self.world.instance.http('GET', path)


class ChangesOfTenants(Event):
    """One comes, is changed, suspended, resumed and forgotten; and `moody` is changed under its clients' feet."""

    def change(self, name, **more):
        self.world.instance.apply(self.world.document({name: more}))

    def __call__(self):
        name = 'fresh%d' % self.dice.randrange(3)
        self.world.source.sql(fixture.TENANT_SQL.format(name, fixture.ROWS_EACH, 1), 'app')
        self.change(name)
        wire = wait_for(lambda: self.come(name), 'the new tenant may log in', 20)
        try:
            self.read(wire)
            self.change(name, state='suspended')
            wait_for(lambda: self.code(wire) == '57P03', 'a suspended tenant is refused', 15)
            self.change(name, state='read_only')
            wait_for(lambda: self.code(wire) is None, 'a tenant that is read only reads', 15)
            self.change(name, transactions_per_second_max=50, server_connections_max=1)
            self.read(wire)
            for more in ({'state': 'suspended'}, {'server_connections_max': 1}, {'transactions_per_second_max': 20}, {'kib_per_second_max': 3000},
                         {'statement_ms_max': 300, 'transaction_ms_max': 600}, {'state': 'read_only'}, {}):
                self.change('moody', **more)
                time.sleep(0.2)
        finally:
            wire.close()
        self.world.instance.forget(name)
        self.world.source.sql('DROP SCHEMA %s CASCADE' % name, 'app')

    def come(self, name):
        try:
            return self.world.instance.wire(name, timeout=60)
        except ServerError as error:
            if error.sqlstate != '3D000':
                raise
            return None

    def read(self, wire):
        wait_for(lambda: self.code(wire) is None, 'the new tenant reads', 20)

    def code(self, wire):
        """None: it has read, and what is its own."""
        try:
            rows = wire.run('SELECT tenant FROM whoami')
        except ServerError as error:
            return error.sqlstate
        except (WireError, OSError) as error:
            raise AssertionError('a tenant that is changed lost its connection: %s' % error) from error
        if not rows or not rows[0][0].startswith('fresh'):
            self.world.say_wrong('the new tenant read %s' % rows)
        return None


class MovedTenant(fault_world.Case):
    """A tenant with a history that the world of the soak moves."""

    def __init__(self, world, name, seed):  # pylint: disable=super-init-not-called
        self.world, self.tenant = world, name
        world.source.sql(history.SCHEMA.format(name, 300), 'app')
        world.instance.apply(world.document({name: {}}))
        wait_for(lambda: world.instance.http('GET', '/v1/tenants/' + name)[0] == 200, 'the tenant is known')
        self.move = None
        self.before = set(self.artefacts())
        self.history = history.History({world.instance.name: world.instance.door(name), 'bypass': self.bypass}, 2, seed=seed)
        self.history.go_on(15, 60)

    def go(self, dice, events_are_over, is_calm):
        """Moved, and then back, or for good; or neither, because something happened. Returns how it ended."""
        wait_for(lambda: self.promote()[0] == 202, 'the move begins', 60, 0.5)
        wait_for(lambda: self.row()[0] in (fault_world.MOVED, 'aborted'), lambda: 'the move ends: %s\n%s' % (self.row(), self.logs()), 120, 0.1)
        end = self.row()[0]
        if end == fault_world.MOVED:
            self.history.go_on(20, 60)
            if dice.random() < 0.5:
                self.roll_back(120)
                end = 'rolled_back'
        elif is_calm:
            raise AssertionError('a move that nothing disturbs was aborted: %s' % (self.row(),))
        events_are_over.wait()
        # Whatever it is now, its clients work on. In a calm world they have noticed nothing.
        self.history.go_on(10, 60)
        return self.end(unittest.TestCase(), end, timeout=120, no_failures=[self.world.instance.name] if is_calm else [])

    def leave(self):
        """As if it had never been: for the next round, which is like this one."""
        world, (cluster, database) = self.world, self.place()
        world.instance.forget(self.tenant)
        if cluster == 'own':
            world.target.sql('DROP DATABASE %s (FORCE)' % database)
        else:
            world.source.sql('DROP SCHEMA %s CASCADE' % self.tenant, 'app')


class Events(threading.Thread):
    """One after another, in an order of the seed's, spread over the round."""

    def __init__(self, world, seed, seconds):
        super().__init__(daemon=True, name='events')
        self.world, self.seconds = world, seconds
        self.are_over = threading.Event()
        dice = random.Random(seed)
        kinds = [RestartOfMain, RestartOfOwn, RestartOfCatalog, LostServerConnections, NewCertificates, Scrapes, ChangesOfTenants]
        dice.shuffle(kinds)
        self.events = [kind(world, dice) for kind in kinds]

    def run(self):
        began = time.monotonic()
        for number, event in enumerate(self.events):
            left = began + self.seconds * number / len(self.events) - time.monotonic()
            if left > 0:
                time.sleep(left)
            perform(self.world, event, type(event).__name__)
        self.are_over.set()


class Move(threading.Thread):
    """One tenant's, while everything else happens, or after it."""

    def __init__(self, world, events, seed):
        super().__init__(daemon=True, name='move')
        self.world, self.events, self.dice = world, events, random.Random(seed)

    def run(self):
        is_calm = self.dice.random() < 0.5
        if is_calm:
            self.events.are_over.wait()
            time.sleep(self.world.excuses.SLACK_SECONDS)
        perform(self.world, lambda: self.move(is_calm), 'Move')

    def move(self, is_calm):
        name = self.dice.choice(['moved1', 'moved2'])
        tenant = MovedTenant(self.world, name, self.dice.random())
        end = tenant.go(self.dice, self.events.are_over, is_calm)
        self.world.count('move %s%s' % (end, ', calm' if is_calm else ''))
        wait_for(lambda: not self.world.source.sql('SELECT 1 FROM pg_stat_activity WHERE datname = %s AND usename = %s', 'postgres', (name, 'app')),
                 'its connections are gone', 20)
        tenant.leave()


def perform(world, event, name):
    world.count('event ' + name)
    began = time.monotonic()
    try:
        event()
        if os.environ.get('PGPORTER_SOAK_VERBOSE'):
            print('  %s: %.1f s' % (name, time.monotonic() - began), flush=True)
    except Exception as error:
        world.say_wrong('%s: %s: %s' % (name, type(error).__name__, error))
