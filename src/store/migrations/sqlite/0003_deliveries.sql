-- A message has one row for each way to its owner. What an older version wrote is for the webhook of `take_message`, and
-- an older version takes every row that is `waiting` for that. So what goes another way is `queued` while it waits.
-- A text message is `sending` from before the request until its outcome is known: it is never sent again after that.

-- `message`, `notification`, `form` or `alert`.
ALTER TABLE messages ADD COLUMN purpose TEXT NOT NULL DEFAULT 'message';
-- `email`, `sms`, `webhook` or `file`.
ALTER TABLE messages ADD COLUMN via TEXT NOT NULL DEFAULT 'webhook';
-- Its three days begin then. NULL: when it was taken.
ALTER TABLE messages ADD COLUMN retried_ms BIGINT;

CREATE INDEX messages_unsettled ON messages (assistant, purpose, via, next_ms)
    WHERE state IN ('waiting', 'queued', 'sending');
