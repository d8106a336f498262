
--
-- Columns of the views that the chapters before have left without a word
--

COMMENT ON COLUMN webhook_events.events.id IS
    '17 letters and digits, by which events sort in the order in which they were made';
COMMENT ON COLUMN webhook_events.events.created_at IS 'when the change was made';
COMMENT ON COLUMN webhook_events.events.event_type IS 'what happened';
COMMENT ON COLUMN webhook_events.events.user_id IS 'whose run or build it is';
COMMENT ON COLUMN webhook_events.events.actor_id IS 'its Actor';
COMMENT ON COLUMN webhook_events.events.actor_task_id IS
    'the task that the run was started from, if any';
COMMENT ON COLUMN webhook_events.events.actor_run_id IS 'the run, if it is about one';
COMMENT ON COLUMN webhook_events.events.actor_build_id IS 'the build, if it is about one';
COMMENT ON COLUMN webhook_events.events.old_status IS 'the status before; NULL for a new row';
COMMENT ON COLUMN webhook_events.events.new_status IS 'the status after';
COMMENT ON COLUMN webhook_events.events.resource IS
    'the run or build as the platform''s API shows it, as it stood then';
COMMENT ON COLUMN webhook_events.events.event_data IS
    'what the variable eventData of templates holds';
COMMENT ON COLUMN webhook_events.events.xid IS 'the transaction that raised it';
COMMENT ON COLUMN webhook_events.events.webhook_id IS 'the only webhook that gets a TEST event';

COMMENT ON COLUMN webhook_events.dispatches.id IS '17 letters and digits, sent with each call';
COMMENT ON COLUMN webhook_events.dispatches.event_id IS
    'the event that it takes to the webhook';
COMMENT ON COLUMN webhook_events.dispatches.webhook_id IS 'who gets the event';
COMMENT ON COLUMN webhook_events.dispatches.user_id IS 'the webhook''s user';
COMMENT ON COLUMN webhook_events.dispatches.event_type IS 'the type of that event';
COMMENT ON COLUMN webhook_events.dispatches.status IS
    'ACTIVE until it was delivered (SUCCEEDED) or given up (FAILED)';
COMMENT ON COLUMN webhook_events.dispatches.created_at IS 'when it was made';
COMMENT ON COLUMN webhook_events.dispatches.finished_at IS 'when it was delivered or given up';
COMMENT ON COLUMN webhook_events.dispatches.attempts IS 'calls that have ended';
COMMENT ON COLUMN webhook_events.dispatches.next_attempt_at IS
    'of one that is ACTIVE: when it is called, at the earliest; NULL: when its host has nothing else to get';
COMMENT ON COLUMN webhook_events.dispatches.error_message IS
    'why the last call failed, or why there was none';
COMMENT ON COLUMN webhook_events.dispatches.replay_of IS
    'of one that repeats another: the id that routing gave or would have given the first one';
COMMENT ON COLUMN webhook_events.dispatches.order_key IS
    'what it keeps its order with; NULL: nothing';
COMMENT ON COLUMN webhook_events.dispatches.holds_until IS
    'until when it holds back those behind it';
COMMENT ON COLUMN webhook_events.dispatches.epoch IS
    'its webhook''s epoch when it was made; NULL for 0';

COMMENT ON COLUMN webhook_events.calls.dispatch_id IS 'the dispatch that was called';
COMMENT ON COLUMN webhook_events.calls.attempt IS 'which of its calls it was, from 1';
COMMENT ON COLUMN webhook_events.calls.started_at IS 'when it started';
COMMENT ON COLUMN webhook_events.calls.finished_at IS 'when it ended';
COMMENT ON COLUMN webhook_events.calls.response_status IS
    'HTTP status; NULL: there was no answer';
COMMENT ON COLUMN webhook_events.calls.response_body IS
    'the beginning of the answer''s body, up to response_body_limit';
COMMENT ON COLUMN webhook_events.calls.error_message IS 'why it failed; NULL: it succeeded';
COMMENT ON COLUMN webhook_events.calls.url IS 'where it was sent to';
COMMENT ON COLUMN webhook_events.calls.duration IS
    'how long it took, by a clock that nobody sets';
COMMENT ON COLUMN webhook_events.calls.address IS
    'the address that it was sent to, or last tried; NULL: none was found';

COMMENT ON COLUMN webhook_events.webhooks.id IS '17 letters and digits';
COMMENT ON COLUMN webhook_events.webhooks.user_id IS 'whose events it gets; NULL: those of all';
COMMENT ON COLUMN webhook_events.webhooks.is_enabled IS 'whether it gets events';
COMMENT ON COLUMN webhook_events.webhooks.is_ad_hoc IS
    'whether it was made for one run and ends with it';
COMMENT ON COLUMN webhook_events.webhooks.event_types IS 'the types of events that it gets';
COMMENT ON COLUMN webhook_events.webhooks.actor_id IS
    'the Actor whose events it gets; NULL: any';
COMMENT ON COLUMN webhook_events.webhooks.actor_task_id IS
    'the task whose runs'' events it gets; NULL: any or none';
COMMENT ON COLUMN webhook_events.webhooks.actor_run_id IS
    'the run whose events it gets; NULL: any';
COMMENT ON COLUMN webhook_events.webhooks.request_url IS 'where its requests go';
COMMENT ON COLUMN webhook_events.webhooks.payload_template IS
    'the template of the body; NULL: the default one';
COMMENT ON COLUMN webhook_events.webhooks.headers_template IS
    'the template of headers; NULL: none but the forced ones';
COMMENT ON COLUMN webhook_events.webhooks.should_interpolate_strings IS
    'whether variables within strings count';
COMMENT ON COLUMN webhook_events.webhooks.ignore_ssl_errors IS
    'whether certificates are not checked';
COMMENT ON COLUMN webhook_events.webhooks.do_not_retry IS
    'whether each dispatch is called only once';
COMMENT ON COLUMN webhook_events.webhooks.description IS 'what a person wrote about it';
COMMENT ON COLUMN webhook_events.webhooks.idempotency_key IS
    'creating another one of this user with it returns this one';
COMMENT ON COLUMN webhook_events.webhooks.max_rate IS
    'calls for each second, further ones wait; NULL: no limit';
COMMENT ON COLUMN webhook_events.webhooks.secret IS
    'signs its requests; NULL: they are not signed';
COMMENT ON COLUMN webhook_events.webhooks.old_secrets IS
    'sign its requests as well, each until its time in old_secrets_until';
COMMENT ON COLUMN webhook_events.webhooks.old_secrets_until IS
    'until when each of old_secrets signs';
COMMENT ON COLUMN webhook_events.webhooks.disabled_reason IS
    'why it was disabled by other than a person';
COMMENT ON COLUMN webhook_events.webhooks.is_retired IS
    'whether it was disabled because its run has ended; a resurrected run enables it again';
COMMENT ON COLUMN webhook_events.webhooks.run_ended IS
    'whether an ad-hoc webhook''s run has ended; it retires when nothing waits for it';
COMMENT ON COLUMN webhook_events.webhooks.run_changed_at IS
    'when that run ended or was resurrected last';
COMMENT ON COLUMN webhook_events.webhooks.created_at IS 'when it was created';
COMMENT ON COLUMN webhook_events.webhooks.modified_at IS 'when it was changed last';
COMMENT ON COLUMN webhook_events.webhooks.created_xid IS
    'the transaction that created it, whose own events it gets';
COMMENT ON COLUMN webhook_events.webhooks.ordering IS
    'whether its dispatches keep an order: none, resource or webhook';
COMMENT ON COLUMN webhook_events.webhooks.created_in IS
    'identifier of the server, xmin and xmax of the snapshot that it was created in';
COMMENT ON COLUMN webhook_events.webhooks.epoch IS
    'how often it was disabled or given to another user, NULL for never: what waited then is given up, even if it is enabled again';
COMMENT ON COLUMN webhook_events.webhooks.api_keys IS
    'keys of the platform''s API that mean nothing here and are given back';
COMMENT ON COLUMN webhook_events.webhooks.turned IS
    'how often it was enabled or disabled, or it was said again that it is; NULL for never';
COMMENT ON COLUMN webhook_events.webhooks.turned_there IS
    'of a webhook that replication brings: its turned where it is defined';
COMMENT ON COLUMN webhook_events.webhooks.begun_at IS
    'when the transaction that defined it began';

COMMENT ON COLUMN webhook_events.webhooks_masked.id IS '17 letters and digits';
COMMENT ON COLUMN webhook_events.webhooks_masked.user_id IS
    'whose events it gets; NULL: those of all';
COMMENT ON COLUMN webhook_events.webhooks_masked.is_enabled IS 'whether it gets events';
COMMENT ON COLUMN webhook_events.webhooks_masked.is_ad_hoc IS
    'whether it was made for one run and ends with it';
COMMENT ON COLUMN webhook_events.webhooks_masked.event_types IS
    'the types of events that it gets';
COMMENT ON COLUMN webhook_events.webhooks_masked.actor_id IS
    'the Actor whose events it gets; NULL: any';
COMMENT ON COLUMN webhook_events.webhooks_masked.actor_task_id IS
    'the task whose runs'' events it gets; NULL: any or none';
COMMENT ON COLUMN webhook_events.webhooks_masked.actor_run_id IS
    'the run whose events it gets; NULL: any';
COMMENT ON COLUMN webhook_events.webhooks_masked.request_url IS
    'where its requests go: scheme, host and port';
COMMENT ON COLUMN webhook_events.webhooks_masked.should_interpolate_strings IS
    'whether variables within strings count';
COMMENT ON COLUMN webhook_events.webhooks_masked.ignore_ssl_errors IS
    'whether certificates are not checked';
COMMENT ON COLUMN webhook_events.webhooks_masked.do_not_retry IS
    'whether each dispatch is called only once';
COMMENT ON COLUMN webhook_events.webhooks_masked.description IS 'what a person wrote about it';
COMMENT ON COLUMN webhook_events.webhooks_masked.max_rate IS
    'calls for each second, further ones wait; NULL: no limit';
COMMENT ON COLUMN webhook_events.webhooks_masked.disabled_reason IS
    'why it was disabled by other than a person';
COMMENT ON COLUMN webhook_events.webhooks_masked.is_retired IS
    'whether it was disabled because its run has ended; a resurrected run enables it again';
COMMENT ON COLUMN webhook_events.webhooks_masked.created_at IS 'when it was created';
COMMENT ON COLUMN webhook_events.webhooks_masked.modified_at IS 'when it was changed last';
COMMENT ON COLUMN webhook_events.webhooks_masked.turned IS
    'how often it was enabled or disabled, or it was said again that it is; NULL for never';
COMMENT ON COLUMN webhook_events.webhooks_masked.turned_there IS
    'of a webhook that replication brings: its turned where it is defined';

COMMENT ON COLUMN webhook_events.sources.relation IS 'the attached table';
COMMENT ON COLUMN webhook_events.sources.kind IS 'run or build';
COMMENT ON COLUMN webhook_events.sources.columns IS
    'which column of the table stands for what; NULL while the table is locked';
COMMENT ON COLUMN webhook_events.sources.exclude IS 'columns that resources leave out';
COMMENT ON COLUMN webhook_events.sources.resource IS
    'the function that makes resources instead of them';

COMMENT ON SCHEMA webhook_events IS
    'typed events of runs and builds, delivered to webhooks: types, views and functions';
