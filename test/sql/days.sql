-- Tables of days: made ahead, dropped when they are old and nothing waits.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS webhook_events;
RESET client_min_messages;
SELECT webhook_events.create_days('2021-03-01', '2021-03-03');
SELECT webhook_events.create_days('2021-03-01', '2021-03-03');
SELECT relname FROM pg_class WHERE relname ~ '_2021030[12]' ORDER BY relname COLLATE "C";
SELECT pg_get_expr(relpartbound, oid) = format('FOR VALUES FROM (''%s'') TO (''%s'')',
    webhook_events.id_lower_bound('2021-03-02 00:00+00'), webhook_events.id_lower_bound('2021-03-03 00:00+00'))
    FROM pg_class WHERE relname = 'calls_20210302';

-- a dispatch that waits keeps its day
INSERT INTO webhook_events.dispatches (id, event_id, webhook_id, event_type, status, created_at, attempts, next_attempt_at)
    VALUES (rpad(webhook_events.id_lower_bound('2021-03-02 12:00+00'), 17, '0'), 'e', 'w', 'ACTOR.RUN.CREATED', 'ACTIVE', now(), 1, 'infinity');
SELECT webhook_events.drop_days('2021-03-01');
SELECT webhook_events.drop_days('2021-03-03');
SELECT relname FROM pg_class WHERE relname ~ '^(calls|dispatches|outbox)_2021030[0-9]$' ORDER BY relname COLLATE "C";
UPDATE webhook_events.dispatches SET status = 'FAILED' WHERE event_id = 'e';
SELECT webhook_events.drop_days('2021-04-01');
SELECT count(*) FROM pg_class WHERE relname ~ '_2021030[0-9]';

-- what is in the default tables stays there
INSERT INTO webhook_events.calls (dispatch_id, attempt, started_at, finished_at)
    VALUES (rpad(webhook_events.id_lower_bound('2021-05-05 12:00+00'), 17, '0'), 1, now(), now());
SELECT webhook_events.create_days('2021-05-05', '2021-05-05');
SELECT relname FROM pg_class WHERE relname ~ '^(calls|dispatches|outbox)_20210505$' ORDER BY relname COLLATE "C";
DELETE FROM webhook_events.calls;
SELECT webhook_events.drop_days('2021-06-01');
