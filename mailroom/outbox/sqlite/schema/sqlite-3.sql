-- oldest: 3
--
-- Version 3: a newer code supersedes the older ones, operators pause providers, an uncertain mail is sent again as it was.

-- Keyed hash of recipient, template, application and ip; NULL: supersedes nothing.
ALTER TABLE messages ADD COLUMN supersede_key BLOB;
-- 1 on a message that is being sent while a newer one was handed over: it ends as superseded unless it is sent.
ALTER TABLE messages ADD COLUMN superseded INTEGER NOT NULL DEFAULT 0;
-- JSON, sealed: the mail as it was rendered for a provider that may have sent it; erased when the message settles.
ALTER TABLE messages ADD COLUMN rendered BLOB;

-- 1 on codes whose key another unsettled code has, too: only these are compared.
ALTER TABLE messages ADD COLUMN contested INTEGER NOT NULL DEFAULT 0;

-- Few rows, so that accepting a message does not write to them.
CREATE INDEX messages_contested ON messages (supersede_key, number) WHERE contested = 1 AND due_at IS NOT NULL;
CREATE INDEX messages_superseded ON messages (state) WHERE superseded = 1 AND due_at IS NOT NULL;

-- What an operator has paused, until it is resumed.
CREATE TABLE paused (
    provider TEXT PRIMARY KEY,
    since    REAL NOT NULL
) STRICT, WITHOUT ROWID;
