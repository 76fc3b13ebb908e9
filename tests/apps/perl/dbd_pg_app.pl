#!/usr/bin/perl
# An application on DBI with DBD::Pg: prepared statements on the server, AutoCommit on and off, COPY, savepoints.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use DBI;
use Program;

my $world = $Program::world;
my $setting = $world->{setting};
my ($pool_size, $next) = (3, 0);
my @pool = map { connect_to() } 1 .. $pool_size;

sub connect_to {
    my $source = "dbi:Pg:dbname=$world->{database};host=$world->{host};port=$world->{port};connect_timeout=20";
    return DBI->connect($source, $world->{user}, $world->{password}, {AutoCommit => 1, RaiseError => 1, PrintError => 0, pg_enable_utf8 => 1});
}

sub taken { return $pool[$next++ % $pool_size]; }

sub rows { my ($dbh, $text, @values) = @_; return $dbh->selectall_arrayref($text, undef, @values); }

sub read_own {
    my ($turn, $dbh) = @_;
    $turn->here(rows($dbh, $Program::here)->[0]);
    $turn->own(rows($dbh, 'SELECT tenant FROM items WHERE n >= ? ORDER BY id LIMIT 8', 0), 8);
    # Prepared once, and used for every tenant of this connection.
    my $statement = $dbh->prepare_cached('SELECT tenant, n FROM items ORDER BY id LIMIT ?', {pg_prepare_now => 1});
    for my $count (2, 5) {
        $statement->execute($count);
        $turn->own($statement->fetchall_arrayref, $count);
    }
    return;
}

sub insert {
    my ($turn, $dbh, $what) = @_;
    my $key = $turn->key($what);
    $turn->own(rows($dbh, 'INSERT INTO ledger (id) VALUES (?) RETURNING tenant', $key), 1);
    return $key;
}

sub nobody {
    my ($dbh) = @_;
    my $found = eval { rows($dbh, $Program::here) };
    return if !$found && $dbh->state eq '42P01';
    Program::check($found && $setting ne '' && !@$found, 'rows without a tenant: ' . ($@ || ''));
    return;
}

# begin_work and commit; DBD::Pg sends "begin" before the first statement after it.
sub transactions {
    my ($turn, $dbh, $name) = @_;
    $dbh->begin_work;
    $name->();
    read_own($turn, $dbh);
    my $key = insert($turn, $dbh);
    $dbh->do('UPDATE items SET n = n + 1 WHERE id = (SELECT min(id) FROM items)');
    $dbh->commit;
    $turn->committed($key);
    $turn->added;

    $dbh->begin_work;
    $name->();
    my $gone = insert($turn, $dbh, '-gone');
    $dbh->rollback;
    $turn->rolled_back($gone);

    $dbh->begin_work;
    $name->();
    my ($kept, $undone) = (insert($turn, $dbh, '-kept'), $turn->key('-undone'));
    $dbh->pg_savepoint('one');
    $dbh->do('INSERT INTO ledger (id) VALUES (?)', undef, $undone);
    Program::refused('23505', $dbh, sub { $dbh->do('INSERT INTO ledger (id) VALUES (?)', undef, $kept) });
    Program::refused('25P02', $dbh, sub { $dbh->do($Program::here) });
    $dbh->pg_rollback_to('one');
    read_own($turn, $dbh);
    $dbh->pg_release('one');
    $dbh->commit;
    $turn->committed($kept);
    $turn->rolled_back($undone);
    return;
}

my %by_search_path = (
    'SET search_path' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        $dbh->do('SET search_path TO ' . Program::path($turn->{tenant}));
        read_own($turn, $dbh);
        $turn->committed(insert($turn, $dbh));
        Program::refused('42703', $dbh, sub { rows($dbh, 'SELECT no_such_column FROM items WHERE n = ?', 1) });
        transactions($turn, $dbh, sub { });
        Program::check($dbh->ping == 1, 'no ping');
        $dbh->do('RESET search_path');
        nobody($dbh);
    },
    'AutoCommit off' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        $dbh->{AutoCommit} = 0;
        $dbh->do("SET search_path = '$turn->{tenant}', 'public'");
        my $key = insert($turn, $dbh);
        $dbh->commit;
        $turn->committed($key);
        read_own($turn, $dbh);
        $dbh->rollback;
        $dbh->do('RESET search_path');
        $dbh->commit;
        $dbh->{AutoCommit} = 1;
        nobody($dbh);
    },
    'in the transaction' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        transactions($turn, $dbh, sub { $dbh->do("SET LOCAL search_path TO $turn->{tenant},public") });
        transactions($turn, $dbh, sub { rows($dbh, q(SELECT set_config('search_path', ?, true)), Program::path($turn->{tenant})) });
        nobody($dbh);
    },
    'statements prepared by the client' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        $dbh->{pg_server_prepare} = 0;
        $dbh->do('SELECT set_config(?, ?, false)', undef, 'search_path', Program::path($turn->{tenant}));
        read_own($turn, $dbh);
        transactions($turn, $dbh, sub { });
        $dbh->do('SET search_path TO DEFAULT');
        $dbh->{pg_server_prepare} = 1;
        nobody($dbh);
    },
    'COPY' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        $dbh->do("SET search_path TO $turn->{tenant}, public");
        my @keys = map { $turn->key('-copied') } 1 .. 20;
        $dbh->do('COPY ledger (id) FROM STDIN');
        $dbh->pg_putcopydata("$_\n") for @keys;
        $dbh->pg_putcopyend;
        $turn->committed(@keys);
        my $gone = $turn->key('-gone');
        $dbh->do('COPY ledger (id, amount) FROM STDIN');
        $dbh->pg_putcopydata("$gone\tnot a number\n");
        Program::refused('22P02', $dbh, sub { $dbh->pg_putcopyend });
        $turn->rolled_back($gone);
        $dbh->do('COPY (SELECT DISTINCT tenant FROM ledger) TO STDOUT');
        my (@found, $line);
        while ($dbh->pg_getcopydata(\$line) >= 0) { chomp $line; push @found, [$line]; }
        $turn->own(\@found, 1);
        read_own($turn, $dbh);
    },
);

my %by_setting = (
    'SET and RESET of the tenant setting' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        $dbh->do("SET $setting = " . $dbh->quote($turn->{tenant}));
        read_own($turn, $dbh);
        transactions($turn, $dbh, sub { });
        $dbh->do("RESET $setting");
        nobody($dbh);
    },
    'the tenant setting in the transaction' => sub {
        my ($turn) = @_;
        my $dbh = taken();
        transactions($turn, $dbh, sub { rows($dbh, 'SELECT set_config(?, ?, true)', $setting, $turn->{tenant}) });
        nobody($dbh);
    },
);

Program::run('dbd-pg', $setting eq '' ? %by_search_path : %by_setting);
