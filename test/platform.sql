-- platform.sql
--	  The platform's two tables as its API shows their objects, for the tests,
--	  the demo and the benchmarks.

CREATE TABLE actor_runs (
    id text PRIMARY KEY,
    actor_id text,
    user_id text,
    actor_task_id text,
    status text NOT NULL DEFAULT 'READY',
    status_message text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    build_id text,
    build_number text,
    exit_code integer,
    default_key_value_store_id text,
    default_dataset_id text,
    default_request_queue_id text,
    meta jsonb NOT NULL DEFAULT '{"origin": "API"}',
    stats jsonb NOT NULL DEFAULT '{"restartCount": 0}',
    options jsonb NOT NULL DEFAULT '{"memoryMbytes": 1024, "timeoutSecs": 300}',
    usage jsonb,
    usage_total_usd numeric,
    heartbeat_at timestamptz
);

CREATE TABLE actor_builds (
    id text PRIMARY KEY,
    actor_id text,
    user_id text,
    status text NOT NULL DEFAULT 'READY',
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    build_number text,
    meta jsonb NOT NULL DEFAULT '{"origin": "API"}',
    stats jsonb NOT NULL DEFAULT '{}',
    options jsonb NOT NULL DEFAULT '{"useCache": true}',
    usage jsonb,
    usage_total_usd numeric
);
