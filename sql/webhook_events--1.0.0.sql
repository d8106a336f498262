/* sql/webhook_events--1.0.0.sql */

\echo Use "CREATE EXTENSION webhook_events" to load this file. \quit

CREATE TYPE webhook_events.event_type AS ENUM (
    'ACTOR.RUN.CREATED', 'ACTOR.RUN.SUCCEEDED', 'ACTOR.RUN.FAILED',
    'ACTOR.RUN.ABORTED', 'ACTOR.RUN.TIMED_OUT', 'ACTOR.RUN.RESURRECTED',
    'ACTOR.BUILD.CREATED', 'ACTOR.BUILD.SUCCEEDED', 'ACTOR.BUILD.FAILED',
    'ACTOR.BUILD.ABORTED', 'ACTOR.BUILD.TIMED_OUT', 'TEST'
);
COMMENT ON TYPE webhook_events.event_type IS
    'what happened to a run or a build; TEST is raised by a person';

CREATE TYPE webhook_events.dispatch_status AS ENUM ('ACTIVE', 'SUCCEEDED', 'FAILED');
COMMENT ON TYPE webhook_events.dispatch_status IS
    'where a dispatch stands: still to be called, delivered, or given up';

CREATE FUNCTION webhook_events.new_id() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_new_id';
COMMENT ON FUNCTION webhook_events.new_id() IS
    'a new id: 17 letters and digits that sort by time of creation';
REVOKE ALL ON FUNCTION webhook_events.new_id() FROM PUBLIC;

CREATE FUNCTION webhook_events.id_time(id text) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_id_time';
COMMENT ON FUNCTION webhook_events.id_time(text) IS
    'the time at which an id was made';
REVOKE ALL ON FUNCTION webhook_events.id_time(text) FROM PUBLIC;

CREATE FUNCTION webhook_events.render_template(template text, variables json[],
        interpolate boolean) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_render_template';
COMMENT ON FUNCTION webhook_events.render_template(text, json[], boolean) IS
    'a template filled with userId, createdAt, eventType, eventData, resource and globals';
REVOKE ALL ON FUNCTION webhook_events.render_template(text, json[], boolean) FROM PUBLIC;
