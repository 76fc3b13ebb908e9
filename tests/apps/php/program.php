<?php
// What every PHP program here is built on: the turns, their journal, and the words spoken with apps_world_programs.py.
// PHP serves one request at a time: there is one worker, which takes its connections from a pool in turn, as requests find those of
// PHP's processes.
declare(strict_types=1);

$world = json_decode(getenv('APP_TEST'), true, 16, JSON_THROW_ON_ERROR);
const HERE = 'SELECT tenant, current_database()::text AS "database", inet_server_port() AS port FROM whoami';
const ROUNDS_BEFORE = 1;
const ROUNDS_AFTER = 2;
// Applications are not busy all the time, and the move needs the processor too.
const PAUSE_US = 8000;

function path(string $tenant): string
{
    return "\"$tenant\", \"public\"";
}

function check(bool $condition, string $what): void
{
    if (!$condition) {
        throw new RuntimeException($what);
    }
}

/** The call must fail with this SQLSTATE. */
function refused(string $code, callable $run): void
{
    try {
        $run();
    } catch (PDOException $error) {
        check($error->getCode() === $code, "{$error->getCode()} instead of $code: {$error->getMessage()}");
        return;
    }
    throw new RuntimeException("not refused with $code");
}

/** One way of naming, for one tenant. */
final class Turn
{
    private static int $keys = 0;

    public function __construct(private Program $program, public readonly string $tenant)
    {
    }

    /** A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such. */
    public function key(string $what = ''): string
    {
        return sprintf('%s-%s-%d%s', $this->program->name, $this->tenant, ++self::$keys, $what);
    }

    public function committed(string ...$ids): void
    {
        array_push($this->program->journals[$this->tenant]['committed'], ...$ids);
    }

    public function rolledBack(string ...$ids): void
    {
        array_push($this->program->journals[$this->tenant]['rolled_back'], ...$ids);
    }

    public function added(): void
    {
        $this->program->journals[$this->tenant]['added']++;
    }

    /** Tenants of rows that were read: own ones, and as many as expected. */
    public function own(array $tenants, ?int $count = null): void
    {
        check($tenants !== [], 'no rows');
        check($count === null || count($tenants) === $count, count($tenants) . " rows, not $count");
        foreach ($tenants as $found) {
            check($found === $this->tenant, "a row of $found instead of {$this->tenant}");
        }
    }

    /** A row of HERE: whose it is, and where. */
    public function here(array $row): void
    {
        $this->own([$row['tenant']]);
        $places = &$this->program->journals[$this->tenant]['places']['one'];
        $place = [$row['database'], (int) $row['port']];
        if (end($places) !== $place) {
            $places[] = $place;
        }
    }
}

final class Program
{
    public array $journals = [];
    private array $done = [];

    public function __construct(public readonly string $name, private array $world)
    {
        foreach ($world['tenants'] as $tenant) {
            $this->journals[$tenant] = ['committed' => [], 'rolled_back' => [], 'added' => 0, 'places' => ['one' => []]];
        }
    }

    public function run(array $ways): never
    {
        stream_set_blocking(STDIN, false);
        $moved = false;
        for ($after = 0, $rounds = 1; $after < ROUNDS_AFTER; $rounds++) {
            $moved = $moved || trim((string) fgets(STDIN)) === 'moved';
            $after += $moved ? 1 : 0;
            foreach ($ways as $way => $step) {
                foreach ($this->world['tenants'] as $tenant) {
                    try {
                        $step(new Turn($this, $tenant));
                    } catch (Throwable $error) {
                        echo "FAILED $way for $tenant: $error\n";
                        exit(1);
                    }
                    $this->done[$way][$tenant] ??= [0, 0];
                    $this->done[$way][$tenant][$moved ? 1 : 0]++;
                    usleep(PAUSE_US);
                }
            }
            if ($rounds === ROUNDS_BEFORE) {
                echo "ready\n";
            }
        }
        echo 'report ', json_encode(['failures' => [], 'done' => $this->done, 'tenants' => $this->journals]), "\n";
        exit(0);
    }
}
