"""Requests our public address from an address echo service, over the same egress as a provider's mails."""

import asyncio
import json
import re
import ssl
from contextlib import suppress
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailroom.clock import Clock
from mailroom.doctor.check_results import CheckResult, good, unknown, wrong
from mailroom.doctor.dnsauth.resolver import IpAddress, unmapped
from mailroom.errors import SendingError
from mailroom.providers import ProviderSettings
from mailroom.providers.egress import Egress, parse_proxy
from mailroom.providers.http.transport import Transport

_SECONDS: Final = 20
"""Time limit of the whole request."""
_LINE: Final = re.compile(r"^(?:ip=)?([0-9A-Fa-f.:]{2,45})\s*$", re.MULTILINE)
_FIELDS: Final = ("ip", "address", "ip_address", "origin", "query")


class _EchoEgress(Egress):
    """Trusts the provider's `ca_file`, whose authorities may be a proxy's, and the system's: the service is another."""

    __slots__ = ()

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that verifies certificates."""
        context = super().tls_context()
        context.load_default_certs()
        return context


def describe_egress(egress: Egress) -> str:
    """Describe the egress of a provider's mails."""
    local, proxy = egress.local_address, egress.proxy
    text = f"from local_address {local}" if local else "from the address that the system chooses"
    if proxy is None:
        return text
    return f"through the proxy {proxy.host}:{proxy.port}" + (f", {text}" if local else "")


async def seen_address(
    settings: ProviderSettings, url: str | None, clock: Clock
) -> tuple[CheckResult, IpAddress | None]:
    """Return the address that the echo service sees for this provider; without a URL none is requested."""
    egress = _EchoEgress(
        getattr(settings, "local_address", None),
        parse_proxy(getattr(settings, "proxy", None)),
        getattr(settings, "ca_file", None),
    )
    egress_text = describe_egress(egress)
    if url is None:
        todo = "to get it, set an address echo service: echo_url in the settings, or --echo URL"
        return unknown("address", f"mails leave {egress_text}; the public address was not requested", todo), None
    host = urlsplit(url).hostname or ""
    try:
        async with asyncio.timeout(_SECONDS):
            text = await _request(egress, url, clock)
    except TimeoutError:
        return unknown("address", f"no answer from echo_url within {_SECONDS} s", "set another echo_url"), None
    except SendingError as error:
        todo = "check local_address and proxy, and whether a firewall blocks us"
        return wrong("address", f"leaving {egress_text}, {host} is not reached: {error}", todo), None
    address = _parse(text)
    if address is None:
        return unknown("address", f"{host} does not answer with an address", "set another echo_url"), None
    text = f"the public address is {address}, {egress_text}"
    return good("address", text, "whitelist it at the provider, if it restricts addresses"), address


async def _request(egress: Egress, url: str, clock: Clock) -> str:
    timeout = httpx.Timeout(None)  # the transport limits the time to connect, the doctor the total time
    async with httpx.AsyncClient(transport=Transport(egress, clock), trust_env=False, timeout=timeout) as client:
        response = await client.get(url, headers={"Accept": "text/plain, application/json", "User-Agent": "Mailroom"})
    return response.text if response.is_success else ""


def _parse(text: str) -> IpAddress | None:
    """Read plain text, `{"ip": …}` or lines with `ip=…`."""
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        text = next((value for field in _FIELDS if isinstance(value := document.get(field), str)), "")
    elif isinstance(document, str):
        text = document
    for match in _LINE.finditer(text[:10_000]):
        with suppress(ValueError):
            return unmapped(ip_address(match[1]))
    return None
