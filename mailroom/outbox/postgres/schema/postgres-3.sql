-- oldest: 3  (programs of version 2 look for columns that are gone: end them first)
--
-- A lease, an attempt and a failure write a new version of a message's row and of its entries in indexes. So what never
-- changes, and the indexes by which it is found, leave that row: 1 KB and three entries less to write for each.

-- A process that was not ended must not store messages meanwhile: their content would be lost.
LOCK TABLE mailroom.messages IN ACCESS EXCLUSIVE MODE;

-- What was accepted: a row for each of `messages`, written once.
CREATE TABLE mailroom.contents (
    id            text COLLATE "C" PRIMARY KEY,
    number        bigint NOT NULL,                -- as in `messages`
    priority      smallint NOT NULL,              -- likewise
    created_at    float8 NOT NULL,                -- likewise
    recipient_key bytea NOT NULL,                 -- keyed hash of the mailbox
    repeat_key    bytea,                          -- keyed hash of the request's body; NULL: not compared
    supersede_key bytea,                          -- as in `messages`
    sealed        bytea NOT NULL,                 -- sealed JSON: payload and ip
    record        bytea NOT NULL                  -- sealed JSON: recipient, and the payload's harmless fields
) WITH (  -- all turnover, as `messages`
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000
);

INSERT INTO mailroom.contents
SELECT id, number, priority, created_at, recipient_key, repeat_key, supersede_key, sealed, record FROM mailroom.messages;

CREATE INDEX contents_recipient ON mailroom.contents (recipient_key, created_at);
CREATE INDEX contents_supersede ON mailroom.contents (supersede_key, number) WHERE supersede_key IS NOT NULL;

DROP INDEX mailroom.messages_supersede;
ALTER TABLE mailroom.messages
    DROP CONSTRAINT messages_pkey,
    DROP CONSTRAINT messages_id_key,
    ADD PRIMARY KEY (id),
    ALTER COLUMN number DROP IDENTITY,
    DROP COLUMN recipient_key,  -- with its index
    DROP COLUMN repeat_key,
    DROP COLUMN sealed,
    DROP COLUMN record;

-- Beginning with the period of a message, see `periods.py`.
DROP INDEX mailroom.history_recipient;
DROP INDEX mailroom.history_provider_message_id;
CREATE INDEX history_recipient ON mailroom.history (left(id, 5), recipient_key);
CREATE INDEX history_provider_message_id ON mailroom.history (left(id, 5), provider_message_id)
    WHERE provider_message_id <> '';

-- In order of acceptance.
CREATE SEQUENCE mailroom.numbers;
SELECT setval('mailroom.numbers', greatest(max(number) + 1, 1), false) FROM mailroom.messages;
