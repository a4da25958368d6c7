"""Asks an address echo service for our public address, over the same egress as a provider's mails."""

import json
import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailroom.clock import Clock
from mailroom.doctor.dnsauth.resolver import IpAddress, unmapped
from mailroom.doctor.findings import Finding, good, unknown, wrong
from mailroom.errors import SendingError
from mailroom.providers import ProviderSettings
from mailroom.providers.egress import Egress, parse_proxy
from mailroom.providers.http.transport import Transport

_LINE: Final = re.compile(r"^(?:ip=)?([0-9A-Fa-f.:]{2,45})\s*$", re.MULTILINE)
_FIELDS: Final = ("ip", "address", "ip_address", "origin", "query")


def describe_egress(settings: ProviderSettings) -> str:
    """Describe the egress of a provider's mails."""
    proxy, local = parse_proxy(getattr(settings, "proxy", None)), getattr(settings, "local_address", None)
    words = f"from local_address {local}" if local else "from the address that the system chooses"
    if proxy is not None:
        words = f"through the proxy {proxy.host}:{proxy.port}" + (f", {words}" if local else "")
    return words


async def seen_address(settings: ProviderSettings, url: str | None, clock: Clock) -> tuple[Finding, IpAddress | None]:
    """Return the address that the echo service sees for this provider; without a URL none is requested."""
    egress_text = describe_egress(settings)
    if url is None:
        todo = "to get it, set an address echo service: echo_url in the settings, or --echo URL"
        return unknown("address", f"mails leave {egress_text}; the public address was not requested", todo), None
    host = urlsplit(url).hostname or ""
    try:
        text = await _request(settings, url, clock)
    except SendingError as error:
        todo = "check local_address and proxy, and whether a firewall blocks us"
        return wrong("address", f"leaving {egress_text}, {host} is not reached: {error}", todo), None
    address = _parse(text)
    if address is None:
        return unknown("address", f"{host} does not answer with an address", "set another echo_url"), None
    words = f"the public address is {address}, {egress_text}"
    return good("address", words, "whitelist it at the provider, if it restricts addresses"), address


async def _request(settings: ProviderSettings, url: str, clock: Clock) -> str:
    egress = Egress(getattr(settings, "local_address", None), parse_proxy(getattr(settings, "proxy", None)))
    timeout = httpx.Timeout(None)  # the transport limits the time to connect, the doctor the total time
    async with httpx.AsyncClient(transport=Transport(egress, clock), trust_env=False, timeout=timeout) as client:
        answer = await client.get(url, headers={"Accept": "text/plain, application/json", "User-Agent": "Mailroom"})
    return answer.text if answer.is_success else ""


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
    for address in _LINE.finditer(text[:10_000]):
        try:
            return unmapped(ip_address(address[1]))
        except ValueError:
            continue
    return None
