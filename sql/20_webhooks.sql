--
-- Webhooks
--

CREATE TABLE webhook_events_internal.webhooks (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    user_id text,
    is_enabled boolean NOT NULL DEFAULT true,
    is_ad_hoc boolean NOT NULL DEFAULT false,
    event_types webhook_events.event_type[] NOT NULL,
    actor_id text,
    actor_task_id text,
    actor_run_id text,
    request_url text NOT NULL,
    payload_template text,
    headers_template text,
    should_interpolate_strings boolean NOT NULL DEFAULT false,
    ignore_ssl_errors boolean NOT NULL DEFAULT false,
    do_not_retry boolean NOT NULL DEFAULT false,
    description text,
    idempotency_key text,
    max_rate double precision,
    secret text DEFAULT webhook_events_internal.new_secret(),
    old_secrets text[],
    old_secrets_until timestamptz[],
    disabled_reason text,
    is_retired boolean NOT NULL DEFAULT false,
    run_ended boolean NOT NULL DEFAULT false,
    run_changed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    modified_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    created_xid xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    -- In this order, of fixed length first: of a row that retires WAL has no more than what
    -- lies between the first and the last column that changes, which is this one.
    turned integer,
    turned_there integer,
    epoch integer,
    begun_at timestamptz,
    ordering text NOT NULL DEFAULT 'none',
    created_in bigint[],
    api_keys jsonb,
    CONSTRAINT webhooks_pkey PRIMARY KEY (id)
);
COMMENT ON TABLE webhook_events_internal.webhooks IS
    'who wants which events where, and how the request looks';
COMMENT ON COLUMN webhook_events_internal.webhooks.created_xid IS
    'the transaction that defined it, whose own events it gets';
COMMENT ON COLUMN webhook_events_internal.webhooks.created_in IS
    'identifier of the server, xmin and xmax of the snapshot that it was defined in: what events were before; NULL: clocks tell';
COMMENT ON COLUMN webhook_events_internal.webhooks.epoch IS
    'how often it was disabled or given to another user, NULL for never: what waited then, a dispatch of a lower epoch, is given up even if it is enabled again';
COMMENT ON COLUMN webhook_events_internal.webhooks.modified_at IS
    'changes with every change of the row; the worker knows a version by it';
COMMENT ON COLUMN webhook_events_internal.webhooks.max_rate IS
    'calls for each second, further ones wait; NULL: no limit';
COMMENT ON COLUMN webhook_events_internal.webhooks.secret IS
    'signs its requests; NULL: they are not signed';
COMMENT ON COLUMN webhook_events_internal.webhooks.old_secrets IS
    'sign its requests as well, each until its time in old_secrets_until';
COMMENT ON COLUMN webhook_events_internal.webhooks.disabled_reason IS
    'why it was disabled by other than a person';
COMMENT ON COLUMN webhook_events_internal.webhooks.is_retired IS
    'was disabled because its run has ended; a resurrected run enables it again';
COMMENT ON COLUMN webhook_events_internal.webhooks.run_ended IS
    'an ad-hoc webhook''s run has ended; it retires when nothing waits for it';
COMMENT ON COLUMN webhook_events_internal.webhooks.ordering IS
    'what goes out one after the other: none, what is of one run or build (resource), all (webhook)';
COMMENT ON COLUMN webhook_events_internal.webhooks.api_keys IS
    'keys of the platform''s API that mean nothing here and are given back';
COMMENT ON COLUMN webhook_events_internal.webhooks.turned IS
    'how often it was enabled or disabled, or it was said again that it is; NULL for never';
COMMENT ON COLUMN webhook_events_internal.webhooks.turned_there IS
    'of a row that replication brings: its turned where it is defined; only when that changes it is enabled or disabled as it is there';
COMMENT ON COLUMN webhook_events_internal.webhooks.begun_at IS
    'when the transaction that defined it began: on servers that it reaches by replication an ad-hoc webhook gets what its run has raised since then';
COMMENT ON COLUMN webhook_events_internal.webhooks.run_changed_at IS
    'when that run ended or was resurrected last';

-- One for each kind of condition, by what is most special in it; with the id, because
-- what many webhooks want is dealt with slice by slice.
CREATE INDEX webhooks_actor_run_id_idx ON webhook_events_internal.webhooks (actor_run_id, id)
    WHERE actor_run_id IS NOT NULL;
CREATE INDEX webhooks_actor_task_id_idx ON webhook_events_internal.webhooks (actor_task_id, id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NOT NULL;
CREATE INDEX webhooks_actor_id_user_id_idx ON webhook_events_internal.webhooks (actor_id, user_id, id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NULL AND actor_id IS NOT NULL;
CREATE INDEX webhooks_user_id_idx ON webhook_events_internal.webhooks (user_id, id)
    WHERE actor_run_id IS NULL AND actor_task_id IS NULL AND actor_id IS NULL;
CREATE UNIQUE INDEX webhooks_idempotency_key_idx
    ON webhook_events_internal.webhooks (user_id, idempotency_key) NULLS NOT DISTINCT
    WHERE idempotency_key IS NOT NULL;
-- For lists; expressions, so that they fit nothing that the worker asks, with their
-- columns, so that who counts reads nothing else.
CREATE INDEX webhooks_owner_id_idx
    ON webhook_events_internal.webhooks (coalesce(user_id, ''), id) INCLUDE (user_id);
CREATE INDEX webhooks_of_actor_idx
    ON webhook_events_internal.webhooks (coalesce(actor_id, ''), id) INCLUDE (actor_id)
    WHERE actor_id IS NOT NULL;
CREATE INDEX webhooks_of_task_idx
    ON webhook_events_internal.webhooks (coalesce(actor_task_id, ''), id) INCLUDE (actor_task_id)
    WHERE actor_task_id IS NOT NULL;
-- For the limit on webhooks per user.
CREATE INDEX webhooks_user_id_not_ad_hoc_idx ON webhook_events_internal.webhooks (user_id)
    WHERE NOT is_ad_hoc;
-- For the end of ad-hoc webhooks.  No index has anything to do with what changes when
-- they retire, and pages have room for that: so none gets another entry then.
CREATE INDEX webhooks_ad_hoc_idx ON webhook_events_internal.webhooks (id) WHERE is_ad_hoc;
ALTER TABLE webhook_events_internal.webhooks SET (fillfactor = 45);

CREATE TABLE webhook_events_internal.webhook_users (
    user_id text NOT NULL,
    tests integer NOT NULL DEFAULT 0,
    tests_since timestamptz,
    CONSTRAINT webhook_users_pkey PRIMARY KEY (user_id)
);
COMMENT ON TABLE webhook_events_internal.webhook_users IS
    'a row for each user who has made webhooks or tested one, locked while they are counted';
COMMENT ON COLUMN webhook_events_internal.webhook_users.user_id IS 'the user';
COMMENT ON COLUMN webhook_events_internal.webhook_users.tests IS
    'TEST events for the user''s webhooks since tests_since';
COMMENT ON COLUMN webhook_events_internal.webhook_users.tests_since IS
    'when the minute began in which they are counted; NULL: there was no test yet';

-- How many webhooks there are, for lists; see src/store/webhook_counts.h.
CREATE TABLE webhook_events_internal.webhook_counts (
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    key bigint NOT NULL,
    user_id text,
    actor_id text,
    actor_task_id text,
    webhooks bigint NOT NULL,
    CONSTRAINT webhook_counts_pkey PRIMARY KEY (id)
);
CREATE INDEX webhook_counts_key_idx ON webhook_events_internal.webhook_counts (key);
COMMENT ON TABLE webhook_events_internal.webhook_counts IS
    'how many webhooks there are up to the position that was counted, by all ids that lists can ask for';
COMMENT ON COLUMN webhook_events_internal.webhook_counts.key IS
    'a hash of the ids';
COMMENT ON COLUMN webhook_events_internal.webhook_counts.user_id IS
    'whose; NULL: anybody''s, and empty: nobody''s';
COMMENT ON COLUMN webhook_events_internal.webhook_counts.actor_id IS
    'for which Actor; NULL: whichever';
COMMENT ON COLUMN webhook_events_internal.webhook_counts.actor_task_id IS
    'for which task; NULL: whichever';

CREATE TABLE webhook_events_internal.webhook_counts_log (
    up_to text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL DEFAULT webhook_events_internal.new_id(),
    user_id text,
    actor_id text,
    actor_task_id text,
    change integer NOT NULL,
    CONSTRAINT webhook_counts_log_pkey PRIMARY KEY (up_to, id)
);
COMMENT ON TABLE webhook_events_internal.webhook_counts_log IS
    'what is still to be added to webhook_counts';
COMMENT ON COLUMN webhook_events_internal.webhook_counts_log.up_to IS
    'counts once the webhooks up to this id were counted';
COMMENT ON COLUMN webhook_events_internal.webhook_counts_log.change IS
    'so many webhooks more with these ids, or less';

-- Rows are only added and the newest counts, so that an old transaction makes none of it slow.
CREATE TABLE webhook_events_internal.webhook_counts_positions (
    number bigint NOT NULL,
    counted text COLLATE "C" NOT NULL,
    announced text COLLATE "C" NOT NULL,
    CONSTRAINT webhook_counts_positions_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE webhook_events_internal.webhook_counts_positions IS
    'up to which id webhooks were counted; the row with the highest number counts';
COMMENT ON COLUMN webhook_events_internal.webhook_counts_positions.counted IS
    'those up to this one are in webhook_counts';
COMMENT ON COLUMN webhook_events_internal.webhook_counts_positions.announced IS
    'those up to this one will be; who adds or deletes one of them logs it';
