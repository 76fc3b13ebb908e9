"""RESET, DEFAULT and RESET ALL in a transaction that has begun at a server: back to what the session began with, then and after COMMIT."""
import unittest

import naming_case
import wire_client

PLACES = {None: None, 'globex': 'globex'}
RESETS = ('RESET search_path', 'SET search_path TO DEFAULT', 'SET SESSION search_path = DEFAULT', 'RESET ALL', 'SET LOCAL search_path TO DEFAULT')


def setUpModule():
    naming_case.start(globals())


def tearDownModule():
    naming_case.end()


WHO = 'SELECT current_schema()'  # the tenant; it works where there is none
HOME = 'public'


class Defaults(naming_case.Base):
    def run_all(self, login, extended, *statements):
        """What each SELECT saw: the tenant, or its SQLSTATE; the session stays."""
        wire, seen = self.wire(login), []
        for sql in statements:
            try:
                rows = wire.run_prepared(sql) if extended else wire.run(sql)
            except wire_client.ServerError as error:
                rows = [(error.sqlstate,)]
            if sql == WHO:
                seen.append(rows[0][0] if rows else None)
        wire.close()
        return seen

    def each(self, before, after_statements, expected):
        for login, who in PLACES.items():
            for extended in (False, True):
                for reset in RESETS:
                    with self.subTest(login=login, extended=extended, reset=reset, before=before):
                        seen = self.run_all(login, extended, *before, 'BEGIN', WHO, *after_statements, reset, WHO, 'COMMIT', WHO)
                        first, within, after = expected(who or HOME, reset.startswith('SET LOCAL'))
                        self.assertEqual(seen, [first, within, after])

    def test_after_a_turn_in_the_transaction(self):
        self.each((), ('SET search_path TO initech, public',), lambda began, local: (began, began, 'initech' if local else began))

    def test_after_a_turn_before_it(self):
        self.each(('SET search_path TO initech, public',), (), lambda began, local: ('initech', began, 'initech' if local else began))

    def test_after_both(self):
        self.each(('SET search_path TO acme, public',), ('SET search_path TO initech, public',),
                  lambda began, local: ('acme', began, 'initech' if local else began))

    def test_rolled_back(self):
        for extended in (False, True):
            for reset in RESETS:
                with self.subTest(extended=extended, reset=reset):
                    self.assertEqual(self.run_all('globex', extended, 'SET search_path TO initech, public', 'BEGIN', WHO, reset, WHO, 'ROLLBACK', WHO),
                                     ['initech', 'globex', 'initech'])
                    self.assertEqual(self.run_all('globex', extended, 'SET search_path TO initech, public', 'BEGIN', WHO, 'SAVEPOINT a', reset, WHO,
                                                  'ROLLBACK TO a', WHO, 'COMMIT', WHO), ['initech', 'globex', 'initech', 'initech'])

    def test_by_a_setting(self):
        for extended in (False, True):
            for reset in ('RESET app.tenant', 'SET app.tenant TO DEFAULT', 'RESET ALL'):
                with self.subTest(extended=extended, reset=reset):
                    self.assertEqual(self.run_all('globex', extended, "SET app.tenant = 'initech'", 'BEGIN', WHO, reset, WHO, 'COMMIT', WHO),
                                     ['initech', 'globex', 'globex'])
                    self.assertEqual(self.run_all(None, extended, 'BEGIN', 'SAVEPOINT a', "SET app.tenant = 'initech'", WHO, 'ROLLBACK TO a', WHO,
                                                  "SET app.tenant = 'acme'", WHO, 'COMMIT', WHO), ['initech', HOME, 'acme', 'acme'])

    def test_next_one_on_the_server_connection(self):
        """The server connection is another session's afterwards: it has nothing of this."""
        other = self.wire('acme')
        for extended in (False, True):
            for reset in RESETS:
                self.run_all('globex', extended, 'SET search_path TO initech, public', 'BEGIN', WHO, reset, WHO, 'COMMIT')
                self.assertEqual(self.who(other), 'acme')
                self.run_all(None, extended, 'BEGIN', 'SET search_path TO initech, public', WHO, reset, WHO, 'COMMIT')
                self.assertEqual(self.who(other), 'acme')
        other.close()


if __name__ == '__main__':
    naming_case.fixture.main(__name__)
