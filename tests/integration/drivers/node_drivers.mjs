// The Node clients `pg` and `postgres` through pgporter. Run by test_node_drivers.py, which says where everything is in DRIVER_TEST (JSON).
// Prints one line a test; exit code 1 when one failed.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const world = JSON.parse(process.env.DRIVER_TEST);
const require = createRequire(world.modules + '/');
const pg = require('pg');
const postgres = require('postgres');
const tests = [];
const test = (name, run) => tests.push([name, run]);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function pgConfig(tenant, way = world.ways[tenant][0]) {
  return { host: '127.0.0.1', port: world.port, user: way.user, database: way.database, password: world.password, options: way.options || undefined };
}

async function withPg(tenant, run, way) {
  const client = new pg.Client(pgConfig(tenant, way));
  await client.connect();
  try {
    return await run(client);
  } finally {
    await client.end();
  }
}

function sqlFor(tenant, more = {}, way = world.ways[tenant].find((w) => Object.keys(w.params).length)) {
  return postgres({ host: '127.0.0.1', port: world.port, user: way.user, database: way.database, password: world.password, max: 3,
    connection: { ...way.params, ...(way.options ? { options: way.options } : {}) }, onnotice: () => {}, ...more });
}

test('pg: ways to name the tenant', async () => {
  for (const tenant of world.tenants) {
    for (const way of world.ways[tenant].filter((w) => !Object.keys(w.params).length)) {
      await withPg(tenant, async (client) => {
        assert.deepEqual((await client.query('SELECT tenant FROM whoami')).rows, [{ tenant }], way.name);
      }, way);
    }
  }
});

test('pg: parameters, types, nulls', () => withPg('acme', async (client) => {
  const result = await client.query('SELECT $1::int AS a, $2::text AS b, $3::jsonb AS c, $4::text AS d', [7, 'ž', { x: [1] }, null]);
  assert.deepEqual(result.rows, [{ a: 7, b: 'ž', c: { x: [1] }, d: null }]);
}));

test('pg: named statements on a shared pool', async () => {
  await Promise.all(Array.from({ length: 8 }, (_, number) => {
    const tenant = world.tenants[number % 2];
    return withPg(tenant, async (client) => {
      for (let turn = 0; turn < 30; turn++) {
        const result = await client.query({ name: 'mine', text: `SELECT tenant, $1::int + ${number} AS n FROM whoami`, values: [turn] });
        assert.deepEqual(result.rows, [{ tenant, n: turn + number }]);
      }
    });
  }));
});

test('pg: transactions and errors', () => withPg('globex', async (client) => {
  await client.query('BEGIN');
  await client.query('INSERT INTO ledger (id) VALUES ($1)', ['node']);
  await assert.rejects(client.query('INSERT INTO ledger (id) VALUES ($1)', ['node']), { code: '23505', severity: 'ERROR' });
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' });
  await client.query('ROLLBACK');
  assert.equal((await client.query("SELECT count(*)::int AS n FROM ledger WHERE id = 'node'")).rows[0].n, 0);
  await assert.rejects(client.query('SELEKT'), { code: '42601' });
  assert.deepEqual((await client.query('SELECT 1 AS a; SELECT 2 AS b')).map((r) => r.rows[0]), [{ a: 1 }, { b: 2 }]);
}));

test('pg: pool of clients, two tenants', async () => {
  const pools = Object.fromEntries(world.tenants.map((tenant) => [tenant, new pg.Pool({ ...pgConfig(tenant), max: 6 })]));
  await Promise.all(Array.from({ length: 60 }, async (_, number) => {
    const tenant = world.tenants[number % 2];
    const result = await pools[tenant].query('SELECT tenant, $1::int AS n FROM whoami', [number]);
    assert.deepEqual(result.rows, [{ tenant, n: number }]);
  }));
  await Promise.all(Object.values(pools).map((pool) => pool.end()));
});

test('pg: search_path set in SQL', () => withPg('acme', async (client) => {
  await client.query('SET search_path TO "globex", "public"');
  assert.equal((await client.query('SELECT tenant FROM whoami')).rows[0].tenant, 'globex');
  await client.query("SELECT set_config('search_path', $1, false)", ['acme, public']);
  assert.equal((await client.query('SELECT tenant FROM whoami')).rows[0].tenant, 'acme');
}));

test('pg: LISTEN and NOTIFY', () => withPg('acme', async (client) => {
  const heard = new Promise((resolve) => client.once('notification', resolve));
  await client.query('LISTEN node_channel');
  await client.query("NOTIFY node_channel, 'hello'");
  assert.equal((await heard).payload, 'hello');
}));

test('pg: wrong password', async () => {
  const client = new pg.Client({ ...pgConfig('acme'), password: 'wrong' });
  await assert.rejects(client.connect(), { code: '28P01' });
});

test('postgres.js: ways to name the tenant', async () => {
  for (const tenant of world.tenants) {
    for (const way of world.ways[tenant]) {
      const sql = sqlFor(tenant, { max: 1 }, way);
      assert.deepEqual([...(await sql`SELECT tenant FROM whoami`)], [{ tenant }], way.name);
      await sql.end();
    }
  }
});

test('postgres.js: prepared and pipelined', async () => {
  const clients = world.tenants.map((tenant) => [tenant, sqlFor(tenant)]);
  for (const [tenant, sql] of clients) {
    const rows = await Promise.all(Array.from({ length: 100 }, (_, i) => sql`SELECT ${i}::int AS i, tenant FROM whoami`));
    assert.deepEqual(rows.map((r) => ({ ...r[0] })), Array.from({ length: 100 }, (_, i) => ({ i, tenant })));
  }
  for (let turn = 0; turn < 20; turn++) {
    for (const [tenant, sql] of clients) assert.equal((await sql`SELECT tenant FROM whoami WHERE ${turn}::int >= 0`)[0].tenant, tenant);
  }
  await Promise.all(clients.map(([, sql]) => sql.end()));
});

test('postgres.js: transactions, savepoints, errors', async () => {
  const sql = sqlFor('acme');
  await assert.rejects(sql.begin(async (tx) => {
    await tx`INSERT INTO ledger (id) VALUES ('pjs')`;
    await tx.savepoint(async (inner) => { await inner`INSERT INTO ledger (id) VALUES ('pjs')`; }).catch((error) => assert.equal(error.code, '23505'));
    assert.equal((await tx`SELECT count(*)::int AS n FROM ledger WHERE id = 'pjs'`)[0].n, 1);
    await tx`SELECT 1/0`;
  }), { code: '22012' });
  assert.equal((await sql`SELECT count(*)::int AS n FROM ledger WHERE id = 'pjs'`)[0].n, 0);
  const pipelined = await sql.begin((tx) => [tx`SELECT 1 AS x`, tx`SELECT tenant AS x FROM whoami`]);
  assert.deepEqual(pipelined.map((r) => r[0].x), [1, 'acme']);
  await sql.end();
});

test('postgres.js: cursor, COPY, simple', async () => {
  const sql = sqlFor('globex');
  let seen = 0;
  await sql`SELECT n FROM items WHERE id <= 10 ORDER BY id`.cursor(3, (rows) => { seen += rows.length; });
  assert.equal(seen, 10);
  const { Readable } = await import('node:stream');
  const { pipeline } = await import('node:stream/promises');
  await pipeline(Readable.from(Array.from({ length: 1000 }, (_, i) => `pjs-${i}\n`)), await sql`COPY ledger (id) FROM STDIN`.writable());
  let text = '';
  for await (const chunk of await sql`COPY (SELECT DISTINCT tenant FROM ledger WHERE id LIKE 'pjs-%') TO STDOUT`.readable()) text += chunk;
  assert.equal(text, 'globex\n');
  assert.equal((await sql`DELETE FROM ledger WHERE id LIKE 'pjs-%'`).count, 1000);
  assert.equal((await sql`SELECT 1 AS a; SELECT 2 AS b`.simple()).length, 2);
  await sql.end();
});

test('postgres.js: cancel and LISTEN', async () => {
  const sql = sqlFor('acme');
  const query = sql`SELECT pg_sleep(20)`;
  const refused = assert.rejects(query, { code: '57014' });
  await wait(300);
  query.cancel();
  await refused;
  const heard = new Promise((resolve) => { sql.listen('pjs_channel', resolve, () => sql.notify('pjs_channel', 'hi')); });
  assert.equal(await heard, 'hi');
  await sql.end();
});

let failed = 0;
for (const [name, run] of tests) {
  const timer = setTimeout(() => { console.log(`HANGS ${name}`); process.exit(1); }, 30000);
  try {
    await run();
    console.log(`ok ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED ${name}: ${error.stack} ${error.code ? `code ${error.code}` : ''}`);
  }
  clearTimeout(timer);
}
console.log(`${tests.length} tests, ${failed} failed`);
process.exit(failed ? 1 : 0);
