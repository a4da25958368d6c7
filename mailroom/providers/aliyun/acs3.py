"""Signs requests for Alibaba Cloud: ACS3-HMAC-SHA256.

Source: alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature.
"""

import hmac
from collections.abc import AsyncGenerator, Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote
from uuid import uuid4

import httpx
from pydantic import SecretStr

from mailroom.clock import Clock

_ALGORITHM: Final = "ACS3-HMAC-SHA256"
_SIGNED: Final = ("content-type", "host", "x-acs-")
"""Beginnings of the signed headers: no others, which a proxy may change."""


class Acs3(httpx.Auth):
    """Signs each request, with a nonce by which Alibaba Cloud accepts it once only."""

    requires_request_body = True

    def __init__(
        self, access_key_id: str, access_key_secret: SecretStr, clock: Clock, *, nonce: Callable[[], object] = uuid4
    ) -> None:
        """Take the key; `nonce` returns another value each time."""
        self._access_key_id = access_key_id
        self._access_key_secret = access_key_secret
        self._clock = clock
        self._nonce = nonce

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add `x-acs-date`, `x-acs-signature-nonce`, `x-acs-content-sha256` and `Authorization`."""
        headers = request.headers
        headers["x-acs-date"] = datetime.fromtimestamp(self._clock.wall(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers["x-acs-signature-nonce"] = str(self._nonce())
        headers["x-acs-content-sha256"] = sha256(request.content).hexdigest()
        headers["Authorization"] = authorization(
            request.method,
            request.url.raw_path.decode("ascii"),
            {name: value for name, value in headers.items() if name.startswith(_SIGNED)},
            self._access_key_id,
            self._access_key_secret.get_secret_value(),
        )
        yield request


def authorization(
    method: str, target: str, headers: Mapping[str, str], access_key_id: str, access_key_secret: str
) -> str:
    """Return the value of `Authorization`; all `headers` are signed, `x-acs-content-sha256` must be among them.

    `target` is the path with its query. The path must hold nothing that would have to be encoded.
    """
    path, _, query = target.partition("?")
    pairs = [(quote(key, safe="~"), quote(value, safe="~")) for key, value in parse_qsl(query, keep_blank_values=True)]
    to_sign = {name.lower(): value.strip() for name, value in headers.items()}
    names = ";".join(sorted(to_sign))
    lines = (
        method,
        path or "/",
        "&".join(f"{key}={value}" for key, value in sorted(pairs)),
        *(f"{name}:{to_sign[name]}" for name in sorted(to_sign)),
        "",
        names,
        to_sign["x-acs-content-sha256"],
    )
    canonical_request = "\n".join(lines)
    string_to_sign = f"{_ALGORITHM}\n{sha256(canonical_request.encode()).hexdigest()}"
    signature = hmac.digest(access_key_secret.encode(), string_to_sign.encode(), "sha256").hex()
    return f"{_ALGORITHM} Credential={access_key_id},SignedHeaders={names},Signature={signature}"
