# meta.pl CONTROL LICENSE
#	  Prints META.json as PGXN's Meta Specification 1.0.0 has it, with name,
#	  version and abstract taken from the control file, and checks that what the
#	  specification requires is there in the form that it requires.

use strict;
use warnings;
use JSON::PP;

my ($control_path, $license_path) = @ARGV;
my %control;

open(my $control, '<', $control_path) or die "$control_path: $!\n";
while (<$control>)
{
	$control{$1} = $2 if /^(\w+)\s*=\s*'?(.*?)'?\s*$/;
}
open(my $license, '<', $license_path) or die "$license_path: $!\n";
my $terms = join '', <$license>;
die "meta: these are not the terms of the PostgreSQL license\n"
  unless $terms =~ /use, copy, modify, and distribute this software and its\s+documentation for any purpose, without fee/;

my %meta = (
	name => 'webhook_events',
	abstract => $control{comment},
	description => 'Detects status changes of runs and builds in triggers written in C, records typed events'
	  . ' in the same transaction, and delivers them to webhooks from a background worker.',
	version => $control{default_version},
	maintainer => ['The maintainers of webhook_events'],
	license => 'postgresql',
	provides => {
		webhook_events => {
			abstract => $control{comment},
			file => "sql/webhook_events--$control{default_version}.sql",
			docfile => 'README.md',
			version => $control{default_version},
		},
	},
	prereqs => { runtime => { requires => { PostgreSQL => '15.0.0' } } },
	'meta-spec' => { version => '1.0.0', url => 'https://pgxn.org/meta/spec.txt' },
	generated_by => 'make dist',
	tags => [ 'webhooks', 'events', 'outbox', 'http', 'background worker' ],
);

foreach my $required (qw(name abstract version maintainer license provides meta-spec))
{
	die "meta: $required is missing\n" unless defined $meta{$required};
}
die "meta: \"$meta{version}\" is no semantic version\n" unless $meta{version} =~ /^\d+\.\d+\.\d+$/;
print JSON::PP->new->canonical->pretty->encode(\%meta);
