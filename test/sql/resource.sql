-- The resource: a row as the platform's API shows it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
CREATE FUNCTION members() RETURNS TABLE (key text, value text) LANGUAGE sql AS
    'SELECT m.key, m.value::text FROM (SELECT resource FROM webhook_events.events ORDER BY id DESC LIMIT 1) AS e,
        json_each(e.resource) AS m';

CREATE TYPE size AS ENUM ('small', 'großer "Topf"');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE point_in_time AS (at timestamptz, how_many int, nothing text);
CREATE TABLE typed_runs (
    id text, actor_id text, status text DEFAULT 'READY', "camelCase" int DEFAULT 1,
    snake_case_name int DEFAULT 2, _leading int DEFAULT 3, trailing_ int DEFAULT 4, two__words int DEFAULT 5,
    a_bool boolean DEFAULT true, a_small smallint DEFAULT -32768, a_big bigint DEFAULT 9223372036854775807,
    a_numeric numeric DEFAULT 1.50, a_huge numeric DEFAULT 1e40, a_nan numeric DEFAULT 'NaN',
    a_real real DEFAULT 0.1, a_double double precision DEFAULT 1e-300, inf double precision DEFAULT 'infinity',
    double_nan double precision DEFAULT 'NaN', a_money money DEFAULT 12.5,
    a_varchar varchar(5) DEFAULT 'é"\', a_char char(4) DEFAULT 'ab', a_name name DEFAULT 'n',
    controls text DEFAULT E'tab\t newline\n bell\x07 del\x7f', unicode text DEFAULT U&'\+01F600 \2028',
    a_bytea bytea DEFAULT '\x00ff', an_enum size DEFAULT 'großer "Topf"', a_domain positive DEFAULT 7,
    a_json json DEFAULT '{"b":  1.0, "a": [1, 2 ], "b": null}', a_jsonb jsonb DEFAULT '{"b": 1.0, "a": "x"}',
    json_null json DEFAULT 'null', ints int[] DEFAULT '{{1,2},{NULL,4}}', texts text[] DEFAULT '{a,NULL,"b\"c"}',
    no_ints int[] DEFAULT '{}', jsons jsonb[] DEFAULT ARRAY['{"a": 1}', 'null']::jsonb[],
    a_composite point_in_time DEFAULT ROW('2019-01-09 15:59:56.408+00', 3, NULL),
    a_timestamptz timestamptz DEFAULT '2019-01-09 15:59:56.4089+02', a_timestamp timestamp DEFAULT '2019-01-09 15:59:56',
    a_date date DEFAULT '2019-01-09', a_time time DEFAULT '15:59:56.408', an_interval interval DEFAULT '1 day 2 hours',
    forever timestamptz DEFAULT 'infinity', long_ago timestamptz DEFAULT '0044-03-15 12:00+00 BC',
    a_uuid uuid DEFAULT '00000000-0000-0000-0000-00000000000a', an_inet inet DEFAULT '10.0.0.1', a_range int4range DEFAULT '[1,5)',
    a_bit bit(3) DEFAULT '101', a_point point DEFAULT '(1,2)', an_oid oid DEFAULT 4294967295, nothing text,
    generated int GENERATED ALWAYS AS (1 + 1) STORED);
SELECT webhook_events.attach('typed_runs');
INSERT INTO typed_runs (id, actor_id) VALUES ('r', 'a');
SELECT * FROM members();

-- the session's settings make no difference
CREATE TABLE before AS SELECT resource::text FROM webhook_events.events ORDER BY id DESC LIMIT 1;
SET TimeZone = 'Asia/Kathmandu';
SET DateStyle = 'German';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = -10;
INSERT INTO typed_runs (id, actor_id) VALUES ('r', 'a');
SELECT e.resource::text = b.resource AS same FROM before AS b,
    (SELECT resource FROM webhook_events.events ORDER BY id DESC LIMIT 1) AS e;
RESET ALL;

-- large and compressed values
CREATE TABLE large_runs (id int, actor_id int, status text, t text, j jsonb);
SELECT webhook_events.attach('large_runs');
INSERT INTO large_runs SELECT 1, 1, 'READY', repeat('x', 300000), jsonb_build_object('a', string_agg(md5(i::text), ''))
    FROM generate_series(1, 10000) i;
SELECT key, length(value), md5(value) FROM members() WHERE key IN ('t', 'j');
UPDATE large_runs SET status = 'SUCCEEDED';
SELECT key, length(value), md5(value) FROM members() WHERE key IN ('t', 'j');

SET client_min_messages = warning;
DROP TABLE typed_runs, large_runs, before;
DROP FUNCTION members;
DROP TYPE size, point_in_time;
DROP DOMAIN positive;
