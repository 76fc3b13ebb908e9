// An application on node-postgres: one Pool, and the tenant named by whoever checks a client out.
import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { HERE, login, nobody, path, refused, require, run, world } from './program.mjs';

const pg = require('pg');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');
const pool = new pg.Pool({ ...login, max: 5 });
pool.on('error', (error) => console.log(`pool error: ${error.message}`));

// One client for one request; what it has set stays with it, as in every pool that doesn't reset.
async function checkedOut(work) {
  const client = await pool.connect();
  try {
    return await work(client);
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}

async function readOwn(turn, client) {
  turn.here((await client.query(HERE)).rows[0]);
  turn.own((await client.query('SELECT id, tenant FROM items WHERE n < $1 OR n >= $1 ORDER BY id LIMIT 10', [5])).rows, 10);
  // A named statement: prepared once a client, used for every tenant.
  turn.own((await client.query({ name: 'own-item', text: 'SELECT tenant, payload FROM items ORDER BY id LIMIT $1', values: [3] })).rows, 3);
}

async function write(turn, client) {
  const key = turn.key();
  await client.query('INSERT INTO ledger (id) VALUES ($1)', [key]);
  await client.query('UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + $1', [turn.worker]);
  return () => { turn.committed(key); turn.added(); };
}

// A transaction whose begin names the tenant, with everything that a transaction has in it.
async function transactions(turn, client, begin) {
  await begin();
  await readOwn(turn, client);
  let acknowledge = await write(turn, client);
  await client.query('COMMIT');
  acknowledge();

  await begin();
  const gone = turn.key('-gone');
  await client.query({ name: 'new-entry', text: 'INSERT INTO ledger (id) VALUES ($1)', values: [gone] });
  await client.query('ROLLBACK');
  turn.rolledBack(gone);

  await begin();
  const [kept, undone] = [turn.key('-kept'), turn.key('-undone')];
  await client.query('INSERT INTO ledger (id) VALUES ($1)', [kept]);
  await client.query('SAVEPOINT s1');
  await client.query('INSERT INTO ledger (id) VALUES ($1)', [undone]);
  await refused('23505', () => client.query('INSERT INTO ledger (id) VALUES ($1)', [kept]));
  await refused('25P02', () => client.query(HERE));
  await client.query('ROLLBACK TO SAVEPOINT s1');
  turn.here((await client.query(HERE)).rows[0]);
  await client.query('RELEASE SAVEPOINT s1');
  await client.query('COMMIT');
  turn.committed(kept);
  turn.rolledBack(undone);
}

const bySearchPath = {
  'SET search_path': (turn) => checkedOut(async (client) => {
    await client.query(`SET search_path TO ${path(turn.tenant)}`);
    await readOwn(turn, client);
    (await write(turn, client))();
    await refused('42703', () => client.query('SELECT no_such_column FROM items'));
    await transactions(turn, client, () => client.query('BEGIN'));
    await client.query(`SET search_path = '${turn.tenant}', 'public'`);
    await readOwn(turn, client);
  }),
  'SET after BEGIN': (turn) => checkedOut(async (client) => {
    await client.query('RESET search_path');
    await transactions(turn, client, async () => {
      await client.query('BEGIN');
      await client.query(`SET LOCAL search_path TO ${path(turn.tenant)}`);
    });
    await nobody(async () => (await client.query(HERE)).rows);
  }),
  'set_config with a parameter': (turn) => checkedOut(async (client) => {
    await client.query('RESET search_path');
    await transactions(turn, client, async () => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const { rows } = await client.query("SELECT set_config('search_path', $1, true)", [path(turn.tenant)]);
      assert.deepEqual(rows, [{ set_config: path(turn.tenant) }]);
    });
    await client.query("SELECT set_config('search_path', $1, false)", [path(turn.tenant)]);
    await readOwn(turn, client);
  }),
  'one multi-statement query': (turn) => checkedOut(async (client) => {
    const results = await client.query(`SET search_path TO ${turn.tenant}; ${HERE}`);
    turn.here(results[1].rows[0]);
    const key = turn.key();
    await client.query(`BEGIN; SET LOCAL search_path TO ${turn.tenant}, public; INSERT INTO ledger (id) VALUES ('${key}'); COMMIT`);
    turn.committed(key);
  }),
  COPY: (turn) => checkedOut(async (client) => {
    await client.query(`SET SESSION search_path TO ${turn.tenant},public`);
    const ids = Array.from({ length: 20 }, () => turn.key('-copied'));
    await pipeline(Readable.from(ids.map((id) => `${id}\n`)), client.query(copyFrom('COPY ledger (id) FROM STDIN')));
    turn.committed(...ids);
    let text = '';
    for await (const chunk of client.query(copyTo(`COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT`))) text += chunk;
    assert.equal(text, `${turn.tenant}\n`);
  }),
};

const begin = async (client, tenant) => {
  await client.query('BEGIN');
  await client.query('SELECT set_config($1, $2, true)', [world.setting, tenant]);
};
const bySetting = {
  'set_config of the tenant setting': (turn) => checkedOut(async (client) => {
    await transactions(turn, client, () => begin(client, turn.tenant));
    await nobody(async () => (await client.query(HERE)).rows);
  }),
  'SET LOCAL of the tenant setting': (turn) => checkedOut(async (client) => {
    await transactions(turn, client, () => client.query(`BEGIN; SET LOCAL ${world.setting} = '${turn.tenant}'`));
    await nobody(async () => (await client.query(HERE)).rows);
  }),
  'SET and RESET of the tenant setting': (turn) => checkedOut(async (client) => {
    await client.query(`SET ${world.setting} = '${turn.tenant}'`);
    await readOwn(turn, client);
    (await write(turn, client))();
    await client.query(`RESET ${world.setting}`);
    await nobody(async () => (await client.query(HERE)).rows);
  }),
};

// Notifications come to the session that listens, whoever sends. A listener is a client of its own and is gone before the tenant moves.
async function listen() {
  const client = new pg.Client(login);
  await client.connect();
  if (!world.setting) await client.query('SET search_path TO globex, public');
  const heard = new Promise((resolve) => { client.once('notification', resolve); });
  await client.query('LISTEN app_channel');
  await pool.query("NOTIFY app_channel, 'hello'");
  assert.equal((await heard).payload, 'hello');
  await client.end();
}

await listen();
await run(`pg${world.setting ? '-rls' : ''}`, world.setting ? bySetting : bySearchPath, () => pool.end());
