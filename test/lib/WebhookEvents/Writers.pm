# Writers.pm
#	  Sessions of the platform that write runs in every way there is, and write down
#	  each transition in the transaction that makes it.

package WebhookEvents::Writers;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;

our @EXPORT = qw(create_writers start_writer untrue_transitions);

# Creates table transitions and procedure write_run(client, longest_nap, ad_hoc_url):
# one run with its transitions, some of them in transactions of their own, some rolled
# back, to a savepoint or whole, some committed late.  Of these naps none looks at a
# clock, which a test may set.  Every fiftieth run is of the Actor "rare"; where there
# is a URL, every tenth has a webhook of its own.
sub create_writers
{
	my ($node) = @_;

	$node->safe_psql('postgres', <<'SQL');
CREATE TABLE transitions (n bigserial, client int, run text, event_type text);
CREATE SEQUENCE runs;
CREATE PROCEDURE transition(client int, run text, status text, event_type text)
LANGUAGE plpgsql AS $$
BEGIN
	UPDATE actor_runs SET status = transition.status WHERE id = run;
	INSERT INTO transitions (client, run, event_type) VALUES (client, run, event_type);
END $$;
-- What it sends is read first: a short sleep would be gone before.
CREATE PROCEDURE nap(seconds float) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('COPY (SELECT) TO PROGRAM ''cat > /dev/null; sleep %s''', round(seconds::numeric, 3));
END $$;
CREATE PROCEDURE write_run(client int, longest_nap float, ad_hoc_url text DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
	run text := client || '-' || nextval('runs');
	chance float := random();
BEGIN
	INSERT INTO actor_runs (id, actor_id, user_id)
		VALUES (run, CASE WHEN random() < 0.02 THEN 'rare' ELSE 'a' || client END, 'u');
	INSERT INTO transitions (client, run, event_type) VALUES (client, run, 'ACTOR.RUN.CREATED');
	IF ad_hoc_url IS NOT NULL AND chance BETWEEN 0.6 AND 0.7 THEN
		PERFORM webhook_events.create_ad_hoc_webhooks(run, jsonb_build_array(jsonb_build_object(
			'eventTypes', '["ACTOR.RUN.SUCCEEDED"]'::jsonb, 'requestUrl', ad_hoc_url)), 'u');
	END IF;
	IF chance < 0.3 THEN
		COMMIT;
	END IF;
	IF chance < 0.05 THEN
		CALL nap(longest_nap * random());
	END IF;
	UPDATE actor_runs SET status = 'RUNNING' WHERE id = run;
	BEGIN
		CALL transition(client, run, 'FAILED', 'ACTOR.RUN.FAILED');
		IF chance < 0.5 THEN
			RAISE EXCEPTION 'to the savepoint';
		END IF;
		CALL transition(client, run, 'RUNNING', 'ACTOR.RUN.RESURRECTED');
	EXCEPTION WHEN raise_exception THEN NULL;
	END;
	CALL transition(client, run, 'SUCCEEDED', 'ACTOR.RUN.SUCCEEDED');
	IF chance > 0.95 THEN
		CALL nap(longest_nap * random());
	END IF;
	IF chance BETWEEN 0.1 AND 0.2 THEN
		ROLLBACK;
	ELSE
		COMMIT;
	END IF;
END $$;
SQL
	return;
}

# A session that calls a procedure; a server that is killed takes it along.
sub start_writer
{
	my ($node, $call) = @_;

	return IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "CALL $call" ],
		'<', \undef, '>', '/dev/null', '2>', '/dev/null');
}

# A query: how many transitions of a run have not one event each that was committed
# with them, or the other way round.
sub untrue_transitions
{
	return <<'SQL';
SELECT count(*) FROM (
	SELECT run, event_type, count(*) FROM transitions GROUP BY 1, 2) AS t
FULL JOIN (
	SELECT actor_run_id AS run, event_type::text, count(*)
	FROM webhook_events.events GROUP BY 1, 2) AS e USING (run, event_type)
WHERE t.count IS DISTINCT FROM e.count
SQL
}

1;
