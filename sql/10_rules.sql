--
-- Types and rules
--

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

CREATE FUNCTION webhook_events_internal.new_id() RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_new_id';
COMMENT ON FUNCTION webhook_events_internal.new_id() IS
    'a new id: 17 letters and digits that sort by time of creation';
REVOKE ALL ON FUNCTION webhook_events_internal.new_id() FROM PUBLIC;

CREATE FUNCTION webhook_events.id_time(id text) RETURNS timestamptz
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_id_time';
COMMENT ON FUNCTION webhook_events.id_time(text) IS
    'the time at which an id was made';
REVOKE ALL ON FUNCTION webhook_events.id_time(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.template_variables() RETURNS text[]
    LANGUAGE c IMMUTABLE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_template_variables';
COMMENT ON FUNCTION webhook_events_internal.template_variables() IS
    'the names of the variables of templates';
REVOKE ALL ON FUNCTION webhook_events_internal.template_variables() FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.render_template(template text, variables json[],
        interpolate boolean) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_render_template';
COMMENT ON FUNCTION webhook_events_internal.render_template(text, json[], boolean) IS
    'a template filled with the variables, in the order of template_variables()';
REVOKE ALL ON FUNCTION webhook_events_internal.render_template(text, json[], boolean) FROM PUBLIC;

CREATE FUNCTION webhook_events.id_lower_bound(at timestamptz) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_id_lower_bound';
COMMENT ON FUNCTION webhook_events.id_lower_bound(timestamptz) IS
    'no id that is made at this time or later sorts before this text';
REVOKE ALL ON FUNCTION webhook_events.id_lower_bound(timestamptz) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.new_secret() RETURNS text
    LANGUAGE c VOLATILE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_new_secret';
COMMENT ON FUNCTION webhook_events_internal.new_secret() IS
    'a new signing secret: "whsec_" and base64 of 24 random bytes';
REVOKE ALL ON FUNCTION webhook_events_internal.new_secret() FROM PUBLIC;

CREATE FUNCTION webhook_events.verify_signature(secrets text[], headers jsonb, body text,
        tolerance interval DEFAULT '5 minutes') RETURNS boolean
    LANGUAGE c VOLATILE PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_verify_signature';
COMMENT ON FUNCTION webhook_events.verify_signature(text[], jsonb, text, interval) IS
    'was a request signed with one of these secrets, and not too long ago?';
REVOKE ALL ON FUNCTION webhook_events.verify_signature(text[], jsonb, text, interval)
    FROM PUBLIC;

-- What a role may see is decided in src/store/access.c alone.  Views call these
-- in the name of whoever queries, so PUBLIC has EXECUTE; they tell a role of itself.
CREATE FUNCTION webhook_events_internal.sees_all(manages boolean) RETURNS boolean
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED LEAKPROOF
    AS 'MODULE_PATHNAME', 'webhook_events_sees_all';
COMMENT ON FUNCTION webhook_events_internal.sees_all(boolean) IS
    'may the calling role see everybody''s rows, or manage everybody''s webhooks?';

CREATE FUNCTION webhook_events_internal.own_user(manages boolean) RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL RESTRICTED LEAKPROOF
    AS 'MODULE_PATHNAME', 'webhook_events_own_user';
COMMENT ON FUNCTION webhook_events_internal.own_user(boolean) IS
    'the user whose rows the calling role may see or whose webhooks it may manage; NULL: none';

CREATE FUNCTION webhook_events_internal.may_see(user_id text) RETURNS boolean
    LANGUAGE c STABLE PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'webhook_events_may_see';
COMMENT ON FUNCTION webhook_events_internal.may_see(text) IS
    'may the calling role see and manage all that belongs to this user?';
REVOKE ALL ON FUNCTION webhook_events_internal.may_see(text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.dispatch_id(event_id text, webhook_id text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_dispatch_id';
COMMENT ON FUNCTION webhook_events_internal.dispatch_id(text, text) IS
    'the id of the dispatch of an event to a webhook, as routing makes it';
REVOKE ALL ON FUNCTION webhook_events_internal.dispatch_id(text, text) FROM PUBLIC;

CREATE FUNCTION webhook_events_internal.order_key(id text) RETURNS text
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'webhook_events_order_key';
COMMENT ON FUNCTION webhook_events_internal.order_key(text) IS
    'what dispatches of a run or build with this id share, as routing makes it: the id, unless that is long';
REVOKE ALL ON FUNCTION webhook_events_internal.order_key(text) FROM PUBLIC;
