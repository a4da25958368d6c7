-- oldest: 1  (programs of version 1 read and write their tables as before)
--
-- What processes must know of each other: how much of a limit is used, and which providers fail.

-- How often something happened in a slice of time, over all processes: mails by a provider, codes from an address.
CREATE TABLE mailroom.counts (
    what  text NOT NULL,                         -- keyed hash of a provider's limit, an address or a domain
    slice bigint NOT NULL,                       -- number of the slice since the epoch; its length depends on `what`
    count bigint NOT NULL,
    until float8 NOT NULL,                       -- when it is deleted
    PRIMARY KEY (what, slice)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE INDEX counts_until ON mailroom.counts (until);

-- The providers that fail, and those that did until some minutes ago; one without a row is used.
CREATE TABLE mailroom.breakers (
    provider     text PRIMARY KEY,
    reason       text NOT NULL,                  -- in the provider's words, secrets masked; '': it works again
    opened_at    float8 NOT NULL,
    observed_at  float8 NOT NULL,                -- when a process saw that it fails, or works: older news change nothing
    open_seconds float8 NOT NULL,                -- how long until the next probe; doubles with each that fails
    probe_at     float8 NOT NULL,
    prober       text,                           -- the process that may probe now, see `owners`
    prober_until float8,                         -- when another one may
    until        float8 NOT NULL                 -- when it is deleted, unless a process uses the provider
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

-- Queued messages of each route, in sending order: a claim reads none of other routes, nor what is held. With
-- expires_at, so that it reads no row that has expired.
CREATE INDEX messages_due_by_route ON mailroom.messages (priority, route, due_at, expires_at) WHERE state = 'queued';
-- Leases by their end, with their owners. A mail that is sent at once has an entry here and in none of the other two.
CREATE INDEX messages_leased ON mailroom.messages (due_at, owner) WHERE state = 'sending';
-- What expires next, of all that waits.
CREATE INDEX messages_waiting ON mailroom.messages (expires_at) WHERE state IN ('queued', 'held');
DROP INDEX mailroom.messages_due;

-- What `mailroom outbox copy` has written last into `secret`: the next run replaces it, unless a server has.
ALTER TABLE mailroom.secrets ADD COLUMN copied bytea;
