-- Migrations only add: a program that is one step older works with what this leaves. All times are milliseconds since
-- 1970, in UTC. Keep the two folders alike: the same statements run on both.

CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- The processes that serve, and when each last said that it lives.
CREATE TABLE processes (id TEXT PRIMARY KEY, beat_ms BIGINT NOT NULL);

CREATE TABLE calls (
    id TEXT COLLATE "C" PRIMARY KEY,
    call_sid TEXT NOT NULL,
    assistant TEXT,
    -- As far as the assistant's file keeps them.
    caller TEXT,
    callee TEXT,
    -- A keyed hash of the caller's number. The key is in `meta`.
    caller_key TEXT,
    -- The assistant's file keeps no numbers.
    numberless BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    seconds DOUBLE PRECISION NOT NULL,
    ended_ms BIGINT,
    -- NULL while the call runs.
    reason TEXT,
    -- The reason up to its dot.
    reason_kind TEXT,
    broken_off BIGINT NOT NULL,
    test BIGINT NOT NULL,
    -- In billionths of a dollar.
    cost_nano BIGINT,
    anomalies BIGINT NOT NULL,
    keep_until_ms BIGINT,
    -- The process in which the call runs.
    owner TEXT,
    recording TEXT,
    -- What was said, in lower case.
    words TEXT NOT NULL
);

CREATE INDEX calls_by_time ON calls (started_ms, id);
CREATE INDEX calls_by_assistant ON calls (assistant, started_ms, id);
CREATE INDEX calls_by_caller ON calls (caller_key, started_ms, id);
CREATE INDEX calls_by_reason ON calls (reason, started_ms, id);
CREATE INDEX calls_by_reason_kind ON calls (reason_kind, started_ms, id);
CREATE INDEX calls_by_sid ON calls (call_sid);
CREATE INDEX calls_by_end ON calls (ended_ms);
CREATE INDEX calls_to_purge ON calls (keep_until_ms);
CREATE INDEX calls_in_progress ON calls (owner) WHERE owner IS NOT NULL;

-- The records of calls that ended, as JSON.
CREATE TABLE records (
    call_id TEXT COLLATE "C" PRIMARY KEY REFERENCES calls (id) ON DELETE CASCADE,
    record TEXT NOT NULL
);

-- What was noted of calls that run.
CREATE TABLE entries (
    call_id TEXT COLLATE "C" NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (call_id, seq)
);
