-- oldest: 1  (the oldest schema whose programs still work with this one: they run on while a deploy goes through)
--
-- The outbox on PostgreSQL, version 1. Compare with `sqlite/schema`.
-- Times are float8: Unix seconds, UTC, by the database's clock. No column depends on a time zone.
-- bytea columns are sealed values (AES-GCM; associated data: the row's id and the column's name), or keyed hashes
-- (HMAC, 16 octets).

-- Messages that are not settled: few, however long the history. Version 3 moves what never changes to `contents`.
CREATE TABLE mailroom.messages (
    number              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in order of acceptance
    id                  text COLLATE "C" NOT NULL UNIQUE,                  -- UUIDv7, so it sorts by time
    state               text NOT NULL,           -- mailroom.message.State: queued, sending or held
    template            text NOT NULL,
    -- Names of the providers in order, with commas; empty: those of all other messages. It is as the settings were when
    -- the message was stored or last due: a claim corrects it.
    route               text NOT NULL DEFAULT '',
    priority            smallint NOT NULL,       -- mailroom.message.Priority
    languages           text NOT NULL,           -- JSON: ["fr-CA", "en"]
    created_at          float8 NOT NULL,
    expires_at          float8 NOT NULL,
    -- When the state must change next.
    --   queued:  the next attempt, or expires_at if that is earlier
    --   sending: the end of the lease
    --   held:    expires_at
    -- So a message can be leased while `due_at <= now < expires_at`; when both are `<= now` it has expired, in any
    -- state.
    due_at              float8 NOT NULL,
    owner               text,                    -- of the lease: the process's random name, see `owners`
    attempts            json NOT NULL,           -- list of mailroom.message.Attempt
    reason              text NOT NULL DEFAULT '',
    provider_message_id text NOT NULL DEFAULT '',
    recipient_key       bytea NOT NULL,          -- keyed hash of the mailbox
    repeat_key          bytea,                   -- keyed hash of the request's body; NULL: not compared
    supersede_key       bytea,                   -- keyed hash of recipient, template, application and ip
    superseded          boolean NOT NULL DEFAULT false,  -- ends as superseded unless it is sent: a newer one was
    sealed              bytea NOT NULL,          -- sealed JSON: payload and ip
    record              bytea NOT NULL,          -- sealed JSON: recipient, and the payload's harmless fields
    rendered            bytea                    -- sealed JSON: the mail that a provider may have sent
) WITH (
    fillfactor = 70,                             -- room for the new version of a row on its page (HOT updates)
    -- Every row is deleted within minutes, so the table is all turnover: vacuum by number, not by a share of its size,
    -- and without pauses, or it grows with the rate of mails.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    -- Its size swings between none and a backlog: statistics of an empty table would make claims read all of it.
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000
);

-- Due messages, in sending order. With expires_at, so that looking for expired ones reads no backlog.
CREATE INDEX messages_due ON mailroom.messages (priority, due_at, expires_at);
CREATE INDEX messages_recipient ON mailroom.messages (recipient_key, created_at);
CREATE INDEX messages_supersede ON mailroom.messages (supersede_key, number) WHERE supersede_key IS NOT NULL;
-- Few rows: a mail that is sent at once never enters them.
CREATE INDEX messages_held ON mailroom.messages (reason, number) WHERE state = 'held';
CREATE INDEX messages_superseded ON mailroom.messages (number) WHERE superseded;

-- Settled messages, without payload: moved here by the transaction that settles them.
CREATE TABLE mailroom.history (
    id                  text COLLATE "C" PRIMARY KEY,
    state               text NOT NULL,
    template            text NOT NULL,
    priority            smallint NOT NULL,
    languages           text NOT NULL,
    created_at          float8 NOT NULL,
    expires_at          float8 NOT NULL,
    settled_at          float8 NOT NULL,
    attempts            json NOT NULL,
    reason              text NOT NULL,
    provider_message_id text NOT NULL,
    recipient_key       bytea NOT NULL,
    record              bytea NOT NULL
) WITH (
    -- Rows are added all day and deleted by the hundred after `retention`. The defaults wait for a fifth of the table,
    -- which would be days of mails, and then vacuum for hours.
    autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0.02,  -- sets the visibility map, and freezes in small steps
    autovacuum_analyze_scale_factor = 0.02
);

CREATE INDEX history_recipient ON mailroom.history (recipient_key, created_at);
CREATE INDEX history_provider_message_id ON mailroom.history (provider_message_id) WHERE provider_message_id <> '';
CREATE INDEX history_ended ON mailroom.history (state, id) WHERE state NOT IN ('sent', 'delivered');

-- The bodies of the last minute's requests.
CREATE TABLE mailroom.repeats (
    key        bytea PRIMARY KEY,                -- keyed hash
    message_id text NOT NULL,
    created_at float8 NOT NULL
) WITH (  -- all turnover, as `messages`
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

-- Events that are handled only once: a webhook's body, a user's welcome.
CREATE TABLE mailroom.once (
    key        bytea PRIMARY KEY,                -- keyed hash
    message_id text NOT NULL,
    until      float8                            -- when it is deleted; NULL: never
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX once_until ON mailroom.once (until) WHERE until IS NOT NULL;

-- When events were accepted that count towards `webhook.max_per_hour`.
CREATE TABLE mailroom.counted_events (at float8 NOT NULL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE INDEX counted_events_at ON mailroom.counted_events (at);

-- The processes that hold leases. Each prolongs its row; one that does not is dead or cut off, and its leases end.
CREATE TABLE mailroom.owners (
    owner       text PRIMARY KEY,
    alive_until float8 NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- What an operator has paused, until it is resumed.
CREATE TABLE mailroom.paused (
    provider text PRIMARY KEY,
    since    float8 NOT NULL
);

-- Mails of the `capture` provider, the newest only.
CREATE TABLE mailroom.captured (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text NOT NULL,                   -- the message's id; each attempt is a row
    captured_at float8 NOT NULL,
    size        integer NOT NULL,                -- octets of the raw mail
    head        bytea NOT NULL,                  -- sealed JSON: sender, recipient, subject
    raw         bytea NOT NULL                   -- sealed RFC 5322 text
);

CREATE INDEX captured_id ON mailroom.captured (id);

-- Secrets that providers get while they run, such as OAuth2 refresh tokens that replace those of the settings.
CREATE TABLE mailroom.secrets (
    name   text PRIMARY KEY,
    secret bytea NOT NULL                        -- sealed text
);

-- The random data key, encrypted (wrapped) by `secret_key`.
CREATE TABLE mailroom.keys (
    number  integer PRIMARY KEY CHECK (number = 1),
    wrapped bytea NOT NULL
);
