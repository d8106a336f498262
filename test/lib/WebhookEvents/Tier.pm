# Tier.pm
#	  A delivery tier and the platforms that it subscribes to, by the steps that the page on
#	  scaling out gives; and what has arrived.

package WebhookEvents::Tier;

use strict;
use warnings;

use Exporter 'import';
use WebhookEvents::Node;
use WebhookEvents::Page qw(page_block);

our @EXPORT = qw(connection publish_platform publish_webhooks subscribe begin_with_new_slot arrived has_arrived);

# How a node is reached, as a part of a string in SQL.
sub connection
{
	my ($node) = @_;

	return $node->connstr('postgres') =~ s/'/''/gr;
}

# Publishes a table of runs and the webhooks, as the page has it.
sub publish_platform
{
	my ($node, $publication, $table) = @_;
	my $block = page_block('scale-out', qr/CREATE PUBLICATION platform_a/) =~ s/\A.*?(?=SELECT)//sr;

	$node->safe_psql('postgres', $block =~ s/platform_a/$publication/r =~ s/a\.actor_runs/$table/r);
	return;
}

# Publishes the webhooks alone.
sub publish_webhooks
{
	my ($node, $publication) = @_;

	$node->safe_psql('postgres', page_block('scale-out', qr/CREATE PUBLICATION definitions/) =~ s/definitions/$publication/r);
	return;
}

# Lets a tier follow it, under the name of the subscription.
sub subscribe
{
	my ($tier, $subscription, $node, $publication, $options) = @_;

	$tier->safe_psql('postgres', "CREATE SUBSCRIPTION $subscription CONNECTION '" . connection($node) . "' PUBLICATION $publication"
		  . ($options ? " WITH ($options)" : ''));
	return;
}

# Before version 17 a server that was promoted gets a slot, and the tier begins with that and with
# the rows that it has, since it can have got others; as the page has it, after an edit by a function.
sub begin_with_new_slot
{
	my ($tier, $subscription, $promoted, $edit) = @_;
	my $lsn = $promoted->safe_psql('postgres', page_block('scale-out', qr/pg_create_logical_replication_slot/) =~ s/tier_a/$subscription/r);
	my $user = $tier->safe_psql('postgres', 'SELECT current_user');
	my ($host, $port, $connection) = ($promoted->host, $promoted->port, connection($promoted));
	my $block = page_block('scale-out', qr/pg_replication_origin_advance/);

	$block =~ s/tier_a/$subscription/g;
	$block =~ s/\ba\.actor_runs/actor_runs/g;
	$block =~ s/FOREIGN SCHEMA a /FOREIGN SCHEMA public /;
	$block =~ s{0/\.\.\.}{$lsn};
	$block =~ s/host '\.\.\.', dbname '\.\.\.'/host '$host', port '$port', dbname 'postgres'/;
	$block =~ s/user '\.\.\.', password '\.\.\.'/user '$user', password 'none'/;
	$block =~ s/host=\.\.\. dbname=\.\.\./$connection/;
	$block = $edit->($block) if $edit;
	die "something was left out in:\n$block" if $block =~ /\.\.\./;
	my ($disable, $advance, $rest) = split /(?<=;)\n/, $block, 3;
	$tier->safe_psql('postgres', $disable);
	# Refused while the subscription's process is still there.
	wait_until
	{
		my ($status) = $tier->psql('postgres', $advance);

		$status == 0;
	}
	'the tier begins with the new slot';
	$tier->safe_psql('postgres', $rest);
	return;
}

# What has arrived at a receiver, "TYPE RUN" => how often; only what was sent to a target, if
# there is one.
sub arrived
{
	my ($receiver, $target) = @_;
	my %seen;

	foreach my $request ($receiver->requests)
	{
		my ($type) = $request->{body} =~ /"eventType": "([^"]*)"/;
		my ($run) = $request->{body} =~ /"actorRunId":"([^"]*)"/;

		next if defined $target && !(defined $run && $request->{target} eq $target);
		$seen{($type // '') . ' ' . ($run // '')}++;
	}
	return \%seen;
}

# Has all of this arrived?
sub has_arrived
{
	my ($receiver, $expected, $target) = @_;
	my $seen = arrived($receiver, $target);

	return !grep { !$seen->{$_} } keys %$expected;
}

1;
