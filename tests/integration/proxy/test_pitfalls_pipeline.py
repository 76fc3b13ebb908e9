"""Pitfalls 13 to 30 of poolers: the state machine and pipelines. Each test has the number of the pitfall and what goes wrong elsewhere."""
import random
import socket
import ssl
import struct
import threading
import time

import fixture
import pitfall_tools as tools
import tls_parts
import wire_client as w
from conversation import q, run, t, x
from wire_client import ServerError


def setUpModule():
    global workspace, server, proxy, path
    import os
    workspace = fixture.Workspace()
    folder = os.path.join(workspace.path, 'certificates')
    made = tls_parts.Authority(folder)
    made.make('server', tls_parts.NAMES['server'])
    path = made.path
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 3000, 'client_write_ms_max': 2000, 'server_statements_max': 5,
                                                        'prepared_statements_max': 60})
    proxy.config['listen'][0].update(tls='allow', tls_certificate_file=path('server.crt'), tls_key_file=path('server.key'))
    proxy.start()
    proxy.apply(fixture.document({'main': server}, {name: {} for name in fixture.TENANTS},
                                 databases=[{'cluster': 'main', 'name': 'app', 'server_connections_max': 1}]))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


def memory():
    with open('/proc/%d/statm' % proxy.process.pid, encoding='ascii') as source:
        return int(source.read().split()[1]) * 4096


class Pipeline(tools.Base):
    def other_in_between(self):
        """Another tenant's session uses the only server connection, and its statements have the same names."""
        other = self.wire('globex')

        def between():
            other.send(w.parse('', 'SELECT tenant FROM whoami') + w.bind() + w.execute() + w.parse('s1', "SELECT 'theirs'") + w.close('S',
                's1') + w.sync())
            self.assertEqual(other._rows(other.recv_until('Z')), [('globex',)])
        return between

    def test_13_release_only_when_nothing_is_owed(self):
        """Pipelines of four sessions on one server connection: each gets its own answers, all of them, in order."""
        failures = []

        def work(number):
            chance, wire = random.Random(number), self.wire(fixture.TENANTS[number % 3])
            try:
                for round_ in range(40):
                    marks = ['%d-%d-%d' % (number, round_, i) for i in range(chance.randrange(1, 6))]
                    data, ready = b'', 0
                    for mark in marks:
                        if chance.random() < 0.5:
                            data += w.query("SELECT '%s'" % mark)
                        else:
                            data += run("SELECT '%s'" % mark) + w.sync()
                        ready += 1
                    wire.send(data)
                    got = [row[0] for row in wire._rows(wire.recv_until('Z', ready))]
                    if got != marks:
                        failures.append((marks, got))
            except Exception as error:
                failures.append(repr(error))
        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40)
        self.assertEqual(failures[:3], [])
        self.assertEqual(len(server.backends()), 1)

    def test_14_query_inside_the_skipped_part_of_a_batch(self):
        """A simple Query between an error and Sync is skipped and owes no ReadyForQuery."""
        self.same_as_postgresql('Postgrex savepoint', [
            x(w.parse('i', 'SELECT 1/$1::int'), w.parse('s', 'SAVEPOINT p'), w.parse('r', 'ROLLBACK TO p')), q('BEGIN'),
            t(w.query('SAVEPOINT p'), w.bind('', 'i', ['0']), w.execute(), w.query('RELEASE p'), w.query('RELEASE p'), w.sync(), ready=2),
            q('ROLLBACK TO p'), x(w.bind('', 'i', ['1']), w.execute()), q('COMMIT')])
        self.same_as_postgresql('error, Query, Query, Sync, Query', [
            t(run('SELECT 1/0'), w.query('SELECT 2'), w.query('SELECT 3'), w.flush(), w.sync(), w.query('SELECT 4'), ready=2)])
        self.works('globex')

    def test_15_answers_of_our_own_keep_their_place(self):
        """Statements that are known already are answered without a server, between others that aren't."""
        self.same_as_postgresql('known and unknown', [
            x(w.parse('a', 'SELECT 1'), w.parse('b', 'SELECT $1::text')),
                x(w.close('S', 'b'), w.parse('b', 'SELECT $1::text'), w.describe('S', 'b'), w.parse('c', 'SELECT 3'),
                                                                           w.describe('S', 'a'), w.close('S', 'zzz'), w.bind('', 'a'),
                                                                           w.describe('P'), w.execute(),
                                                                           w.close('P'), w.close('S', 'c')),
            x(w.parse('', 'SELECT 1'), w.describe('S'), w.parse('', 'SELECT 1'), w.describe('S'), w.bind(), w.execute()),
            x(run('SELECT 1/0'), w.close('S', 'a'), w.parse('d', 'SELECT 1')), x(w.describe('S', 'a')), x(w.describe('S', 'd')),
            x(w.bind('', 'b', ['v']), w.execute(), w.parse('a', 'SELECT 9'), w.close('S', 'a'))])
        self.same_as_postgresql('with others in between', [x(w.parse('s1', 'SELECT 1'))] + [
            x(w.close('S', 'no'), w.describe('S', 's1'), w.bind('', 's1'), w.execute(), w.describe('S', 's1'))] * 3,
            ('whole',), between=self.other_in_between())

    def test_16_an_error_of_our_own_waits_its_turn(self):
        """Too many statements for one session, behind a slow query in the same pipeline."""
        wire = self.wire()
        wire.send(b''.join(w.parse('n%d' % i, 'SELECT %d' % i) for i in range(60)) + w.sync())
        wire.recv_until('Z')
        wire.send(w.query("SELECT 'slow', pg_sleep(0.3)") + run("SELECT 'second', pg_sleep(0.1)") + w.parse('one too many', 'SELECT 1') +
                  run("SELECT 'never'") + w.sync() + w.query("SELECT 'last'"))
        messages = wire.recv_until('Z', 3)
        self.assertEqual([k for k, _ in messages if k and k in 'DEZ'], ['D', 'Z', 'D', 'E', 'Z', 'D', 'Z'], messages)
        self.assertEqual([w.error_fields(b)['C'] for k, b in messages if k == 'E'], ['53400'])

    def test_17_failed_parse_leaves_nothing(self):
        self.same_as_postgresql('failed Parse', [
            x(w.parse('s1', 'SELEKT')), x(w.bind('', 's1'), w.execute()), x(w.describe('S', 's1')), x(w.close('S', 's1'), w.close('S', 'never')),
            x(w.parse('s1', 'SELECT * FROM nowhere')), x(w.parse('s1', 'SELECT 1')), x(w.parse('s1', 'SELECT 2')), x(w.bind('', 's1'), w.execute()),
            x(w.parse('s2', 'SELECT $1')), x(run('SELECT 1/0'), w.parse('s3', 'SELECT 3')), x(w.bind('', 's3')), x(w.parse('s3', 'SELEKT')),
            x(w.bind('', 's3'))])
        self.same_as_postgresql('with others in between', [x(w.parse('s1', 'SELEKT')), x(w.bind('', 's1')), x(w.parse('s1', 'SELECT 1')),
                                                          x(w.bind('', 's1'), w.execute()), x(w.parse('s1', 'SELECT 2')),
                                                          x(w.bind('', 's1'), w.execute())],
                                ('whole',), between=self.other_in_between())

    def test_18_parse_of_a_client_that_died(self):
        """It never sent Sync. Whoever prepares the same text next on that server connection finds it there."""
        for end in ('close', 'reset_connection'):
            for kept in (b'', w.flush()):
                dying = self.wire()
                dying.run('SELECT 1')
                dying.send(w.parse('d1', "SELECT 'shared text'") + w.parse('', 'SELECT 5') + kept)
                getattr(dying, end)()
                wire = self.wire()
                wire.send(w.parse('d1', "SELECT 'shared text'") + w.bind('', 'd1') + w.execute() + w.sync())
                self.assertEqual(wire._rows(wire.recv_until('Z')), [('shared text',)])
                wire.close()

    def test_19_eviction_inside_a_pipeline(self):
        """server_statements_max is 5: 25 statements prepared, described and used in one batch, in several orders, with Flush."""
        order = list(range(25))
        random.Random(19).shuffle(order)
        batch = [w.parse('e%d' % i, 'SELECT %d, $1::text' % i) for i in range(25)]
        use = [w.bind('p%d' % i, 'e%d' % i, ['v']) for i in order] + [w.execute('p%d' % i) for i in reversed(order)]
        self.same_as_postgresql('eviction', [x(*batch, *use),
            x(*[w.describe('S', 'e%d' % i) + w.bind('', 'e%d' % i, ['w']) + w.execute() for i in order]),
                                             t(*[w.bind('', 'e%d' % i, ['w']) + w.execute() + w.flush() for i in order], w.sync()), q('BEGIN'),
                                             x(*use), q('COMMIT'),
                                             x(*[w.close('S', 'e%d' % i) for i in order])])
        self.same_as_postgresql('an error amid evictions', [x(*batch), x(*use[:9], run('SELECT 1/0'), *use),
            x(*[w.bind('', 'e%d' % i, ['z']) + w.execute() for i in order])])

    def test_20_describe_alone_on_another_server_connection(self):
        turns = [x(w.parse('s1', 'SELECT tenant, n FROM items WHERE n = $1')), x(w.describe('S', 's1')), x(w.close('P', 's1')),
            x(w.describe('S', 's1')),
                 x(w.bind('s1', 's1', ['1']), w.close('P', 's1'), w.describe('S', 's1')), x(w.bind('', 's1', ['2']), w.describe('P'), w.execute())]
        self.same_as_postgresql('Describe', turns, ('whole',), between=self.other_in_between())
        self.same_as_postgresql('Describe', turns)

    def test_21_flush_delivers_and_a_portal_keeps_its_connection(self):
        wire, other = self.wire(), self.wire('globex')
        wire.send(w.parse('', 'SELECT n FROM items ORDER BY id') + w.bind('p') + w.describe('P', 'p') + w.execute('p', 2) + w.flush())
        self.assertEqual([k for k, _ in wire.recv_until('s')], ['1', '2', 'T', 'D', 'D', 's'])
        other.send(w.query('SELECT tenant FROM whoami'))
        self.assertTrue(other.quiet(0.3))
        for _ in range(4):
            wire.send(w.execute('p', 2) + w.flush())
            self.assertEqual([k for k, _ in wire.recv_until('sC')], ['D', 'D', 's'])
        wire.send(w.execute('p', 2) + w.sync())
        self.assertEqual([k for k, _ in wire.recv_until('Z')], ['C', 'Z'])
        self.assertEqual(other._rows(other.recv_until('Z')), [('globex',)])

    def test_22_unnamed_statement(self):
        turns = [x(w.parse('', 'SELECT 1')), x(w.bind(), w.execute()), q('SELECT 2'), x(w.bind(), w.execute()), x(w.parse('', 'SELECT $1::int')),
            x(w.bind('', '', ['3']), w.execute()),
                 x(w.parse('', 'SELECT 4')), x(w.bind(), w.execute()), q(''), x(w.bind()), x(w.parse('', 'SELECT 5'), w.close('S')), x(w.bind())]
        self.same_as_postgresql('unnamed', turns)
        self.same_as_postgresql('unnamed, behind a SET in a batch that fails', [
            x(run("SET DateStyle = 'German'"), w.parse('', 'SELECT $1::int'), w.bind('', '', ['x'])), x(w.bind('', '', ['2']), w.execute())])
        self.same_as_postgresql('unnamed, with others in between', turns, ('whole',), between=self.other_in_between())

    def test_23_one_text_with_other_types_for_another_tenant(self):
        for tenant, type_ in (('acme', 'int'), ('globex', 'text'), ('initech', 'numeric(9,2)')):
            server.sql('CREATE TABLE IF NOT EXISTS {0}.kind AS SELECT 5::{1} AS v; GRANT ALL ON {0}.kind TO app; '
                       'ALTER TABLE {0}.kind OWNER TO app'.format(tenant, type_), 'app')
        wires = {tenant: self.wire(tenant) for tenant in fixture.TENANTS}
        want = {'acme': '5', 'globex': '5', 'initech': '5.00'}
        for tenant, wire in wires.items():
            wire.send(w.parse('k', 'SELECT * FROM kind') + w.describe('S', 'k') + w.sync())
            self.assertEqual([k for k, _ in wire.recv_until('Z')], ['1', 't', 'T', 'Z'])
        for _ in range(6):
            for tenant, wire in wires.items():
                wire.send(w.bind('', 'k') + w.execute() + w.sync())
                self.assertEqual(wire._rows(wire.recv_until('Z')), [(want[tenant],)])
        self.same_as_postgresql('the same after DDL', [q('CREATE TABLE plan_ (a int)'), x(w.parse('s', 'SELECT * FROM plan_')),
            x(w.bind('', 's'), w.execute()),
                                                       q('ALTER TABLE plan_ ADD b int'), x(w.bind('', 's'), w.execute()), q('DROP TABLE plan_')],
                                                       ('whole',))

    def test_24_discard_all_and_deallocate_all(self):
        self.same_as_postgresql('clears', [
            x(w.parse('s1', 'SELECT 1'), w.parse('s2', 'SELECT 2')), x(run('DEALLOCATE ALL')), x(w.bind('', 's1')),
                x(w.parse('s1', 'SELECT 3'), w.bind('', 's1'), w.execute()),
            x(run('DISCARD ALL')), x(w.bind('', 's1')), x(w.parse('s1', 'SELECT 4')), q('DISCARD ALL'), x(w.bind('', 's1')),
            x(w.parse('s1', 'SELECT 5')),
            q('DEALLOCATE s1'), x(w.bind('', 's1')), q('DEALLOCATE s1'), x(w.parse('S1', 'SELECT 6')), q('DEALLOCATE "S1"'),
            q('DEALLOCATE PREPARE ALL')])
        self.same_as_postgresql('in a pipeline', [x(run('DISCARD ALL'), run('SELECT 1')), x(run('SELECT 1'), run('DISCARD ALL')),
            q('SELECT 1; DISCARD ALL'), q('BEGIN'),
                                                 x(run('DISCARD ALL')), q('ROLLBACK'), x(run('DEALLOCATE ALL'), run('SELECT 1'))])
        one, two = self.wire('acme'), self.wire('globex')
        one.run('PREPARE same AS SELECT tenant FROM whoami')
        self.assertEqual(one.run('EXECUTE same'), [('acme',)])
        one.run('DEALLOCATE ALL')
        two.run('PREPARE same AS SELECT tenant FROM whoami')
        self.assertEqual(two.run('EXECUTE same'), [('globex',)])
        two.run('DISCARD ALL')
        with self.assertRaises(ServerError) as caught:
            one.run('EXECUTE same')
        self.assertEqual(caught.exception.sqlstate, '26000')
        one.run('PREPARE same AS SELECT tenant FROM whoami')
        one.run('DEALLOCATE same')  # its only statement: nothing keeps the server connection any more
        self.assertEqual(two.run('SELECT tenant FROM whoami'), [('globex',)])

    def test_25_only_the_status_says_whether_a_transaction_is_open(self):
        self.same_as_postgresql('mixes', [
            q('BEGIN; SELECT 1; COMMIT; SELECT 2'), q('SELECT 1; BEGIN; SELECT 2'), q('COMMIT; BEGIN; SELECT 3'), q('ROLLBACK; SELECT 4'),
                q('BEGIN; COMMIT; BEGIN'), q('END'),
            q('SELECT 1; COMMIT; SELECT 2'), q('BEGIN; SELECT 1/0; COMMIT'), q('ROLLBACK; BEGIN; SELECT 5'), q('COMMIT; SELECT 1/0'),
            q("SELECT 'BEGIN'"), q('/* BEGIN */ SELECT 1'),
            t(w.query('SELECT 1; COPY whoami TO STDOUT; BEGIN; COPY whoami TO STDOUT')), q('COMMIT'), q('BEGIN;' * 3), q('ROLLBACK;' * 3)])
        self.works('globex')

    def test_26_copy_in(self):
        begin, rows = 'COPY ledger (id) FROM STDIN', b'c26\n'
        clean = q("DELETE FROM ledger WHERE id = 'c26'")
        self.same_as_postgresql('stray Sync and the rest', [
            t(w.query(begin), until='GE'), t(w.sync(), w.copy_data(rows), w.sync(), w.sync(), w.flush(), w.copy_done()), clean,
            t(run(begin), w.sync(), until='GE'), t(w.copy_data(rows), w.copy_done(), w.sync()), clean,  # asyncpg
            t(run(begin), w.flush(), until='GE'), t(w.copy_data(rows), w.copy_done(), w.sync()), clean,
            t(w.query(begin), until='GE'), t(w.copy_fail('no'), w.sync(), w.query('SELECT 1'), ready=3),
            t(w.query(begin), until='GE'), t(w.copy_data(b'a\tb\n'), w.copy_data(rows * 100), w.copy_done(), w.query('SELECT 2'), ready=2),
            t(run(begin), w.sync(), until='GE'), t(w.copy_data(b'a\tb\n'), w.copy_done(), w.sync(), w.query('SELECT 3'), ready=2)],
            ('whole', 'dribble'))
        self.works('globex')  # the server connection was given back: nothing is owed any more
        for end in ('close', 'reset_connection'):
            wire = self.wire()
            wire.send(w.query(begin))
            wire.recv_until('G')
            wire.send(w.copy_data(rows) + b'd\0\0\xff\xff half')
            getattr(wire, end)()
            self.assertEqual(self.wire().run("SELECT count(*) FROM ledger WHERE id = 'c26'"), [('0',)])

    def test_27_both_sides_write_a_lot(self):
        """30 MB in, 30 MB out, in one pipeline; the client reads nothing until it has written all it can."""
        wire = self.wire()
        wire.timeout = 30.0
        batch = [run('SELECT $1::text', ['x' * 300_000]) + w.sync() for _ in range(100)]
        wire.send(b''.join(batch))
        self.assertEqual(sum(len(b) for k, b in wire.recv_until('Z', 100) if k == 'D'), 100 * 300_006)

    def test_27_tls_records_are_small(self):
        """libpq's asynchronous interface hangs on records above 8 KB that come in one read (supavisor #993)."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=path('ca.crt'))
        context.check_hostname = False
        raw = socket.create_connection(('127.0.0.1', proxy.port), timeout=10)
        raw.sendall(w.SSL_REQUEST)
        self.assertEqual(raw.recv(1), b'S')
        tls, records, received = context.wrap_bio(incoming, outgoing, server_hostname=None), bytearray(), bytearray()

        def turn(act):
            while True:
                try:
                    value = act()
                    raw.sendall(outgoing.read())
                    return value
                except ssl.SSLWantReadError:
                    raw.sendall(outgoing.read())
                    data = raw.recv(65536)
                    self.assertTrue(data)
                    records.extend(data)
                    incoming.write(data)

        class Side:
            def send(self, data, pieces=None):
                turn(lambda: tls.write(data))

            def recv(self, timeout=None):
                while len(received) < 5 or len(received) < struct.unpack_from('!i', received, 1)[0] + 1:
                    received.extend(turn(lambda: tls.read(65536)))
                size = struct.unpack_from('!i', received, 1)[0] + 1
                kind, body = chr(received[0]), bytes(received[5:size])
                del received[:size]
                return kind, body
        turn(tls.do_handshake)
        side = Side()
        side.login_messages = []
        side.send(w.startup({'user': 'app', 'database': 'app', 'pgporter.tenant': 'acme'}))
        w.Wire.authenticate(side, fixture.PASSWORDS['app'])
        side.send(w.query("SELECT repeat('r', 1000000)"))
        while side.recv()[0] != 'Z':
            pass
        raw.close()
        sizes, at = [], 0
        while at + 5 <= len(records):
            sizes.append(struct.unpack_from('!H', records, at + 3)[0])
            at += 5 + sizes[-1]
        self.assertLessEqual(max(sizes), 8192 + 256)

    def test_28_function_call(self):
        add = [struct.pack('!i', 20), struct.pack('!i', 22)]
        self.same_as_postgresql('FunctionCall', [
            t(w.function_call(177, add, (1,), 1)), t(w.function_call(177, [b'1', b'x'])), t(w.function_call(177, [b'1'])),
                t(w.function_call(999999999)), q('BEGIN'),
            t(w.function_call(177, [b'1', b'2'])), t(w.function_call(177, [b'1', b'x'])), t(w.function_call(177, [b'1', b'2'])), q('ROLLBACK'),
            t(run('SELECT 1'), w.function_call(177, [b'3', b'4']), w.sync(), ready=2),
            t(run('SELECT 1/0'), w.function_call(177, [b'3', b'4']), w.sync())])
        # pgjdbc's LargeObject: BEGIN, lo_creat, lo_open, lowrite, lo_close, COMMIT
        oid = int(self.wire().run("SELECT lo_creat(-1)")[0][0])
        self.same_as_postgresql('LargeObject', [q('BEGIN'), t(w.function_call(952, [str(oid).encode(), b'393216'])),
            t(w.function_call(955, [b'0', b'hello'], (0, 1))),
                                                t(w.function_call(953, [b'0'])), q('COMMIT')])
        self.works('globex')

    def test_29_big_messages_are_streamed(self):
        before = memory()
        wire = self.wire()
        wire.timeout = 60.0
        wire.send(w.query("SELECT repeat('m', 150000000)"))
        got = 0
        while True:  # by hand: the whole row isn't wanted here either
            data = wire.socket.recv(1 << 20)
            got += len(data)
            self.assertLess(memory() - before, 48 << 20)
            if data[-6:] == b'Z\0\0\0\5I':
                break
        self.assertGreater(got, 150_000_000)
        wire.send(b'Q' + struct.pack('!i', 4 + 8 + 100_000_000 + 2) + b"SELECT '" + b'')
        for _ in range(100):
            wire.send(b'y' * 1_000_000)
        wire.send(b"'\0")
        self.assertLess(memory() - before, 48 << 20)
        wire.timeout = 30.0
        self.assertIn('D', [k for k, _ in wire.recv_until('Z')])

    def test_29_clients_that_leave_or_never_read_in_a_row(self):
        for way in ('reset_connection', 'close', 'zombie'):
            wire = self.wire()
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            wire.send(w.query("SELECT repeat('z', 50000000)"))
            fixture.wait_for(lambda: wire.socket.recv(1000), 'the row has begun')
            if way != 'zombie':
                getattr(wire, way)()
            began = time.monotonic()

            def served():
                try:
                    return self.wire('globex').run('SELECT tenant FROM whoami') == [('globex',)]
                except ServerError as error:
                    self.assertEqual(error.sqlstate, '53300')
                    return False
            fixture.wait_for(served, 'the only server connection is free again after ' + way, 8)
            self.assertLess(time.monotonic() - began, 8)

    def test_30_empty_queries(self):
        self.same_as_postgresql('empty', [q(''), q(';'), q(' ;; '), q('-- x'), q('/* */'), x(run('')), x(run(';'), run(''), run('SELECT 1')),
            q('BEGIN'), q(''), x(run('')),
                                          q('SELECT 1/0'), q(''), x(run('')), q(';;'), q('-- x'), q('ROLLBACK'), t(w.query('') * 3, ready=3),
                                          x(w.parse('e', ''), w.describe('S', 'e')),
                                          x(w.bind('', 'e'), w.describe('P'), w.execute('', 5))])
        self.same_as_postgresql('empty, with others in between', [x(w.parse('e', '')), x(w.bind('', 'e'), w.execute()), q(''), x(run(''))],
            ('whole',), between=self.other_in_between())


class Stuck(tools.Base):
    """The last of the file: where it fails, the only server connection is lost."""

    def test_17_close_of_a_statement_whose_parse_failed_in_an_aborted_transaction(self):
        """What a driver does that cleans up after itself. The session goes on, and the server connection is given back."""
        aborted = [q('BEGIN'), q('SELECT 1/0')]
        for number, parse in enumerate((x(w.parse('a', 'SELECT 1')), x(w.parse('a', 'SELEKT')), x(w.execute(), w.parse('a', 'SELECT 1')))):
            for close in (w.close('S', 'a'), w.close('S', 'a') + w.describe('S', 'a')):
                try:
                    self.same_as_postgresql('Close after a failed Parse, %d' % number,
                        aborted + [parse, x(close), q('ROLLBACK'), x(w.bind('', 'a'))], ('whole',))
                finally:
                    self.doCleanups()
        self.works('globex')


if __name__ == '__main__':
    fixture.main(__name__)
