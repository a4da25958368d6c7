"""The credentials that an AWS host lends to what runs on it: fetched when needed, kept, renewed before they expire.

The order and the names are the AWS SDKs' (docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html): keys
in the environment, a web identity (EKS), the container's endpoint (ECS, EKS Pod Identity), the instance's (EC2).
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from mailroom.clock import Clock, Instant
from mailroom.errors import SendingError
from mailroom.providers._aws_metadata import Container, Instance, WebIdentity
from mailroom.providers._http_settings import HttpSettings
from mailroom.providers._sigv4 import Credentials

RENEW_BEFORE_SECONDS: Final = 600.0
"""Credentials with less than this left are renewed; AWS has new ones ready at least 5 minutes before the old expire."""
ASK_AGAIN_SECONDS: Final = 60.0
"""Nobody is asked more often than this, whatever became of the last time."""


class Lender(Protocol):
    """Who lends credentials for a time."""

    async def fetch(self) -> Credentials:
        """Ask for credentials. Raises Misconfigured or Unavailable."""

    async def aclose(self) -> None:
        """Close its connections."""


class Fixed:
    """Credentials that are good until somebody revokes them."""

    def __init__(self, credentials: Credentials) -> None:
        self.held: Credentials | None = credentials
        self._credentials = credentials

    async def credentials(self) -> Credentials:
        """Return them."""
        return self._credentials

    def forget(self) -> bool:
        """Return that there are no others to be had."""
        return False

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


class Lent:
    """Credentials for a time."""

    def __init__(self, lender: Lender, clock: Clock) -> None:
        self.held: Credentials | None = None
        self._lender = lender
        self._clock = clock
        self._good_until: Instant = 0
        self._lock = asyncio.Lock()

    async def credentials(self) -> Credentials:
        """Return those at hand, or new ones when they end soon; whoever comes meanwhile waits for the same answer.

        While the lender is out of order, those at hand are used to their end, and past it if it lends them past it:
        AWS takes expired ones while its own lenders are out of order.
        """
        async with self._lock:
            now = self._clock.wall()
            if self.held is not None and now < self._good_until:
                return self.held
            try:
                self.held = await self._lender.fetch()
                self._good_until = max(self.held.expires_at - RENEW_BEFORE_SECONDS, now + ASK_AGAIN_SECONDS)
            except SendingError:
                if self.held is None or self.held.expires_at <= now:
                    raise
                self._good_until = now + ASK_AGAIN_SECONDS
            return self.held

    def forget(self) -> bool:
        """Fetch new ones next time: AWS says that these have expired."""
        self._good_until = 0
        return True

    async def aclose(self) -> None:
        """Close the lender's connections."""
        await self._lender.aclose()


def from_host(environment: Mapping[str, str], settings: HttpSettings, clock: Clock, *, region: str) -> Fixed | Lent:
    """Return where the host's credentials come from, by its environment; nothing is dialled."""
    key, secret = environment.get("AWS_ACCESS_KEY_ID", ""), environment.get("AWS_SECRET_ACCESS_KEY", "")
    if key and secret:
        return Fixed(Credentials(key, secret, environment.get("AWS_SESSION_TOKEN", "")))
    lender: Lender
    if environment.get("AWS_WEB_IDENTITY_TOKEN_FILE") and environment.get("AWS_ROLE_ARN"):
        lender = WebIdentity(environment, settings, clock, region=region)
    elif any(environment.get(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI") for kind in ("RELATIVE", "FULL")):
        lender = Container(environment, clock)
    else:
        lender = Instance(environment, clock)
    return Lent(lender, clock)
