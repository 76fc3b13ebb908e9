"""The isolation oracle: several sessions of several tenants on one server connection do random, seeded things to their session, and after
each of them everybody checks that it sees its own rows, settings, statements, temporary tables and locks, and nobody else's.

The oracle knows nothing of the pooler under test; `connect(tenant)` gives it a session. See test_isolation.py.
"""
import random

import psycopg2
import psycopg2.errors

TENANTS = ('acme', 'globex', 'initech')

# Settings that every session has its own value of; the values say whose they are.
VALUES = {
    'application_name': lambda s: 'name-of-%s' % s.name,
    'app.user_id': lambda s: 'user-of-%s' % s.name,
    'statement_timeout': lambda s: '%ds' % (30 + s.number),
    'DateStyle': lambda s: ('SQL, DMY', 'German, DMY', 'ISO, YMD', 'SQL, MDY')[s.number % 4],
    'work_mem': lambda s: '%dMB' % (5 + s.number),
}


class Session:
    """One client: what it may expect to see."""

    def __init__(self, oracle, number, tenant):
        self.oracle, self.number, self.tenant = oracle, number, tenant
        self.name = 's%d-%s' % (number, tenant)
        self.connection = None
        self.settings = {}      # what it set itself, by name
        self.defaults = {}
        self.drawn = set()      # values that it drew from sequences; nobody else has them
        self.lost = False       # it changed its own session out of the parser's sight: it may see the change or not
        self.reconnect()

    def reconnect(self):
        if self.connection:
            self.connection.close()
        self.connection = self.oracle.connect(self.tenant)
        self.connection.autocommit = True
        self.settings, self.drawn, self.lost = {}, set(), False
        if not self.defaults:
            self.defaults = {name: self.one('SHOW ' + name) if '.' not in name else None for name in VALUES}

    def all(self, sql, values=None):
        cursor = self.connection.cursor()
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []

    def one(self, sql, values=None):
        return self.all(sql, values)[0][0]

    def set_path(self, tenant):
        self.all('SET search_path TO %s, public' % tenant)


class Oracle:
    def __init__(self, connect, seed, sessions=6):
        self.connect = connect
        self.random = random.Random(seed)
        self.violations = []
        self.pids = {}
        self.operations = 0
        self.sessions = [Session(self, number, TENANTS[number % len(TENANTS)]) for number in range(sessions)]

    def violation(self, session, what):
        self.violations.append('%s after %d operations (last: %s): %s' % (session.name, self.operations, self.last, what))

    def run(self, rounds):
        acts = [getattr(self, name) for name in sorted(dir(self)) if name.startswith('do_')]
        for number in range(rounds):
            session = self.random.choice(self.sessions)
            act = acts[number % len(acts)] if number < 2 * len(acts) else self.random.choice(acts)
            self.last = '%s by %s' % (act.__name__[3:], session.name)
            self.operations += 1
            try:
                act(session)
            except psycopg2.Error as error:
                self.violation(session, 'error %s: %s' % (error.pgcode, str(error).strip()))
                session.reconnect()
            for witness in self.random.sample(self.sessions, 3) + [session]:
                try:
                    self.check(witness)
                except psycopg2.Error as error:
                    self.violation(witness, 'error in the check, %s: %s' % (error.pgcode, str(error).strip()))
                    witness.reconnect()
            if len(self.violations) > 40:
                break
        for session in self.sessions:
            session.connection.close()

    # -- what everybody must see at any time
    def check(self, session):
        rows = session.all('SELECT DISTINCT tenant FROM items UNION SELECT tenant FROM whoami')
        if rows != [(session.tenant,)] and not session.lost:
            self.violation(session, 'read rows of %s' % rows)
        self.pids.setdefault(session.one('SELECT pg_backend_pid()'), set()).add(session.name)
        names = sorted(VALUES)
        values = session.all('SELECT ' + ', '.join("current_setting('%s', true)" % name for name in names))[0]
        for name, seen in zip(names, values):
            mine = session.settings.get(name, session.defaults[name])
            if (seen or None) != (mine or None) and not session.lost:
                self.violation(session, '%s is %r, not %r' % (name, seen, mine))
            if seen and seen != mine and seen in [VALUES[name](other) for other in self.sessions if other is not session] and \
                    seen != session.defaults[name]:
                self.violation(session, 'sees %s of somebody else: %r' % (name, seen))
        user, role, cursors, channels, locks = session.all(
            "SELECT current_user, current_setting('session_replication_role'), (SELECT count(*) FROM pg_cursors WHERE is_holdable), "
            "(SELECT count(*) FROM pg_listening_channels()), "
            "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())")[0]
        if (user, role, cursors, channels, locks) != ('app', 'origin', 0, 0, 0):
            self.violation(session, 'current_user %s, session_replication_role %s, %d held cursors, %d channels, %d advisory locks' % (
                user, role, cursors, channels, locks))
        foreign = session.all("SELECT relname FROM pg_class WHERE relpersistence = 't' AND pg_table_is_visible(oid)")
        if foreign:
            self.violation(session, 'sees temporary tables %s' % foreign)
        sql_statements = session.all('SELECT name FROM pg_prepared_statements WHERE from_sql')
        if sql_statements:
            self.violation(session, 'sees statements %s' % sql_statements)
        self.check_sequence(session)

    def check_sequence(self, session):
        for sql in ("SELECT currval('counter')", 'SELECT lastval()'):
            try:
                value = session.one(sql)
            except psycopg2.errors.ObjectNotInPrerequisiteState:
                continue
            if value not in session.drawn:
                self.violation(session, '%s gave %s, its own were %s' % (sql, value, sorted(session.drawn)))

    # -- what a session does; each leaves it idle and unpinned
    def other(self, session):
        return self.random.choice([t for t in TENANTS if t != session.tenant])

    def do_set(self, s):
        name = self.random.choice(sorted(VALUES))
        s.all("SET %s = '%s'" % (name, VALUES[name](s)))
        s.settings[name] = VALUES[name](s)

    def do_set_config(self, s):
        name = self.random.choice(sorted(VALUES))
        s.all('SELECT set_config(%s, %s, false)', (name, VALUES[name](s)))
        s.settings[name] = VALUES[name](s)

    def do_set_in_transaction(self, s):
        name = self.random.choice(sorted(VALUES))
        end = self.random.choice(['COMMIT', 'ROLLBACK'])
        s.all("BEGIN; SELECT 1; SET %s = '%s'" % (name, VALUES[name](s)))
        s.all(end)
        if end == 'COMMIT':
            s.settings[name] = VALUES[name](s)

    def do_set_and_roll_back_to(self, s):
        s.all("BEGIN; SAVEPOINT a; SET app.user_id = 'never'; ROLLBACK TO a; COMMIT")

    def do_set_local(self, s):
        name = self.random.choice(sorted(VALUES))
        s.all('BEGIN')
        s.all("SET LOCAL %s = '%s'" % (name, VALUES[name](self.random.choice(self.sessions))))
        s.all('SELECT count(*) FROM items')
        s.all(self.random.choice(['COMMIT', 'ROLLBACK']))

    def do_reset(self, s):
        name = self.random.choice(sorted(VALUES))
        s.all('RESET ' + name)
        s.settings.pop(name, None)

    def do_failing_set(self, s):
        try:
            s.all("SET DateStyle = 'Klingon'")
            self.violation(s, 'a wrong SET was accepted')
        except psycopg2.errors.InvalidParameterValue:
            pass

    def do_switch_tenant_and_back(self, s):
        other = self.other(s)
        s.set_path(other)
        if s.one('SELECT tenant FROM whoami') != other:
            self.violation(s, 'after SET search_path to %s it read %s' % (other, s.all('SELECT tenant FROM whoami')))
        s.set_path(s.tenant)

    def do_switch_by_set_config(self, s):
        other = self.other(s)
        s.all("SELECT set_config('search_path', %s, false)", (other + ', public',))
        if s.one('SELECT tenant FROM whoami') != other:
            self.violation(s, 'after set_config to %s it read another tenant' % other)
        s.all("SELECT set_config('search_path', '%s, public', false)" % s.tenant)

    def do_switch_in_transaction(self, s):
        other = self.other(s)
        s.all('BEGIN')
        s.all('SET LOCAL search_path TO %s, public' % other)
        if s.one('SELECT tenant FROM whoami') != other:
            self.violation(s, 'SET LOCAL search_path did not work')
        s.all(self.random.choice(['COMMIT', 'ROLLBACK']))

    def do_switch_and_roll_back(self, s):
        s.all('BEGIN')
        s.set_path(self.other(s))
        s.all('SELECT tenant FROM whoami')
        s.all('ROLLBACK')

    def do_leave_on_another_tenant(self, s):
        """Disconnects while another tenant's path is set: the next user of the server connection must not get it."""
        s.set_path(self.other(s))
        s.all('SELECT tenant FROM whoami')
        s.reconnect()

    def do_write(self, s):
        cursor = s.connection.cursor()
        cursor.execute("INSERT INTO items (payload) VALUES ('w') RETURNING tenant, id")
        tenant, key = cursor.fetchone()
        if tenant != s.tenant:
            self.violation(s, 'wrote into a table of %s' % tenant)
        cursor.execute('DELETE FROM items WHERE id = %s', (key,))
        s.drawn.add(key)

    def do_sequence(self, s):
        s.all('DISCARD SEQUENCES')
        s.all('BEGIN')
        value = s.one("SELECT nextval('counter')")
        s.drawn.add(value)
        if s.one("SELECT currval('counter')") != value:
            self.violation(s, 'currval differs from nextval in one transaction')
        s.all('COMMIT')

    # What no parser can see. The session itself may keep the change or lose it; others must never meet it.
    def hidden(self, s, sql):
        s.all(sql)
        s.lost = True
        for witness in self.sessions:
            if witness is not s:
                self.check(witness)
        self.random.choice([lambda: s.all('DISCARD ALL'), s.reconnect])()
        s.settings, s.lost = {}, False
        if s.oracle_needs_path():
            s.set_path(s.tenant)

    def do_hidden_path(self, s):
        self.hidden(s, "SELECT hidden_path('%s, public')" % self.other(s))

    def do_hidden_path_by_do(self, s):
        self.hidden(s, "DO $$ BEGIN PERFORM set_config('search_path', '%s, public', false); END $$" % self.other(s))

    def do_hidden_path_by_execute(self, s):
        self.hidden(s, "DO $$ BEGIN EXECUTE 'SET search_path TO %s, public'; END $$" % self.other(s))

    def do_hidden_path_by_computed_arguments(self, s):
        self.hidden(s, "SELECT set_config('search' || '_path', (SELECT '%s, public'), false) FROM whoami" % self.other(s))

    def do_hidden_setting(self, s):
        name = self.random.choice(sorted(VALUES))
        self.hidden(s, "SELECT hidden_set('%s', '%s')" % (name, VALUES[name](s)))

    def do_hidden_setting_then_same_in_sight(self, s):
        s.all("SELECT hidden_path('%s, public')" % self.other(s))
        s.set_path(s.tenant)

    def do_hidden_path_in_a_cte(self, s):
        self.hidden(s, "WITH x AS (SELECT hidden_path('%s, public')) SELECT * FROM x" % self.other(s))

    def do_hidden_lock(self, s):
        self.hidden(s, 'SELECT hidden_lock(%d)' % (100 + s.number))

    def do_hidden_temporary_table(self, s):
        self.hidden(s, "SELECT hidden_temp('%s')" % s.tenant)

    # What pins. The session lets go by DISCARD ALL, or by leaving.
    def let_go(self, s):
        if self.random.random() < 0.5:
            s.all('DISCARD ALL')
            s.settings = {}
            if s.oracle_needs_path():
                s.set_path(s.tenant)
        else:
            s.reconnect()

    def do_temporary_table(self, s):
        s.all("CREATE TEMP TABLE whoami AS SELECT '%s of a temporary table'::text AS tenant" % s.tenant)
        if s.one('SELECT tenant FROM pg_temp.whoami') != '%s of a temporary table' % s.tenant:
            self.violation(s, 'lost its temporary table')
        self.let_go(s)

    def do_select_into_temporary_table(self, s):
        s.all('SELECT 1 AS x INTO TEMP items')
        if s.all('SELECT x FROM pg_temp.items') != [(1,)]:
            self.violation(s, 'lost its temporary table')
        self.let_go(s)

    def do_advisory_lock(self, s):
        s.all('SELECT pg_advisory_lock(%d)' % s.number)
        if s.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") != 1:
            self.violation(s, 'lost its advisory lock')
        self.let_go(s)

    def do_listen(self, s):
        s.all('LISTEN channel_of_%s' % s.tenant)
        s.all("NOTIFY channel_of_%s, 'self'" % s.tenant)
        s.connection.poll()
        heard = [n.channel for n in s.connection.notifies]
        if heard != ['channel_of_' + s.tenant]:
            self.violation(s, 'heard %s' % heard)
        s.connection.notifies.clear()
        self.let_go(s)

    def do_prepare(self, s):
        s.all("PREPARE mine AS SELECT '%s'" % s.name)
        if s.one('EXECUTE mine') != s.name:
            self.violation(s, "ran somebody else's statement")
        self.let_go(s)

    def do_cursor_with_hold(self, s):
        s.all('DECLARE held CURSOR WITH HOLD FOR SELECT tenant FROM whoami')
        if s.all('FETCH ALL held') != [(s.tenant,)]:
            self.violation(s, "read somebody else's cursor")
        self.let_go(s)

    def do_replication_role(self, s):
        """Not allowed to app; where it is allowed it must stay with its session."""
        try:
            s.all('SET session_replication_role = replica')
        except psycopg2.errors.InsufficientPrivilege:
            return
        s.all('RESET session_replication_role')

    def do_discard_all(self, s):
        s.all('DISCARD ALL')
        s.settings = {}
        if s.oracle_needs_path():
            s.set_path(s.tenant)

    def do_reset_all(self, s):
        s.all('RESET ALL')
        s.settings = {}
        if s.oracle_needs_path():
            s.set_path(s.tenant)

    def do_disconnect(self, s):
        s.reconnect()

    def do_disconnect_in_transaction(self, s):
        s.all('BEGIN')
        s.all("SET app.user_id = 'left behind'")
        s.all("INSERT INTO ledger (id) VALUES ('left behind')")
        s.reconnect()
        if s.all("SELECT 1 FROM ledger WHERE id = 'left behind'"):
            self.violation(s, 'a transaction was committed that nobody committed')
