# 010_settings.pl
#	  Settings that name something impossible are refused, by name.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'webhook_events'");
$node->start;

foreach my $case (
	[ 'denied_networks', '10.0.0.1/8', qr/"10\.0\.0\.1\/8" is not a network/ ],
	[ 'allowed_networks', 'fe80::1%eth0', qr/is not a network/ ],
	[ 'header_prefix', 'X Apify', qr/letters, digits and "-" only/ ],
	[ 'max_in_flight', '0', qr/outside the valid range/ ])
{
	my ($name, $value, $reason) = @$case;
	my ($status, $out, $err) = $node->psql('postgres',
		"ALTER SYSTEM SET webhook_events.$name = '$value'");

	isnt($status, 0, "$name = $value is refused");
	like($err, $reason, "and the reason names it");
}

$node->safe_psql('postgres',
	"ALTER SYSTEM SET webhook_events.allowed_networks = '127.0.0.0/8, ::1'");
$node->restart;
is($node->safe_psql('postgres', 'SHOW webhook_events.allowed_networks'),
	'127.0.0.0/8, ::1', 'a good list survives a restart');

$node->stop;
done_testing();
