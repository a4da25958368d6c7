-- oldest: 3
--
-- Version 5: claims select messages by their route.

-- Names of the providers in order, with commas; empty: those of all other messages. It is as the settings were when the
-- message was stored or last due: a claim corrects it.
ALTER TABLE messages ADD COLUMN route TEXT NOT NULL DEFAULT '';

-- The columns that `claim` filters by, as before.
DROP INDEX messages_due;
CREATE INDEX messages_due ON messages (priority, due_at, expires_at, route) WHERE due_at IS NOT NULL;
