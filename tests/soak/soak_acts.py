"""What clients of the soak do: each act takes the client, its connection and its tenant, leaves the session unpinned and outside of a transaction (or
raises), and checks that all it has read is its own tenant's.
"""
import struct
import time

from soak_world import TENANTS, wire_client as w

ServerError, WireError = w.ServerError, w.WireError

WHOAMI = 'SELECT tenant FROM whoami'


def mine(client, wire, tenant):
    rows = wire.run(WHOAMI)
    client.expect(rows == [(tenant,)], 'read %s' % rows)


def refused(client, run, *sqlstates):
    try:
        run()
        client.expect(False, 'was accepted, and not refused as %s' % (sqlstates,))
    except ServerError as error:
        if error.sqlstate not in sqlstates:
            raise


def texts(messages):
    """The first column of every row."""
    return [w.row_values(body)[0].decode() for kind, body in messages if kind == 'D']


def error_in(messages):
    for kind, body in messages:
        if kind == 'E':
            raise ServerError(w.error_fields(body))
        if kind is None:
            raise WireError('connection closed')
    return messages


def read(client, wire, tenant):
    rows = wire.run('SELECT tenant, payload FROM items WHERE n BETWEEN 1 AND 10')
    client.expect(rows and {row[0] for row in rows} == {tenant}, 'read %s' % rows[:3])


def write(client, wire, tenant):
    name = 'by %s %d' % (client.name, client.dice.randrange(1000000))
    rows = wire.run("INSERT INTO items (payload, n) VALUES ('%s', 100) RETURNING tenant" % name)
    client.expect(rows == [(tenant,)], 'wrote as %s' % rows)
    rows = wire.run("UPDATE items SET n = n + 1 WHERE payload = '%s' RETURNING tenant, n" % name)
    client.expect(rows == [(tenant, '101')], 'changed %s' % rows)


def transaction(client, wire, tenant):
    name = 'by %s %d' % (client.name, client.dice.randrange(1000000))
    wire.run(client.dice.choice(['BEGIN', 'START TRANSACTION', 'BEGIN ISOLATION LEVEL REPEATABLE READ']))
    wire.run("INSERT INTO items (payload, n) VALUES ('%s', 200)" % name)
    if client.dice.random() < 0.5:
        wire.run('SAVEPOINT a')
        refused(client, lambda: wire.run('SELECT 1/0'), '22012')
        wire.run('ROLLBACK TO a')
    mine(client, wire, tenant)
    end = client.dice.choice(['COMMIT', 'ROLLBACK'])
    wire.run(end)
    rows = wire.run("SELECT tenant FROM items WHERE payload = '%s'" % name)
    client.expect(rows == ([(tenant,)] if end == 'COMMIT' else []), 'after %s: %s' % (end, rows))


def several_in_one(client, wire, tenant):
    rows = wire.run("BEGIN; SELECT tenant FROM whoami; SELECT count(*)::text FROM items; COMMIT; SELECT tenant FROM whoami")
    client.expect(rows[0] == (tenant,) and rows[-1] == (tenant,), 'read %s' % rows)


def errors(client, wire, tenant):
    refused(client, lambda: wire.run(client.dice.choice(['SELEC 1', 'SELECT * FROM nowhere', 'SELECT 1/0'])), '42601', '42P01', '22012')
    wire.run('BEGIN')
    refused(client, lambda: wire.run('SELECT 1/0'), '22012')
    refused(client, lambda: wire.run('SELECT 1'), '25P02')
    wire.run('ROLLBACK')
    mine(client, wire, tenant)


def extended(client, wire, tenant):
    n = client.dice.randrange(1, 11)
    for _ in range(client.dice.choice([1, 4])):
        rows = wire.run_prepared('SELECT tenant, n FROM items WHERE n = $1', [n])
        client.expect(rows == [(tenant, str(n))], 'read %s' % rows)


def prepared(client, wire, tenant):
    name = 's%d' % client.dice.randrange(5)
    wire.send(w.close('S', name) + w.parse(name, 'SELECT tenant FROM items WHERE n = $1::int') + w.describe('S', name) + w.sync())
    error_in(wire.recv_until('Z'))
    for n in range(client.dice.choice([1, 5])):
        wire.send(w.bind('', name, [n + 1]) + w.describe('P') + w.execute() + w.sync())
        client.expect(texts(error_in(wire.recv_until('Z'))) == [tenant], 'another row')
    if client.dice.random() < 0.5:
        wire.run('DEALLOCATE ' + client.dice.choice([name, 'ALL']))


def portals(client, wire, tenant):
    wire.run('BEGIN')
    wire.send(w.parse('', 'SELECT tenant FROM items WHERE n BETWEEN 1 AND 10') + w.bind('p', '') + w.execute('p', 3) + w.flush())
    got = error_in(wire.recv_until('sE'))
    wire.send(w.execute('p', 4) + w.execute('p', 0) + w.close('P', 'p') + w.sync())
    got += error_in(wire.recv_until('Z'))
    client.expect(texts(got) == [tenant] * 10, 'read %s' % texts(got))
    wire.run('COMMIT')


def pipeline(client, wire, tenant):
    """Many batches at once, a wrong one among them perhaps."""
    number = client.dice.choice([2, 10, 60])
    wrong = client.dice.randrange(number) if client.dice.random() < 0.5 else None
    data = b''
    for i in range(number):
        sql = 'SELECT 1/0' if i == wrong else WHOAMI
        data += w.parse('', sql) + w.bind() + w.describe('P') + w.execute() + w.sync()
    wire.send(data, client.dice.choice([None, None, 100]))
    messages = wire.recv_until('Z', number)
    failed = [w.error_fields(body) for kind, body in messages if kind == 'E']
    if len(failed) != (wrong is not None) or any(kind is None for kind, _ in messages):
        if failed and failed[0]['C'] != '22012':
            raise ServerError(failed[0])
        raise WireError('pipeline: %s' % failed)
    client.expect(texts(messages) == [tenant] * (number - len(failed)), 'read %s' % set(texts(messages)))


def copy_in(client, wire, tenant):
    if TENANTS[tenant][2] == 'rows':
        return  # PostgreSQL has no COPY FROM with row-level security
    wire.send(w.query('COPY items (payload, n) FROM STDIN'))
    error_in(wire.recv_until('GE'))
    for i in range(client.dice.choice([1, 20, 400])):
        wire.send(w.copy_data('by %s\t300\n' % client.name * 5))
    fails = client.dice.random() < 0.3
    wire.send(w.copy_fail('no more') if fails else w.copy_done())
    messages = wire.recv_until('Z')
    codes = [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']
    if not fails or codes != ['57014']:  # what CopyFail is answered with
        error_in(messages)
        client.expect(not fails, 'COPY went well although it was given up')


def copy_out(client, wire, tenant):
    rows = client.dice.choice([1, 1000, 30000])
    wire.send(w.query('COPY (SELECT tenant FROM whoami, generate_series(1, %d)) TO STDOUT' % rows))
    messages = error_in(wire.recv_until('Z'))
    got = {body for kind, body in messages if kind == 'd'}
    client.expect(got == {tenant.encode() + b'\n'}, 'copied %s' % list(got)[:3])


def big_result(client, wire, tenant):
    rows, size = client.dice.choice([(10, 100000), (300, 10000), (2, 3000000)])
    wire.send(w.query("SELECT tenant || repeat('x', %d) FROM whoami, generate_series(1, %d)" % (size, rows)))
    if client.dice.random() < 0.3:
        time.sleep(0.2)  # nobody reads
    got = texts(error_in(wire.recv_until('Z')))
    client.expect(len(got) == rows and all(text.startswith(tenant) and len(text) == len(tenant) + size for text in got), 'a big result')


def big_statement(client, wire, tenant):
    size = client.dice.choice([70000, 1000000])
    rows = wire.run_prepared("SELECT tenant, length('%s') FROM whoami" % ('y' * size), name=client.dice.choice(['', 'big']))
    client.expect(rows == [(tenant, str(size))], 'a big statement')
    wire.send(w.close('S', 'big') + w.sync())
    error_in(wire.recv_until('Z'))


def other_in_sql(client, wire, tenant):
    """Another tenant is named in SQL, for the session or a transaction, and then the one before."""
    other = client.dice.choice([name for name in TENANTS if name != tenant and name != 'moody'])
    both_schemas = all(TENANTS[name][2] == 'schema' for name in (tenant, other))
    client.clusters.add(TENANTS[other][0])
    # One way for a session: two that name different tenants contradict each other.
    if wire.naming is None:
        wire.naming = client.dice.choice(['search_path', 'pgporter.tenant'])
    setting = wire.naming
    if setting == 'search_path' and not both_schemas:
        return
    way = client.dice.choice(['session', 'local', 'config', 'rollback'])
    if way == 'session':
        wire.run('SET %s TO %s' % (setting, other))
        mine(client, wire, other)
        read(client, wire, other)
        wire.run('SET %s TO %s' % (setting, tenant) if setting == 'search_path' or client.dice.random() < 0.5 else 'RESET ' + setting)
    elif way == 'local':
        wire.run('BEGIN; SET LOCAL %s TO %s' % (setting, other))
        mine(client, wire, other)
        wire.run(client.dice.choice(['COMMIT', 'ROLLBACK']))
    elif way == 'config':
        wire.run_prepared('SELECT set_config($1, $2, false)', [setting, other])
        mine(client, wire, other)
        wire.run("SELECT set_config('%s', '%s', false)" % (setting, tenant))
    else:
        wire.run('BEGIN')
        wire.run('SET %s TO %s' % (setting, other))
        mine(client, wire, other)
        wire.run('ROLLBACK')
    mine(client, wire, tenant)


def settings(client, wire, tenant):
    value = 'value of %s' % client.name
    wire.run("SET application_name TO '%s'" % value)
    wire.run("SELECT public.hidden_set('work_mem', '7MB')")
    client.expect(wire.run('SHOW application_name') == [(value,)], 'another application_name')
    wire.run(client.dice.choice(['RESET ALL', 'DISCARD ALL', 'RESET application_name', 'SELECT 1']))
    mine(client, wire, tenant)


def temporary_table(client, wire, tenant):
    wire.run("CREATE TEMP TABLE soaked AS SELECT tenant FROM whoami")
    for _ in range(client.dice.randrange(3)):
        client.expect(wire.run('SELECT tenant FROM soaked') == [(tenant,)], 'another temporary table')
    wire.run(client.dice.choice(['DROP TABLE soaked', 'DISCARD ALL', 'DISCARD TEMP']))
    mine(client, wire, tenant)


def listening(client, wire, tenant):
    channel = 'soak_%d' % client.dice.randrange(1000000)
    wire.run('LISTEN ' + channel)
    wire.send(w.query("NOTIFY %s, '%s'" % (channel, tenant)))
    messages = error_in(wire.recv_until('Z'))
    if not any(kind == 'A' for kind, _ in messages):
        messages = error_in(wire.recv_until('A'))
    heard = [body for kind, body in messages if kind == 'A']
    client.expect(len(heard) == 1 and heard[0].endswith(b'\0' + tenant.encode() + b'\0'), 'heard %s' % heard)
    wire.run(client.dice.choice(['UNLISTEN *', 'DISCARD ALL', 'UNLISTEN ' + channel]))


def advisory_lock(client, wire, tenant):
    key = client.dice.randrange(3)
    wire.run('SELECT pg_advisory_lock(%d)' % key)
    mine(client, wire, tenant)
    wire.run(client.dice.choice(['SELECT pg_advisory_unlock(%d)' % key, 'SELECT pg_advisory_unlock_all()', 'DISCARD ALL']))


def held_cursor(client, wire, tenant):
    wire.run('DECLARE soaked CURSOR WITH HOLD FOR SELECT tenant FROM items WHERE n BETWEEN 1 AND 10')
    client.expect(wire.run('FETCH 4 FROM soaked') == [(tenant,)] * 4, 'another cursor')
    wire.run(client.dice.choice(['CLOSE soaked', 'CLOSE ALL', 'DISCARD ALL']))
    mine(client, wire, tenant)


def cancel(client, wire, tenant):
    """Again and again, because the first may come too early."""
    wire.send(w.query('SELECT pg_sleep(60)'))
    deadline = time.monotonic() + 30
    time.sleep(client.dice.random() * 0.05)
    messages = []
    while not messages or messages[-1][0] not in ('Z', None):
        send_cancel(client, wire)
        try:
            while not messages or messages[-1][0] not in ('Z', None):
                messages.append(wire.recv(0.5))
        except WireError as error:
            if 'in time' not in str(error) or time.monotonic() > deadline:
                raise
    codes = [w.error_fields(body)['C'] for kind, body in messages if kind == 'E']
    if codes != ['57014']:
        error_in(messages)
        client.expect(False, 'a cancelled query gave %s' % messages)
    mine(client, wire, tenant)


def cancel_of_nothing(client, wire, tenant):
    """While idle, with a wrong secret, or in halves."""
    way = client.dice.choice(['idle', 'wrong', 'half'])
    if way == 'half':
        other = w.Wire(client.world.instance.port)
        other.send(w.cancel_request(wire.pid, wire.secret)[:client.dice.randrange(1, 16)])
        other.close()
    else:
        send_cancel(client, wire, None if way == 'idle' else bytes(len(wire.secret)))
    mine(client, wire, tenant)


def send_cancel(client, wire, secret=None):
    other = w.Wire(client.world.instance.port)
    try:
        if client.dice.random() < 0.3:
            other.request_tls(client.world.tls)
        other.send(w.cancel_request(wire.pid, wire.secret if secret is None else secret))
        other.expect_eof(20)  # behind it, it can't hit what comes next
    finally:
        other.close()


def function_call(client, wire, tenant):
    wire.send(w.function_call(1598))  # random()
    error_in(wire.recv_until('Z'))
    mine(client, wire, tenant)


def pause(client, wire, tenant):
    time.sleep(client.dice.random() * 0.2)
    mine(client, wire, tenant)


def unread_batch(client, wire, tenant):
    """Parse and Bind without Sync for a while; then all of it."""
    wire.send(w.parse('', WHOAMI) + w.bind())
    time.sleep(client.dice.random() * 0.05)
    wire.send(w.execute() + w.sync())
    client.expect(texts(error_in(wire.recv_until('Z'))) == [tenant], 'another row')


def changed_types(client, wire, tenant):
    """A 4-byte parameter in binary, and a statement that is bound with other formats."""
    wire.send(w.parse('', 'SELECT tenant, $1::int4 FROM whoami') + w.bind('', '', [struct.pack('!i', 7)], [1], [0, 1]) + w.execute() + w.sync())
    rows = [w.row_values(body) for kind, body in error_in(wire.recv_until('Z')) if kind == 'D']
    client.expect(rows == [[tenant.encode(), struct.pack('!i', 7)]], 'read %s' % rows)


ALL = (mine, read, write, transaction, several_in_one, errors, extended, prepared, portals, pipeline, copy_in, copy_out, big_result, big_statement,
       other_in_sql, settings, temporary_table, listening, advisory_lock, held_cursor, cancel, cancel_of_nothing, function_call, pause, unread_batch,
       changed_types)
