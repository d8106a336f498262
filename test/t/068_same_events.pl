# 068_same_events.pl
#	  Whatever statements do to a table and its shape, in any order, the events are
#	  those that a trigger in PL/pgSQL beside ours finds.
#
# The statements are the same each time; SAME_EVENTS says how many, SAME_EVENTS_SEED
# with which seed: for a long run with others, SAME_EVENTS_SEED=$RANDOM.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $count = $ENV{SAME_EVENTS} // 600;
my $seed = $ENV{SAME_EVENTS_SEED} // 17;
my $node = new_node('main', conf => "webhook_events.delivery = off\n");

srand($seed);
$node->safe_psql('postgres', 'CREATE EXTENSION webhook_events');
$node->safe_psql('postgres', <<'SQL');
CREATE SEQUENCE uids;
CREATE TYPE pair AS (a int);
CREATE TABLE same_runs (uid bigint NOT NULL DEFAULT nextval('uids'), id text, actor_id text, status text, p int, n int DEFAULT 0,
	secret text, c pair, UNIQUE (id, p)) PARTITION BY LIST (p);
CREATE TABLE same_0 PARTITION OF same_runs FOR VALUES IN (0);
CREATE TABLE same_1 (c pair, p int, gone int, n int DEFAULT 0, status text, secret text, actor_id text, id text, uid bigint NOT NULL DEFAULT nextval('uids'));
ALTER TABLE same_1 DROP COLUMN gone;
ALTER TABLE same_runs ATTACH PARTITION same_1 FOR VALUES IN (1);
CREATE TABLE same_2 PARTITION OF same_runs FOR VALUES IN (2, 3) PARTITION BY LIST (p);
CREATE TABLE same_2_2 PARTITION OF same_2 FOR VALUES IN (2);
CREATE TABLE same_2_3 PARTITION OF same_2 FOR VALUES IN (3);

-- What the reference finds: rows are known by uid, which nothing ever changes.
CREATE TABLE names (role text PRIMARY KEY, name text);
INSERT INTO names VALUES ('id', 'id'), ('status', 'status');
CREATE TABLE left_behind (uid bigint PRIMARY KEY, status text);
CREATE TABLE expected (number bigserial, type text, id text, old_status text, new_status text);
CREATE FUNCTION class_of(status text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN status IN ('SUCCEEDED', 'FAILED', 'ABORTED', 'TIMED-OUT', 'TIMED_OUT') THEN replace(status, '-', '_') ELSE '' END
$$;
CREATE FUNCTION reference() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	new_row jsonb := CASE TG_OP WHEN 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
	old_row jsonb := CASE TG_OP WHEN 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
	id_name text := (SELECT name FROM names WHERE role = 'id');
	status_name text := (SELECT name FROM names WHERE role = 'status');
	after text := new_row ->> status_name;
	before text := old_row ->> status_name;
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO left_behind VALUES (OLD.uid, before);
		RETURN NULL;
	ELSIF TG_OP = 'INSERT' THEN
		DELETE FROM left_behind WHERE uid = NEW.uid RETURNING status INTO before;
		IF NOT FOUND THEN
			INSERT INTO expected (type, id, new_status) VALUES ('CREATED', new_row ->> id_name, after);
			IF class_of(after) <> '' THEN
				INSERT INTO expected (type, id, new_status) VALUES (class_of(after), new_row ->> id_name, after);
			END IF;
			RETURN NULL;
		END IF;
	END IF;
	IF class_of(after) <> '' AND class_of(after) IS DISTINCT FROM class_of(before) THEN
		INSERT INTO expected (type, id, old_status, new_status) VALUES (class_of(after), new_row ->> id_name, before, after);
	ELSIF coalesce(class_of(after), '') = '' AND class_of(before) <> '' THEN
		INSERT INTO expected (type, id, old_status, new_status) VALUES ('RESURRECTED', new_row ->> id_name, before, after);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER a_reference AFTER INSERT OR UPDATE OR DELETE ON same_runs FOR EACH ROW EXECUTE FUNCTION reference();

CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('same.before', true) = 'swallow' AND NEW.n % 3 = 0 THEN
		RETURN NULL;
	ELSIF current_setting('same.before', true) = 'change' AND NEW.n % 2 = 0 THEN
		NEW := jsonb_populate_record(NEW, jsonb_build_object((SELECT name FROM names WHERE role = 'status'), 'ABORTED'));
	END IF;
	RETURN NEW;
END $$;
SELECT webhook_events.attach('same_runs', exclude => '{secret}');
SQL

my %name = (id => 'id', status => 'status', secret => 'secret', actor_id => 'actor_id');
my %is_there = map { $_ => 1 } qw(same_1 extra);
my $number = 0;

delete $is_there{extra};

sub any { return $_[ rand @_ ]; }
sub status { return any("'READY'", "'RUNNING'", "'RUNNING'", "'SUCCEEDED'", "'FAILED'", "'TIMED-OUT'", "'TIMED_OUT'", "'ABORTED'", "'odd'", 'NULL'); }
sub id { return rand() < 0.05 ? 'NULL' : "'r" . int(rand 40) . "'"; }
sub partition { return int(rand 4); }
sub table { return rand() < 0.8 ? 'same_runs' : any(qw(same_0 same_1 same_2 same_2_3)); }
sub values_list { return join ', ', map { '(' . join(', ', id(), status(), partition(), int(rand 9)) . ')' } 1 .. 1 + rand 4; }
sub columns { return "($name{id}, $name{status}, p, n)"; }
sub condition
{
	return any("$name{id} = " . id(), "$name{id} < " . id(), 'n % 3 = ' . int(rand 3), 'p = ' . partition(), "$name{id} IS NULL", 'true');
}

# Where a statement inserts as well and a trigger can swallow rows, a move that changes the
# id can't be told from a new row.
sub assignments
{
	my ($keep_id) = @_;
	my @all = ("$name{status} = " . status(), "$name{status} = " . status(), "$name{status} = $name{status}", 'n = n + 1', 'n = ' . int(rand 9),
		'p = ' . partition(), $keep_id ? () : "$name{id} = " . id(), "$name{secret} = 'x'");
	my %chosen = map { (split / /)[0] => $_ } map { any(@all) } 1 .. 1 + rand 3;

	return join ', ', map { $chosen{$_} } sort keys %chosen;
}

sub update { return 'UPDATE ' . table() . ' SET ' . assignments(@_) . ' WHERE ' . condition(); }
sub insert { return 'INSERT INTO ' . table() . ' ' . columns() . ' VALUES ' . values_list(); }

sub rename_column
{
	my $role = any(qw(id status secret actor_id));
	my $new = $role . '_' . ++$number;
	my $sql = "ALTER TABLE same_runs RENAME $name{$role} TO $new;\nUPDATE names SET name = '$new' WHERE role = '$role'";

	$name{$role} = $new;
	return $sql;
}

sub toggle
{
	my ($what, $off, $on) = @_;

	$is_there{$what} = !$is_there{$what};
	return $is_there{$what} ? $on : $off;
}

sub attach
{
	return "SELECT webhook_events.attach('same_runs', columns => '{\"id\": \"$name{id}\", \"status\": \"$name{status}\", \"actor_id\": \"$name{actor_id}\"}', exclude => '{$name{secret}}')";
}

# PostgreSQL changes no column that a WHEN clause names.  What is not a partition just
# then would no longer fit.
sub change_type
{
	my $role = any(qw(id status secret actor_id n));
	my $type = $role eq 'n' ? any('int', 'bigint') : any('text', 'varchar', 'varchar(40)');
	my $sql = 'ALTER TABLE same_runs ALTER ' . ($name{$role} // $role) . " TYPE $type";

	return 'SELECT' if !$is_there{same_1};
	return $role eq 'status' ? "SELECT webhook_events.detach('same_runs');\n$sql;\n" . attach() : $sql;
}

# What changes the shape is not rolled back, so that the names stay known.
my @shapes = (
	\&rename_column, \&rename_column,
	sub { toggle('extra', 'ALTER TABLE same_runs DROP COLUMN extra', "ALTER TABLE same_runs ADD COLUMN extra text DEFAULT 'e'") },
	sub { toggle('same_1', 'ALTER TABLE same_runs DETACH PARTITION same_1', 'TRUNCATE same_1; ALTER TABLE same_runs ATTACH PARTITION same_1 FOR VALUES IN (1)') },
	sub { toggle('meddle', 'DROP TRIGGER meddle ON same_runs', 'CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON same_runs FOR EACH ROW EXECUTE FUNCTION meddle()') },
	sub { "SET same.before = '" . any('off', 'change', 'swallow') . "'" },
	sub { toggle('b', 'ALTER TYPE pair DROP ATTRIBUTE b CASCADE', 'ALTER TYPE pair ADD ATTRIBUTE b text CASCADE') },
	sub { toggle('same_d', 'DROP TABLE same_d', 'CREATE TABLE same_d PARTITION OF same_runs DEFAULT') },
	sub { 'ALTER TABLE same_runs ALTER n SET DEFAULT ' . int(rand 9) },
	\&change_type, \&change_type,
	sub { "DEALLOCATE ALL;\nPREPARE q AS " . any(\&update, \&insert)->() },
	sub { 'SET plan_cache_mode = ' . any('auto', 'force_generic_plan', 'force_custom_plan') },
	sub { 'TRUNCATE ' . any('same_2_3', 'same_0') },
	\&attach);
my @writes = (
	\&insert, \&insert, \&insert, \&update, \&update, \&update, \&update, \&update, \&update,
	sub { 'EXECUTE q' },
	sub {
		'UPDATE same_runs SET ' . assignments() . ' FROM (VALUES ' . values_list() . ") AS v (v_id, v_status, v_p, v_n) WHERE $name{id} = v_id";
	},
	sub {
		'DO $$DECLARE c CURSOR FOR SELECT FROM same_runs WHERE ' . condition() . ' FOR UPDATE; BEGIN OPEN c; FETCH c; UPDATE same_runs SET '
		  . assignments() . ' WHERE CURRENT OF c; END$$';
	},
	sub { insert() . ' ON CONFLICT DO NOTHING' },
	sub { 'INSERT INTO same_runs ' . columns() . ' VALUES ' . values_list() . " ON CONFLICT ($name{id}, p) DO UPDATE SET $name{status} = excluded.$name{status}, n = excluded.n" },
	sub { 'DELETE FROM ' . table() . ' WHERE ' . condition() },
	sub { 'WITH u AS (' . update(1) . ' RETURNING uid) ' . insert() },
	sub { 'WITH i AS (' . insert() . ' RETURNING uid) ' . update(1) },
	sub {
		"MERGE INTO same_runs AS r USING (VALUES " . values_list() . ") AS v (id, status, p, n) ON r.$name{id} = v.id"
		  . " WHEN MATCHED AND v.n = 8 THEN DELETE WHEN MATCHED THEN UPDATE SET $name{status} = v.status, p = v.p, n = v.n"
		  . ' WHEN NOT MATCHED THEN INSERT ' . columns() . ' VALUES (v.id, v.status, v.p, v.n)';
	},
	sub {
		'COPY same_runs ' . columns() . " FROM stdin;\n" . join('', map { join("\t", map { s/^'|'$//gr =~ s/NULL/\\N/r } id(), status(), partition(), int(rand 9)) . "\n" } 1 .. 3)
		  . '\\.';
	},
	sub { 'DO $$BEGIN ' . update() . '; BEGIN ' . update() . '; ' . insert() . "; RAISE 'undone'; EXCEPTION WHEN OTHERS THEN " . update() . '; END; END$$' });

sub transaction
{
	my @statements = map { any(@writes)->() } 1 .. 1 + rand 4;
	my $at = int(rand @statements);

	splice @statements, $at, 0, 'SAVEPOINT s', any(@writes)->(), 'ROLLBACK TO s' if rand() < 0.5;
	return join(";\n", 'BEGIN', @statements, rand() < 0.8 ? 'COMMIT' : 'ROLLBACK');
}

my $script = '';
for (my $done = 0; $done < $count; $done++)
{
	my $sql = rand() < 0.15 ? any(@shapes)->() : rand() < 0.3 ? transaction() : any(@writes)->();

	$script .= "$sql;\n" =~ s/\\\.;\n/\\.\n/gr;
}
my ($status, $out, $err) = $node->psql('postgres', $script, on_error_stop => 0);
unlike($err, qr/server closed|webhook_events|cache|snapshot|outdated|mapping/, 'no error is of our making');

my ($expected, $found) = map { [ split /\n/, $node->safe_psql('postgres', $_) ] } (
	q{SELECT concat_ws(' ', type, coalesce(id, '-'), coalesce(old_status, '-'), coalesce(new_status, '-')) FROM expected ORDER BY number},
	q{SELECT concat_ws(' ', split_part(event_type::text, '.', 3), coalesce(actor_run_id, '-'), coalesce(old_status, '-'),
		coalesce(new_status, '-')) FROM webhook_events.events ORDER BY id});
my $first = 0;

$first++ while $first < @$expected && $first < @$found && $expected->[$first] eq $found->[$first];
ok($first == @$expected && $first == @$found, scalar(@$expected) . " events of $count statements are those of the reference, seed $seed")
  or diag("event $first: expected " . ($expected->[$first] // 'none') . ', found ' . ($found->[$first] // 'none'));
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook_events.events WHERE problem IS NOT NULL OR resource::text LIKE '%secret%'}), 0,
	'no resource lacks anything or has what was excluded');
cmp_ok(scalar(@$expected), '>', $count / 4, 'the statements do something');

$node->stop;
done_testing();
