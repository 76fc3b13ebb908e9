"""The isolation oracle for tenants named in SQL: sessions say by every known way whose they are, in and out of transactions, with savepoints,
errors, cancels, COPY, disconnects in the middle of everything, and a model says whose rows each statement must see. Every row carries its
tenant. The oracle knows nothing of the pooler under test: `connect(login)` gives it a connection, `database_of` says who lives where.
See test_isolation.py.
"""
import random
import time

import naming_world
import wire_client as w
from wire_client import ServerError, WireError

SETTINGS = ('app.tenant', 'my.current_tenant', 'pgporter.tenant')
RLS = 'SELECT tenant FROM public.rls_items ORDER BY 1'
WHO = 'SELECT tenant, pg_backend_pid() FROM whoami'


class Model:
    """What a session has set, with PostgreSQL's rules of scope; each signal (search_path, or a setting) names a tenant or is absent."""

    def __init__(self):
        self.kept, self.now, self.begun, self.savepoints, self.bound = {}, {}, None, [], None

    def change(self, signal, tenant, local):
        for values in (self.now,) if local else (self.now, self.kept):
            values.pop(signal, None)
            if tenant:
                values[signal] = tenant

    def begin(self):
        self.begun, self.savepoints, self.bound = dict(self.kept), [], None

    def end(self, commit):
        if not commit:
            self.kept = self.begun
        self.now, self.begun, self.savepoints, self.bound = dict(self.kept), None, [], None

    def savepoint(self, name):
        self.savepoints.append((name, dict(self.kept), dict(self.now)))

    def names(self):
        return [name for name, _, _ in self.savepoints]

    def index(self, name):
        return max(i for i, (n, _, _) in enumerate(self.savepoints) if n == name)

    def roll_back_to(self, name):
        at = self.index(name)
        _, kept, now = self.savepoints[at]
        self.kept, self.now, self.savepoints = dict(kept), dict(now), self.savepoints[:at + 1]

    def release(self, name):
        self.savepoints = self.savepoints[:self.index(name)]


class Session:
    def __init__(self, oracle, number, login):
        self.oracle, self.login, self.name = oracle, login, 's%d-%s' % (number, login or 'nobody')
        self.wire = None
        self.reconnect()

    def reconnect(self, how='close'):
        if self.wire:
            getattr(self.wire, how)()
        self.wire, self.model, self.lost = self.oracle.connect(self.login), Model(), False
        self.oracle.after_connect(self)

    def tenant(self):
        named = set(self.model.now.values())
        return named.pop() if named else None if self.oracle.path_at_connect else self.login

    def in_transaction(self):
        return self.model.begun is not None


class Oracle:
    def __init__(self, connect, seed, logins, settings=SETTINGS, database_of=naming_world.DATABASE_OF.get, home='app', interleaved=True,
        path_at_connect=False):
        self.connect, self.chance = connect, random.Random(seed)
        self.settings, self.home, self.interleaved, self.path_at_connect = settings, home, interleaved, path_at_connect
        self.database_of = lambda tenant: database_of(tenant) if tenant else home
        self.mark = '%x' % time.time_ns()  # rows of earlier runs stay
        self.violations, self.pids, self.operations, self.statements, self.last, self.serial = [], {}, 0, 0, '', 0
        self.history = []
        self.sessions = [Session(self, number, login) for number, login in enumerate(logins)]

    def after_connect(self, session):
        if self.path_at_connect and session.login:  # a pooler that knows no tenants
            self.name(session, 'search_path', session.login, False)

    def violation(self, session, what):
        """With what the session did last, so that the case can be told again by hand."""
        own = [text for text in self.history if text.startswith((session.name, ' ='))][-12:]
        self.violations.append('%s after %d operations: %s\n    %s' % (session.name, self.operations, what, '\n    '.join(own)))

    # -- statements
    def ask(self, session, sql, values=(), formats=()):
        """Rows of one statement, sent in one of the ways that drivers send it; an error's SQLSTATE otherwise."""
        self.statements += 1
        self.history.append('%s: %s%s' % (session.name, sql, list(values) if values else ''))
        form = self.chance.randrange(4) if not values else 1 + self.chance.randrange(3)
        try:
            if form == 0:
                return session.wire.run(sql)
            if form == 1:
                session.wire.send(w.parse('', sql) + w.bind('', '', values, formats) + w.describe('P') + w.execute() + w.sync())
            elif form == 2:  # prepared and described first, bound later
                self.serial += 1
                name = 'o%d' % self.serial
                session.wire.send(w.parse(name, sql) + w.describe('S', name) + w.sync())
                session.wire._rows(session.wire.recv_until('Z'))
                session.wire.send(w.bind('', name, values, formats) + w.execute() + w.close('S', name) + w.sync())
            else:
                session.wire.send(w.parse('', sql) + w.bind('', '', values, formats) + w.execute() + w.flush() + w.sync())
            return session.wire._rows(session.wire.recv_until('Z'))
        except ServerError as error:
            self.history.append(' = %s for %s' % (error.sqlstate, session.name))
            return error.sqlstate

    def must(self, session, sql, allowed=(), **more):
        """Runs what has to work; `allowed`: SQLSTATEs that are right too."""
        got = self.ask(session, sql, **more)
        if isinstance(got, str) and got not in allowed:
            self.violation(session, '%s for %s' % (got, sql))
        return got

    # -- what a session must see
    def check(self, session):
        if session.wire.status == 'E' or session.lost:
            return
        tenant, model = session.tenant(), session.model
        database = self.database_of(tenant)
        wrong_place = model.bound is not None and model.bound != database
        if session.in_transaction() and model.bound is None:
            model.bound = database
        act = self.chance.randrange(4)
        if act == 0:
            got = self.ask(session, RLS)
            want = sorted({(value,) for signal, value in model.now.items() if signal != 'search_path'})
            if got != want and not (isinstance(got, str) and wrong_place):
                self.violation(session, 'as %s, by row-level security: %s, not %s' % (tenant, got, want))
        elif act == 1:
            self.serial += 1
            got = self.ask(session, "INSERT INTO ledger (id) VALUES ('o-%s-%d') RETURNING tenant" % (self.mark, self.serial))
            self.judge(session, got, tenant, wrong_place)
        elif act == 2:
            got = self.copy_out(session)
            self.judge(session, got, tenant, wrong_place)
        else:
            got = self.ask(session, WHO)
            if isinstance(got, list) and got:
                self.pids.setdefault(got[0][1], set()).add(session.name)
            self.judge(session, [row[:1] for row in got] if isinstance(got, list) else got, tenant, wrong_place)

    def judge(self, session, got, tenant, wrong_place):
        if isinstance(got, str):
            if got != '42P01' and not wrong_place or tenant and not wrong_place:
                self.violation(session, 'as %s: error %s' % (tenant, got))
        elif got != [(tenant,)]:
            self.violation(session, 'as %s it reads or writes %s' % (tenant, got))

    def copy_out(self, session):
        self.history.append('%s: COPY' % session.name)
        session.wire.send(w.query('COPY whoami TO STDOUT'))
        messages = session.wire.recv_until('Z')
        errors = [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']
        return errors[0] if errors else [(body.decode().strip(),) for kind, body in messages if kind == 'd']

    def check_others(self, session):
        """Others, in between; not those who would wait for the server connection that an open transaction has."""
        if session.in_transaction() and not self.interleaved:
            return
        for other in self.chance.sample([s for s in self.sessions if s is not session], 2):
            if not session.in_transaction() or session.model.bound is None or self.database_of(other.tenant()) != session.model.bound:
                self.check(other)

    # -- naming
    def name(self, session, signal, tenant, local):
        """One statement that names a tenant by one signal, spelled at random. False: it was refused, as it had to be."""
        model = session.model
        before = dict(model.kept), dict(model.now)
        if session.in_transaction() or not local:
            model.change(signal, tenant, local)
        goes = self.database_of(session.tenant())
        refused = model.bound is not None and goes != model.bound
        got = self.spell(session, signal, tenant, local)
        if refused:
            model.kept, model.now = before
            if session.tenant() is not None and goes == self.home and not isinstance(got, str):
                # Nobody is named: the SET itself is let through, because frameworks name the tenant again before they read; what reads is refused.
                got = self.ask(session, 'SELECT tenant FROM whoami')
            if not (isinstance(got, str) and got in ('0A000', '28000')):
                self.violation(session, 'a transaction in %s turned to %s: %s' % (model.bound, tenant, got))
            return False
        if isinstance(got, str):
            self.violation(session, '%s when it named %s by %s' % (got, tenant, signal))
            model.kept, model.now = before
            return False
        return True

    def spell(self, session, signal, tenant, local):
        pick = self.chance.choice
        if tenant is None:
            return self.ask(session, pick(('RESET %s', 'SET %s TO DEFAULT', 'reset %s', 'SET SESSION %s = DEFAULT')) % signal)
        word = pick(('SET LOCAL', 'set local')) if local else pick(('SET', 'SET SESSION', 'set', '/* x */ SET'))
        flag = 'true' if local else 'false'
        if signal != 'search_path':
            forms = ["%s %s = '%s'" % (word, signal, tenant), "%s %s TO '%s'" % (word, signal, tenant),
                "SELECT set_config('%s', '%s', %s)" % (signal, tenant, flag)]
        else:
            forms = ["%s search_path = '%s','public'" % (word, tenant), '%s search_path TO "%s", public' % (word, tenant),
                '%s search_path TO %s,public' % (word, tenant),
                     '%s search_path TO public, %s' % (word, tenant), "SELECT set_config('search_path', '%s, public', %s)" % (tenant, flag)]
            if not local:
                forms.append("SET SCHEMA '%s'" % tenant)
        form = self.chance.randrange(len(forms) + 3)
        if form < len(forms):
            return self.ask(session, forms[form])
        value = tenant + ', public' if signal == 'search_path' else tenant
        if form == len(forms):
            return self.ask(session, "SELECT set_config('%s', $1, %s)" % (signal, flag), values=[value])
        if form == len(forms) + 1:
            return self.ask(session, 'SELECT set_config($1, $2, $3)', values=[signal, value, flag])
        return self.ask(session, 'SELECT pg_catalog.set_config($1, $2, $3)', values=[signal, value, b'\1' if local else b'\0'], formats=(1,))

    def turn(self, session):
        """Names somebody else, or nobody; other signals that would contradict are reset first."""
        tenant = self.chance.choice(naming_world.TENANTS + (None,))
        local = session.in_transaction() and self.chance.random() < 0.4
        signal = self.chance.choice(('search_path', 'search_path') + self.settings)
        for other in [s for s in set(session.model.now) | set(session.model.kept) if s != signal]:
            if not self.name(session, other, None, False):
                return
        if tenant is None and local:
            return
        self.name(session, signal, tenant, local)

    # -- what a session does
    def run(self, rounds):
        acts = [getattr(self, name) for name in sorted(dir(self)) if name.startswith('do_')]
        for number in range(rounds):
            session = self.chance.choice(self.sessions)
            act = acts[number % len(acts)] if number < 2 * len(acts) else self.chance.choice(acts)
            self.operations += 1
            self.history.append('<%s>' % act.__name__[3:])
            try:
                act(session)
                self.check(session)
                self.check_others(session)
            except (WireError, OSError) as error:
                self.violation(session, repr(error)[:300])
                session.reconnect()
            if len(self.violations) > 30:
                break
            del self.history[:-200]
        for session in self.sessions:
            session.wire.close()

    def do_turn(self, session):
        self.turn(session)

    def do_turn_in_one_query(self, session):
        tenant = self.chance.choice(naming_world.TENANTS)
        for signal in list(session.model.now):
            if signal != 'search_path':
                self.name(session, signal, None, False)
        local = self.chance.random() < 0.5
        got = None
        try:
            self.history.append('%s: SET %s%s; SELECT' % (session.name, 'LOCAL ' if local else '', tenant))
            got = session.wire.run('SET %ssearch_path TO %s; SELECT tenant FROM whoami' % ('LOCAL ' if local else '', tenant))
        except ServerError as error:
            got = error.sqlstate
        if got != [(tenant,)]:
            self.violation(session, 'in one query as %s: %s' % (tenant, got))
        if not local:
            session.model.change('search_path', tenant, False)

    def do_local_outside(self, session):
        if not session.model.now:
            self.name(session, 'search_path', self.chance.choice(naming_world.TENANTS), True)

    def do_transaction(self, session):
        self.must(session, self.chance.choice(('BEGIN', 'START TRANSACTION', 'BEGIN ISOLATION LEVEL REPEATABLE READ', 'begin work')))
        session.model.begin()
        for _ in range(self.chance.randrange(7)):
            if session.wire.status == 'E':
                break
            step = self.chance.randrange(7)
            if step < 3:
                self.turn(session)
            elif step < 4:
                self.check(session)
            elif step < 5:
                name = self.chance.choice('ab')
                self.must(session, 'SAVEPOINT ' + name)
                session.model.savepoint(name)
            elif session.model.savepoints:
                name = self.chance.choice(session.model.names())
                if step < 6:
                    self.must(session, 'ROLLBACK TO SAVEPOINT ' + name)
                    session.model.roll_back_to(name)
                else:
                    self.must(session, 'RELEASE ' + name)
                    session.model.release(name)
            self.check_others(session)
        if self.chance.random() < 0.2 and session.wire.status == 'T':
            session.model.bound = session.model.bound or self.database_of(session.tenant())
            self.ask(session, self.chance.choice(('SELEKT', 'SELECT 1/0', 'SELECT * FROM not_there', 'SET DateStyle = nonsense')))
        if session.wire.status == 'E' and session.model.savepoints and self.chance.random() < 0.5:
            name = self.chance.choice(session.model.names())
            if isinstance(self.must(session, 'ROLLBACK TO ' + name), list):
                session.model.roll_back_to(name)
                self.check(session)
        end = self.chance.choice(('COMMIT', 'COMMIT', 'ROLLBACK', 'leave'))
        if end == 'leave':
            session.reconnect(self.chance.choice(('close', 'reset_connection')))
            return
        commits = end == 'COMMIT' and session.wire.status == 'T'
        self.must(session, end)
        session.model.end(commits)

    def do_reset_all(self, session):
        self.must(session, self.chance.choice(('RESET ALL', 'DISCARD ALL')))
        session.model = Model()
        self.after_connect(session)

    def do_reconnect(self, session):
        session.reconnect(self.chance.choice(('close', 'reset_connection')))

    def do_leave_in_copy(self, session):
        self.history.append('%s: leaves in COPY' % session.name)
        session.wire.send(w.query('COPY ledger (id) FROM STDIN'))
        if session.wire.recv_until('GZ')[-1][0] == 'G':
            session.wire.send(w.copy_data(b'left in copy\n'))
        session.reconnect(self.chance.choice(('close', 'reset_connection')))

    def do_leave_in_a_batch(self, session):
        tenant = self.chance.choice(naming_world.TENANTS)
        session.wire.send(w.parse('', 'SET search_path TO ' + tenant) + w.bind() + w.execute() + w.parse('',
            "INSERT INTO ledger (id) VALUES ('left in batch')") +
                          w.bind() + w.execute() + self.chance.choice((b'', w.flush())))
        session.reconnect(self.chance.choice(('close', 'reset_connection')))

    def do_hidden(self, session):
        """What no parser sees: the session may keep it or lose it, nobody else may meet it."""
        other = self.chance.choice(naming_world.TENANTS)
        got = self.ask(session, self.chance.choice(("SELECT public.hidden_path('%s, public')",
            "DO $$ BEGIN PERFORM set_config('search_path', '%s, public', false); END $$",
                                                    "DO $$ BEGIN EXECUTE 'SET search_path TO %s'; END $$",
                                                    "SELECT public.hidden_set('app.tenant', '%s')",
                                                    "WITH a AS (SELECT public.hidden_path('%s')) SELECT * FROM a")) % other)
        if isinstance(got, str) and got not in ('0A000', '28000'):
            self.violation(session, 'hidden: %s' % got)
        session.lost = True
        for witness in self.sessions:
            if witness is not session:
                self.check(witness)
        session.lost = False
        if self.chance.random() < 0.5:
            try:
                if self.ask(session, 'DISCARD ALL') == []:
                    session.model = Model()
                    self.after_connect(session)
                    return
            except WireError:
                pass  # ended by the pooler, which saw what was hidden: as good
        session.reconnect()

    def do_cancel(self, session):
        if self.chance.random() < 0.5:
            session.wire.cancel()  # idle: hits nobody
            return
        self.history.append('%s: cancelled' % session.name)
        session.wire.send(w.query('SELECT pg_sleep(3)'))
        while True:
            session.wire.cancel()
            if not session.wire.quiet(0.05):
                break
        errors = [w.error_fields(body)['C'] for kind, body in session.wire.recv_until('Z') if kind == 'E']
        if errors != ['57014']:
            self.violation(session, 'cancelled, and got %s' % errors)

    def do_fail(self, session):
        wrong = ['SELECT 1/0', 'SELEKT', "SELECT set_config('search_path', 'acme', 'maybe')", 'SELECT * FROM not_there', 'SET DateStyle = nonsense']
        # PostgreSQL accepts these.
        namings = ('SET search_path TO acme, globex', "SELECT set_config('search_path', 'umbrella, acme', false)", "SET pgporter.tenant = 'nosuch'")
        sql = self.chance.choice(wrong + ([] if self.path_at_connect else list(namings)))
        if not isinstance(self.ask(session, sql), str):
            self.violation(session, 'something wrong was accepted')
        if sql in namings and (session.login is None or session.model.kept):
            # A client that takes no notice must not read on as whoever was named before.
            got = self.ask(session, self.chance.choice((WHO, RLS)))
            if got not in ('0A000', '3D000', '3F000'):
                self.violation(session, 'it read on behind a refused naming: %s' % got)
            self.do_reset_all(session)
