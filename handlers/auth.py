"""Checks who may post: the exact text of the `Authorization` header, and the networks that requests may come from."""

import hmac
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from pydantic import SecretStr
from starlette.types import Scope

from handlers.request_body import header
from handlers.responses import ErrorResponse, RequestError
from mailroom.config.model import Connector

AUTHORIZED: Final = "mailroom.authorized"
"""In the scope of a request that passed every check: under load, bodies of others are refused first."""

_WRONG_AUTHORIZATION: Final = ErrorResponse(401, "The mail server did not accept the authorization.")
_WRONG_NETWORK: Final = ErrorResponse(401, "The mail server does not accept requests from this address.")


class Authorization:
    """Compares the header with every accepted text, in constant time, so that the duration reveals nothing."""

    def __init__(self, accepted: Iterable[SecretStr]) -> None:
        texts = [secret.get_secret_value() for secret in accepted]
        # Node writes header values as Latin-1 where it can, other clients as UTF-8.
        forms = {text.encode() for text in texts} | {text.encode("latin-1", "ignore") for text in texts}
        self._accepted = tuple(form for form in forms if form)

    def check(self, scope: Scope) -> None:
        """Raise RequestError (401) unless the request has an accepted header; blanks around it do not count."""
        given = (header(scope, b"authorization") or b"").strip()
        matches = False
        for accepted in self._accepted:
            matches |= hmac.compare_digest(given, accepted)
        if not matches:
            raise RequestError(_WRONG_AUTHORIZATION)


class AllowedNetworks:
    """Accepts requests from the allowed networks only (from everywhere if there are none), also behind proxies."""

    def __init__(self, connector: Connector) -> None:
        self._allowed = connector.allowed_ips
        self._proxies = connector.trusted_proxies
        self._hops = connector.trusted_hops

    def check(self, scope: Scope) -> None:
        """Raise RequestError (401) unless the caller's address is allowed."""
        if not self._allowed:
            return
        caller = self.caller(scope)
        if caller is None or not _within(caller, self._allowed):
            raise RequestError(_WRONG_NETWORK)

    def caller(self, scope: Scope) -> IPv4Address | IPv6Address | None:
        """Return the address that the trusted proxies report; None if it is not valid.

        `X-Forwarded-For` is read from the right: left of what a trusted proxy wrote, a caller can write anything.
        """
        client = scope.get("client")
        forwarded = (value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for")
        chain = [text.strip() for value in forwarded for text in value.split(",")]
        chain.append(client[0] if client else "")
        if self._hops:
            return _address(chain[-1 - self._hops]) if len(chain) > self._hops else None
        caller = None
        for text in reversed(chain):
            caller = _address(text)
            if caller is None or not _within(caller, self._proxies):
                return caller
        return caller

    def name_caller(self, scope: Scope) -> str:
        """Return the caller's address for the log (at most 39 characters) or `unknown`; never text of the caller."""
        return str(self.caller(scope) or "unknown")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Parse an address, also `192.0.2.1:443`, `[2001:db8::1]:443` and `::ffff:192.0.2.1`.

    A zone (`fe80::1%eth0`, RFC 4007 §11) is dropped: it may be any text of any length.
    """
    text = text.partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _within(address: IPv4Address | IPv6Address, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    return any(address in network for network in networks)
