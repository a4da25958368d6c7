"""Asks an address echo service which address others see, the way that a provider's mails leave."""

import json
import re
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailroom.clock import Clock
from mailroom.doctor.dns import IpAddress, unmapped
from mailroom.doctor.findings import Finding, good, unknown, wrong
from mailroom.errors import SendingError
from mailroom.providers import ProviderSettings
from mailroom.providers._egress import Egress, parse_proxy
from mailroom.providers._http_transport import Transport

_LINE: Final = re.compile(r"^(?:ip=)?([0-9A-Fa-f.:]{2,45})\s*$", re.MULTILINE)
_FIELDS: Final = ("ip", "address", "ip_address", "origin", "query")


def way_out(settings: ProviderSettings) -> str:
    """Return in words how a provider's mails leave this machine."""
    proxy, local = parse_proxy(getattr(settings, "proxy", None)), getattr(settings, "local_address", None)
    words = f"from local_address {local}" if local else "from the address that the system chooses"
    if proxy is not None:
        words = f"through the proxy {proxy.host}:{proxy.port}" + (f", {words}" if local else "")
    return words


async def seen_address(settings: ProviderSettings, url: str | None, clock: Clock) -> tuple[Finding, IpAddress | None]:
    """Return what the echo service sees of this provider's connections; without a URL nobody is asked."""
    way = way_out(settings)
    if url is None:
        todo = "to see it, name an address echo service: echo_url in the settings, or --echo URL"
        return unknown("address", f"mails leave {way}; which address others see was not asked", todo), None
    host = urlsplit(url).hostname or ""
    try:
        text = await _asked(settings, url, clock)
    except SendingError as error:
        todo = "check local_address and proxy, and whether a firewall lets us out"
        return wrong("address", f"leaving {way}, {host} is not reached: {error}", todo), None
    found = _read(text)
    if found is None:
        return unknown("address", f"{host} does not answer with an address", "name another echo_url"), None
    words = f"others see {found}, leaving {way}"
    return good("address", words, "whitelist it at the provider, if it asks for addresses"), found


async def _asked(settings: ProviderSettings, url: str, clock: Clock) -> str:
    egress = Egress(getattr(settings, "local_address", None), parse_proxy(getattr(settings, "proxy", None)))
    timeout = httpx.Timeout(None)  # the transport bounds the connecting, the doctor the whole
    async with httpx.AsyncClient(transport=Transport(egress, clock), trust_env=False, timeout=timeout) as client:
        answer = await client.get(url, headers={"Accept": "text/plain, application/json", "User-Agent": "Mailroom"})
    return answer.text if answer.is_success else ""


def _read(text: str) -> IpAddress | None:
    """Read plain text, `{"ip": …}` or lines with `ip=…`."""
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if isinstance(told, dict):
        text = next((value for field in _FIELDS if isinstance(value := told.get(field), str)), "")
    elif isinstance(told, str):
        text = told
    for found in _LINE.finditer(text[:10_000]):
        try:
            return unmapped(ip_address(found[1]))
        except ValueError:
            continue
    return None
