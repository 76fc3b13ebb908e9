"""Generated conversations of the extended protocol about the session and its transaction: what pgporter answers itself, bound, described,
executed and closed in any order, with errors and Queries at any place. Seeded as conversations_generated.py is.
"""
import random

import wire_client as w
from conversation import Conversation as C
from conversation import pipeline, run
from conversations_generated import SEED, SIZE, STRAY_PORTALS

NAMES = ('', '', '', 'a', 'b', 'c')
PORTALS = ('', '', '', 'p', 'o')
TRANSACTION = ('BEGIN', 'BEGIN', 'BEGIN ISOLATION LEVEL SERIALIZABLE', 'START TRANSACTION READ ONLY', 'COMMIT', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s',
               'SAVEPOINT r', 'ROLLBACK TO s', 'RELEASE s', 'RELEASE r', 'COMMIT AND CHAIN', 'ROLLBACK AND CHAIN',
               'SET TRANSACTION ISOLATION LEVEL REPEATABLE READ', 'SHOW transaction_isolation')
READING = ('SELECT tenant FROM whoami', 'SELECT 1', 'SHOW search_path', 'SELECT 1/0', 'SELEKT', '', 'SELECT n FROM items ORDER BY id',
           "INSERT INTO unique_n (n) VALUES (1)", 'SELECT * FROM not_there', 'SET LOCAL DateStyle = SQL', "SET DateStyle = 'German'", 'RESET DateStyle')
# By a name of the protocol's. EXECUTE and what stands with others in one Query is an exception that docs/applications.md names.
DEALLOCATING = ('DEALLOCATE a', 'DEALLOCATE b', 'DEALLOCATE PREPARE c', 'DEALLOCATE ALL')


def _naming(chance):
    """Text and values of a statement that names a tenant."""
    name = chance.choice(('acme', 'globex'))
    return chance.choice((('SET search_path TO %s, public' % name, ()), ('SET LOCAL search_path TO %s, public' % name, ()),
                          ("SELECT set_config('search_path', $1, true)", [name + ', public']), ('RESET search_path', ()),
                          ("SELECT set_config('search_path', $1, false)", [name + ', public'])))


def _statement(chance, names_tenants, alone=True):
    pick = chance.random()
    if pick < 0.45:
        return chance.choice([text for text in TRANSACTION if alone or not names_tenants or not text.startswith(('COMMIT', 'ROLLBACK'))]), ()
    if pick < 0.60 and names_tenants:
        sql, values = _naming(chance)
        return ('SELECT 2', ()) if not alone and sql.startswith('RESET') else (sql, values)
    if pick < 0.66 and alone:
        return chance.choice(DEALLOCATING), ()
    return chance.choice([text for text in READING if alone or not text.startswith('RESET')]), ()


def _texts(chance, names_tenants):
    """One Query's text."""
    count = 1 if chance.random() < 0.7 else chance.randrange(2, 5)
    texts = [_statement(chance, names_tenants, count == 1) for _ in range(count)]
    return '; '.join(text for text, values in texts if not values)


def _message(chance, names_tenants):
    sql, values = _statement(chance, names_tenants)
    name, portal = chance.choice(NAMES), chance.choice(PORTALS)
    if sql.startswith('DEALLOCATE') and not STRAY_PORTALS:
        return run(sql)  # parsed and run later, it is such an exception too
    return chance.choice((
        lambda: run(sql, values), lambda: run(sql, values), lambda: run(sql, values), lambda: w.parse(name, sql),
        lambda: w.parse(name, sql) + w.bind(portal, name, values), lambda: w.bind(portal, name, values), lambda: w.describe('S', name),
        lambda: w.describe('P', portal) if STRAY_PORTALS else w.close('P', portal),
        lambda: w.execute(portal, chance.randrange(3)) if STRAY_PORTALS else run(sql, values),
        lambda: w.close('S', name), lambda: w.close('P', portal),
        lambda: w.parse(name, sql) + w.describe('S', name) + w.bind(portal, name, values) + w.execute(portal), w.flush,
        lambda: w.query(_texts(chance, names_tenants)), lambda: w.query(_texts(chance, names_tenants))))()


def _turn(chance, names_tenants):
    messages = []
    for _ in range(chance.randrange(1, 9)):
        messages.append(_message(chance, names_tenants))
        if chance.random() < 0.3:
            messages.append(w.sync())
    return pipeline(*messages)


def conversations():
    for kind, names_tenants in (('local', False), ('naming', True)):
        for number in range(SIZE):
            seed = SEED * 300007 + number
            chance = random.Random('%s %d' % (kind, seed))
            turns = [_turn(chance, names_tenants) for _ in range(chance.randrange(1, 7))]
            ends = [pipeline(w.query('ROLLBACK'), w.query('DEALLOCATE ALL'), w.query('DELETE FROM unique_n'), w.query('SELECT tenant FROM whoami'))]
            yield C('%s pipeline %d' % (kind, seed), turns + ends)
