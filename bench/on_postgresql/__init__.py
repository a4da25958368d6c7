"""Row j: Mailroom on a PostgreSQL of this machine, whose processes take part of the same cores."""
