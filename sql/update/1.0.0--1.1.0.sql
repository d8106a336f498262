-- 1.0.0--1.1.0.sql
--	  What update.pl can't derive of the way from 1.0.0 to 1.1.0.

-- before
-- anew: webhook_events.sources
-- tables
-- after
SELECT webhook_events_internal.wake_worker();
