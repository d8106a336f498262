# 068_same_events.pl
#	  Whatever statements do to a table and its shape, in any order, the events are
#	  those that a trigger in PL/pgSQL beside ours finds.
#
# The statements are the same each time; SAME_EVENTS says how many, SAME_EVENTS_SEED
# with which seed: for a long run with others, SAME_EVENTS_SEED=$RANDOM.  The type of
# the statuses goes with the seed too; SAME_EVENTS_STATUS=phase sets it.

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WebhookEvents::Node;

my $count = $ENV{SAME_EVENTS} // 600;
my $seed = $ENV{SAME_EVENTS_SEED} // 17;
my @types = ('text', 'phase', 'text', 'phase_domain', 'char(12)', 'text_domain');
my $type = $ENV{SAME_EVENTS_STATUS} // $types[ $seed % @types ];
my $node = new_node('main', conf => "webhook_events.delivery = off\n");
my $version = $node->safe_psql('postgres', "SELECT current_setting('server_version_num')::int / 10000");

srand($seed);
$node->safe_psql('postgres', 'CREATE EXTENSION webhook_events');
$node->safe_psql('postgres', <<"SQL");
CREATE SEQUENCE uids;
CREATE TYPE pair AS (a int);
CREATE TYPE phase AS ENUM ('READY', 'RUNNING', 'SUCCEEDED', 'FAILED', 'TIMED-OUT', 'TIMED_OUT', 'ABORTED', 'odd');
CREATE DOMAIN phase_domain AS phase;
CREATE DOMAIN text_domain AS varchar CHECK (VALUE <> 'never');
CREATE TABLE same_runs (uid bigint NOT NULL DEFAULT nextval('uids'), id text, actor_id text, status $type, p int, n int DEFAULT 0,
	secret text, c pair, UNIQUE (id, p)) PARTITION BY LIST (p);
CREATE TABLE same_0 PARTITION OF same_runs FOR VALUES IN (0);
CREATE TABLE same_1 (c pair, p int, gone int, n int DEFAULT 0, status $type, secret text, actor_id text, id text, uid bigint NOT NULL DEFAULT nextval('uids'));
ALTER TABLE same_1 DROP COLUMN gone;
ALTER TABLE same_runs ATTACH PARTITION same_1 FOR VALUES IN (1);
CREATE INDEX ON same_runs (uid);
CREATE TABLE same_2 PARTITION OF same_runs FOR VALUES IN (2, 3) PARTITION BY LIST (p);
CREATE TABLE same_2_2 PARTITION OF same_2 FOR VALUES IN (2);
CREATE TABLE same_2_3 PARTITION OF same_2 FOR VALUES IN (3);
-- Whose changes go on to the runs, by foreign keys; and what follows those of the runs.
CREATE TABLE statuses (name $type PRIMARY KEY);
INSERT INTO statuses SELECT unnest(enum_range(NULL::phase))::text::$type;
CREATE TABLE notes (id text, p int);
SQL
$node->safe_psql('postgres', <<'SQL');
-- What the reference finds: rows are known by uid, which nothing ever changes.
CREATE TABLE names (role text PRIMARY KEY, name text);
INSERT INTO names VALUES ('id', 'id'), ('status', 'status');
CREATE TABLE left_behind (uid bigint PRIMARY KEY, status text);
CREATE TABLE expected (number bigserial, type text, id text, old_status text, new_status text, p int, n int);
CREATE FUNCTION class_of(status text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN rtrim(status) IN ('SUCCEEDED', 'FAILED', 'ABORTED', 'TIMED-OUT', 'TIMED_OUT') THEN replace(rtrim(status), '-', '_') ELSE '' END
$$;
CREATE FUNCTION reference() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
DECLARE
	new_row jsonb := CASE TG_OP WHEN 'DELETE' THEN NULL ELSE to_jsonb(NEW) END;
	old_row jsonb := CASE TG_OP WHEN 'INSERT' THEN NULL ELSE to_jsonb(OLD) END;
	id_name text := (SELECT name FROM names WHERE role = 'id');
	status_name text := (SELECT name FROM names WHERE role = 'status');
	after text := rtrim(new_row ->> status_name);
	before text := rtrim(old_row ->> status_name);
BEGIN
	IF TG_OP = 'DELETE' THEN
		INSERT INTO left_behind VALUES (OLD.uid, before) ON CONFLICT (uid) DO UPDATE SET status = excluded.status;
		RETURN NULL;
	ELSIF TG_OP = 'INSERT' THEN
		DELETE FROM left_behind WHERE uid = NEW.uid RETURNING status INTO before;
		IF NOT FOUND THEN
			INSERT INTO expected (type, id, new_status, p, n) VALUES ('CREATED', new_row ->> id_name, after, NEW.p, NEW.n);
			IF class_of(after) <> '' THEN
				INSERT INTO expected (type, id, new_status, p, n) VALUES (class_of(after), new_row ->> id_name, after, NEW.p, NEW.n);
			END IF;
			RETURN NULL;
		END IF;
	END IF;
	IF class_of(after) <> '' AND class_of(after) IS DISTINCT FROM class_of(before) THEN
		INSERT INTO expected (type, id, old_status, new_status, p, n) VALUES (class_of(after), new_row ->> id_name, before, after, NEW.p, NEW.n);
	ELSIF coalesce(class_of(after), '') = '' AND class_of(before) <> '' THEN
		INSERT INTO expected (type, id, old_status, new_status, p, n) VALUES ('RESURRECTED', new_row ->> id_name, before, after, NEW.p, NEW.n);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER a_reference AFTER INSERT OR UPDATE OR DELETE ON same_runs FOR EACH ROW EXECUTE FUNCTION reference();

-- Ours come right after it, for rows that go by names as well.
CREATE FUNCTION come_first() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'same_runs'::regclass AND tgname LIKE 'webhook\_events\_%' LOOP
		EXECUTE format('ALTER TRIGGER %I ON same_runs RENAME TO %I', name, 'b_' || name);
	END LOOP;
END $$;

CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('same.before', true) = 'swallow' AND NEW.n % 3 = 0 THEN
		RETURN NULL;
	ELSIF current_setting('same.before', true) = 'change' AND NEW.n % 2 = 0 THEN
		NEW := jsonb_populate_record(NEW, jsonb_build_object((SELECT name FROM names WHERE role = 'status'), 'ABORTED'));
	END IF;
	RETURN NEW;
END $$;
-- Writes the row once more, after it was written.
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	assignment text := CASE current_setting('same.again', true)
		WHEN 'touch' THEN 'n = n + 1'
		WHEN 'end' THEN format('%I = ''ABORTED''', (SELECT name FROM names WHERE role = 'status'))
		WHEN 'move' THEN 'p = (p + 1) % 4' END;
BEGIN
	IF NEW.n % 2 = 0 AND assignment IS NOT NULL THEN
		EXECUTE 'UPDATE same_runs SET ' || assignment || ' WHERE uid = $1' USING NEW.uid;
	ELSIF NEW.n % 2 = 0 AND current_setting('same.again', true) = 'delete' THEN
		DELETE FROM same_runs WHERE uid = NEW.uid;
	ELSIF NEW.n % 2 = 0 AND current_setting('same.again', true) = 'undo' THEN
		BEGIN
			UPDATE same_runs SET p = (p + 1) % 4 WHERE uid = NEW.uid;
			RAISE 'undone';
		EXCEPTION WHEN OTHERS THEN
			UPDATE same_runs SET n = n + 1 WHERE uid = NEW.uid;
		END;
	END IF;
	RETURN NULL;
END $$;
-- The same for all rows of a statement that it finds in transition tables.
CREATE FUNCTION all_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('UPDATE same_runs AS r SET %s FROM rows_after AS a WHERE r.uid = a.uid AND a.uid %% 8 = 0', CASE current_setting('same.again', true)
		WHEN 'end' THEN format('%I = ''ABORTED''', (SELECT name FROM names WHERE role = 'status'))
		WHEN 'move' THEN 'p = (r.p + 1) % 4' ELSE 'n = r.n + 1' END);
	RETURN NULL;
END $$;
-- Writes that are one statement for who calls it.
CREATE FUNCTION twice(int) RETURNS SETOF bigint LANGUAGE sql AS $$
	UPDATE same_runs SET n = n + 1 WHERE p = $1;
	UPDATE same_runs SET p = (p + 1) % 4 WHERE n = $1 RETURNING uid;
$$;
-- Writes what is written to a view.
CREATE FUNCTION instead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		EXECUTE format('INSERT INTO same_runs (%I, %I, p, n) VALUES ($1, $2, $3, $4)', VARIADIC (SELECT array_agg(name ORDER BY role) FROM names WHERE role IN ('id', 'status')))
			USING NEW.i, NEW.s, NEW.p, NEW.n;
	ELSE
		EXECUTE format('UPDATE same_runs SET %I = $1, n = $2, p = $3 WHERE uid = $4', (SELECT name FROM names WHERE role = 'status')) USING NEW.s, NEW.n, NEW.p, OLD.u;
	END IF;
	RETURN NEW;
END $$;
SELECT webhook_events.attach('same_runs', exclude => '{secret}');
SELECT come_first();
CREATE ROLE writer;
GRANT ALL ON same_runs, same_0, same_1, same_2, same_2_2, same_2_3 TO writer;
GRANT USAGE ON SEQUENCE uids TO writer;
GRANT SELECT ON names TO writer;
CREATE POLICY most ON same_runs USING (n <> 4) WITH CHECK (n <> 5);
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE elsewhere LOCATION '';
SQL

my %name = (id => 'id', status => 'status', secret => 'secret', actor_id => 'actor_id');
my %is_there = (same_1 => 1);
my $number = 0;
my $cast = $type eq 'text' || $type eq 'char(12)' ? '' : "::$type";

sub any { return $_[ rand @_ ]; }
sub status { return any("'READY'", "'RUNNING'", "'RUNNING'", "'SUCCEEDED'", "'FAILED'", "'TIMED-OUT'", "'TIMED_OUT'", "'ABORTED'", "'odd'", 'NULL') . $cast; }
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

# Where one partition is apart the others keep their shape, lest it never fit again.
sub rename_column
{
	return 'SELECT' if !$is_there{same_1};
	my $role = any(qw(id status secret actor_id));
	my $new = $role . '_' . ++$number;
	my $sql = "ALTER TABLE same_runs RENAME $name{$role} TO $new;\nUPDATE names SET name = '$new' WHERE role = '$role'";

	$name{$role} = $new;
	return $sql;
}

sub toggle
{
	my ($what, $off, $on) = @_;

	return 'SELECT' if !$is_there{same_1} && $what =~ /^(extra|computed|view)$/;
	$is_there{$what} = !$is_there{$what};
	return $is_there{$what} ? $on : $off;
}

# Triggers that were disabled are enabled again by it.
sub attach
{
	$is_there{disabled} = 0;
	return "ALTER TABLE same_runs ENABLE TRIGGER USER;\nSELECT webhook_events.attach('same_runs', columns => '{\"id\": \"$name{id}\", \"status\": \"$name{status}\", \"actor_id\": \"$name{actor_id}\"}', exclude => '{$name{secret}}');\nSELECT come_first()";
}

# PostgreSQL changes no column that a WHEN clause names.  What is not a partition just
# then would no longer fit.
sub change_type
{
	my $role = any(qw(id status secret actor_id n));
	my $type = $role eq 'n' ? any('int', 'bigint') : any('text', 'varchar', 'varchar(40)');
	my $sql = 'ALTER TABLE same_runs ALTER ' . ($name{$role} // $role) . " TYPE $type";

	return 'SELECT' if !$is_there{same_1} || ($role eq 'status' && $type ne 'text');
	$is_there{$_} = 0 foreach qw(view computed);
	$sql = "DROP VIEW IF EXISTS runs_view, runs_rule, runs_instead;\nALTER TABLE same_runs DROP COLUMN IF EXISTS computed;\n$sql";
	return $role eq 'status' ? "SELECT webhook_events.detach('same_runs');\n$sql;\n" . attach() : $sql;
}

sub views
{
	return toggle('view', 'DROP VIEW runs_view, runs_rule, runs_instead', <<"SQL");
CREATE VIEW runs_view AS SELECT uid AS u, $name{id} AS i, $name{status} AS s, p, n FROM same_runs WHERE n < 8 WITH CHECK OPTION;
CREATE VIEW runs_rule AS SELECT * FROM runs_view;
CREATE RULE rule AS ON UPDATE TO runs_rule DO INSTEAD UPDATE same_runs SET $name{status} = NEW.s, n = NEW.n, p = NEW.p WHERE uid = OLD.u;
CREATE VIEW runs_instead AS SELECT * FROM runs_view;
CREATE TRIGGER instead INSTEAD OF INSERT OR UPDATE ON runs_instead FOR EACH ROW EXECUTE FUNCTION instead()
SQL
}

# What changes the shape is not rolled back, so that the names stay known.
my @shapes = (
	\&views, \&views,
	sub { toggle('computed', 'ALTER TABLE same_runs DROP COLUMN computed',
		'ALTER TABLE same_runs ADD COLUMN computed int GENERATED ALWAYS AS (n * 2) ' . ($version >= 18 ? any('STORED', 'VIRTUAL') : 'STORED')) },
	sub { toggle('c_again', 'DROP TRIGGER c_again ON same_runs', 'CREATE TRIGGER c_again AFTER INSERT OR UPDATE ON same_runs FOR EACH ROW'
		  . " WHEN (pg_trigger_depth() < 2 AND current_setting('same.again', true) IN ('touch', 'end')) EXECUTE FUNCTION again()") },
	sub { toggle('zz_again', 'DROP TRIGGER zz_again ON same_runs', 'CREATE TRIGGER zz_again AFTER INSERT OR UPDATE ON same_runs FOR EACH ROW'
		  . ' WHEN (pg_trigger_depth() < 2) EXECUTE FUNCTION again()') },
	sub { "SET same.again = '" . any('off', 'touch', 'end', 'move', 'delete', 'undo') . "'" },
	sub { toggle('zz_late', 'DROP TRIGGER zz_late ON same_runs', 'CREATE CONSTRAINT TRIGGER zz_late AFTER INSERT OR UPDATE ON same_runs DEFERRABLE INITIALLY '
		  . any('DEFERRED', 'IMMEDIATE') . ' FOR EACH ROW WHEN (pg_trigger_depth() < 1 AND NEW.uid % 8 = 1) EXECUTE FUNCTION again()') },
	sub { toggle('all_inserted', 'DROP TRIGGER all_inserted ON same_runs', 'CREATE TRIGGER all_inserted AFTER INSERT ON same_runs'
		  . ' REFERENCING NEW TABLE AS rows_after WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION all_again()') },
	sub { toggle('all_updated', 'DROP TRIGGER all_updated ON same_runs', 'CREATE TRIGGER all_updated AFTER UPDATE ON same_runs'
		  . ' REFERENCING NEW TABLE AS rows_after OLD TABLE AS rows_before WHEN (pg_trigger_depth() < 1) EXECUTE FUNCTION all_again()') },
	sub { toggle('checked', 'ALTER TABLE same_runs DROP CONSTRAINT checked', 'ALTER TABLE same_runs ADD CONSTRAINT checked CHECK (n < 8) '
		  . ($version >= 18 ? any('NOT VALID', 'NOT ENFORCED') : 'NOT VALID')) },
	sub { "ALTER TABLE same_0 ALTER $name{secret} SET " . any('STORAGE EXTERNAL', 'STORAGE MAIN', 'COMPRESSION lz4', 'COMPRESSION pglz') },
	sub { 'CLUSTER same_0 USING same_0_id_p_key' },
	sub { toggle('cascade', 'ALTER TABLE same_runs DROP CONSTRAINT status_fkey',
		"DELETE FROM same_runs WHERE $name{status} NOT IN (SELECT name FROM statuses);\n"
		  . "ALTER TABLE same_runs ADD CONSTRAINT status_fkey FOREIGN KEY ($name{status}) REFERENCES statuses ON UPDATE CASCADE ON DELETE SET NULL") },
	sub { toggle('noted', 'ALTER TABLE notes DROP CONSTRAINT noted', 'TRUNCATE notes; ALTER TABLE notes ADD CONSTRAINT noted'
		  . " FOREIGN KEY (id, p) REFERENCES same_runs ($name{id}, p) ON UPDATE CASCADE ON DELETE CASCADE") },
	sub { toggle('secured', 'ALTER TABLE same_runs DISABLE ROW LEVEL SECURITY', 'ALTER TABLE same_runs ENABLE ROW LEVEL SECURITY') },
	sub { toggle('disabled', 'ALTER TABLE same_runs ENABLE TRIGGER USER', 'ALTER TABLE same_runs DISABLE TRIGGER USER') },
	sub { 'ALTER TABLE ' . any(qw(same_0 same_2_3)) . ' SET ' . any('TABLESPACE elsewhere', 'TABLESPACE pg_default', 'UNLOGGED', 'LOGGED') },
	sub { 'ALTER TABLE ' . any(qw(same_0 same_2_2)) . ' REPLICA IDENTITY ' . any('FULL', 'NOTHING', 'DEFAULT') },
	sub { any('VACUUM FULL ', 'VACUUM FREEZE ', 'ANALYZE ') . any(qw(same_0 same_1)) },
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
	sub { 'TRUNCATE ' . any('same_2_3', 'same_0') . ' CASCADE' },
	\&attach);
my @writes = (
	\&insert, \&insert, \&insert, \&update, \&update, \&update, \&update, \&update, \&update,
	sub { 'EXECUTE q' },
	sub { 'INSERT INTO same_runs ' . columns() =~ s/\)$/, $name{secret})/r . ' SELECT ' . any("'r' || i", 'NULL') . ', ' . status()
		  . ", i % 4, i % 9, repeat('secret', i * 9) FROM generate_series(1, " . int(rand 120) . ') AS i' . any('', ' ON CONFLICT DO NOTHING')
		  . ";\nDELETE FROM same_runs WHERE uid < (SELECT max(uid) - 40 FROM same_runs)" },
	sub { 'SELECT count(*) FROM twice(' . partition() . ')' . any('', ', twice(' . partition() . ') LIMIT 1') },
	sub { 'UPDATE same_runs SET ' . assignments() . ' WHERE uid IN (SELECT uid FROM same_runs WHERE ' . condition() . ' ORDER BY uid LIMIT 2 FOR UPDATE SKIP LOCKED)'
		  . ($version >= 18 ? ' RETURNING old.uid, new.n - old.n' : '') },
	sub { 'SET CONSTRAINTS ALL ' . any('DEFERRED', 'IMMEDIATE') },
	sub { "BEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n" . insert() . ";\nSAVEPOINT s;\n" . update() . ";\nSET CONSTRAINTS ALL IMMEDIATE;\n"
		  . any('ROLLBACK TO s', 'RELEASE s') . ";\n" . update() . ";\nCOMMIT" },
	sub {
		'UPDATE same_runs SET ' . assignments() . ' FROM (VALUES ' . values_list() . ") AS v (v_id, v_status, v_p, v_n) WHERE $name{id} = v_id";
	},
	sub {
		'DO $$DECLARE c CURSOR FOR SELECT FROM same_runs WHERE ' . condition() . ' FOR UPDATE; BEGIN OPEN c; MOVE c; UPDATE same_runs SET '
		  . assignments() . ' WHERE CURRENT OF c; END$$';
	},
	sub { insert() . ' ON CONFLICT DO NOTHING' },
	sub { 'INSERT INTO same_runs ' . columns() . ' VALUES ' . values_list() . " ON CONFLICT ($name{id}, p) DO UPDATE SET $name{status} = excluded.$name{status}, n = excluded.n" },
	sub { 'DELETE FROM ' . table() . ' WHERE ' . condition() },
	sub { 'UPDATE ' . any(qw(runs_view runs_rule runs_instead)) . ' SET ' . any('s = ' . status(), 'n = n + 1', 's = ' . status() . ', n = 3', 'p = ' . partition() . ', s = ' . status()) . ' WHERE ' . any('i = ' . id(), 'n % 3 = 1', 'p = ' . partition()) },
	sub { 'INSERT INTO ' . any(qw(runs_view runs_instead)) . ' (i, s, p, n) VALUES ' . values_list() },
	\&rename_status, \&rename_status,
	sub { "INSERT INTO notes SELECT $name{id}, p FROM same_runs WHERE n % 3 = " . int(rand 3) . any('', '; DELETE FROM notes WHERE p = 1') },
	sub {
		"LOAD 'auto_explain';\nSET auto_explain.log_min_duration = 0;\nSET auto_explain.log_analyze = on;\nSET auto_explain.log_nested_statements = on;\n"
		  . "SET auto_explain.log_triggers = on;\n" . update() . ";\nSET auto_explain.log_min_duration = -1";
	},
	sub { "SET ROLE writer;\n" . update() . ";\n" . any(\&update, \&insert)->() . ";\nRESET ROLE" },
	sub {
		"CREATE RULE also AS ON UPDATE TO same_runs WHERE NEW.n > 4 DO ALSO UPDATE same_0 SET $name{status} = " . status() . " WHERE uid = (SELECT min(uid) FROM same_0);\n"
		  . join(";\n", map { update() } 1 .. 2) . ";\nDROP RULE also ON same_runs";
	},
	sub { "SET session_replication_role = replica;\n" . any(\&update, \&insert)->() . ";\nRESET session_replication_role" },
	sub { 'SET statement_timeout = ' . int(1 + rand 4) . ";\n" . update() . ";\n" . insert() . ";\nRESET statement_timeout" },
	sub { 'EXPLAIN (ANALYZE, COSTS off, TIMING off) ' . any(\&update, \&insert)->() },
	sub { 'DO $$BEGIN ' . join('; ', map { any(\&update, \&insert)->() . '; ' . any('COMMIT', 'COMMIT', 'ROLLBACK') } 1 .. 3) . '; END$$' },
	sub { 'DO $$BEGIN FOR i IN 1 .. 70 LOOP BEGIN ' . update() . "; IF i % 3 > 0 THEN RAISE 'undone'; END IF; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END\$\$" },
	sub { 'DO $$DECLARE r record; BEGIN FOR r IN ' . update() . ' RETURNING uid LOOP UPDATE same_runs SET n = n + 1 WHERE uid = r.uid; EXIT WHEN r.uid % 3 = 0; END LOOP; END$$' },
	sub { "BEGIN;\nTRUNCATE same_0 CASCADE;\n" . copy('same_0', 'WITH (FREEZE)', 0) . ";\n" . update() . ";\nCOMMIT" },
	sub { copy('same_runs', 'WHERE n > 4') },
	\&undone_shape, \&undone_shape,
	sub { 'WITH u AS (' . update(1) . ' RETURNING uid) ' . insert() },
	sub { 'WITH i AS (' . insert() . ' RETURNING uid) ' . update(1) },
	sub {
		"MERGE INTO same_runs AS r USING (VALUES " . values_list() . ") AS v (id, status, p, n) ON r.$name{id} = v.id"
		  . " WHEN MATCHED AND v.n = 8 THEN DELETE WHEN MATCHED THEN UPDATE SET $name{status} = v.status, p = v.p, n = v.n"
		  . ' WHEN NOT MATCHED AND v.n = 7 THEN DO NOTHING WHEN NOT MATCHED THEN INSERT ' . columns() . ' VALUES (v.id, v.status, v.p, v.n)'
		  . ($version >= 17 ? any('', " WHEN NOT MATCHED BY SOURCE AND r.n = 3 THEN UPDATE SET $name{status} = " . status(), ' RETURNING merge_action(), r.uid') : '');
	},
	sub { copy('same_runs', '') },
	sub { 'DO $$BEGIN ' . update() . '; BEGIN ' . update() . '; ' . insert() . "; RAISE 'undone'; EXCEPTION WHEN OTHERS THEN " . update() . '; END; END$$' });

# All runs of a status get another one, by the foreign key; or the enum calls it so.
sub rename_status
{
	my ($from, $to) = map { (s/::.*//r) } grep { !/NULL/ } map { status() } 1 .. 20;

	return "BEGIN;\nDELETE FROM statuses WHERE name = $to;\nUPDATE statuses SET name = $to WHERE name = $from;\nINSERT INTO statuses VALUES ($from);\n"
	  . update() . ";\nCOMMIT" if $type !~ /^phase/ || $from eq $to;
	return "BEGIN;\nALTER TYPE phase RENAME VALUE $from TO 'swapped';\nALTER TYPE phase RENAME VALUE $to TO $from;\n"
	  . "ALTER TYPE phase RENAME VALUE 'swapped' TO $to;\n" . update() . ";\n" . insert() . ";\nCOMMIT";
}

sub copy
{
	my ($table, $options, $partition) = @_;

	return "COPY $table " . columns() . " FROM stdin $options;\n"
	  . join('', map { join("\t", map { s/::.*//r =~ s/^'|'$//gr =~ s/NULL/\\N/r } id(), status(), $partition // partition(), int(rand 9)) . "\n" } 1 .. 3) . '\\.';
}

# A change of shape that is rolled back after it was written to.
sub undone_shape
{
	my %before = %name;
	my $sql = any(\&rename_column, \&rename_column, sub { 'ALTER TABLE same_runs ALTER n TYPE ' . any('bigint', 'text') },
		sub { "ALTER TABLE same_runs ADD COLUMN x int DEFAULT 7" }, sub { "ALTER TABLE same_runs DROP COLUMN $name{secret}" },
		sub { "SELECT webhook_events.detach('same_runs')" }, sub { 'ALTER TABLE same_runs DETACH PARTITION same_2' })->();

	my $write = any(\&update, \&insert)->();

	%name = %before;
	return join(";\n", 'BEGIN', 'SAVEPOINT s', $sql, $write, 'ROLLBACK TO s', any('COMMIT', 'ROLLBACK'));
}

sub transaction
{
	my @statements = map { any(@writes)->() } 1 .. 1 + rand 4;
	my $at = int(rand @statements);

	splice @statements, $at, 0, 'SAVEPOINT s', any(@writes)->(), 'ROLLBACK TO s' if rand() < 0.5;
	return join(";\n", 'BEGIN', @statements, any(('COMMIT') x 6, ('ROLLBACK') x 2, "PREPARE TRANSACTION 'later';\nCOMMIT PREPARED 'later'",
			"PREPARE TRANSACTION 'later';\nROLLBACK PREPARED 'later'"));
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
	q{SELECT concat_ws(' ', type, coalesce(id, '-'), coalesce(old_status, '-'), coalesce(new_status, '-'), p, n) FROM expected ORDER BY number},
	q{SELECT concat_ws(' ', split_part(event_type::text, '.', 3), coalesce(actor_run_id, '-'), coalesce(old_status, '-'),
		coalesce(new_status, '-'), resource ->> 'p', resource ->> 'n') FROM webhook_events.events ORDER BY id});
my $first = 0;

$first++ while $first < @$expected && $first < @$found && $expected->[$first] eq $found->[$first];
ok($first == @$expected && $first == @$found, scalar(@$expected) . " events of $count statements are those of the reference, seed $seed")
  or diag("event $first: expected " . ($expected->[$first] // 'none') . ', found ' . ($found->[$first] // 'none'));
is($node->safe_psql('postgres', q{SELECT count(*) FROM webhook_events.events WHERE problem IS NOT NULL OR resource::text LIKE '%secret%'}), 0,
	'no resource lacks anything or has what was excluded');
cmp_ok(scalar(@$expected), '>', $count / 4, 'the statements do something');

$node->stop;
done_testing();
