// An application on Knex: transactions that name the tenant, qualified names (withSchema), and Knex's own searchPath, which is a pool a tenant.
import assert from 'node:assert/strict';
import { HERE, login, nobody, path, refused, require, run, world } from './program.mjs';

const Knex = require('knex');
const knex = Knex({ client: 'pg', connection: login, pool: { min: 0, max: 5 } });
// Knex' own way: `set search_path to "acme","public"` whenever a connection is made.
const pools = Object.fromEntries(world.tenants.map((tenant) => [tenant, Knex({
  client: 'pg', connection: login, searchPath: [tenant, 'public'], pool: { min: 0, max: 2 } })]));
// And by hand, as people do it where the tenant isn't known to Knex.
const hooked = Object.fromEntries(world.tenants.map((tenant) => [tenant, Knex({
  client: 'pg',
  connection: login,
  pool: { min: 0, max: 2, afterCreate: (client, done) => client.query(`SET search_path = ${tenant},public;`, (error) => done(error, client)) } })]));

async function readOwn(turn, on, schema) {
  turn.here((await on.raw(HERE)).rows[0]);
  const items = schema ? on('items').withSchema(schema) : on('items');
  turn.own(await items.select('id', 'tenant').orderBy('id').limit(10), 10);
}

async function write(turn, trx, what = '', schema = undefined) {
  const key = turn.key(what);
  const ledger = schema ? trx('ledger').withSchema(schema) : trx('ledger');
  const [row] = await ledger.insert({ id: key }).returning(['id', 'tenant']);
  turn.own([row]);
  return key;
}

async function transactions(turn, db, begin, schema) {
  const key = await db.transaction(async (trx) => {
    await begin(trx);
    await readOwn(turn, trx, schema);
    const smallest = trx('items').min('id');
    await trx('items').whereRaw('id = (?) + ?::int', [smallest, turn.worker]).increment('n', 1);
    return write(turn, trx, '', schema);
  });
  turn.committed(key);
  turn.added();
  const gone = turn.key('-gone');
  await refused('23505', () => db.transaction(async (trx) => {
    await begin(trx);
    await trx('ledger').insert({ id: gone });
    await trx('ledger').insert({ id: gone });
  }));
  turn.rolledBack(gone);
  const undone = turn.key('-undone');
  const kept = await db.transaction(async (trx) => {
    await begin(trx);
    const id = await write(turn, trx, '-kept', schema);
    await refused('23505', () => trx.transaction(async (inner) => {
      await inner('ledger').insert({ id: undone });
      await inner('ledger').insert({ id });
    }));
    await readOwn(turn, trx, schema);
    return id;
  }, { isolationLevel: 'read committed' });
  turn.committed(kept);
  turn.rolledBack(undone);
}

const localPath = (turn) => (trx) => trx.raw(`SET LOCAL search_path TO ${turn.tenant}, public`);
const bySearchPath = {
  'SET LOCAL in a transaction': (turn) => transactions(turn, knex, localPath(turn)),
  'set_config in a transaction': (turn) => transactions(turn, knex, async (trx) => {
    assert.deepEqual((await trx.raw("select set_config('search_path', ?, true)", [path(turn.tenant)])).rows, [{ set_config: path(turn.tenant) }]);
  }),
  withSchema: (turn) => transactions(turn, knex, localPath(turn), turn.tenant),
  searchPath: async (turn) => {
    await readOwn(turn, pools[turn.tenant]);
    await transactions(turn, pools[turn.tenant], async () => {});
    turn.committed(await write(turn, pools[turn.tenant]));
  },
  afterCreate: async (turn) => {
    await readOwn(turn, hooked[turn.tenant]);
    turn.committed(await write(turn, hooked[turn.tenant]));
  },
  'no tenant': async () => {
    await nobody(async () => (await knex.raw(HERE)).rows);
  },
};

const end = () => Promise.all([knex, ...Object.values(pools), ...Object.values(hooked)].map((db) => db.destroy()));
await run('knex', bySearchPath, end);
