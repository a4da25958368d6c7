"""SMTP against a real server: plain and encrypted, with and without PIPELINING and CHUNKING, through a proxy."""

from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.providers.contract import ProviderContract
from tests.providers.smtp_service import SmtpService, smtp_service
from tests.proxy_server import proxy_server


@pytest.mark.parametrize("offers", [(), ("pipelining",), ("pipelining", "chunking")], ids=["steps", "two", "one"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
class TestSmtp(ProviderContract):
    """The contract, with nine configurations."""

    @pytest.fixture
    async def service(
        self,
        tls: Literal["none", "starttls", "implicit"],
        offers: tuple[str, ...],
    ) -> AsyncIterator[SmtpService]:
        """Run a server."""
        async with smtp_service(tls=tls, pipelining="pipelining" in offers, chunking="chunking" in offers) as service:
            yield service


@pytest.mark.parametrize("scheme", ["socks5", "https"])
class TestSmtpThroughAProxy(ProviderContract):
    """The contract, with a proxy in the path."""

    @pytest.fixture
    async def service(self, scheme: str) -> AsyncIterator[SmtpService]:
        """Run a server and a proxy.

        Without CHUNKING: the proxy passes a reset on later, when the mail has been written and may have been taken.
        """
        async with (
            proxy_server(scheme, login=("mailroom", "the proxy's password")) as proxy,
            smtp_service(proxy=proxy.url) as service,
        ):
            service.secrets += ("the proxy's password", proxy.url)
            yield service
