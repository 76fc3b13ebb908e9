// An application on postgres.js: one pool; its sessions are reserved or begun for a request, and the tenant is named in them.
// This client asks PostgreSQL for parameter types (Parse, Describe) before it sends a value, and pipelines what it can.
import assert from 'node:assert/strict';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { HERE, login, nobody, path, refused, require, run, world } from './program.mjs';

const postgres = require('postgres');
const sql = postgres({ ...login, username: login.user, max: 5, onnotice: () => {}, idle_timeout: 0 });

async function readOwn(turn, on) {
  turn.here((await on`SELECT tenant, current_database() AS database, inet_server_port() AS port FROM whoami`)[0]);
  turn.own(await on`SELECT id, tenant FROM items WHERE n < ${5}::int OR n >= ${5}::int ORDER BY id LIMIT 10`, 10);
}

async function write(turn, on, what = '') {
  const key = turn.key(what);
  await on`INSERT INTO ledger ${sql({ id: key, amount: 2 })}`;
  return key;
}

// A whole transaction inside begin(), which names the tenant first.
async function transactions(turn, begin) {
  const key = await begin(async (tx) => {
    await readOwn(turn, tx);
    const id = await write(turn, tx);
    await tx`UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items) + ${turn.worker}::int`;
    return id;
  });
  turn.committed(key);
  turn.added();
  const gone = turn.key('-gone');
  await refused('22012', () => begin(async (tx) => {
    await tx`INSERT INTO ledger (id) VALUES (${gone})`;
    await tx`SELECT 1/0`;
  }));
  turn.rolledBack(gone);
  const undone = turn.key('-undone');
  const kept = await begin(async (tx) => {
    const id = await write(turn, tx, '-kept');
    await refused('23505', () => tx.savepoint(async (inner) => {
      await inner`INSERT INTO ledger (id) VALUES (${undone})`;
      await inner`INSERT INTO ledger (id) VALUES (${id})`;
    }));
    await readOwn(turn, tx);
    return id;
  });
  turn.committed(kept);
  turn.rolledBack(undone);
}

async function reserved(work) {
  const session = await sql.reserve();
  try {
    return await work(session);
  } finally {
    session.release();
  }
}

const named = (turn, name) => (work) => sql.begin(async (tx) => {
  await name(tx, turn.tenant);
  return work(tx);
});

const bySearchPath = {
  'set_config in begin': (turn) => transactions(turn, named(turn, async (tx, tenant) => {
    const rows = await tx`SELECT set_config('search_path', ${path(tenant)}, true)`;
    assert.deepEqual([...rows], [{ set_config: path(tenant) }]);
  })),
  'SET LOCAL in begin': (turn) => transactions(turn, named(turn, (tx, tenant) => tx.unsafe(`SET LOCAL search_path TO ${tenant}, public`))),
  'options of begin': (turn) => transactions(turn, (work) => sql.begin('ISOLATION LEVEL SERIALIZABLE', async (tx) => {
    await tx`SET LOCAL search_path TO ${sql(turn.tenant)}`;
    return work(tx);
  }).catch((error) => {
    // Workers meet at one row: PostgreSQL's own refusal to serialize is another round's business.
    if (error.code !== '40001') throw error;
    return named(turn, (tx, tenant) => tx`SET LOCAL search_path TO ${sql(tenant)}`)(work);
  })),
  'pipelined in begin': (turn) => sql.begin((tx) => [
    tx`SET LOCAL search_path TO ${sql(turn.tenant)}`,
    tx`SELECT tenant, current_database() AS database, inet_server_port() AS port FROM whoami`,
    ...Array.from({ length: 20 }, () => tx`SELECT tenant FROM items ORDER BY id LIMIT 1`),
  ]).then(([, here, ...rest]) => {
    turn.here(here[0]);
    turn.own(rest.map((rows) => rows[0]), 20);
  }),
  'SET on a reserved session': (turn) => reserved(async (session) => {
    await session.unsafe(`SET search_path TO ${path(turn.tenant)}`);
    await readOwn(turn, session);
    const all = await Promise.all(Array.from({ length: 30 }, (_, i) => session`SELECT tenant, ${i}::int AS i FROM whoami`));
    all.forEach((rows, i) => { turn.own(rows); assert.equal(rows[0].i, i); });
    let seen = 0;
    await session`SELECT tenant FROM items ORDER BY id LIMIT 10`.cursor(3, (rows) => { turn.own(rows); seen += rows.length; });
    assert.equal(seen, 10);
    turn.committed(await write(turn, session));
    await refused('42P01', () => session`SELECT * FROM nowhere`);
    await session`RESET search_path`;
    await nobody(() => session.unsafe(HERE));
  }),
  COPY: (turn) => sql.begin(async (tx) => {
    await tx.unsafe(`SET LOCAL search_path TO ${turn.tenant}`);
    const ids = Array.from({ length: 20 }, () => turn.key('-copied'));
    await pipeline(Readable.from(ids.map((id) => `${id}\n`)), await tx`COPY ledger (id) FROM STDIN`.writable());
    let text = '';
    for await (const chunk of await tx`COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT`.readable()) text += chunk;
    assert.equal(text, `${turn.tenant}\n`);
    return ids;
  }).then((ids) => turn.committed(...ids)),
};

const bySetting = {
  'set_config of the tenant setting': (turn) => transactions(turn, named(turn, (tx, tenant) =>
    tx`SELECT set_config(${world.setting}, ${tenant}, true)`)),
  'SET LOCAL of the tenant setting': (turn) => transactions(turn, named(turn, (tx, tenant) =>
    tx.unsafe(`SET LOCAL ${world.setting} TO '${tenant}'`))),
};

await run(`postgres-js${world.setting ? '-rls' : ''}`, world.setting ? bySetting : bySearchPath, () => sql.end());
