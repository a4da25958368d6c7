-- oldest: 1  (the oldest schema whose programs still work with this one)
--
-- The outbox on SQLite, version 1.
-- Times are REAL: Unix seconds, UTC, as `mailroom.clock.Instant`.
-- BLOBs are sealed values (AES-GCM; associated data: the row's id and the column's name), or keyed hashes (HMAC,
-- 16 octets).

PRAGMA application_id = 0x4d41494c;  -- "MAIL"

CREATE TABLE messages (
    number              INTEGER PRIMARY KEY,  -- in order of acceptance
    id                  TEXT NOT NULL UNIQUE, -- UUIDv7, so it sorts by time
    state               TEXT NOT NULL,        -- mailroom.message.State
    template            TEXT NOT NULL,
    priority            INTEGER NOT NULL,     -- mailroom.message.Priority
    languages           TEXT NOT NULL,        -- JSON: ["fr-CA", "en"]
    created_at          REAL NOT NULL,
    expires_at          REAL NOT NULL,
    -- When the state must change next; NULL: settled.
    --   queued:  the next attempt, or expires_at if that is earlier
    --   sending: the end of the lease
    --   held:    expires_at
    -- So a message can be leased while `due_at <= now < expires_at`; when both are `<= now` it has expired, in any
    -- state.
    due_at              REAL,
    owner               TEXT,                 -- of the lease: the process's random name
    attempts            TEXT NOT NULL,        -- JSON: list of mailroom.message.Attempt; no table of its own, so
                                              -- that most messages need one insert and one update
    reason              TEXT NOT NULL DEFAULT '',
    provider_message_id TEXT NOT NULL DEFAULT '',
    settled_at          REAL,
    recipient_key       BLOB NOT NULL,        -- keyed hash of the mailbox
    repeat_key          BLOB,                 -- keyed hash of the request's body; NULL: not compared
    sealed              BLOB,                 -- sealed JSON: payload and ip; NULL once settled
    record              BLOB NOT NULL         -- sealed JSON: recipient, and the payload's harmless fields
) STRICT;

-- Due messages, in sending order. It has the columns that `claim` filters by, so that it reads the index only.
CREATE INDEX messages_due ON messages (priority, due_at, expires_at, template) WHERE due_at IS NOT NULL;

-- The insert of a repeated body fails.
CREATE UNIQUE INDEX messages_repeat ON messages (repeat_key) WHERE repeat_key IS NOT NULL;

CREATE INDEX messages_recipient ON messages (recipient_key, id);

-- Small partial indexes: a mail that is sent at once never enters them.
CREATE INDEX messages_held ON messages (reason) WHERE state = 'held';
CREATE INDEX messages_ended ON messages (state, id) WHERE state NOT IN ('queued', 'sending', 'sent', 'delivered');

-- Events that are handled only once: a webhook's body, a user's welcome. The key is a keyed hash.
CREATE TABLE once (
    key        BLOB PRIMARY KEY,
    message_id TEXT NOT NULL,
    until      REAL                           -- when it is deleted; NULL: never
) STRICT, WITHOUT ROWID;

CREATE INDEX once_until ON once (until) WHERE until IS NOT NULL;

-- Mails of the `capture` provider, the newest only. `size` is before the BLOBs, so that sums read no overflow pages.
CREATE TABLE captured (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,                -- the message's id; each attempt is a row
    captured_at REAL NOT NULL,
    size        INTEGER NOT NULL,             -- octets of the raw mail
    head        BLOB NOT NULL,                -- sealed JSON: sender, recipient, subject
    raw         BLOB NOT NULL                 -- sealed RFC 5322 text
) STRICT;

CREATE INDEX captured_id ON captured (id);

-- The random data key, encrypted (wrapped) by `secret_key`.
CREATE TABLE keys (
    number  INTEGER PRIMARY KEY CHECK (number = 1),
    wrapped BLOB NOT NULL
) STRICT;
