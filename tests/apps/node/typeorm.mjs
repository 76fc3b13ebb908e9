// An application on TypeORM: one DataSource; a QueryRunner for each request names the tenant.
import { HERE, login, nobody, path, refused, require, run } from './program.mjs';

const { DataSource, EntitySchema } = require('typeorm');
const Item = new EntitySchema({ name: 'items', columns: { id: { type: 'bigint', primary: true }, tenant: { type: 'text' }, n: { type: 'int' } } });
const Ledger = new EntitySchema({ name: 'ledger', columns: { id: { type: 'text', primary: true },
  tenant: { type: 'text', insert: false, update: false, select: false, default: () => "''" }, amount: { type: 'int', default: 1 } } });
const source = new DataSource({ type: 'postgres', host: login.host, port: login.port, username: login.user, password: login.password,
  database: login.database, entities: [Item, Ledger], poolSize: 5, logging: false, installExtensions: false });
await source.initialize();

async function withRunner(work) {
  const runner = source.createQueryRunner();
  try {
    return await work(runner);
  } finally {
    if (runner.isTransactionActive) await runner.rollbackTransaction();
    await runner.release();
  }
}

async function readOwn(turn, runner) {
  turn.here((await runner.query(HERE))[0]);
  turn.own(await runner.manager.getRepository(Item).find({ order: { id: 'ASC' }, take: 10 }), 10);
}

const insert = (runner, id) => runner.manager.getRepository(Ledger).insert({ id, amount: 5 });

async function transactions(turn, runner, name, isolation) {
  const key = turn.key();
  await runner.startTransaction(isolation);
  await name();
  await readOwn(turn, runner);
  await insert(runner, key);
  const smallest = await runner.manager.getRepository(Item).minimum('id', {});
  await runner.manager.getRepository(Item).increment({ id: String(Number(smallest) + turn.worker) }, 'n', 1);
  await runner.commitTransaction();
  turn.committed(key);
  turn.added();

  const gone = turn.key('-gone');
  await runner.startTransaction();
  await name();
  await insert(runner, gone);
  await refused('23505', () => insert(runner, gone));
  await runner.rollbackTransaction();
  turn.rolledBack(gone);

  const [kept, undone] = [turn.key('-kept'), turn.key('-undone')];
  await runner.startTransaction();
  await name();
  await insert(runner, kept);
  await runner.startTransaction();  // a savepoint
  await insert(runner, undone);
  await refused('23505', () => insert(runner, kept));
  await runner.rollbackTransaction();
  await readOwn(turn, runner);
  await runner.startTransaction();
  await runner.commitTransaction();
  await runner.commitTransaction();
  turn.committed(kept);
  turn.rolledBack(undone);
}

const ways = {
  'SET by a query runner': (turn) => withRunner(async (runner) => {
    await runner.query(`SET search_path TO '${turn.tenant}', 'public'`);
    await readOwn(turn, runner);
    const key = turn.key();
    await insert(runner, key);
    turn.committed(key);
    await transactions(turn, runner, async () => {});
    await runner.query('RESET search_path');
    await nobody(() => runner.query(HERE));
  }),
  'SET LOCAL after START TRANSACTION': (turn) => withRunner((runner) =>
    transactions(turn, runner, () => runner.query(`SET LOCAL search_path TO ${turn.tenant}, public`))),
  'set_config after SET TRANSACTION': (turn) => withRunner((runner) =>
    transactions(turn, runner, () => runner.query("SELECT set_config('search_path', $1, true)", [path(turn.tenant)]), 'READ COMMITTED')),
  'transaction of the data source': async (turn) => {
    const key = turn.key();
    await source.transaction(async (manager) => {
      await manager.query(`SET LOCAL search_path = "${turn.tenant}"`);
      await readOwn(turn, manager.queryRunner);
      await insert(manager.queryRunner, key);
    });
    turn.committed(key);
  },
};

await run('typeorm', ways, () => source.destroy());
