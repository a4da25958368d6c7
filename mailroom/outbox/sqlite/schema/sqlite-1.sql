-- The outbox on SQLite, version 1.
-- Times are REAL: Unix seconds, UTC, exactly as `mailroom.clock.Instant`.
-- What is sealed (AES-GCM, with the row's id and the column's name) is a BLOB, and so are keyed hashes (HMAC, 16 octets).

PRAGMA application_id = 0x4d41494c;  -- "MAIL"

CREATE TABLE messages (
    number              INTEGER PRIMARY KEY,  -- in the order of acceptance
    id                  TEXT NOT NULL UNIQUE, -- UUIDv7: sorts by created_at
    state               TEXT NOT NULL,        -- mailroom.message.State
    template            TEXT NOT NULL,
    priority            INTEGER NOT NULL,     -- mailroom.message.Priority
    languages           TEXT NOT NULL,        -- JSON: ["fr-CA", "en"]
    created_at          REAL NOT NULL,
    expires_at          REAL NOT NULL,
    -- When the outbox must look at this row again; NULL once it is settled.
    --   queued:  the next attempt, or expires_at if that comes first
    --   sending: the end of the lease
    --   held:    expires_at
    -- So `due_at <= now < expires_at` is a message that can be leased, and `due_at, expires_at <= now` one that has
    -- expired, whatever its state.
    due_at              REAL,
    owner               TEXT,                 -- who holds the lease: one random name a process
    attempts            TEXT NOT NULL,        -- JSON: a list of mailroom.message.Attempt, rewritten with each change,
                                              -- so that a message born sending costs one insert and one update
    reason              TEXT NOT NULL DEFAULT '',
    provider_message_id TEXT NOT NULL DEFAULT '',
    settled_at          REAL,
    recipient_key       BLOB NOT NULL,        -- of the address's identity
    repeat_key          BLOB,                 -- of the request's body; NULL: may be repeated
    sealed              BLOB,                 -- JSON: payload and ip; erased when the message settles
    record              BLOB NOT NULL         -- JSON, sealed: recipient and the payload's harmless fields; stays
) STRICT;

-- What is due, in the order in which it is sent. Expiry and `without` are decided in the index.
CREATE INDEX messages_due ON messages (priority, due_at, expires_at, template) WHERE due_at IS NOT NULL;

-- A repeated body is refused by the very insert.
CREATE UNIQUE INDEX messages_repeat ON messages (repeat_key) WHERE repeat_key IS NOT NULL;

CREATE INDEX messages_recipient ON messages (recipient_key, id);

-- Few rows: costs nothing on the way of a mail that is simply sent.
CREATE INDEX messages_held ON messages (reason) WHERE state = 'held';
CREATE INDEX messages_ended ON messages (state, id) WHERE state NOT IN ('queued', 'sending', 'sent', 'delivered');

-- What may happen once: a webhook's body, a user's welcome.
CREATE TABLE once (
    key        BLOB PRIMARY KEY,
    message_id TEXT NOT NULL,
    until      REAL                           -- when it is forgotten; NULL: never
) STRICT, WITHOUT ROWID;

CREATE INDEX once_until ON once (until) WHERE until IS NOT NULL;

-- The mail catcher's store, bounded. `size` stands before the blobs so that counting reads no overflow pages.
CREATE TABLE captured (
    number      INTEGER PRIMARY KEY,
    id          TEXT NOT NULL,                -- the message's id; a second attempt is a second row
    captured_at REAL NOT NULL,
    size        INTEGER NOT NULL,             -- octets of the raw mail
    head        BLOB NOT NULL,                -- JSON, sealed: sender, recipient, subject
    raw         BLOB NOT NULL                 -- sealed: RFC 5322 text
) STRICT;

CREATE INDEX captured_id ON captured (id);

-- The data key, random, wrapped by `secret_key`.
CREATE TABLE keys (
    number  INTEGER PRIMARY KEY CHECK (number = 1),
    wrapped BLOB NOT NULL
) STRICT;
