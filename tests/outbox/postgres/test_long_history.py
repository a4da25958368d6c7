"""What an operator reads of a long history."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from mailroom.errors import SealBroken
from mailroom.message import State
from mailroom.outbox.postgres.postgres_operator import open_operator
from mailroom.outbox.rows import recipient_key
from tests.clock import START
from tests.outbox.postgres.conftest import SECRET, Open
from tests.outbox.postgres.reads import rows_read
from tests.postgres_server import PostgresServer

_MANY: Final = 100_000
_PERIODS: Final = 12
"""In which they were accepted: a month."""


async def test_what_is_found_does_not_depend_on_the_form_of_ids(open_outbox: Open, postgres: PostgresServer) -> None:
    """They are UUIDs, but a search that looks for their periods must end with any."""
    outbox = await open_outbox()
    ids = ("", "m1", "m10", "abcde", "abcdez-1", "~~~~~~~")
    for number, id_ in enumerate(ids):
        postgres.psql(
            "INSERT INTO mailroom.history VALUES"
            f" ('{id_}', 'sent', 'Generic', 0, '[]', 1, 1, 1, '[]', '', 'p{number}', '', '')"
        )
    assert [await outbox.resolve(f"p{number}") for number in range(len(ids))] == list(ids)


async def test_an_operator_reads_a_long_history_by_its_indexes(
    open_outbox: Open, postgres: PostgresServer, url: str
) -> None:
    """Look-ups, and the newest attempts, in a history of which they return little."""
    await open_outbox()
    operator = await open_operator(url, secret_keys=[SECRET])
    key = recipient_key(operator._seal, "ada@example.com").hex()
    postgres.psql(f"""
        INSERT INTO mailroom.history
        SELECT '0192' || to_hex(number % {_PERIODS}) || lpad(number::text, 29, '0'),
               CASE number % 1000 WHEN 0 THEN 'failed' ELSE 'sent' END,
               'Generic', 0, '[]', {START}, {START}, {START},
               '[{{"provider": "main", "outcome": "accepted", "started_at": {START}}}]', '', 'p' || number,
               CASE number % 5000 WHEN 0 THEN decode('{key}', 'hex') ELSE '\\x00' END, '\\x00'
          FROM generate_series(1, {_MANY}) AS number;
        ANALYZE mailroom.history
    """)
    try:
        reads: list[tuple[Callable[[], Awaitable[object]], int]] = [
            (lambda: operator._database.rows("SHOW statement_timeout"), 0),
            (lambda: operator.find(recipient="ada@example.com", limit=10), 20),  # of all 20 the newest
            (lambda: operator.languages("ada@example.com"), 20),
            (lambda: operator.find(state=State.FAILED, limit=10), 10),
            (lambda: operator.find(state=State.SENT, limit=10), 10),
            (lambda: operator.find(limit=10), 10),
            (lambda: operator.resolve("p4711"), 1),
            (lambda: operator.resolve(f"0192{4711 % _PERIODS:x}" + "4711".rjust(29, "0")), 1),
            (lambda: operator.tried(since=START, accepted=START - 1e10, limit=10), 10),
            (lambda: operator.accepted("main", since=START + 1e9, slice_seconds=60), 0),
        ]
        for read, count in reads:
            before = await rows_read(operator)
            with suppress(SealBroken):  # no record of these can be opened
                await read()
            assert await rows_read(operator) - before <= 4 * count + 20 + 2 * _PERIODS
        assert [tuple(row) for row in await operator._database.rows("SHOW statement_timeout")] == [("10s",)]
    finally:
        await operator.close()
