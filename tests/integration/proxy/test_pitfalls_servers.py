"""Pitfalls 31 to 45 of poolers: cancel, and the life of server connections. Each test has the number of the pitfall and what goes wrong elsewhere."""
import os
import re
import resource
import socket
import threading
import time

import fixture
import pitfall_tools as tools
import wire_client as w
from fixture import wait_for
from wire_client import ServerError, Wire, WireError


def setUpModule():
    global workspace, server, second, catalog_server, proxy
    workspace = fixture.Workspace()
    server, second = fixture.Postgres(workspace), fixture.Postgres(workspace, 'second')
    catalog_server = fixture.Postgres(workspace, 'catalog-server')
    for one in (server, second, catalog_server):
        one.make_roles()
    server.make_world()
    second.make_world('app', ('umbrella',))
    proxy = fixture.Pgporter(workspace, catalog_server, limits={'wait_ms_max': 3000, 'server_connect_ms_max': 1500, 'cancels_max': 20,
                                                                    'server_outage_wait_ms_max': 300})
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()
    proxy.apply(document())
    tools.Base.server, tools.Base.proxy = server, proxy
    for one in (server, second):
        one.sql('CHECKPOINT')  # they commit asynchronously, and an immediate stop would undo what was made last


def document():
    return fixture.document({'main': server, 'second': second}, {
        'acme': {}, 'globex': {}, 'initech': {}, 'umbrella': {'placement': {'kind': 'database', 'cluster': 'second'}}},
        databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}])


def tearDownModule():
    workspace.close()


class Running(threading.Thread):
    """One statement in a thread of its own: `error` is its SQLSTATE, or None."""

    def __init__(self, wire, sql):
        super().__init__(daemon=True)
        self.wire, self.sql, self.error, self.rows = wire, sql, None, None
        self.start()

    def run(self):
        try:
            self.rows = self.wire.run(self.sql)
        except ServerError as error:
            self.error = error.sqlstate
        except Exception as error:
            self.error = repr(error)

    def result(self, timeout=15):
        self.join(timeout)
        if self.is_alive():
            raise AssertionError('still running: ' + self.sql)
        return self.error or self.rows


def active(mark, where=None):
    return lambda: [b for b in (where or server).backends() if mark in b[2] and b[1] == 'active']


class Cancel(tools.Base):
    def test_31_cancel_goes_where_the_session_is_now(self):
        """a is idle, b has the only server connection: a's cancels hit nobody; and right after b ends, nobody who comes next."""
        a, b = self.wire('acme'), self.wire('globex')
        for round_ in range(15):
            self.assertEqual(a.run('SELECT 1'), [('1',)])
            running = Running(b, "SELECT pg_sleep(0.05) /* 31-%d */" % round_)
            for _ in range(3):
                a.cancel()
            self.assertEqual(running.result(), [('',)])
        stop, errors = threading.Event(), []

        def storm():
            while not stop.is_set():
                a.cancel()
        thread = threading.Thread(target=storm, daemon=True)
        thread.start()
        for _ in range(150):
            try:
                a.run('SELECT pg_sleep(0.001)')
            except ServerError as error:
                if error.sqlstate != '57014':
                    errors.append(error)
            try:
                b.run('SELECT pg_sleep(0.001)')
            except ServerError as error:
                errors.append('b: %s' % error)
        stop.set()
        thread.join(10)
        self.assertEqual(errors, [])

    def test_31_cancel_follows_the_tenant_named_in_sql(self):
        wire = self.wire(None)
        for tenant, where in (('acme', server), ('umbrella', second), ('globex', server)):
            wire.run('SET search_path TO ' + tenant)
            running = Running(wire, 'SELECT pg_sleep(15) /* at %s */' % tenant)
            wait_for(active('at ' + tenant, where), 'the query runs')
            wire.cancel()
            self.assertEqual(running.result(), '57014')

    def test_32_no_cancel_while_pgporter_prepares_the_connection(self):
        """Every transaction is of another tenant, so each has a prologue; a cancel may only ever hit the session's own statement."""
        a, b, stop, wrong = self.wire('acme'), self.wire('globex'), threading.Event(), []

        def storm():
            while not stop.is_set():
                a.cancel()
        threads = [threading.Thread(target=storm, daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for number in range(200):
            for wire, tenant in ((a, 'acme'), (b, 'globex')):
                try:
                    wire.run("SET app.x = '%d'" % number)
                    rows = wire.run("SELECT tenant FROM whoami")
                    if rows != [(tenant,)]:
                        wrong.append(rows)
                except ServerError as error:
                    if wire is b or error.sqlstate != '57014':
                        wrong.append('%s: %s' % (tenant, error))
        stop.set()
        for thread in threads:
            thread.join(10)
        self.assertEqual(wrong[:3], [])

    def test_33_bytes_behind_a_cancel_request(self):
        for extra in (w.terminate(), b'\0', b'\0' * 5, w.query('SELECT 1'), os.urandom(3000)):
            wire = self.wire()
            running = Running(wire, 'SELECT pg_sleep(15) /* behind */')
            wait_for(active('behind'), 'the query runs')
            self.assertEqual(wire.cancel(extra=extra), b'')  # not a byte comes back
            self.assertEqual(running.result(), '57014')
            wire.close()
        self.works()

    def test_34_cancels_take_no_place(self):
        """The only server connection works: its cancel gets through all the same, and a flood of them opens few connections."""
        wire, others = self.wire(), [self.wire('globex') for _ in range(3)]
        running = Running(wire, 'SELECT pg_sleep(15) /* 34 */')
        wait_for(active('/* 34'), 'the query runs')
        waiting = [Running(other, 'SELECT 34') for other in others]
        wait_for(lambda: proxy.metric('pgporter_waiting_transactions') == 3, 'the others wait')
        wire.cancel()
        self.assertEqual(running.result(), '57014')
        for one in waiting:
            self.assertEqual(one.result(), [('34',)])
        running = Running(wire, 'SELECT pg_sleep(15) /* flood */')
        wait_for(active('flood'), 'the query runs')
        key = w.cancel_request(wire.pid, bytes(reversed(wire.secret)) + b'')
        floods, most = [], 0
        for _ in range(300):
            flood = socket.create_connection(('127.0.0.1', proxy.port))
            flood.sendall(key)
            floods.append(flood)
        most = server.sql("SELECT count(*)::int FROM pg_stat_activity WHERE datname = 'app' OR backend_type = 'not initialized'")[0][0]
        self.assertLess(most, 25)
        self.assertTrue(running.is_alive())
        self.works('umbrella')
        wire.cancel()
        self.assertEqual(running.result(), '57014')
        for flood in floods:
            flood.close()

    def test_35_cancel_by_way_of_another_instance(self):
        """Behind a load balancer the request comes to any instance. Needs instance_id and peers."""
        one = fixture.Pgporter(workspace, catalog_server, 'instance-one')
        two = fixture.Pgporter(workspace, catalog_server, 'instance-two')
        for number, (mine, other) in enumerate(((one, two), (two, one)), 1):
            mine.config['instance_id'] = number
            mine.config['peers'] = [{'id': 3 - number, 'address': '127.0.0.1', 'port': other.port}]
        try:
            one.start()
            two.start()
            wire = one.wire('acme')
            running = Running(wire, 'SELECT pg_sleep(15) /* elsewhere */')
            wait_for(active('elsewhere'), 'the query runs')
            wire.address = ('127.0.0.1', two.port)
            wire.cancel()
            self.assertEqual(running.result(), '57014')
            wire.close()
        finally:
            for instance in (one, two):
                if instance.process:
                    instance.stop()


class Life(tools.Base):
    def terminate(self, where='true'):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND %s" % where)

    def test_36_an_idle_server_connection_that_ended(self):
        wire = self.wire()
        for _ in range(5):
            pid = wire.run('SELECT pg_backend_pid()')[0][0]
            self.terminate('pid = ' + pid)
            wait_for(lambda: not [b for b in server.backends() if str(b[0]) == pid], 'it ended')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        server.sql("ALTER ROLE app SET idle_session_timeout = '200ms'")  # 57P05
        try:
            self.terminate()
            wait_for(lambda: not server.backends(), 'they ended')
            wire.run('SELECT 1')
            wait_for(lambda: not server.backends(), 'PostgreSQL ended it')
            self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
        finally:
            server.sql('ALTER ROLE app RESET idle_session_timeout')
            self.terminate()

    def test_36_exactly_one_fatal_error(self):
        """The session is in a pipeline in a transaction: one E, then ReadyForQuery or the end, never a second E."""
        wire = self.wire()
        wire.run('BEGIN; SELECT 1')
        wire.send(w.parse('', 'SELECT pg_sleep(15) /* one fatal */') + w.bind() + w.execute() + w.parse('',
            'SELECT 2') + w.bind() + w.execute() + w.sync())
        wait_for(active('one fatal'), 'the query runs')
        self.terminate()
        messages = wire.recv_until('Z')
        self.assertIn(self.state_of(messages), ('57P01', '08006'))

    def test_37_messages_that_come_at_any_time(self):
        listener, speaker = self.wire('acme'), Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app')
        listener.run('LISTEN any_time')
        for number in range(5):
            speaker.run("NOTIFY any_time, '%d'" % number)
            kind, body = listener.recv()
            self.assertEqual((kind, body[4:]), ('A', b'any_time\0%d\0' % number))
        self.assertEqual(listener.run('SELECT tenant FROM whoami'), [('acme',)])
        listener.run('UNLISTEN *')
        listener.close()
        wire = self.wire('globex')
        pid = wire.run('SELECT pg_backend_pid()')
        zone = wire.parameters['TimeZone']
        try:
            for other in ('Asia/Tokyo', 'Europe/Prague'):  # an asynchronous ParameterStatus on an idle server connection
                server.sql("ALTER SYSTEM SET timezone = '%s'" % other)
                server.sql('SELECT pg_reload_conf()')
                wait_for(lambda: server.sql('SHOW timezone') == [(other,)], 'the reload')
                self.assertEqual(wire.run('SHOW timezone'), [(other,)])
                self.assertEqual(wire.parameters['TimeZone'], other)
                self.assertEqual(self.wire('acme').parameters['TimeZone'], other)
            self.assertEqual(wire.run('SELECT pg_backend_pid()'), pid)
        finally:
            server.sql('ALTER SYSTEM RESET timezone')
            server.sql('SELECT pg_reload_conf()')
            wait_for(lambda: server.sql('SHOW timezone') == [(zone,)], 'the reload')

    def statements_logged(self, act):
        server.sql("ALTER ROLE app SET log_statement = 'all'")
        self.terminate()
        try:
            act(None)
            path = os.path.join(server.folder, 'log')
            start = os.path.getsize(path)
            act('measured')
            with open(path, encoding='utf-8', errors='replace') as source:
                source.seek(start)
                return re.findall(r'(?:statement|execute [^:]*): (.*)', source.read())
        finally:
            server.sql('ALTER ROLE app RESET log_statement')
            self.terminate()

    def test_38_settings_are_sent_only_to_a_connection_that_changes_hands(self):
        """Then all of them: the server's own defaults may have changed since they were last seen (decision 0019)."""
        wires = {style: self.wire('acme', params={'DateStyle': style, 'application_name': ''}) for style in ('ISO', 'ISO, MDY')}

        def in_turns(measured):
            for _ in range(10):
                for wire in wires.values():
                    wire.run('SELECT 38')

        def alone(measured):
            for _ in range(20):
                wires['ISO'].run('SELECT 38')
        for act, changes in ((in_turns, 20), (alone, 0)):
            logged = self.statements_logged(act)
            self.assertEqual(len([text for text in logged if 'SELECT 38' in text]), 20)
            for name in ('DateStyle', 'application_name'):
                self.assertEqual(len([text for text in logged if name in text]), changes, (name, logged[:6]))

    def test_38_a_wrong_value_is_its_clients_error_and_poisons_nothing(self):
        for params in ({'DateStyle': 'Klingon'}, {'statement_timeout': 'soon'}, {'no_such_parameter': '1'}, {'client_encoding': 'nonsense'}):
            with self.assertRaises(ServerError) as caught:
                self.wire('acme', params=params).run('SELECT 1')
            with self.assertRaises(ServerError) as want:
                Wire(server.port).login('app', fixture.PASSWORDS['app'], 'app', params)
            self.assertEqual(caught.exception.sqlstate, want.exception.sqlstate)
            self.works('globex')
        wire, other = self.wire('acme'), self.wire('globex')
        for sql in ("SET DateStyle = 'Klingon'", "BEGIN; SET DateStyle = 'German'; ROLLBACK",
            "BEGIN; SET application_name = 'rolled back'; SELECT 1/0"):
            try:
                wire.run(sql)
            except ServerError:
                wire.run('ROLLBACK')
            self.assertEqual(wire.run('SHOW DateStyle'), [('ISO, MDY',)])
            self.assertEqual((wire.parameters['DateStyle'], wire.parameters['application_name']), ('ISO, MDY', ''))
            self.assertEqual(other.run("SELECT current_setting('DateStyle'), current_setting('application_name')"), [('ISO, MDY', '')])

    def test_39_settings_that_nobody_reports(self):
        ways = ["SET search_path TO globex", "SET statement_timeout = '39s'", 'SET row_security = off', "SET app.x = 'mine'", 'SET ROLE app',
            "SET work_mem = '39MB'",
                "SELECT set_config('search_path', 'globex', false)", "SELECT hidden_path('globex, public')",
                "SELECT hidden_set('statement_timeout', '39s')",
                "SELECT hidden_set('role', 'app')", "DO $$ BEGIN PERFORM set_config('app.x', 'mine', false); END $$",
                "SELECT hidden_set('row_security', 'off')",
                "SELECT hidden_set('default_transaction_read_only', 'on')", 
                "WITH a AS (SELECT hidden_path('globex')) SELECT * FROM a", 'SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY',
                "SET SESSION AUTHORIZATION app"]
        witness = self.wire('initech')
        look = ("SELECT (SELECT tenant FROM whoami), current_setting('search_path'), current_setting('statement_timeout'), "
                "current_setting('row_security'), "
                "NULLIF(current_setting('app.x', true), ''), current_setting('role'), current_setting('work_mem'), current_user, session_user, "
                "current_setting('default_transaction_read_only'), pg_backend_pid()")
        clean = witness.run(look)
        for sql in ways:
            wire = self.wire('acme')
            wire.run(sql)
            self.assertEqual(witness.run(look), clean, sql)
            wire.close()
            self.assertEqual(witness.run(look), clean, sql)

    def test_40_state_of_a_session(self):
        """The next session finds none of it, and soon nobody does: where the server connection was closed, PostgreSQL ends it in its own time."""
        look = ("SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), (SELECT count(*) FROM pg_cursors), "
                "(SELECT count(*) FROM pg_listening_channels()), (SELECT count(*) FROM pg_prepared_statements WHERE from_sql), "
                "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())")
        anywhere = ("SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't') + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory')")
        for sql in ('CREATE TEMP TABLE t40 AS SELECT 1', 'SELECT 1 AS a INTO TEMP t40', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
            'SELECT pg_advisory_lock(40)',
                    'LISTEN c40', 'PREPARE p40 AS SELECT 1', 'SELECT hidden_lock(40)', "SELECT hidden_temp('x')", "SELECT nextval('counter')",
                    "BEGIN; CREATE TEMP TABLE t41 (a int); COMMIT", "LOAD 'plpgsql'"):
            wire = self.wire('acme')
            try:
                wire.run(sql)
            except ServerError as error:
                self.assertEqual(error.sqlstate, '42501', sql)
            wire.close()
            witness = self.wire('globex')
            self.assertEqual(witness.run(look), [('0',) * 5], sql)
            wait_for(lambda: server.sql(anywhere, 'app') == [(0,)], 'nothing is left of ' + sql, 5)
            for current in ("SELECT currval('acme.counter')", 'SELECT lastval()'):
                with self.assertRaises(ServerError) as caught:
                    witness.run(current)
                self.assertEqual(caught.exception.sqlstate, '55000', sql)
            witness.close()

    def test_41_clients_that_vanish_in_a_transaction(self):
        for end in ('close', 'reset_connection'):
            for last in ("INSERT INTO ledger (id) VALUES ('vanished')", 'SELECT 1/0', 'LOCK TABLE ledger'):
                wire = self.wire()
                try:
                    wire.run('BEGIN; ' + last)
                except ServerError:
                    pass
                getattr(wire, end)()
                began = time.monotonic()
                self.assertEqual(self.wire('acme').run("SELECT count(*) FROM ledger WHERE id = 'vanished'"), [('0',)])
                self.assertLess(time.monotonic() - began, 10)
        wire = self.wire()
        wire.send(w.query('SELECT pg_sleep(20) /* vanishes */'))
        wait_for(active('vanishes'), 'the query runs')
        wire.reset_connection()
        wait_for(lambda: not active('vanishes')(), 'it was cancelled', 5)

    def test_42_a_dead_server_harms_only_its_tenants(self):
        holder, waiting = self.wire('acme'), self.wire('globex')
        holder.run('BEGIN; SELECT 1')
        running = Running(waiting, 'SELECT tenant FROM whoami')
        second.stop('immediate')
        try:
            for _ in range(3):
                began = time.monotonic()
                with self.assertRaises(ServerError) as caught:
                    self.wire('umbrella').run('SELECT 1')
                self.assertIn(caught.exception.sqlstate[:2], ('08', '57'))
                self.assertLess(time.monotonic() - began, 5)
            self.assertTrue(running.is_alive())
            holder.run('COMMIT')
            self.assertEqual(running.result(), [('globex',)])
        finally:
            second.start()
        wait_for(self.umbrella_works, 'umbrella works again', 10)

    def umbrella_works(self):
        try:
            return self.wire('umbrella').run('SELECT tenant FROM whoami') == [('umbrella',)]
        except ServerError:
            return False

    def test_43_what_changes_nothing_recycles_nothing(self):
        wires = {name: self.wire(name) for name in ('acme', 'umbrella')}
        pids = {name: wire.run('SELECT pg_backend_pid()') for name, wire in wires.items()}
        connects = proxy.metric('pgporter_server_connects_total')
        for act in (lambda: proxy.apply(document()), lambda: proxy.apply({'tenants': [{'name': 'another', 'placement': {
                'kind': 'schema', 'cluster': 'main', 'database': 'app', 'schema': 'another'}}]}),
                    lambda: proxy.apply({'users': [{'name': 'more', 'scram_verifier': w.scram_verifier('x'), 'tenants': '*'}]})):
            act()
            for name, wire in wires.items():
                self.assertEqual(wire.run('SELECT pg_backend_pid()'), pids[name])
        self.assertEqual(proxy.metric('pgporter_server_connects_total'), connects)

    def test_44_a_restart_with_many_clients(self):
        """40 clients at work when their server restarts: all work again, nobody else waits, and the caps hold all the time."""
        wires, most, stop = [self.wire(None) for _ in range(40)], [0], threading.Event()
        slow = []

        def watch():
            while not stop.is_set():
                began = time.monotonic()
                self.assertEqual(proxy.http('GET', '/readyz', authorized=False)[0], 200)
                bystander.run('SELECT tenant FROM whoami')
                slow.append(time.monotonic() - began)
                stop.wait(0.02)
        bystander = self.wire('umbrella')
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        server.stop('immediate')
        server.start()
        done = []

        def work(wire):
            wire.timeout = 20.0

            def served():
                try:
                    wire.run('SET search_path TO acme')
                    return wire.run('SELECT tenant FROM whoami') == [('acme',)]
                except ServerError as error:
                    self.assertEqual(error.fields['S'], 'ERROR')
                    return False
            wait_for(served, 'the client works again', 15)
            done.append(wire)
        threads = [threading.Thread(target=work, args=(wire,), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            most[0] = max(most[0], len(server.backends()))
            time.sleep(0.02)
        stop.set()
        watcher.join(5)
        self.assertEqual((len(done), most[0] <= 1), (40, True), most)
        self.assertLess(max(slow), 1.5)

    def test_45_no_more_descriptors(self):
        """EMFILE: no spinning, no exit; those who are there go on, and the door opens again."""
        small = fixture.Pgporter(workspace, catalog_server, 'few-descriptors', limits={'login_ms_max': 20000, 'logins_max': 2000, 'descriptors_reserved': 10})
        small.start()
        try:
            wire = small.wire('acme')
            wire.run('SELECT 1')
            used = len(os.listdir('/proc/%d/fd' % small.process.pid))
            resource.prlimit(small.process.pid, resource.RLIMIT_NOFILE, (used + 60, used + 60))
            crowd = [socket.create_connection(('127.0.0.1', small.port)) for _ in range(60)]

            def cpu():
                with open('/proc/%d/stat' % small.process.pid, encoding='ascii') as source:
                    return sum(int(v) for v in source.read().rsplit(')', 1)[1].split()[11:13]) / os.sysconf('SC_CLK_TCK')
            wait_for(lambda: small.metric('pgporter_descriptor_refusals_total'), 'no descriptor is left for another client')
            before = cpu()
            began = time.monotonic()
            while time.monotonic() - began < 1.5:
                self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                time.sleep(0.1)
            self.assertLess(cpu() - before, 0.7)
            for one in crowd:
                one.close()

            def opens_again():
                try:
                    return small.wire('globex', timeout=3).run('SELECT tenant FROM whoami') == [('globex',)]
                except (ServerError, WireError, OSError):
                    return False
            wait_for(opens_again, 'new clients are served again', 10)
        finally:
            small.stop()

    def test_45_children_inherit_nothing(self):
        self.wire('acme').run('SELECT 1')
        folder, checked = '/proc/%d/fdinfo' % proxy.process.pid, 0
        for number in os.listdir(folder):
            try:
                target = os.readlink('/proc/%d/fd/%s' % (proxy.process.pid, number))
                with open(os.path.join(folder, number), encoding='ascii') as source:
                    flags = int(re.search(r'flags:\s*([0-7]+)', source.read()).group(1), 8)
            except FileNotFoundError:
                continue
            if int(number) > 2 and target.startswith(('socket:', 'anon_inode', '/')):
                self.assertTrue(flags & os.O_CLOEXEC, '%s: %s' % (number, target))
                checked += 1
        self.assertGreater(checked, 5)


if __name__ == '__main__':
    fixture.main(__name__)
