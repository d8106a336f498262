#!/usr/bin/perl
#
# update.pl
#	  Derives the script that updates the extension from one version to another
#	  from the scripts that create them.
#
# Usage: update.pl OLD.sql NEW.sql BY-HAND.sql > update.sql
#
# Tables keep their rows: they move to the schema in which the new version has
# them and get what they lack (columns at their end, constraints, indexes, those
# of days too).  Functions and views that look the same from outside are
# replaced, so that what depends on them stays; others are dropped and made
# anew.  All the rest of the new script runs as it stands.  What can't be derived
# stands in BY-HAND.sql, in sections "-- before", "-- tables" and "-- after":
# before anything changes, when the tables are where they will be, and at the end.  "-- as
# created: TEXT" there stands for the statement of the new script that has this text.
#
# It fails rather than leave out a difference that it doesn't understand.

use strict;
use warnings;

my ($old_path, $new_path, $hand_path) = @ARGV;
my $public = 'webhook_events';

sub slurp
{
	my ($path) = @_;

	open(my $file, '<', $path) or die "$path: $!\n";
	local $/;
	return scalar <$file>;
}

# Splits a script into statements without the ";", comments between them left out.
sub statements
{
	my ($text) = @_;
	my @result;

	while ($text !~ /\G\s*\z/gc)
	{
		next if $text =~ /\G\s*(?:--[^\n]*\n|\/\*.*?\*\/|\\[^\n]*\n)/gcs;
		$text =~ /\G\s*/gc;
		my $from = pos($text);
		my $atomic = 0;

		while (1)
		{
			$text =~ /\G[^';\$"\/BE-]+/gc;
			if ($text =~ /\G(?:--[^\n]*\n|\/\*.*?\*\/|'(?:[^']|'')*'|"(?:[^"]|"")*")/gcs) { next; }
			elsif ($text =~ /\G(\$\w*\$)/gc)
			{
				my $tag = quotemeta $1;

				$text =~ /\G.*?$tag/gcs or die "open dollar quote\n";
			}
			elsif ($text =~ /\G\bBEGIN ATOMIC\b/gc) { $atomic = 1; }
			elsif ($text =~ /\G\bEND(?=;)/gc) { $atomic = 0; }
			elsif ($text =~ /\G;/gc)
			{
				next if $atomic;
				push @result, substr($text, $from, pos($text) - $from - 1);
				last;
			}
			elsif ($text !~ /\G./gcs) { die "open statement at: " . substr($text, $from, 80) . "\n"; }
		}
	}
	return @result;
}

# "a, b (c, d), e" at its commas outside of parentheses and quotes.
sub split_list
{
	my ($text) = @_;
	my @parts = ('');
	my $depth = 0;

	while ($text =~ /\G('(?:[^']|'')*'|"[^"]*"|--[^\n]*\n|.)/gs)
	{
		my $token = $1;

		next if $token =~ /^--/;
		$depth += $token eq '(' || $token eq '[' ? 1 : $token eq ')' || $token eq ']' ? -1 : 0;
		if ($token eq ',' && !$depth) { push @parts, ''; }
		else { $parts[-1] .= $token; }
	}
	return grep { /\S/ } map { s/\s+/ /gr =~ s/^ | $//gr } @parts;
}

sub parenthesized
{
	my ($text) = @_;
	my ($inner) = $text =~ /(\((?:[^()']|'(?:[^']|'')*'|(?1))*\))/s or die "no parentheses: $text\n";

	return substr($inner, 1, -1);
}

# The types of a function's input arguments, without names and defaults.
sub input_types
{
	my ($arguments) = @_;
	my @types;

	foreach my $argument (split_list($arguments))
	{
		next if $argument =~ /^OUT /;
		$argument =~ s/\s+DEFAULT\s.*|\s*=\s.*//s;
		$argument =~ s/^(?:IN|INOUT|VARIADIC) //;
		$argument =~ s/^"?\w+"? (?=\S)//;
		push @types, $argument;
	}
	return join ', ', @types;
}

# kind => { name => { statement, ... } } in the order of the script
sub parse
{
	my ($path) = @_;
	my %script = (all => [ statements(slurp($path)) ]);

	foreach my $statement (@{ $script{all} })
	{
		if ($statement =~ /^CREATE TABLE (\S+)\s*(PARTITION OF)?/s)
		{
			my @items = split_list(parenthesized($statement));

			$script{tables}{$1} = {
				statement => $statement,
				columns => [ grep { !/^CONSTRAINT / } @items ],
				constraints => { map { /^CONSTRAINT (\w+) (.*)/ ? ($1 => $2) : () } @items },
			};
		}
		elsif ($statement =~ /^CREATE (?:UNIQUE )?INDEX (\w+)\s+ON (\S+)/s)
		{
			my $table = $2;
			my $name = $1;

			$script{indexes}{$name} = { statement => $statement, table => $table,
				text => $statement =~ s/\s+/ /gr =~ s/\Q$public\E(?:_internal)?\.//gr };
		}
		elsif ($statement =~ /^CREATE FUNCTION ([\w.]+)\s*(\(.*)/s)
		{
			my ($name, $rest) = ($1, $2);
			my $arguments = parenthesized($rest);
			my $types = input_types($arguments);
			my ($head) = $statement =~ /^(.*?)\bLANGUAGE\b/s;

			$script{functions}{"$name($types)"} = { head => $head =~ s/\s+/ /gr,
				is_bound => $statement =~ /\bBEGIN ATOMIC\b/ || 0 };
		}
		elsif ($statement =~ /^CREATE VIEW (\S+)/) { $script{views}{$1} = 1; }
		elsif ($statement =~ /^CREATE TRIGGER (\w+) .*? ON (\S+)/s) { $script{triggers}{"$1 ON $2"} = 1; }
		elsif ($statement =~ /^CREATE POLICY (\w+) ON (\S+)/) { $script{policies}{"$1 ON $2"} = 1; }
		elsif ($statement =~ /^ALTER TABLE (\S+) ENABLE ROW LEVEL SECURITY/) { $script{secured}{$1} = 1; }
		elsif ($statement =~ /^CREATE TYPE (\S+)/) { my $name = $1; $script{types}{$name} = $statement =~ s{\s+}{ }gr; }
		elsif ($statement =~ /^CREATE SEQUENCE (\S+)/) { $script{sequences}{$1} = 1; }
	}
	return \%script;
}

sub bare { return $_[0] =~ s/^.*\.//r; }

my $old = parse($old_path);
my $new = parse($new_path);
my %hand = (before => '', tables => '', after => '');
my $section;
foreach my $line (split /^/, slurp($hand_path))
{
	if ($line =~ /^-- (before|tables|after)$/) { $section = $1; }
	elsif ($section) { $hand{$section} .= $line; }
}

my ($version) = $new_path =~ /--([\d.]+)\.sql$/;
my @out;
sub out { push @out, $_[0]; return; }

# The statement of the new script that has this text, for what both check alike.
sub as_created
{
	my ($text) = @_;
	my @found = grep { index($_, $text) >= 0 } @{ $new->{all} };

	die "\"$text\" is in " . @found . " statements\n" if @found != 1;
	return "$found[0];";
}

sub is_made_anew
{
	my ($view) = @_;

	return $hand{before} =~ /^-- anew: \Q$view\E$/m;
}

# Does a function look the same from outside?  Not if it tells of the row type of a
# table that moves, and not if its body is bound to functions that are dropped.
sub is_same
{
	my ($name) = @_;
	my ($was, $is) = map { $_->{functions}{$name} } $old, $new;

	return $was && $is && $was->{head} eq $is->{head} && !$was->{is_bound}
	  && !grep { !$new->{tables}{$_} && $was->{head} =~ /\Q$_\E\b/ } keys %{ $old->{tables} };
}

out("\\echo Use \"ALTER EXTENSION webhook_events UPDATE TO '$version'\" to load this file. \\quit\n");
out($hand{before} =~ s/^-- as created: (.+)$/as_created($1)/gmer);

foreach my $name (sort keys %{ $old->{policies} }) { out("DROP POLICY $name;"); }
foreach my $name (sort keys %{ $old->{secured} }) { out("ALTER TABLE $name DISABLE ROW LEVEL SECURITY;"); }
foreach my $name (sort keys %{ $old->{triggers} }) { out("DROP TRIGGER $name;"); }
foreach my $name (sort keys %{ $old->{views} })
{
	out("DROP VIEW $name;") if !$new->{views}{$name} || is_made_anew($name);
}
foreach my $name (sort keys %{ $old->{types} })
{
	die "type $name differs: write it by hand\n" if ($new->{types}{$name} // '') ne $old->{types}{$name};
}
# A default keeps its function from being dropped, and the views that stay call some.
foreach my $table (sort keys %{ $old->{tables} })
{
	foreach my $column (@{ $old->{tables}{$table}{columns} })
	{
		out("ALTER TABLE $table ALTER COLUMN $1 DROP DEFAULT;")
		  if $column =~ /^(\w+) .*DEFAULT \Q$public\E\./;
	}
}

foreach my $name (sort { $old->{functions}{$b}{is_bound} <=> $old->{functions}{$a}{is_bound} || $a cmp $b }
	keys %{ $old->{functions} })
{
	out("DROP FUNCTION $name;") if !is_same($name);
}

# What creates schemas comes first.
foreach my $statement (@{ $new->{all} })
{
	out("$statement;") if $statement =~ /^(?:CREATE SCHEMA|COMMENT ON SCHEMA)/;
}

# Tables move with their partitions.
my %place = map { bare($_) => $_ } keys %{ $new->{tables} };
foreach my $table (sort keys %{ $old->{tables} })
{
	my $to = $place{ bare($table) } // die "table $table is gone: write it by hand\n";

	next if $to eq $table;
	my ($schema) = $to =~ /^(\w+)\./;
	out("ALTER TABLE $table SET SCHEMA $schema;");
}
out(<<'SQL');
DO $$
DECLARE
    child text;
BEGIN
    FOR child IN SELECT c.relname FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_inherits AS i ON i.inhrelid OPERATOR(pg_catalog.=) c.oid
        JOIN pg_catalog.pg_class AS p ON p.oid OPERATOR(pg_catalog.=) i.inhparent
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'webhook_events'::pg_catalog.regnamespace
            AND p.relnamespace OPERATOR(pg_catalog.=) 'webhook_events_internal'::pg_catalog.regnamespace
            AND c.relkind OPERATOR(pg_catalog.=) 'r'
    LOOP
        EXECUTE pg_catalog.format(
            'ALTER TABLE webhook_events.%I SET SCHEMA webhook_events_internal', child);
    END LOOP;
END
$$;
SQL

# Types, tables and sequences that are new stand where the new script has them; the
# statements on old ones follow here.
my %known = map { $place{ bare($_) } => $old->{tables}{$_} } keys %{ $old->{tables} };
my @late;
foreach my $table (sort keys %known)
{
	my @had = @{ $known{$table}{columns} };
	my @has = @{ $new->{tables}{$table}{columns} };

	for (my $i = 0; $i < @has; $i++)
	{
		my ($name) = $has[$i] =~ /^(\S+)/;
		my $plain = sub { $_[0] =~ s/ DEFAULT .*//r };

		if ($i >= @had) { push @late, "ALTER TABLE $table ADD COLUMN $has[$i];"; next; }
		die "column \"$had[$i]\" of $table became \"$has[$i]\": write it by hand\n"
		  if $plain->($had[$i]) ne $plain->($has[$i]);
		push @late, "ALTER TABLE $table ALTER COLUMN $name SET DEFAULT $1;"
		  if $has[$i] =~ / DEFAULT (.*)/ && $has[$i] ne $had[$i];
	}
	die "$table has fewer columns than before: write it by hand\n" if @has < @had;
	foreach my $name (sort keys %{ $new->{tables}{$table}{constraints} })
	{
		my $text = $new->{tables}{$table}{constraints}{$name};
		my $before = $known{$table}{constraints}{$name};

		push @late, "ALTER TABLE $table DROP CONSTRAINT $name;" if defined $before && $before ne $text;
		push @late, "ALTER TABLE $table ADD CONSTRAINT $name $text;"
		  if !defined $before || $before ne $text;
	}
	foreach my $name (sort keys %{ $known{$table}{constraints} })
	{
		push @late, "ALTER TABLE $table DROP CONSTRAINT $name;"
		  if !exists $new->{tables}{$table}{constraints}{$name};
	}
}

# Indexes of default tables are those that days are made with.
sub for_days
{
	my ($parent, $do) = @_;

	return <<SQL;
DO \$\$
DECLARE
    day text;
BEGIN
    FOR day IN SELECT c.relname FROM pg_catalog.pg_class AS c
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'webhook_events_internal'::pg_catalog.regnamespace
            AND c.relname OPERATOR(pg_catalog.~) '^${parent}_[0-9]{8}\$' AND c.relkind OPERATOR(pg_catalog.=) 'r'
    LOOP
        EXECUTE pg_catalog.format($do, day);
    END LOOP;
END
\$\$;
SQL
}

my @dropped_indexes;
foreach my $name (sort keys %{ $old->{indexes} })
{
	my $index = $old->{indexes}{$name};
	my $same = $new->{indexes}{$name};

	next if $same && $same->{text} eq $index->{text};
	die "index $name of days is gone or differs: write it by hand\n"
	  if $index->{table} =~ /_default$/ && $hand{tables} !~ /^-- days: \Q$name\E$/m;
	push @dropped_indexes, "DROP INDEX webhook_events_internal.$name;";
}

out($_) foreach @dropped_indexes;

foreach my $statement (@{ $new->{all} })
{
	next if $statement =~ /^(?:CREATE SCHEMA|COMMENT ON SCHEMA|CREATE TYPE|DO \$\$)/;
	if ($statement =~ /^CREATE TABLE (\S+)/)
	{
		my $table = $1;

		if (!$known{$table}) { out("$statement;"); }
		else { out($_) foreach grep { /^ALTER TABLE \Q$table\E / } @late; }
		next;
	}
	if ($statement =~ /^CREATE (?:UNIQUE )?INDEX (\w+)\s+ON (\S+)/s)
	{
		my ($name, $table) = ($1, $2);
		my $before = $old->{indexes}{$name};

		next if $before && $before->{text} eq $new->{indexes}{$name}{text};
		out("$statement;");
		if ($table =~ /\.(\w+)_default$/ && $known{$table})
		{
			my $parent = $1;
			my $text = $statement =~ s/\s+/ /gr;

			$text =~ s/INDEX \w+ ON \S+/INDEX ON webhook_events_internal.%I/;
			out(for_days($parent, "'" . ($text =~ s/'/''/gr) . "'"));
		}
		next;
	}
	if ($statement =~ /^CREATE FUNCTION ([\w.]+)\s*(\(.*)/s)
	{
		my $name = "$1(" . input_types(parenthesized($2)) . ')';

		$statement =~ s/^CREATE /CREATE OR REPLACE / if is_same($name);
	}
	if ($statement =~ /^CREATE VIEW (\S+)/)
	{
		$statement =~ s/^CREATE /CREATE OR REPLACE / if $old->{views}{$1} && !is_made_anew($1);
	}
	out($hand{tables}), $hand{tables} = '' if $statement =~ /^CREATE TRIGGER/ && $hand{tables};
	out("$statement;");
}
out($hand{after});
print join("\n", @out), "\n";
