"""What SHOW, current_setting() and pg_settings say of paths and settings that were set through pgporter: what PostgreSQL says."""
import fixture
import naming_case
from conversation import q, run, x


def setUpModule():
    naming_case.start(globals())


def tearDownModule():
    naming_case.end()


class Shown(naming_case.Base):
    """What SHOW and current_setting() say after settings that were answered without a server."""

    def test_paths_read_as_postgresql_prints_them(self):
        for change in ("SELECT set_config('search_path', '', false)", "SET search_path TO ''", "SET search_path = \"\"", "SELECT set_config('search_path', ' ', false)",
                       "SET search_path TO acme", "SET search_path TO acme,public", "SELECT set_config('search_path', 'acme,public', false)",
                       "SELECT set_config('search_path', '  acme ,\tpublic ', false)", "SET search_path TO 'acme', \"public\"", 'SET search_path TO "$user", acme',
                       "SET search_path TO $$acme$$", "SET SCHEMA 'acme'", "SELECT set_config('search_path', '\"acme\", public', false)",
                       "SET search_path TO DEFAULT", "RESET search_path", "SELECT set_config('search_path', NULL, false)", "SET search_path TO ACME, Public",
                       "SELECT set_config('search_path', 'ACME', false)"):
            for look in ('SHOW search_path', "SELECT current_setting('search_path')", "SELECT setting FROM pg_settings WHERE name = 'search_path'",
                         'SELECT current_schemas(false)'):
                self.both('%s; %s' % (change, look), [q(change), q(look)], modes=('whole', 'coalesced'))
                self.both('%s; %s, in a transaction' % (change, look), [q('BEGIN'), q(change), q(look), q('ROLLBACK'), q(look)], modes=('whole',))
                self.both('%s; %s, prepared' % (change, look), [x(run(change)), x(run(look))], modes=('whole',))

    def test_settings_read_as_they_were_set(self):
        for change in ("SET app.tenant = 'acme'", "SET app.tenant TO acme", "SET app.tenant TO ''", "SELECT set_config('app.tenant', '', false)",
                       "SET LOCAL app.tenant = 'acme'", "SELECT set_config('app.tenant', 'acme', true)", "SET app.TENANT = 'acme'",
                       "RESET app.tenant", "SET app.tenant TO DEFAULT", "SET app.tenant = 'acme'; RESET app.tenant"):
            for look in ("SELECT current_setting('app.tenant', true)", 'SHOW app.tenant', "SELECT current_setting('APP.Tenant')"):
                self.both('%s; %s' % (change, look), [q(change), q(look)], modes=('whole',))
                self.both('%s; %s, in a transaction' % (change, look), [q('BEGIN'), q(change), q(look), q('COMMIT'), q(look)], modes=('whole',))
                self.both('%s; %s, prepared' % (change, look), [x(run(change), run(look))], modes=('whole',))


if __name__ == '__main__':
    fixture.main(__name__)
