-- oldest: 3
--
-- Version 4: secrets that providers get while they run, such as OAuth2 refresh tokens that replace those of the settings.

CREATE TABLE secrets (
    name   TEXT PRIMARY KEY,
    secret BLOB NOT NULL     -- sealed text
) STRICT, WITHOUT ROWID;
