-- oldest: 2
--
-- Version 2: an insert only appends to indexes. Indexes of keyed hashes wrote a random page per message, which was two
-- fifths of the time of an insert.

-- The serving process remembers the bodies of the last minute, and reads them from `messages` when it starts.
DROP INDEX messages_repeat;

-- Recipients are indexed later, many at a time, sorted. Messages that are not indexed yet are read one by one.
DROP INDEX messages_recipient;

CREATE TABLE recipients (
    recipient_key BLOB NOT NULL,
    number        INTEGER NOT NULL,  -- messages.number
    PRIMARY KEY (recipient_key, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE progress (
    number  INTEGER PRIMARY KEY CHECK (number = 1),
    indexed INTEGER NOT NULL         -- messages.number up to which `recipients` is complete
) STRICT;

INSERT INTO recipients SELECT recipient_key, number FROM messages;
INSERT INTO progress SELECT 1, coalesce(max(number), 0) FROM messages;
