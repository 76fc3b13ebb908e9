"""A transaction that was begun before there was a server connection for it: whatever becomes of that one, what the client does next is done in its
transaction, or not at all. A server may end right behind its answer to BEGIN, or to the prologue, with and without last words.
"""
import socket

import fixture
import naming_world
import pitfall_tools as tools
import wire_client as w

LAST_WORDS = w.message('E', b'SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0')


def setUpModule():
    global workspace, server, relay, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    naming_world.make(server)
    relay = tools.Relay(workspace, server.port)
    proxy = fixture.Pgporter(workspace, server, limits={'wait_ms_max': 8000})
    proxy.config['home'] = {'cluster': 'main', 'database': 'app'}
    proxy.start()
    proxy.apply(naming_world.document({'port': relay.port}))
    tools.Base.server, tools.Base.proxy = server, proxy


def tearDownModule():
    workspace.close()


class ServerEnds(tools.Base):
    def tearDown(self):
        relay.change = lambda data, number: data

    def end_behind(self, answer, with_words, with_end):
        """The server connection that next says `answer` ends with it. Gives what it said."""
        said = []

        def change(data, _):
            if said or answer not in data:
                return data
            said.append(data)
            if with_end:
                relay.pairs[-1][1].shutdown(socket.SHUT_RDWR)
            return data + LAST_WORDS * with_words
        relay.change = change
        return said

    def write(self, wire, name, is_extended):
        sql = "INSERT INTO ledger (id) VALUES ('%s')" % name
        wire.send(w.parse('', sql) + w.bind() + w.execute() + w.sync() if is_extended else w.query(sql))
        return [(kind, body) for kind, body in wire.recv_until('Z') if kind in ('C', 'E', 'Z', None)]

    def left(self, name):
        return server.sql('SELECT count(*)::int FROM acme.ledger WHERE id = %s', 'app', (name,))[0][0]

    def check(self, answer, others_turn):
        for number in range(36):
            with_words, with_end, is_extended = ((True, True), (False, True), (True, False))[number % 3] + (number // 3 % 2 == 0,)
            ending = ('ROLLBACK', 'COMMIT')[number // 6 % 2]
            name = '%s %s %d' % (answer.decode('latin-1').strip('\0'), others_turn, number)
            with self.subTest(name, words=with_words, end=with_end, extended=is_extended, ending=ending):
                wire = self.wire('acme')
                wire.run('SELECT 1')
                if others_turn:
                    other = self.wire('globex')
                    other.run('SELECT 1')
                    other.close()
                try:
                    self.assertEqual(wire.run('BEGIN'), [])
                    said = self.end_behind(answer, with_words, with_end)
                    got = self.write(wire, name, is_extended)
                    self.assertEqual(len(said), 1)
                    if got[-1][0] is None and with_end and not with_words:  # the end came later than the answer: the INSERT was lost with it
                        self.assertEqual(w.error_fields(got[0][1])['C'], '08006')
                        self.assertEqual(self.left(name), 0)
                        continue
                    self.assertEqual(got, [('C', b'INSERT 0 1\0'), ('Z', b'T')])
                    wire.run(ending)
                    self.assertEqual(self.left(name), int(ending == 'COMMIT'))
                finally:
                    wire.close()

    def test_behind_its_answer_to_begin(self):
        self.check(b'BEGIN\0', False)

    def test_behind_its_answer_to_begin_after_another_session(self):
        self.check(b'BEGIN\0', True)

    def test_behind_its_answer_to_the_prologue(self):
        self.check(b'acme, public', True)


class AskedAgain(tools.Base):
    """A prologue that went ahead of a request (decision 0019) meets the end of its server process: nothing was done, and all is done elsewhere."""

    def tearDown(self):
        relay.change = lambda data, number: data

    def test_requests_with_transactions(self):
        whoami = 'SELECT tenant FROM whoami'
        for naming in (None, 'SET search_path = acme, public', 'SET pgporter.tenant = acme'):
            for sql in (whoami, 'BEGIN; %s; COMMIT; %s' % (whoami, whoami), 'BEGIN; %s; ROLLBACK' % whoami, 'SELECT 1; BEGIN; %s; COMMIT' % whoami,
                        'SELECT 1; BEGIN; SAVEPOINT s; %s; RELEASE s' % whoami, "SELECT set_config('work_mem', '1MB', false); " + whoami,
                        'LISTEN ahead; %s; UNLISTEN *' % whoami):
                with self.subTest(sql, naming=naming):
                    wire = self.wire('acme') if naming is None else w.Wire(proxy.port).login('app', fixture.PASSWORDS['app'], 'app', {})
                    self.addCleanup(wire.close)
                    if naming:
                        wire.run(naming)
                    wire.run('SELECT 1')
                    other = self.wire('globex')
                    other.run('SELECT 1')
                    said, before = [], proxy.metric('pgporter_prologues_repeated_total')

                    def change(data, _, said=said):
                        said.append(data)
                        return data if len(said) > 1 else LAST_WORDS
                    relay.change = change
                    try:
                        wire.send(w.query(sql))
                        got = wire.recv_until('Z')
                    finally:
                        relay.change = lambda data, number: data
                    self.assertEqual([body for kind, body in got if kind == 'E'], [])
                    self.assertEqual({w.row_values(body)[0] for kind, body in got if kind == 'D'} - {b'1', b'1MB'}, {b'acme'})
                    self.assertEqual(proxy.metric('pgporter_prologues_repeated_total') - before, 1)
                    if got[-1][1] == b'T':
                        wire.run('COMMIT')
                    wire.close()
                    other.close()


if __name__ == '__main__':
    fixture.main(__name__)
