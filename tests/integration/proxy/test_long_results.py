"""Results and COPY of many rows: they come and go in pieces that end anywhere, and are matched and passed on many at a time. Whatever the pieces,
the client reads what PostgreSQL would have told it, and never a part of a row before an error.
"""
import random

import fixture
import pitfall_tools as tools
import wire_client as w

MIXED = "SELECT i, repeat(chr(97 + i %% 26), CASE WHEN i %% 50 = 0 THEN %d + i %% 7 ELSE i %% 40 END) FROM generate_series(1, 400) i"
FAILS = 'SELECT i, 1 / (300 - i) FROM generate_series(1, 400) i'
SPEAKS = "SELECT i, CASE WHEN i %% 60 = 0 THEN public.say_notice(i::text) END FROM generate_series(1, %d) i"
LONG = "SELECT i, repeat('y', 90) FROM generate_series(1, 12000) i"
TABLE = 'CREATE TEMP TABLE lines (n int, t text)'


def setUpModule():
    global workspace, server, relay, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world('app', ('acme', 'globex'))
    relay = tools.Relay(workspace, server.port)
    proxy = fixture.Pgporter(workspace, server)
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()
    proxy.apply(fixture.document({'main': {'port': relay.port}}, {'acme': {}, 'globex': {}}))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


def cutter(seed, longest):
    """Cuts into pieces of 1 to `longest` bytes."""
    dice = random.Random(seed)

    def cut(data):
        at = 0
        while at < len(data):
            size = dice.randint(1, longest)
            yield data[at:at + size]
            at += size
    return cut


def extended(sql, rows_max=0, again=0):
    return (w.parse('', sql) + w.bind() + w.describe('P') + w.execute('', rows_max) * (1 + again) + w.sync())


REQUESTS = {
    'rows': w.query(MIXED % 100),
    'rows longer than what is put together': w.query(MIXED % 8190),
    'very long rows': w.query(MIXED % 70000),
    'several results': w.query('; '.join([MIXED % 9, 'SELECT 1', MIXED % 300, 'SELECT 2 WHERE false', 'SELECT 3'])),
    'an error behind rows': w.query(FAILS),
    'notices between rows': w.query(SPEAKS % 400),
    'extended': extended(MIXED % 200),
    'a portal in parts': extended(MIXED % 200, 90, 5),
    'an error in a batch': extended(FAILS) + extended('SELECT 1'),
    'a pipeline': extended(MIXED % 50) * 5,
    'COPY out': w.query('COPY (%s) TO STDOUT' % (MIXED % 100)),
    'binary COPY out': w.query('COPY (%s) TO STDOUT (FORMAT binary)' % (MIXED % 8190)),
    'an error in COPY out': w.query('COPY (%s) TO STDOUT' % FAILS),
    'long': w.query(LONG),
    'long, with notices': w.query(SPEAKS % 40000),
}


class Pieces(tools.Base):
    def tearDown(self):
        relay.cut = None

    def ask(self, wire, request):
        wire.send(request)
        messages = wire.recv_until('Z', request.count(w.sync()) or 1)
        if wire.status == 'E':
            wire.run('ROLLBACK')
        return messages

    def test_what_the_server_says_is_cut_anywhere(self):
        direct = self.direct()
        for name, request in REQUESTS.items():
            expected = self.ask(direct, request)
            self.assertGreater(len(expected), 90)
            for longest in (5, 300, 9000):
                if len(b''.join(body for _, body in expected)) > 1000 * longest:
                    continue  # a piece is a system call or two
                with self.subTest(name, longest=longest):
                    relay.cut = cutter(name, longest)
                    wire = self.wire()
                    self.assertTrue(self.ask(wire, request) == expected)
                    self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                    wire.close()

    def test_long_results_in_a_transaction(self):
        """From a quarter of a megabyte on they gather: nothing waits for what doesn't come."""
        wire = self.wire()
        wire.run("BEGIN; DECLARE c CURSOR FOR SELECT repeat('z', 1000) FROM generate_series(1, 6000)")
        for rows in (3000, 1, 2000, 999, 0):
            self.assertEqual(len(wire.run('FETCH 3000 FROM c' if rows == 3000 else 'FETCH %d FROM c' % max(rows, 1))), rows)
        wire.run('COMMIT')

    def test_a_client_that_reads_late(self):
        direct, wire = self.direct(), self.wire()
        sql = "SELECT i, repeat('y', i % 2000) FROM generate_series(1, 12000) i"
        direct.send(w.query(sql))
        wire.send(w.query(sql))
        self.assertTrue(wire.recv_until('Z') == direct.recv_until('Z'))

    def test_a_server_that_ends_within_a_row(self):
        for sql in (MIXED % 100, MIXED % 8000, 'COPY (%s) TO STDOUT' % (MIXED % 100)):
            for limit in (4000, 4001, 4007, 4020, 4033):
                with self.subTest(sql, limit=limit):
                    wire = self.wire()
                    wire.run('SELECT 1')
                    passed = []

                    def cut(data, passed=passed, limit=limit):
                        piece = data[:max(0, limit - sum(passed))]
                        passed.append(len(piece))
                        if piece:
                            yield piece
                        if sum(passed) >= limit:
                            raise OSError('cut')
                    relay.cut = cut
                    wire.send(w.query(sql))
                    messages = wire.recv_until('', timeout=10)
                    relay.cut = None
                    self.assertEqual(sum(passed), limit)
                    self.assertEqual([kind for kind, _ in messages[-2:]], ['E', None])
                    self.assertEqual(w.error_fields(messages[-2][1])['C'], '08006')
                    self.assertEqual({kind for kind, _ in messages[:-2]} - set('TDHd'), set())
        self.works()


class CopyIn(tools.Base):
    LINES = b''.join(b'%d\t%s\n' % (i, b'x' * (i % 300)) for i in range(20000))

    def messages(self, sizes, seed, lines=LINES):
        """The lines in CopyData messages that end anywhere, as PostgreSQL allows."""
        dice, at, out = random.Random(seed), 0, []
        while at < len(lines):
            size = dice.randint(*sizes)
            out.append(w.copy_data(lines[at:at + size]))
            at += size
        return b''.join(out)

    def start(self, wire=None):
        wire = wire or self.wire()
        wire.run('BEGIN; %s' % TABLE)
        wire.send(w.query('COPY lines FROM STDIN'))
        self.assertEqual([kind for kind, _ in wire.recv_until('G')], ['G'])
        return wire

    def test_input_is_cut_anywhere(self):
        count = self.LINES.count(b'\n')
        for sizes in ((1, 400), (90, 110), (0, 9000), (60000, 200000)):
            for pieces in (None, 7777, 100000):
                with self.subTest(sizes=sizes, pieces=pieces):
                    wire = self.start()
                    wire.send(self.messages(sizes, pieces) + w.copy_done(), pieces)
                    self.assertEqual(wire.recv_until('Z'), [('C', b'COPY %d\0' % count), ('Z', b'T')])
                    self.assertEqual(wire.run('SELECT count(*), sum(length(t)) FROM lines'),
                                     [(str(count), str(sum(i % 300 for i in range(count))))])
                    wire.run('ROLLBACK')
                    wire.close()

    def test_what_ends_it(self):
        lines = self.messages((90, 110), 1)
        bad = w.copy_data('no number\tx\n')
        for name, end in (('CopyFail', lines + w.copy_fail('enough')), ('a bad line', lines + bad + w.copy_done()),
                          ('a bad line in front of others', bad + lines + w.copy_done()), ('Sync, Flush', w.sync() + lines + w.flush() + w.copy_done())):
            with self.subTest(name):
                got = []
                for wire in (self.direct(), self.start(self.wire())):
                    if not got:
                        self.start(wire)
                    wire.send(end)
                    got.append(wire.recv_until('Z'))
                    wire.run('ROLLBACK')
                    self.assertEqual(wire.run('SELECT tenant FROM whoami'), [('acme',)])
                self.assertEqual(got[0], got[1])

    def test_input_that_nobody_waits_for(self):
        """Behind an error that was said at once all of it is dropped, as by PostgreSQL."""
        request = w.query('COPY nowhere FROM STDIN') + self.messages((90, 110), 2) + w.copy_done() + w.query('SELECT tenant FROM whoami')
        got = []
        for wire in (self.direct(), self.wire()):
            wire.send(request)
            got.append(wire.recv_until('Z', 2))
        self.assertEqual(got[0], got[1])


if __name__ == '__main__':
    fixture.main(__name__)
