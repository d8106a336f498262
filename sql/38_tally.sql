
-- What workers counted.  Rows are only added and the newest counts, so that an old
-- transaction makes none of it slow; old ones are deleted now and then.
CREATE TABLE webhook_events_internal.tallies (
    number bigint NOT NULL,
    counters bigint[] NOT NULL,
    written_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CONSTRAINT tallies_pkey PRIMARY KEY (number)
);
COMMENT ON TABLE webhook_events_internal.tallies IS
    'what workers have counted; the row with the highest number counts';
COMMENT ON COLUMN webhook_events_internal.tallies.counters IS
    'by the numbers in src/store/counters.h';

CREATE TABLE webhook_events_internal.tally_resets (
    reset_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    counters bigint[] NOT NULL,
    CONSTRAINT tally_resets_pkey PRIMARY KEY (reset_at)
);
COMMENT ON TABLE webhook_events_internal.tally_resets IS
    'how the counters stood when stat_reset() was called last';
