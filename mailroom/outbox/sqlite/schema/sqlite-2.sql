-- Version 2: accepting a message writes to the ends of indexes only. What would scatter over their pages (a page for each
-- key, two fifths of the work of accepting) is done in another way.

-- Repeats are a matter of a minute: the serving process remembers them, and reads them from `messages` when it starts.
DROP INDEX messages_repeat;

-- Who got what is written down a little later, many at a time. Until then messages are looked through one by one.
DROP INDEX messages_recipient;

CREATE TABLE recipients (
    recipient_key BLOB NOT NULL,
    number        INTEGER NOT NULL,  -- of the message
    PRIMARY KEY (recipient_key, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    number  INTEGER PRIMARY KEY CHECK (number = 1),
    indexed INTEGER NOT NULL         -- messages up to this number are in `recipients`
) STRICT;

INSERT INTO recipients SELECT recipient_key, number FROM messages;
INSERT INTO progress SELECT 1, coalesce(max(number), 0) FROM messages;
