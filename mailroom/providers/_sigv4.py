"""Signs requests for AWS: Signature Version 4.

Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
"""

import hmac
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from typing import Final, Protocol

import httpx

from mailroom.clock import Clock, Instant
from mailroom.providers._canonical import canonical_request, headers_to_sign

_ALGORITHM: Final = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed with."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    """Goes along with keys that are lent for a time."""
    expires_at: Instant = inf


class Source(Protocol):
    """Where credentials come from."""

    async def credentials(self) -> Credentials:
        """Return credentials that are good now. Raises Misconfigured or Unavailable."""


class SigV4(httpx.Auth):
    """Signs each request with the credentials of the moment."""

    requires_request_body = True

    def __init__(self, source: Source, clock: Clock, *, region: str, service: str) -> None:
        """Take the names of the credential scope: `eu-central-1`, `ses`."""
        self._source = source
        self._clock = clock
        self._region = region
        self._service = service

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add `X-Amz-Date`, `X-Amz-Security-Token` and `Authorization`."""
        credentials = await self._source.credentials()
        headers = request.headers
        headers["X-Amz-Date"] = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y%m%dT%H%M%SZ")
        if credentials.session_token:
            headers["X-Amz-Security-Token"] = credentials.session_token
        headers["Authorization"] = authorization(
            request.method,
            request.url.raw_path.decode("ascii"),
            headers_to_sign(headers, "x-amz-"),
            request.content,
            credentials,
            region=self._region,
            service=self._service,
        )
        yield request


def authorization(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: Credentials,
    *,
    region: str,
    service: str,
) -> str:
    """Return the value of `Authorization`; all `headers` are signed, `host` and `x-amz-date` must be among them.

    `target` is the path with its query.
    """
    date = {name.lower(): value for name, value in headers.items()}["x-amz-date"]
    canonical, signed = canonical_request(method, target, headers, sha256(body).hexdigest())
    scope = f"{date[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{_ALGORITHM}\n{date}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{credentials.access_key_secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"{_ALGORITHM} Credential={credentials.access_key_id}/{scope}, SignedHeaders={signed}, Signature={signature}"
