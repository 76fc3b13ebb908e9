"""Passwords beyond ASCII, as PostgreSQL itself prepares them (SASLprep): to clients, where PostgreSQL made the verifier, and to servers, where
pgporter has the password from its configuration."""
import unittest

import psycopg2

import fixture

# What PostgreSQL makes another text of, and what stays; each from a class of its own in base/saslprep.
CONFIGURED = ('p\u00e4ssw\u00f6rd \u20ac', 'a\u00a0b\u3000c\u2003\u200bd', 'I\u00adX\u200d\ufeff', '\uff30\uff41\uff53\uff53\uff01 \u00bd\u00b2\u00b5\u00aa\u00a8\u2122',
              '\u00bdcontrol\t\u00e4', '\u00ad', '\u65e5\u672c\u8a9e \ud55c\uae00 \u3042\u30ab\u30fc', '\u0416\u0451\u040e \u03a9\u03ac \u0141\u0113')


def setUpModule():
    global workspace, server, proxy
    workspace = fixture.Workspace()
    server = fixture.Postgres(workspace)
    server.make_roles()
    server.make_world()
    proxy = fixture.Pgporter(workspace, server).start()
    proxy.apply(fixture.document({'main': server}, {'acme': {}}))


def tearDownModule():
    workspace.close()


class Passwords(unittest.TestCase):
    def set_server_password(self, password):
        server.sql('ALTER ROLE app PASSWORD %s', values=(password,))
        proxy.stop()
        login = next(entry for entry in proxy.config['server_logins'] if entry['user'] == 'app')
        login['password_file'] = proxy.write('app.password', password + '\n', 0o600)
        proxy.start()

    def test_configured_for_a_server(self):
        self.addCleanup(self.set_server_password, fixture.PASSWORDS['app'])
        for password in CONFIGURED:
            with self.subTest(password=password):
                self.set_server_password(password)
                psycopg2.connect(host='127.0.0.1', port=server.port, user='app', password=password, dbname='app').close()
                with proxy.psycopg2('acme') as connection:  # its own password, which is the catalog's, learns nothing for the server
                    cursor = connection.cursor()
                    cursor.execute('SELECT tenant FROM whoami')
                    self.assertEqual(cursor.fetchone(), ('acme',))
                connection.close()

    def test_what_is_not_known_is_said(self):
        self.addCleanup(self.set_server_password, fixture.PASSWORDS['app'])
        self.set_server_password('a\u0301 \U0001f600')
        with self.assertRaises(psycopg2.OperationalError) as caught:
            proxy.psycopg2('acme', connect_timeout=20)
        self.assertIn('normal form', str(caught.exception) + proxy.log())
        self.assertNotIn('\U0001f600', proxy.log())

    def test_a_verifier_that_postgresql_made(self):
        """The client's libpq prepares it, PostgreSQL did; the server login uses what the client's login has shown."""
        for number, password in enumerate(('\uff50\u00e4ss\u00a0w\u00ad\u00b2', 'a\u0301 \U0001f600 \u05d0', '\u2168')):
            name = 'person%d' % number
            server.sql('CREATE ROLE %s LOGIN PASSWORD %%s' % name, values=(password,))
            server.sql('GRANT USAGE ON SCHEMA acme TO %s; GRANT SELECT ON acme.whoami TO %s' % (name, name), 'app')
            verifier = server.sql('SELECT rolpassword FROM pg_authid WHERE rolname = %s', values=(name,))[0][0]
            proxy.apply(fixture.document({'main': server}, {'acme': {}}, users=[{'name': name, 'scram_verifier': verifier, 'tenants': '*'}]))
            with proxy.psycopg2('acme', user=name, password=password) as connection:
                cursor = connection.cursor()
                cursor.execute('SELECT current_user::text, tenant FROM whoami')
                self.assertEqual(cursor.fetchone(), (name, 'acme'))
            connection.close()
            with self.assertRaises(psycopg2.OperationalError):
                proxy.psycopg2('acme', user=name, password=password + 'x')


if __name__ == '__main__':
    fixture.main(__name__)
