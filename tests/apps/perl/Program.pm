# What every Perl program here is built on: the turns, their journal, and the words spoken with apps_world_programs.py.
# There is one worker, which takes its connections from a pool in turn.
package Program;
use strict;
use warnings;
use IO::Select;
use JSON::PP;
use Time::HiRes 'sleep';

our $world = JSON::PP->new->decode($ENV{APP_TEST});
our $here = 'SELECT tenant, current_database()::text, inet_server_port() FROM whoami';
# Applications are not busy all the time, and the move needs the processor too.
my ($rounds_before, $rounds_after, $keys, $pause_s) = (1, 2, 0, 0.008);
my (%journals, %done);
$| = 1;

sub path { my ($tenant) = @_; return qq("$tenant", "public"); }

sub check { my ($condition, $what) = @_; die "$what\n" unless $condition; return; }

# The call must fail with this SQLSTATE.
sub refused {
    my ($code, $handle, $run) = @_;
    check(!eval { $run->(); 1 }, "not refused with $code");
    check($handle->state eq $code, $handle->state . " instead of $code: $@");
    return;
}

sub run {
    my ($name, %ways) = @_;
    %journals = map { $_ => {committed => [], rolled_back => [], added => 0, places => {one => []}} } @{$world->{tenants}};
    my ($input, $moved, $after, $rounds) = (IO::Select->new(\*STDIN), 0, 0, 0);
    while ($after < $rounds_after) {
        $moved = 1 if !$moved && $input->can_read(0) && (readline(STDIN) // '') eq "moved\n";
        $after++ if $moved;
        for my $way (sort keys %ways) {
            for my $tenant (@{$world->{tenants}}) {
                my $turn = bless {program => $name, tenant => $tenant}, 'Program::Turn';
                if (!eval { $ways{$way}->($turn); 1 }) {
                    print "FAILED $way for $tenant: $@\n";
                    exit 1;
                }
                $done{$way}{$tenant} ||= [0, 0];
                $done{$way}{$tenant}[$moved]++;
                sleep $pause_s;
            }
        }
        print "ready\n" if ++$rounds == $rounds_before;
    }
    print 'report ', JSON::PP->new->encode({failures => [], done => \%done, tenants => \%journals}), "\n";
    exit 0;
}

# One way of naming, for one tenant.
package Program::Turn;

# A new key for the ledger; the tenant is in it, so that a row in the wrong place is seen as such.
sub key { my ($self, $what) = @_; return join('-', $self->{program}, $self->{tenant}, ++$keys) . ($what // ''); }
sub committed { my ($self, @ids) = @_; push @{$journals{$self->{tenant}}{committed}}, @ids; return; }
sub rolled_back { my ($self, @ids) = @_; push @{$journals{$self->{tenant}}{rolled_back}}, @ids; return; }
sub added { my ($self) = @_; $journals{$self->{tenant}}{added}++; return; }

# Rows that were read, the tenant first: own ones, and as many as expected.
sub own {
    my ($self, $rows, $count) = @_;
    Program::check(@$rows > 0, 'no rows');
    Program::check(!defined $count || @$rows == $count, scalar(@$rows) . ' rows, not ' . ($count // ''));
    Program::check($_->[0] eq $self->{tenant}, "a row of $_->[0] instead of $self->{tenant}") for @$rows;
    return;
}

# A row of HERE: whose it is, and where.
sub here {
    my ($self, $row) = @_;
    $self->own([$row]);
    my $places = $journals{$self->{tenant}}{places}{one};
    push @$places, [$row->[1], $row->[2] + 0] if !@$places || $places->[-1][0] ne $row->[1] || $places->[-1][1] != $row->[2];
    return;
}

1;
