"""Row j (c): with a million settled messages. `python -m bench.on_postgresql.growth --settled 10000000` for more."""

import argparse
import sys
from contextlib import ExitStack
from functools import partial
from typing import Final

from bench.accepting import accepting
from bench.figures import Figure, interleaved, show
from bench.on_postgresql.measured_database import SHORT_RUNS, create_database, postgresql, work_off
from tests.postgres_server import PostgresServer

_SETTLED: Final = 1_000_000
_MESSAGES: Final = 5000

# Copies a settled message, over the 30 days of `retention`: ids that sort by time, other recipients, the same widths.
_FILL: Final = """
    INSERT INTO mailroom.history
           (id, state, template, priority, languages, created_at, expires_at, settled_at, attempts, reason,
            provider_message_id, recipient_key, record)
    SELECT overlay(lpad(to_hex((at * 1000)::bigint), 12, '0') PLACING '-' FROM 9 FOR 0)
               || '-7' || substr(hash, 1, 3) || '-8' || substr(hash, 4, 3) || '-' || substr(hash, 7, 12),
           state, template, priority, languages, at, at + 570, at + 0.3, attempts, reason,
           'queued as ' || hash, decode(hash, 'hex'), record
      FROM (SELECT * FROM mailroom.history ORDER BY id DESC LIMIT 1) AS model
     CROSS JOIN LATERAL (
           SELECT model.created_at - 30 * 86400.0 * (1 - number / {settled}.0) AS at, md5(number::text) AS hash
             FROM generate_series(0, {settled} - 1) AS number) AS new;
    VACUUM ANALYZE mailroom.history;
"""


def fill(server: PostgresServer, database: str, settled: int) -> None:
    """Add so many settled messages to a database that has one."""
    for statement in _FILL.format(settled=settled).split(";"):
        server.psql(statement, database)


def measure(rounds: int, settled: int = _SETTLED, messages: int = _MESSAGES) -> list[Figure]:
    """Return the figures: accepting, then claiming and settling, on two databases of one server."""
    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        urls = {name: create_database(server, name) for name in ("filled", "empty")}
        for url in urls.values():  # creates the schema, and has a message settled
            work_off("mailroom", url, 100)
        fill(server, "filled", settled)
        server.psql("CHECKPOINT")
        with ExitStack() as webs:
            accepted = interleaved(
                rounds * SHORT_RUNS,
                *(webs.enter_context(accepting(role="web", database_url=url)) for url in urls.values()),
            )
        for name in urls:
            server.psql("TRUNCATE mailroom.messages, mailroom.contents, mailroom.repeats", name)
        settle = (partial(work_off, "mailroom", url, messages) for url in urls.values())
        claimed = interleaved(rounds * SHORT_RUNS, *settle)
    count = f"{settled / 1e6:g} million settled messages, against none"
    return [
        Figure("j", f"(c) {what}, with {count}", "/s", full["per_second"], empty["per_second"], at_least=0.9)
        for what, (full, empty) in (("durable POST /email", accepted), ("claim and settle", claimed))
    ]


def main() -> int:
    """Run as a program; 1 when an aim is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settled", type=int, default=_SETTLED, help="messages in the history")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    figures = measure(given.rounds, given.settled)
    show(figures, as_json=False)
    return int(any(figure.met is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
