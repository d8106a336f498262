# Tier.pm
#	  A delivery tier and the platforms that it subscribes to, by the steps that the page on
#	  scaling out gives; and what has arrived.

package WebhookEvents::Tier;

use strict;
use warnings;

use Exporter 'import';
use WebhookEvents::Node;

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

	publish_webhooks($node, $publication, "$table, ", q{ WITH (publish = ''insert, update, delete'', publish_via_partition_root = true)});
	return;
}

# Publishes the webhooks without what means something on the server that wrote it alone.
sub publish_webhooks
{
	my ($node, $publication, $others, $options) = @_;

	$others //= '';
	$options //= '';
	$node->safe_psql('postgres', qq{SELECT format('CREATE PUBLICATION $publication FOR TABLE ${others}webhook_events_internal.webhooks (%s)'
	'$options', string_agg(quote_ident(attname), ', ' ORDER BY attnum))
	FROM pg_attribute WHERE attrelid = 'webhook_events_internal.webhooks'::regclass AND attnum > 0 AND NOT attisdropped
		AND attname NOT IN ('created_xid', 'created_in') \\gexec
});
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

# Before version 17 a server that was promoted gets a slot, and the tier begins with that: it
# can have got what that server has not.
sub begin_with_new_slot
{
	my ($tier, $subscription, $promoted) = @_;
	my $lsn = $promoted->safe_psql('postgres', "SELECT lsn FROM pg_create_logical_replication_slot('$subscription', 'pgoutput')");

	$tier->safe_psql('postgres', "ALTER SUBSCRIPTION $subscription DISABLE");
	# Refused while the subscription's process is still there.
	wait_until
	{
		my ($status) = $tier->psql('postgres', "SELECT pg_replication_origin_advance('pg_' || oid, '$lsn') FROM pg_subscription WHERE subname = '$subscription'");

		$status == 0;
	}
	'the tier begins with the new slot';
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
