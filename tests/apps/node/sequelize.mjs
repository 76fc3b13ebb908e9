// An application on Sequelize: searchPath with prependSearchPath, which sends `SET search_path to acme;SELECT ...` as one query, each time.
import { HERE, login, nobody, refused, require, run, world } from './program.mjs';

const { DataTypes, QueryTypes, Sequelize } = require('sequelize');
const options = { dialect: 'postgres', host: login.host, port: login.port, logging: false, pool: { max: 5 } };
const prepending = new Sequelize(login.database, login.user, login.password, { ...options, dialectOptions: { prependSearchPath: true } });
// The other one names the tenant itself, with bind parameters where Sequelize has them.
const plain = new Sequelize(login.database, login.user, login.password, options);

function models(sequelize) {
  const plainTable = { timestamps: false, freezeTableName: true };
  return {
    Item: sequelize.define('items', { id: { type: DataTypes.BIGINT, primaryKey: true }, tenant: DataTypes.TEXT, n: DataTypes.INTEGER }, plainTable),
    Ledger: sequelize.define('ledger', { id: { type: DataTypes.TEXT, primaryKey: true }, amount: DataTypes.INTEGER }, plainTable),
  };
}
const prepended = models(prepending);
const own = models(plain);

async function readOwn(turn, sequelize, { Item }, more) {
  turn.here((await sequelize.query(HERE, { type: QueryTypes.SELECT, ...more }))[0]);
  turn.own(await Item.findAll({ order: ['id'], limit: 10, ...more }), 10);
}

async function transactions(turn, sequelize, { Item, Ledger }, begin, more = {}) {
  const key = turn.key();
  await sequelize.transaction(async (transaction) => {
    const all = { transaction, ...more };
    await begin(transaction);
    await readOwn(turn, sequelize, { Item }, all);
    await Ledger.create({ id: key, amount: 3 }, all);
    const smallest = Number(await Item.min('id', all));
    await Item.increment('n', { by: 1, where: { id: smallest + turn.worker }, ...all });
  });
  turn.committed(key);
  turn.added();
  const gone = turn.key('-gone');
  await refused('23505', () => sequelize.transaction(async (transaction) => {
    const all = { transaction, ...more };
    await begin(transaction);
    await Ledger.create({ id: gone }, all);
    await Ledger.create({ id: gone }, all);
  }));
  turn.rolledBack(gone);
  const [kept, undone] = [turn.key('-kept'), turn.key('-undone')];
  await sequelize.transaction(async (transaction) => {
    await begin(transaction);
    await Ledger.create({ id: kept }, { transaction, ...more });
    await refused('23505', () => sequelize.transaction({ transaction }, async (inner) => {
      await Ledger.create({ id: undone }, { transaction: inner, ...more });
      await Ledger.create({ id: kept }, { transaction: inner, ...more });
    }));
    await readOwn(turn, sequelize, { Item }, { transaction, ...more });
  });
  turn.committed(kept);
  turn.rolledBack(undone);
}

const ways = {
  prependSearchPath: async (turn) => {
    const more = { searchPath: turn.tenant };
    await readOwn(turn, prepending, prepended, more);
    const key = turn.key();
    await prepended.Ledger.create({ id: key, amount: 4 }, more);
    turn.committed(key);
    await refused('42703', () => prepending.query('SELECT no_such_column FROM items', more));
    await nobody(() => prepending.query(HERE, { type: QueryTypes.SELECT }));
  },
  'prependSearchPath in a transaction': (turn) => transactions(turn, prepending, prepended, async () => {}, { searchPath: turn.tenant }),
  'SET LOCAL in a transaction': (turn) => transactions(turn, plain, own, (transaction) =>
    plain.query(`SET LOCAL search_path TO ${turn.tenant}, public`, { transaction })),
  'set_config with bind': (turn) => transactions(turn, plain, own, (transaction) =>
    plain.query("SELECT set_config('search_path', $1, true)", { bind: [`"${turn.tenant}"`], transaction })),
};

await run('sequelize', ways, () => Promise.all([prepending.close(), plain.close()]));
