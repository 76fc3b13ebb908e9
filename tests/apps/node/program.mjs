// What every Node program here is built on: the turns, their journal, and the words spoken with apps_world_programs.py.
//   run('pg', { 'SET search_path': async (turn) => { ... } })
// Several workers go through all tenants and all ways of naming them, at once. A turn does its work on the program's pool and notes in the
// journal what PostgreSQL acknowledged.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import readline from 'node:readline';

export const world = JSON.parse(process.env.APP_TEST);
// Libraries are in the build folder, not beside this file.
export const require = createRequire(`${world.modules}/`);
export const login = { host: world.host, port: world.port, user: world.user, password: world.password, database: world.database };
export const path = (tenant) => `"${tenant}", "public"`;

const WORKERS = 4;
const ROUNDS_BEFORE = 1;
const ROUNDS_AFTER = 2;
const TURN_MS_MAX = 25000;
const FAILURES_MAX = 5;
// Applications are not busy all the time, and the move needs the processor too.
const PAUSE_MS = 8;

const journals = Object.fromEntries(world.tenants.map((t) => [t, { committed: [], rolled_back: [], added: 0, places: {} }]));
const done = {};
const failures = [];
let moved = false;
let keys = 0;

class Turn {
  constructor(program, way, tenant, worker) {
    Object.assign(this, { program, way, tenant, worker, journal: journals[tenant] });
  }

  // A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such.
  key(what = '') {
    keys += 1;
    return `${this.program}-${this.tenant}-${keys}${what}`;
  }

  committed(...ids) { this.journal.committed.push(...ids); }

  rolledBack(...ids) { this.journal.rolled_back.push(...ids); }

  added(n = 1) { this.journal.added += n; }

  // Rows that were read: own ones, and as many as expected.
  own(rows, count) {
    assert.ok(rows.length > 0, 'no rows');
    if (count !== undefined) assert.equal(rows.length, count);
    for (const row of rows) assert.equal(row.tenant, this.tenant, `a row of ${row.tenant}`);
  }

  // A row of HERE: whose it is, and where.
  here(row) {
    this.own([row]);
    const places = (this.journal.places[this.worker] ??= []);
    const place = [row.database, Number(row.port)];
    if (JSON.stringify(places.at(-1)) !== JSON.stringify(place)) places.push(place);
  }
}

export const HERE = 'SELECT tenant, current_database()::text AS database, inet_server_port() AS port FROM whoami';

// Runs a query that must fail with this SQLSTATE; ORMs wrap the driver's error.
export async function refused(code, run) {
  const error = await Promise.resolve().then(run).then(() => null, (e) => e);
  assert.ok(error, `not refused with ${code}`);
  const found = error.code === undefined || error.code === 'P2010' || error.code === 'P2002' ? codeWithin(error) : error.code;
  assert.equal(found, code, error.stack);
}

function codeWithin(error) {
  for (const inner of [error.original, error.parent, error.driverError, error.cause, error.meta]) {
    if (inner?.code) return inner.code;
  }
  return /\b[0-9A-Z]{5}\b/.exec(error.message)?.[0];
}

// Where no tenant is named, nobody's rows are seen: the tables aren't there, or row-level security leaves nothing.
export async function nobody(query) {
  const rows = await Promise.resolve().then(query).catch((error) => {
    assert.match(`${error.code ?? codeWithin(error)} ${error.message}`, /42P01|does not exist/);
    return [];
  });
  assert.equal(rows.length, 0, 'rows without a tenant');
}

async function takeTurn(program, way, work, tenant, worker) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`no answer within ${TURN_MS_MAX} ms`)), TURN_MS_MAX); });
  try {
    await Promise.race([work(new Turn(program, way, tenant, worker)), late]);
    const counts = ((done[way] ??= {})[tenant] ??= [0, 0]);
    counts[moved ? 1 : 0] += 1;
  } catch (error) {
    const where = `${way} for ${tenant}`;
    failures.push(`${where}: ${error.code ?? ''} ${error.message}`);
    console.log(`FAILED ${where}: ${error.stack}`);
  } finally {
    clearTimeout(timer);
  }
}

async function work(program, ways, worker, ready) {
  let after = 0;
  for (let round = 0; after < ROUNDS_AFTER && failures.length < FAILURES_MAX; round += 1) {
    if (moved) after += 1;
    for (const [way, step] of Object.entries(ways)) {
      for (let i = 0; i < world.tenants.length; i += 1) {
        await takeTurn(program, way, step, world.tenants[(i + worker) % world.tenants.length], worker);
        await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
      }
    }
    if (round + 1 === ROUNDS_BEFORE) ready();
  }
  ready();
}

export async function run(program, ways, close) {
  const lines = readline.createInterface({ input: process.stdin });
  lines.on('line', (line) => { if (line === 'moved') moved = true; });
  let waiting = WORKERS;
  const all = Array.from({ length: WORKERS }, (_, worker) => {
    let said = false;
    return work(program, ways, worker, () => {
      waiting -= said ? 0 : 1;
      if (!said && waiting === 0 && failures.length === 0) console.log('ready');
      said = true;
    });
  });
  await Promise.all(all);
  if (failures.length) process.exit(1);
  await close();
  // All of it is written before the end, which a pipe would cut off.
  process.stdout.write(`report ${JSON.stringify({ failures, done, tenants: journals })}\n`, () => process.exit(0));
}

process.on('unhandledRejection', (error) => { failures.push(`unhandled: ${error?.stack}`); console.log(`FAILED unhandled: ${error?.stack}`); });
