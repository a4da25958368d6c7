"""Statements on the way of every mail read no messages but those they change, whatever the statistics say."""

import os
from typing import Any, Final

import pytest

from mailroom.outbox.postgres import changes, puts
from mailroom.outbox.postgres.postgres_engine import PostgresOutbox
from tests.clock import START
from tests.outbox.contract import message
from tests.outbox.limits_contract import put_all
from tests.outbox.postgres.conftest import Open
from tests.outbox.postgres.reads import rows_read
from tests.postgres_server import PostgresServer

_WAITING: Final = 400
_FEW: Final = 20
"""Rows that are read beside, as by a beat."""


async def _explain(outbox: PostgresOutbox, sql: str, *arguments: Any) -> str:
    return "\n".join(line for (line,) in await outbox._database.rows(f"EXPLAIN {sql}", *arguments))


@pytest.mark.parametrize("statistics", ["none", "of few keys", "of an empty table"])
async def test_settling_reads_no_other_messages(open_outbox: Open, postgres: PostgresServer, statistics: str) -> None:
    """Each message and its content are looked up by id, and what is superseded by its key."""
    outbox = await open_outbox()
    if statistics == "of an empty table":
        postgres.psql("ANALYZE mailroom.messages, mailroom.contents")
    await put_all(outbox, [message(recipient=f"user{number}@example.com") for number in range(_WAITING)])
    if statistics == "of few keys":
        postgres.psql("UPDATE mailroom.contents SET supersede_key = decode(md5((number % 20)::text), 'hex')")
        postgres.psql("ANALYZE mailroom.messages, mailroom.contents")
    texts = [[f"{number}"] * 100 for number in range(5)]
    before = await rows_read(outbox)
    plan = await _explain(outbox, changes._MOVE, *texts, "owner", START)
    for index in ("messages_pkey", "contents_pkey", "contents_supersede"):
        assert index in plan
    for other in ("messages_leased", "Seq Scan", "Merge Join", "Join Filter", "Hash"):
        assert other not in plan
    await outbox._database.rows(changes._MOVE, *texts, "owner", START)
    assert await rows_read(outbox) - before < _FEW


async def test_counting_the_codes_of_recipients_reads_no_other_messages(open_outbox: Open) -> None:
    outbox = await open_outbox()
    await put_all(outbox, [message(recipient=f"user{number}@example.com") for number in range(_WAITING)])
    plan = await _explain(outbox, puts._CODES, [os.urandom(16) for _ in range(64)], START - 600, START, "")
    assert "contents_recipient" in plan
    assert "history_recipient" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("suffix", ["", "?pgbouncer=true"], ids=["once a connection", "in each transaction"])
async def test_no_plan_reads_a_whole_table_because_it_was_small(open_outbox: Open, url: str, suffix: str) -> None:
    """PostgreSQL keeps a statement's plan from its sixth use on, while the table grows."""
    outbox = await open_outbox(url + suffix)
    sql = "SELECT id FROM mailroom.messages WHERE id = ANY($1::text[])"
    plans = [await outbox._database.rows(f"EXPLAIN {sql}", ["a", "b"]) for _ in range(2)]
    assert all("Seq Scan" not in str([tuple(row) for row in plan]) for plan in plans)
    [(settings,)] = await outbox._database.rows(
        "SELECT string_agg(current_setting(name), ' ' ORDER BY name)"
        "  FROM unnest(ARRAY['enable_seqscan', 'jit', 'lock_timeout', 'statement_timeout']) AS name"
    )
    assert settings == "off off 1400ms 1800ms"
