<?php
// An application on PDO, as Laravel uses it: native prepared statements, also for SET; each is deallocated when its object goes.
declare(strict_types=1);

require __DIR__ . '/program.php';

/** @return PDO as Laravel's PostgresConnector makes it */
function connect(array $world, bool $persistent = false): PDO
{
    $source = "pgsql:host={$world['host']};dbname='{$world['database']}';port={$world['port']};connect_timeout=20";
    $pdo = new PDO($source, $world['user'], $world['password'], [
        PDO::ATTR_CASE => PDO::CASE_NATURAL, PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION, PDO::ATTR_ORACLE_NULLS => PDO::NULL_NATURAL,
        PDO::ATTR_STRINGIFY_FETCHES => false, PDO::ATTR_EMULATE_PREPARES => false, PDO::ATTR_PERSISTENT => $persistent]);
    $pdo->prepare("set names 'utf8'")->execute();
    $pdo->prepare("set time zone 'Europe/Vienna'")->execute();
    return $pdo;
}

function rows(PDO $pdo, string $text, array $values = []): array
{
    $statement = $pdo->prepare($text);
    $statement->execute($values);
    return $statement->fetchAll(PDO::FETCH_ASSOC);
}

function tenants(PDO $pdo, string $text, array $values = []): array
{
    return array_column(rows($pdo, $text, $values), 'tenant');
}

function readOwn(Turn $turn, PDO $pdo): void
{
    $turn->here(rows($pdo, HERE)[0]);
    $turn->here($pdo->query(HERE)->fetch(PDO::FETCH_ASSOC));
    $turn->own(tenants($pdo, 'select "tenant" from "items" where "n" >= ? order by "id" asc limit 7', [0]), 7);
    $turn->own(tenants($pdo, 'select tenant from items where id > :above limit :count', ['above' => 0, 'count' => 4]), 4);
}

function insert(Turn $turn, PDO $pdo, string $what = ''): string
{
    $key = $turn->key($what);
    $turn->own(tenants($pdo, 'insert into "ledger" ("id") values (?) returning "tenant"', [$key]), 1);
    return $key;
}

function nobody(PDO $pdo, string $setting): void
{
    try {
        $found = rows($pdo, HERE);
    } catch (PDOException $error) {
        check($error->getCode() === '42P01', $error->getMessage());
        return;
    }
    check($setting !== '' && $found === [], 'rows without a tenant');
}

function transactions(Turn $turn, PDO $pdo, ?callable $name = null): void
{
    $name ??= fn () => null;
    $pdo->beginTransaction();
    $name();
    readOwn($turn, $pdo);
    $key = insert($turn, $pdo);
    rows($pdo, 'update items set n = n + 1 where id = (select min(id) from items)');
    $pdo->commit();
    $turn->committed($key);
    $turn->added();

    $pdo->beginTransaction();
    $name();
    $gone = insert($turn, $pdo, '-gone');
    $pdo->rollBack();
    $turn->rolledBack($gone);

    $pdo->beginTransaction();
    $name();
    [$kept, $undone] = [insert($turn, $pdo, '-kept'), $turn->key('-undone')];
    $pdo->exec('SAVEPOINT trans2');
    rows($pdo, 'insert into "ledger" ("id") values (?)', [$undone]);
    refused('23505', fn () => rows($pdo, 'insert into "ledger" ("id") values (?)', [$kept]));
    refused('25P02', fn () => $pdo->query(HERE));
    $pdo->exec('ROLLBACK TO SAVEPOINT trans2');
    readOwn($turn, $pdo);
    $pdo->commit();
    $turn->committed($kept);
    $turn->rolledBack($undone);
}

$pool = [connect($world), connect($world), connect($world, true)];
$next = 0;
$taken = function () use (&$pool, &$next): PDO {
    return $pool[$next++ % count($pool)];
};
$setting = $world['setting'];

$bySearchPath = [
    'set search_path, prepared' => function (Turn $turn) use ($taken, $setting) {
        $pdo = $taken();
        $pdo->prepare("set search_path to \"{$turn->tenant}\"")->execute();
        readOwn($turn, $pdo);
        $turn->committed(insert($turn, $pdo));
        refused('42703', fn () => rows($pdo, 'select no_such_column from items where n = ?', [1]));
        transactions($turn, $pdo);
        // A statement of several requests, for whoever is the tenant then.
        $kept = $pdo->prepare('select tenant from items limit ?');
        foreach ([3, 5] as $count) {
            $kept->execute([$count]);
            $turn->own($kept->fetchAll(PDO::FETCH_COLUMN), $count);
        }
        $pdo->prepare('set search_path to "public"')->execute();
        nobody($pdo, $setting);
    },
    'a new connection' => function (Turn $turn) use ($world) {
        $pdo = connect($world);
        $pdo->prepare('set search_path to ' . path($turn->tenant))->execute();
        readOwn($turn, $pdo);
        $turn->committed(insert($turn, $pdo));
    },
    'in the transaction' => function (Turn $turn) use ($taken, $setting) {
        $pdo = $taken();
        transactions($turn, $pdo, fn () => $pdo->exec('SET LOCAL search_path TO ' . path($turn->tenant)));
        transactions($turn, $pdo, fn () => rows($pdo, "select set_config('search_path', ?, true)", [path($turn->tenant)]));
        $pdo->exec('RESET search_path');
        nobody($pdo, $setting);
    },
    'emulated prepares' => function (Turn $turn) use ($taken, $setting) {
        $pdo = $taken();
        $pdo->setAttribute(PDO::ATTR_EMULATE_PREPARES, true);
        try {
            $pdo->prepare("set search_path = '{$turn->tenant}', public")->execute();
            $turn->own(tenants($pdo, 'select tenant from items where n >= ? limit 3', [0]), 3);
            transactions($turn, $pdo);
            $pdo->prepare('reset search_path')->execute();
            nobody($pdo, $setting);
        } finally {
            $pdo->setAttribute(PDO::ATTR_EMULATE_PREPARES, false);
        }
    },
    'COPY' => function (Turn $turn) use ($taken) {
        $pdo = $taken();
        $pdo->exec("set search_path to {$turn->tenant}, public");
        $keys = array_map(fn () => $turn->key('-copied'), range(1, 20));
        check($pdo->pgsqlCopyFromArray('ledger', array_map(fn ($key) => "$key\t{$turn->tenant}\t3", $keys)), 'COPY failed');
        $turn->committed(...$keys);
        $turn->own(array_map(fn ($line) => explode("\t", $line)[1], $pdo->pgsqlCopyToArray('ledger')));
    },
];

$bySetting = [
    'the setting for a request' => function (Turn $turn) use ($taken, $setting) {
        $pdo = $taken();
        // As a package for row-level security does it.
        $pdo->prepare("SET $setting = '{$turn->tenant}'")->execute();
        readOwn($turn, $pdo);
        $turn->committed(insert($turn, $pdo));
        transactions($turn, $pdo);
        $pdo->prepare("RESET $setting")->execute();
        nobody($pdo, $setting);
    },
    'the setting in the transaction' => function (Turn $turn) use ($taken, $setting) {
        $pdo = $taken();
        transactions($turn, $pdo, fn () => rows($pdo, 'select set_config(?, ?, true)', [$setting, $turn->tenant]));
        nobody($pdo, $setting);
    },
];

(new Program('pdo', $world))->run($setting === '' ? $bySearchPath : $bySetting);
