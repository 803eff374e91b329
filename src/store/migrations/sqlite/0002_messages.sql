-- Messages for owners, until they are delivered; then only that they were.
CREATE TABLE messages (
    id TEXT PRIMARY KEY,
    -- The call in which it was taken.
    call_sid TEXT,
    assistant TEXT NOT NULL,
    -- As in `calls`. NULL once it is delivered.
    caller_key TEXT,
    taken_ms BIGINT NOT NULL,
    -- What is delivered. Empty once it is.
    body TEXT NOT NULL,
    -- `waiting`, `delivered` or `given_up`.
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- The next attempt.
    next_ms BIGINT NOT NULL,
    -- A process delivers it until then, or has ended.
    claimed_until_ms BIGINT NOT NULL,
    -- The code of why the last attempt failed.
    error TEXT,
    -- How long it is kept once nothing more is tried.
    keep_ms BIGINT NOT NULL,
    -- NULL while it waits.
    keep_until_ms BIGINT
);

CREATE INDEX messages_waiting ON messages (assistant, next_ms) WHERE state = 'waiting';
CREATE INDEX messages_by_caller ON messages (caller_key);
CREATE INDEX messages_to_purge ON messages (keep_until_ms);
