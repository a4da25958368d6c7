"""The outbox in a SQLite file: one machine, one serving process."""
