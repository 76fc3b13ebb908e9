"""SQL in other dialects than UTF-8 with standard_conforming_strings on: each text is read as PostgreSQL reads it, or refused. A text that
hides a SET from one reading and shows it to the other must never leave a session with another tenant than PostgreSQL's."""
import unittest

import fixture
import naming_case
import naming_world
import wire_client as w
from conversation import q, run, t, x
from wire_client import ServerError

OFF = q('SET standard_conforming_strings = off')
WHO = q('SELECT tenant FROM whoami')
SET_GLOBEX = 'SET search_path TO globex, public'
# A character whose last byte is a backslash, in each encoding that has some.
BACKSLASH_TAIL = {'SJIS': b'\x83\x5c', 'SHIFT_JIS_2004': b'\x83\x5c', 'BIG5': b'\xa5\x5c', 'GBK': b'\x81\x5c', 'GB18030': b'\x81\x5c'}


def setUpModule():
    naming_case.start(globals())


def tearDownModule():
    naming_case.end()


def raw(sql):
    return t(w.message('Q', sql + b'\0'))


def encoding(name):
    return q("SET client_encoding = '%s'" % name)


class Dialects(naming_case.Base):
    def acme(self):
        return q('SET search_path TO acme, public')

    def test_a_backslash_hides_or_shows_a_SET(self):
        shown = "SELECT '\\''; %s; --'" % SET_GLOBEX           # off: one string, and then the rest
        hidden = "SELECT '\\'; %s; --'" % SET_GLOBEX           # off: it is all one string
        for name, text, off, on in (('shown', shown, 'globex', 'acme'), ('hidden', hidden, 'acme', 'globex')):
            self.both(name + ', off', [self.acme(), OFF, q(text), WHO], reads=[off])
            self.both(name + ', on', [self.acme(), q(text), WHO], reads=[on])
            self.both(name + ', local', [self.acme(), q('BEGIN'), q('SET LOCAL standard_conforming_strings = off'), q(text), WHO, q('COMMIT'), q(text), WHO],
                      reads=[off, 'globex'])
            self.both(name + ', by set_config', [self.acme(), q("SELECT set_config('standard_conforming_strings', 'off', false)"), q(text), WHO], reads=[off])
            self.both(name + ', by a function', [self.acme(), q("SELECT hidden_set('standard_conforming_strings', 'off')"), q(text), WHO], reads=[off],
                      modes=('whole', 'dribble'))
            self.both(name + ', back', [self.acme(), OFF, q('RESET standard_conforming_strings'), q(text), WHO], reads=[on])
            self.both(name + ', rolled back', [self.acme(), q('BEGIN'), OFF, q('ROLLBACK'), q(text), WHO], reads=[on])

    def test_bits_know_no_escapes_and_strings_go_on_behind_a_newline(self):
        for name, text, setting in (
                ('bits', "SELECT 1 WHERE X'1' = B'1' AND 'a\\'' = 'b'; %s; --'" % SET_GLOBEX, OFF),
                ('E goes on, shown', "SELECT E'a'\n'\\''; %s; --'" % SET_GLOBEX, q('SELECT 1')),
                ('E goes on, hidden', "SELECT E'a'\n'\\'; %s; --'" % SET_GLOBEX, q('SELECT 1')),
                ('E goes on behind a comment', "SELECT E'a' -- b'\n  '\\''; %s; --'" % SET_GLOBEX, q('SELECT 1')),
                ('nothing goes on without a newline', "SELECT E'a' '\\''; %s; --'" % SET_GLOBEX, q('SELECT 1')),
                ('nothing goes on behind a block comment', "SELECT E'a' /*\n*/ '\\'; %s; --'" % SET_GLOBEX, q('SELECT 1'))):
            self.both(name, [self.acme(), setting, q(text), WHO])

    def test_characters_that_end_in_a_backslash(self):
        for name, character in BACKSLASH_TAIL.items():
            for quote in (b"E'", b"'"):
                shown = b'SELECT ' + quote + character + b"'; SET search_path TO globex, public; --'"
                hidden = b'SELECT ' + quote + character + b"\\'; SET search_path TO globex, public; --'"
                for text in (shown, hidden):
                    for strings in ([], [OFF]):
                        self.both('%s %r %d' % (name, text, len(strings)), [self.acme(), encoding(name)] + strings + [raw(text), WHO], modes=('whole', 'dribble'))

    def test_two_characters_of_SHIFT_JIS_2004_become_ASCII(self):
        """0x815f is a backslash for PostgreSQL, once it has made UTF-8 of it."""
        texts = ((b"SELECT E'\x81\x5f\\'; SET search_path TO globex, public; --'", 'globex', 'globex'),
                 (b"SELECT E'\x81\x5f''; SET search_path TO globex, public; --'", 'acme', 'globex'),  # \' is refused in such an encoding by default
                 (b"SELECT E'\x81\x5f'; SET search_path TO globex, public; --'", 'acme', 'acme'))
        for text, by_default, allowed in texts:
            for setting, reads in (('safe_encoding', by_default), ('on', allowed)):
                self.both('%r %s' % (text, setting), [self.acme(), q('SET backslash_quote = ' + setting), encoding('SHIFT_JIS_2004'), raw(text), WHO],
                          reads=[reads], modes=('whole', 'dribble'))

    def test_the_same_in_the_extended_protocol(self):
        text = b"SELECT E'\x83\x5c'"
        self.both('SJIS, prepared', [self.acme(), encoding('SJIS'), t(w.message('P', b's1\0' + text + b'\0\0\0') + w.bind('', 's1') + w.execute() + w.sync()), WHO],
                  reads=['acme'], modes=('whole', 'dribble'))
        self.both('off, prepared', [self.acme(), OFF, x(run("SELECT '\\'''", (), 's1')), q('SET standard_conforming_strings = on'), WHO], reads=['acme'],
                  modes=('whole', 'dribble'))

    def test_who_is_named_beyond_ASCII_in_another_encoding_is_refused(self):
        """Whatever the bytes look like in UTF-8."""
        for sql in (b"SET app.tenant = 'gl\xc3\xb6bex'", b"SELECT set_config('app.tenant', 'gl\xc3\xb6bex', false)", b"SET search_path TO 'gl\xc3\xb6bex'",
                    b'SET search_path TO "gl\xc3\xb6bex"', b"SELECT set_config(E'search\\x5fpath', 'globex', false)",
                    b"SELECT set_config(U&'search!005fpath' UESCAPE '!', 'globex', false)", b"SELECT set_config('search_'\n'path', 'globex', false)",
                    b"SET search_path TO U&'glob\\0065x'", b"SET app.tenant = E'glo\\142ex'"):
            with self.subTest(sql=sql):
                wire = self.wire()
                wire.run('SET search_path TO acme, public')
                wire.run("SET client_encoding = 'LATIN1'")
                wire.send(w.message('Q', sql + b'\0'))
                with self.assertRaises(ServerError) as caught:
                    wire._rows(wire.recv_until('Z'))
                self.assertEqual(caught.exception.sqlstate, '0A000')
        wire = self.wire()
        wire.run("SET client_encoding = 'LATIN1'")
        wire.send(w.parse('', 'SELECT set_config($1, $2, false)') + w.bind('', '', (b'app.tenant', b'gl\xc3\xb6bex')) + w.execute() + w.sync())
        with self.assertRaises(ServerError) as caught:
            wire._rows(wire.recv_until('Z'))
        self.assertEqual(caught.exception.sqlstate, '0A000')
        self.assertEqual(wire.run("SELECT coalesce(current_setting('app.tenant', true), '')"), [('',)])

    def test_one_statement_for_one_spelling(self):
        """Equal bytes under another encoding are another text: sessions that share a server connection don't share the statement."""
        latin, utf8 = self.wire('acme'), self.wire('acme')
        latin.run("SET client_encoding = 'LATIN1'")
        text = b"SELECT length('\xc3\xa9')"
        for wire, expected in ((latin, b'2'), (utf8, b'1'), (latin, b'2')):
            wire.send(w.message('P', b's\0' + text + b'\0\0\0') + w.bind('', 's') + w.execute() + w.close('S', 's') + w.sync())
            rows = [w.row_values(body)[0] for kind, body in wire.recv_until('Z') if kind == 'D']
            self.assertEqual(rows, [expected])
        # One that a server connection doesn't have any more isn't made anew in another spelling.
        latin.send(w.message('P', b'kept\0' + text + b'\0\0\0') + w.sync())
        latin.recv_until('Z')
        latin.run("SET client_encoding = 'UTF8'")
        self.forget_server_connections()
        latin.send(w.bind('', 'kept') + w.execute() + w.sync())
        with self.assertRaises(ServerError) as caught:
            latin._rows(latin.recv_until('Z'))
        self.assertEqual(caught.exception.sqlstate, '26000')
        self.assertIn('another client_encoding', caught.exception.fields['M'])

    def forget_server_connections(self):
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app' AND backend_type = 'client backend'")
        fixture.wait_for(lambda: not naming_world.backends(server), 'no server connections')

    def test_settings_are_carried_in_every_encoding(self):
        """Values beyond ASCII are UTF-8 on their way from server connection to server connection."""
        first, second = self.wire('acme'), self.wire('globex')
        first.run("SET client_encoding = 'LATIN1'")
        first.send(w.message('Q', b"SET application_name = 'gl\xf6bex'\0"))
        first.recv_until('Z')
        first.send(w.message('Q', b"SET app.colour = 'gr\xfcn\\'\0"))
        first.recv_until('Z')
        second.run('SELECT 1')
        first.send(w.query("SELECT current_setting('app.colour'), current_setting('client_encoding'), tenant FROM whoami"))
        rows = [w.row_values(body) for kind, body in first.recv_until('Z') if kind == 'D']
        self.assertEqual(rows, [[b'gr\xfcn\\', b'LATIN1', b'acme']])
        self.assertEqual(second.run("SELECT coalesce(current_setting('app.colour', true), ''), current_setting('client_encoding')"), [('', 'UTF8')])

    def test_what_is_sent_too_closely_behind_a_change_is_refused(self):
        wire = self.wire('acme')
        wire.send(run('SET standard_conforming_strings = off') + run("SELECT '\\''; SET search_path TO globex; --'") + w.sync())
        with self.assertRaises(ServerError) as caught:
            wire._rows(wire.recv_until('Z'))
        self.assertEqual(caught.exception.sqlstate, '0A000')
        self.assertEqual(self.who(wire), 'acme')
        # A function hides the change: what was sent behind it ends with the session.
        wire = self.wire('acme')
        wire.send(run("SELECT hidden_set('standard_conforming_strings', 'off')") + run("SELECT '\\' || tenant FROM whoami -- '") + w.sync())
        messages = wire.recv_until('Z')
        self.assertEqual(messages[-1][0], None)
        self.assertEqual(w.error_fields([body for kind, body in messages if kind == 'E'][-1])['C'], '08P01')

    def test_a_refusal_in_another_encoding_is_no_way_around_the_guard(self):
        """The bytes 0x83 0x5c 0x27 in a name that an error speaks of: half a character, a backslash, a quote."""
        wire = self.wire()
        wire.run("SET client_encoding = 'SJIS'")
        for sql in (b'SET search_path TO "\x83\x5c\'; SET search_path TO globex; --"', b"SET search_path TO nobody, '\x83\x5c'"):
            wire.send(w.message('Q', sql + b'\0'))
            kinds = wire.recv_until('Z')
            self.assertIn('E', [kind for kind, _ in kinds])
        self.assertEqual(self.who_is_nobody(wire), '0A000')  # nobody reads on behind a refused naming, and nobody has become globex
        wire.run('RESET search_path')
        self.assertNotIn('globex', wire.run('SHOW search_path')[0][0])


class Encodings(unittest.TestCase):
    def test_no_encoding_is_unknown(self):
        """Every encoding of the server's: safe, or one that router/sql_dialect knows. A new one fails here."""
        names = {row[0] for row in server.sql("SELECT pg_encoding_to_char(i) FROM generate_series(0, 100) i WHERE pg_encoding_to_char(i) <> ''")}
        unsafe = {'SJIS', 'BIG5', 'GBK', 'UHC', 'GB18030', 'JOHAB', 'SHIFT_JIS_2004'}
        safe = {'SQL_ASCII', 'EUC_JP', 'EUC_CN', 'EUC_KR', 'EUC_TW', 'EUC_JIS_2004', 'UTF8', 'MULE_INTERNAL', 'KOI8R', 'KOI8U', 'WIN866', 'WIN874'}
        safe |= {'LATIN%d' % i for i in range(1, 11)} | {'ISO_8859_%d' % i for i in range(5, 9)} | {'WIN%d' % i for i in range(1250, 1259)}
        self.assertEqual(names - unsafe - safe, set())

    def test_no_other_character_becomes_ASCII(self):
        """Of every character of two bytes: what PostgreSQL makes of it has ASCII only where the bytes themselves have it."""
        server.sql("""CREATE FUNCTION made_of(b bytea, encoding name) RETURNS bytea LANGUAGE plpgsql AS
                      $$ BEGIN RETURN convert(b, encoding, 'UTF8'); EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$""")
        for name in ('EUC_JIS_2004', 'EUC_JP', 'EUC_CN', 'EUC_KR', 'EUC_TW', 'SJIS', 'BIG5', 'GBK', 'UHC', 'GB18030', 'SHIFT_JIS_2004'):
            rows = server.sql("""SELECT b, made FROM (SELECT b, made_of(b, %s) AS made FROM (SELECT decode(lpad(to_hex(i * 256 + j), 4, '0'), 'hex') AS b
                                 FROM generate_series(128, 255) i, generate_series(1, 255) j) AS pairs OFFSET 0) AS converted
                                 WHERE made IS NOT NULL AND get_byte(made, length(made) - 1) < 128""", values=(name,))
            odd = {bytes(b).hex() for b, made in rows if not (name in ('SJIS', 'SHIFT_JIS_2004') and 0xa1 <= bytes(b)[0] <= 0xdf and bytes(made)[-1] == bytes(b)[1])}
            self.assertEqual(odd, {'815f', '81b0'} if name == 'SHIFT_JIS_2004' else set(), name)


if __name__ == '__main__':
    fixture.main(__name__)
