"""PIPELINING and CHUNKING that are offered and do not work: not used for hours after one failure."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mailroom.smtpclient import ConnectionLost, Extension, ReplyError, TimedOut, TimeLimits
from tests.clock import FakeClock
from tests.providers.smtp.scripted_server import Script, scripted_smtp
from tests.smtpclient.pools import mail, pool_of
from tests.wire_server import CHUNKING, HANG_UP, wire_server

BY_DATA = ["MAIL", "RCPT", "DATA", "CONTENT"]
BY_BDAT = ["MAIL", "RCPT", "BDAT", "CONTENT"]
SILENT = "250-wait for it"
"""The beginning of a reply that does not end."""


async def test_after_a_connection_lost_at_bdat_mails_are_sent_by_data_for_hours() -> None:
    clock, broken = FakeClock(), list[Extension]()
    options: dict[str, Any] = {"monotonic": clock.monotonic, "sleep": clock.sleep, "on_broken": broken.append}
    async with wire_server(CHUNKING) as server, pool_of(server, **options) as pool:
        server.once["CONTENT"] = HANG_UP
        with pytest.raises(ConnectionLost) as caught:
            await pool.send(mail())
        assert caught.value.handed_over
        await pool.send(mail())
        await clock.advance(6 * 3600 - 1)
        await pool.send(mail())
        assert server.verbs.count("BDAT") == 1
        assert broken == ["CHUNKING"]
        await clock.advance(61)
        await pool.send(mail())
        assert server.verbs[-4:] == BY_BDAT
        assert broken == ["CHUNKING"]


async def test_a_time_out_at_bdat_counts_too(pass_time: Callable[[float], None]) -> None:
    async with wire_server({**CHUNKING, "CONTENT": SILENT}) as server, pool_of(server) as pool:
        sending = asyncio.create_task(pool.send(mail()))
        await server.until(lambda: "CONTENT" in server.verbs)
        pass_time(60)
        with pytest.raises(TimedOut):
            await sending
        server.answers["CONTENT"] = "250 2.0.0 Ok"
        await pool.send(mail())
        assert server.verbs[-4:] == BY_DATA


async def test_a_connection_lost_after_an_accepted_mail_is_no_fault_of_chunking() -> None:
    """The server was restarted, say."""
    async with wire_server(CHUNKING) as server, pool_of(server) as pool:
        await pool.send(mail())
        server.once["CONTENT"] = HANG_UP
        with pytest.raises(ConnectionLost):
            await pool.send(mail())
        await pool.send(mail())
        assert server.verbs.count("BDAT") == 3


@pytest.mark.parametrize("extensions", [("PIPELINING",), ("PIPELINING", "CHUNKING")], ids=["DATA", "BDAT"])
async def test_a_server_that_loses_what_follows_mail_gets_its_commands_one_by_one(extensions: tuple[str, ...]) -> None:
    broken: list[Extension] = []
    script = Script(extensions=extensions, loses_pipelined=True)
    async with (
        scripted_smtp(script) as server,
        pool_of(server, limits=TimeLimits(0.5), on_broken=broken.append) as pool,
    ):
        with pytest.raises(TimedOut):
            await pool.send(mail())
        await pool.send(mail())
        await pool.send(mail())
        assert len(server.recipients) == 2
    assert broken == ["PIPELINING"]


@pytest.mark.parametrize(("offer", "verb"), [({}, "RCPT"), ({}, "DATA"), (CHUNKING, "RCPT")])
async def test_a_server_that_has_lost_what_it_accepted_gets_the_mail_again_at_once(
    offer: dict[str, str], verb: str
) -> None:
    broken: list[Extension] = []
    async with wire_server(offer) as server, pool_of(server, on_broken=broken.append) as pool:
        server.once[verb] = "503 5.5.1 Bad sequence of commands"
        await pool.send(mail())
        assert server.verbs[-4:] == BY_DATA
        assert [write[:4] for write in server.writes[-4:-1]] == [b"MAIL", b"RCPT", b"DATA"]
        assert server.connections == 2
        await pool.send(mail())
    assert broken == ["PIPELINING"]


async def test_the_same_reply_to_a_single_command_is_a_refusal() -> None:
    async with wire_server({"RCPT": "503 5.5.1 who are you?"}) as server, pool_of(server) as pool:
        with pytest.raises(ReplyError, match="who are you"):
            await pool.send(mail())
        assert server.connections == 2


@pytest.mark.parametrize(("avoided", "writes"), [("CHUNKING", [b"MAIL"]), ("PIPELINING", [b"MAIL", b"RCPT", b"DATA"])])
async def test_avoided_extensions_are_not_used(avoided: Extension, writes: list[bytes]) -> None:
    async with wire_server(CHUNKING) as server, pool_of(server, avoided=(avoided,)) as pool:
        await pool.send(mail())
        assert [write[:4] for write in server.writes[1:-1]] == writes
        assert server.verbs[-4:] == BY_DATA
