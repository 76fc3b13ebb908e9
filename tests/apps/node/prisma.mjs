// An application on Prisma with its row-level security extension: each operation becomes a transaction
//   BEGIN; SELECT set_config('app.current_company_id', $1, TRUE); the query; COMMIT
// The engine is Prisma's own query compiler on node-postgres, on one pool for all tenants. The other engine's statements, which are sent by
// another protocol flow, are in test_statements.py.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { HERE, login, nobody, path, refused, require, run, world } from './program.mjs';

const pg = require('pg');
const { PrismaPg } = require('@prisma/adapter-pg');
const { Prisma, PrismaClient } = createRequire(`${world.client}/`)('./index.js');
const pool = new pg.Pool({ ...login, max: 5 });

// Prisma writes the schema's name into its queries (`?schema=acme`); the tables of row-level security are everybody's.
const schemaOf = (tenant) => (world.setting && world.direct ? 'public' : tenant);
const clients = Object.fromEntries(world.tenants.map((tenant) => [tenant, new PrismaClient({ adapter: new PrismaPg(pool, { schema: schemaOf(tenant) }) })]));
const nobodys = new PrismaClient({ adapter: new PrismaPg(pool) });

const named = world.setting
  ? (prisma, tenant) => prisma.$executeRaw`SELECT set_config(${world.setting}, ${tenant}, TRUE)`
  : (prisma, tenant) => prisma.$executeRaw`SELECT set_config('search_path', ${path(tenant)}, TRUE)`;

// As in Prisma's example of row-level security.
const forTenant = (tenant) => Prisma.defineExtension((prisma) => prisma.$extends({
  query: {
    $allModels: {
      async $allOperations({ args, query }) {
        const [, result] = await prisma.$transaction([named(prisma, tenant), query(args)]);
        return result;
      },
    },
  },
}));
const extended = Object.fromEntries(world.tenants.map((tenant) => [tenant, clients[tenant].$extends(forTenant(tenant))]));

async function whereAmI(turn, tx) {
  turn.here((await tx.$queryRawUnsafe(HERE))[0]);
}

const ways = {
  extension: async (turn) => {
    const prisma = extended[turn.tenant];
    turn.own(await prisma.item.findMany({ orderBy: { id: 'asc' }, take: 10 }), 10);
    const { id } = await prisma.item.findFirstOrThrow({ orderBy: { id: 'asc' }, skip: turn.worker });
    await prisma.item.update({ where: { id }, data: { n: { increment: 1 } } });
    turn.added();
    const key = turn.key();
    turn.own([await prisma.ledger.create({ data: { id: key } })]);
    turn.committed(key);
    await refused('23505', () => prisma.ledger.create({ data: { id: key } }).catch((error) => { throw prismaError(error); }));
  },
  'interactive transaction': async (turn) => {
    const prisma = clients[turn.tenant];
    const [key, gone] = [turn.key(), turn.key('-gone')];
    await prisma.$transaction(async (tx) => {
      await named(tx, turn.tenant);
      await whereAmI(turn, tx);
      await tx.ledger.create({ data: { id: key } });
      turn.own(await tx.item.findMany({ where: { n: { gte: 0 } } }));
    });
    turn.committed(key);
    await assert.rejects(prisma.$transaction(async (tx) => {
      await named(tx, turn.tenant);
      await tx.ledger.create({ data: { id: gone } });
      throw new Error('changed my mind');
    }), /changed my mind/);
    turn.rolledBack(gone);
  },
  'isolation level': async (turn) => {
    await clients[turn.tenant].$transaction(async (tx) => {
      await named(tx, turn.tenant);
      await whereAmI(turn, tx);
      turn.own(await tx.$queryRaw`SELECT tenant FROM items WHERE n >= ${0} ORDER BY id LIMIT 10`, 10);
    }, { isolationLevel: 'RepeatableRead' });
    await nobody(() => nobodys.$queryRawUnsafe(HERE).catch((error) => { throw prismaError(error); }));
  },
};

// PostgreSQL's SQLSTATE, wherever Prisma keeps it.
function prismaError(error) {
  const code = error.code === 'P2002' ? '23505' : error.meta?.code ?? error.meta?.driverAdapterError?.cause?.originalCode;
  return Object.assign(new Error(error.message), { code });
}

await run(`prisma${world.setting ? '-rls' : ''}`, ways, () => pool.end());
