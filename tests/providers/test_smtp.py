"""SMTP against a real server: plain and encrypted, with and without PIPELINING."""

from collections.abc import AsyncIterator
from typing import Literal

import pytest

from tests.providers.contract import ProviderContract
from tests.providers.smtp_far_end import SmtpFarEnd, smtp_far_end


@pytest.mark.parametrize("pipelining", [False, True], ids=["sequential", "pipelined"])
@pytest.mark.parametrize("tls", ["none", "starttls", "implicit"])
class TestSmtp(ProviderContract):
    """The contract, six ways."""

    @pytest.fixture
    async def far_end(
        self,
        tls: Literal["none", "starttls", "implicit"],
        pipelining: bool,  # noqa: FBT001  # the class is parametrized with it
    ) -> AsyncIterator[SmtpFarEnd]:
        """Run a server."""
        async with smtp_far_end(tls=tls, pipelining=pipelining) as far_end:
            yield far_end
