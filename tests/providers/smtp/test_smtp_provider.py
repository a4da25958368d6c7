"""SMTP against a real server: plain and encrypted, with and without PIPELINING and CHUNKING, through a proxy."""

from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.providers.contract import ProviderContract
from tests.providers.smtp_far_end import SmtpFarEnd, smtp_far_end
from tests.proxy_server import proxy_server


@pytest.mark.parametrize("offers", [(), ("pipelining",), ("pipelining", "chunking")], ids=["steps", "two", "one"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
class TestSmtp(ProviderContract):
    """The contract, nine ways."""

    @pytest.fixture
    async def far_end(
        self,
        tls: Literal["none", "starttls", "implicit"],
        offers: tuple[str, ...],
    ) -> AsyncIterator[SmtpFarEnd]:
        """Run a server."""
        async with smtp_far_end(tls=tls, pipelining="pipelining" in offers, chunking="chunking" in offers) as far_end:
            yield far_end


@pytest.mark.parametrize("scheme", ["socks5", "https"])
class TestSmtpThroughAProxy(ProviderContract):
    """The contract, with a proxy in the path."""

    @pytest.fixture
    async def far_end(self, scheme: str) -> AsyncIterator[SmtpFarEnd]:
        """Run a server and a proxy."""
        async with (
            proxy_server(scheme, login=("mailroom", "the proxy's password")) as proxy,
            smtp_far_end(proxy=proxy.url, chunking=True) as far_end,
        ):
            far_end.secrets += ("the proxy's password", proxy.url)
            yield far_end
