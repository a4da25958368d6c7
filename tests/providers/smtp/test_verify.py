"""Verifying an SMTP login without a mail."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from mailroom.errors import Misconfigured, Unavailable
from mailroom.providers import Verifiable
from mailroom.providers.smtp.smtp_provider import Settings, connect
from tests.providers.contract import context
from tests.smtp_server import DROP, Server, smtp_server

USERS = {"ann": "hunter22"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with smtp_server(tls="starttls", users=USERS) as server:
        yield server


async def verify(server: Server, **changes: Any) -> str:
    given = {"host": server.host, "port": server.port, "ca_file": server.ca_file} | changes
    provider = connect(Settings(**given), context())
    assert isinstance(provider, Verifiable)
    try:
        return await provider.verify()
    finally:
        await provider.aclose()


async def test_a_working_login_is_reported_and_nothing_is_sent(server: Server) -> None:
    words = await verify(server, username="ann", password="hunter22")
    assert words == f"127.0.0.1:{server.port} takes the login of ann"
    assert (server.commands["AUTH"], server.commands["NOOP"], server.commands["MAIL"]) == (1, 1, 0)
    await server.left_alone()


async def test_a_relay_without_login_is_reported_as_such() -> None:
    async with smtp_server(tls="none") as server:
        assert "without a login" in await verify(server, tls="none", ca_file=None)


async def test_a_server_without_a_login_does_not_take_the_credentials() -> None:
    async with smtp_server(tls="none") as server:
        words = await verify(server, tls="none", ca_file=None, username="ann", password="hunter22")
        assert words.endswith("offers no login and refuses ours: mails are sent without one")


async def test_a_login_that_is_refused_is_misconfigured(server: Server) -> None:
    with pytest.raises(Misconfigured, match="535"):
        await verify(server, username="ann", password="another")


async def test_a_server_that_closes_after_the_login_is_unavailable(server: Server) -> None:
    server.fault("NOOP", DROP)
    with pytest.raises(Unavailable):
        await verify(server, username="ann", password="hunter22")


async def test_a_refused_connection_is_unavailable(server: Server) -> None:
    with pytest.raises(Unavailable, match="cannot connect"):
        await verify(server, port=1)
