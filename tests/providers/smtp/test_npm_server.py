"""SMTP against npm's smtp-server: encryption, logins, tokens that expire and are revoked, source addresses."""

import asyncio
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from mailroom.errors import Misconfigured, Unavailable
from mailroom.message import Receipt
from mailroom.providers.smtp.smtp_provider import Settings, Smtp, connect
from tests.clock import FakeClock
from tests.mails import email
from tests.npm_smtp_server import NpmSmtpServer, missing, npm_smtp_server
from tests.providers.contract import context
from tests.proxy_server import proxy_server
from tests.smtp_server import authority
from tests.token_endpoint import NEVER, TokenEndpoint, token_endpoint

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

ADA = "ada@acme.example"
REFRESH = {"client_id": "app", "client_secret": "app's secret", "refresh_token": "ada's consent"}


async def send(server: NpmSmtpServer, **settings: Any) -> Receipt:
    """Send a mail through a provider of its own."""
    given = {"host": server.host, "port": server.port, "ca_file": server.ca_file} | settings
    provider = connect(Settings(**given), context())
    try:
        return await provider.send(email(subject="Ваш код 🎉"))
    finally:
        await provider.aclose()


@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
@pytest.mark.parametrize("way", ["PLAIN", "LOGIN"])
async def test_a_mail_arrives(tls: str, way: str) -> None:
    async with npm_smtp_server(tls=tls, methods=[way], users={ADA: "hunter22"}) as server:
        await send(server, tls=tls, username=ADA, password="hunter22")
        mail = await server.mail()
        assert (mail.user, mail.secure) == (ADA, tls != "none")
        assert mail.recipients == (email().recipient,)
        assert message_from_bytes(mail.content, policy=default)["Subject"] == "Ваш код 🎉"
        assert server.logins == [(way, True)]


async def test_a_wrong_password_is_misconfigured() -> None:
    async with npm_smtp_server(tls="starttls", methods=["PLAIN"], users={ADA: "hunter22"}) as server:
        with pytest.raises(Misconfigured, match="Username and Password not accepted"):
            await send(server, username=ADA, password="hunter23")


async def test_the_server_sees_the_address_that_is_set() -> None:
    async with npm_smtp_server(**{"from": "127.0.0.2"}) as server:
        with pytest.raises(Misconfigured, match=r"127\.0\.0\.1 is not on the list"):
            await send(server, tls="none")
        await send(server, tls="none", local_address="127.0.0.2")
        assert (await server.mail()).remote == "127.0.0.2"


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_the_server_sees_the_proxys_address(scheme: str, tls: str) -> None:
    async with (
        npm_smtp_server(tls=tls, methods=["PLAIN"], users={ADA: "hunter22"}, **{"from": "127.0.0.3"}) as server,
        proxy_server(scheme, login=("mailroom", "p@ss/word")) as proxy,
    ):
        proxy.leave_from = "127.0.0.3"
        with pytest.raises(Misconfigured, match="not on the list"):
            await send(server, tls=tls, username=ADA, password="hunter22")
        await send(server, tls=tls, username=ADA, password="hunter22", proxy=proxy.url)
        assert (await server.mail()).remote == "127.0.0.3"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_a_server_that_requires_a_certificate_gets_ours(tls: str, tmp_path: Path) -> None:
    ours = authority().issue_cert("mailroom.acme.example")
    certificate, key, both = (tmp_path / name for name in ("cert.pem", "key.pem", "both.pem"))
    ours.cert_chain_pems[0].write_to_path(certificate)
    ours.private_key_pem.write_to_path(key)
    ours.private_key_and_cert_chain_pem.write_to_path(both)
    async with npm_smtp_server(tls=tls, client_certificates=True) as server:
        await send(server, tls=tls, client_certificate=certificate, client_key=key)
        await send(server, tls=tls, client_certificate=both)
        with pytest.raises((Misconfigured, Unavailable)):
            await send(server, tls=tls)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_the_certificate_may_be_for_another_name_than_the_host(tls: str) -> None:
    async with npm_smtp_server(tls=tls) as server:
        await send(server, tls=tls, servername="mail.acme.example", tls_min_version="1.3")
        with pytest.raises(Misconfigured, match="certificate"):
            await send(server, tls=tls, servername="other.example")


class TestTokens:
    """XOAUTH2."""

    @pytest.fixture
    async def endpoint(self) -> AsyncIterator[TokenEndpoint]:
        async with token_endpoint() as endpoint:
            yield endpoint

    @pytest.fixture
    async def server(self) -> AsyncIterator[NpmSmtpServer]:
        async with npm_smtp_server(tls="starttls", methods=["PLAIN", "LOGIN", "XOAUTH2"], users={}) as server:
            yield server

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    async def provider(self, server: NpmSmtpServer, endpoint: TokenEndpoint, clock: FakeClock) -> AsyncIterator[Smtp]:
        """Log in as Ada, once for each mail."""
        settings = Settings(
            host=server.host,
            port=server.port,
            ca_file=server.ca_file,
            username=ADA,
            oauth2={**REFRESH, "access_url": endpoint.url},
            mails_per_connection=1,
        )
        provider = connect(settings, context(clock=clock))
        yield provider
        await provider.aclose()

    async def test_one_token_serves_many_logins(
        self, provider: Smtp, server: NpmSmtpServer, endpoint: TokenEndpoint
    ) -> None:
        await server.let_in({ADA: "token-1"})
        await asyncio.gather(*(provider.send(email()) for _ in range(5)))
        assert [(await server.mail()).user for _ in range(5)] == [ADA] * 5
        assert endpoint.forms == [{"grant_type": "refresh_token", **REFRESH}]
        assert set(server.logins) == {("XOAUTH2", True)}

    async def test_a_token_is_renewed_before_it_expires(
        self, provider: Smtp, server: NpmSmtpServer, endpoint: TokenEndpoint, clock: FakeClock
    ) -> None:
        await server.let_in({ADA: "token-1"})
        await provider.send(email())
        await clock.advance(3600 - 61)
        await provider.send(email())
        assert len(endpoint.forms) == 1
        await clock.advance(2)
        await server.let_in({ADA: "token-2"})
        await provider.send(email())
        assert len(endpoint.forms) == 2
        assert all(good for _, good in server.logins)

    async def test_a_revoked_token_is_replaced_once(
        self, provider: Smtp, server: NpmSmtpServer, endpoint: TokenEndpoint
    ) -> None:
        await server.let_in({ADA: "token-1"})
        await provider.send(email())
        await server.let_in({ADA: "token-2"})
        await provider.send(email())
        assert (await server.mail(), len(endpoint.forms))[1] == 2
        await server.let_in({})
        with pytest.raises(Misconfigured) as refused:
            await provider.send(email())
        assert refused.value.code.startswith("535")
        assert len(endpoint.forms) == 3

    async def test_a_token_that_was_never_accepted_is_not_replaced(
        self, provider: Smtp, server: NpmSmtpServer, endpoint: TokenEndpoint
    ) -> None:
        """The grant is for another mailbox, or the application may not send."""
        with pytest.raises(Misconfigured):
            await provider.send(email())
        assert len(endpoint.forms) == 1
        await server.let_in({ADA: "token-2"})
        await provider.send(email())

    async def test_a_consent_that_was_withdrawn_is_misconfigured(
        self, provider: Smtp, server: NpmSmtpServer, endpoint: TokenEndpoint
    ) -> None:
        endpoint.answers.append((400, {"error": "invalid_grant", "error_description": "Token has been revoked."}))
        with pytest.raises(Misconfigured, match="invalid_grant: Token has been revoked") as refused:
            await provider.send(email())
        assert refused.value.code == "invalid_grant"
        assert server.logins == []

    async def test_an_endpoint_that_does_not_respond_is_unavailable(
        self, provider: Smtp, endpoint: TokenEndpoint, pass_time: Callable[[float], None]
    ) -> None:
        endpoint.answers.append(NEVER)
        sending = asyncio.create_task(provider.send(email()))
        await endpoint.asked.wait()
        pass_time(15)
        with pytest.raises(Unavailable, match="not ready for a mail within 15 s"):
            await sending

    async def test_a_given_token_is_used_unchanged(self, server: NpmSmtpServer) -> None:
        await server.let_in({ADA: "mine"})
        await send(server, username=ADA, oauth2={"access_token": "mine"})
        with pytest.raises(Misconfigured) as refused:
            await send(server, username=ADA, oauth2={"access_token": "my-old-one"})
        assert "my-old-one" not in str(refused.value)

    async def test_a_password_is_not_sent_to_a_server_that_offers_only_tokens(self) -> None:
        async with npm_smtp_server(tls="starttls", methods=["XOAUTH2"], users={}) as server:
            with pytest.raises(Misconfigured, match="it offers: XOAUTH2"):
                await send(server, username=ADA, password="hunter22")
            assert server.logins == []
