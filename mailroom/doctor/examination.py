"""Leads through the examination of one provider."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from mailroom.address import ascii_form
from mailroom.clock import Clock
from mailroom.doctor import sender as dns_of
from mailroom.doctor.dns import IpAddress, NoAnswer, Resolver, addresses
from mailroom.doctor.echo import seen_address
from mailroom.doctor.findings import Finding, good, unknown, wrong
from mailroom.doctor.sender import Sender
from mailroom.doctor.vendors import vendor_of
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.message import Address, Email
from mailroom.providers import ProviderSettings, Surroundings, Verifiable, connect

_ECHO_SECONDS: Final = 20


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the operator told the doctor."""

    echo_url: str | None = None
    """Whom to ask for our address; None: nobody."""
    egress: tuple[IpAddress, ...] = ()
    """The addresses that relays of the operator's own deliver from; vendors have theirs."""
    selectors: tuple[str, ...] = ()
    """DKIM selectors."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found about one provider."""

    provider: str
    type: str
    sender: Address
    findings: Sequence[Finding]


async def examine(
    name: str, settings: ProviderSettings, sender: Address, *, resolver: Resolver, clock: Clock, wishes: Wishes
) -> Examination:
    """Look at everything about one provider; `sender` is who its mails are from. Sends nothing."""
    sender = settings.sender or sender
    if settings.type == "capture":
        words = "keeps mails instead of sending them: nothing to examine"
        return Examination(name, settings.type, sender, (good("credentials", words),))
    address, seen = await _address(settings, wishes.echo_url, clock)
    findings = [address, await _credentials(name, settings, clock)]
    who = await _sender(settings, sender, seen, resolver, wishes)
    findings += [finding async for finding in dns_of.examine(resolver, who)]
    return Examination(name, settings.type, sender, findings)


async def _address(settings: ProviderSettings, url: str | None, clock: Clock) -> tuple[Finding, IpAddress | None]:
    try:
        async with asyncio.timeout(_ECHO_SECONDS):
            return await seen_address(settings, url, clock)
    except TimeoutError:
        return unknown("address", f"no answer from echo_url within {_ECHO_SECONDS} s", "name another echo_url"), None


async def _credentials(name: str, settings: ProviderSettings, clock: Clock) -> Finding:
    provider = connect(settings, Surroundings(name=name, clock=clock, catcher=_Nothing()))
    try:
        if not isinstance(provider, Verifiable):
            todo = "`mailroom send` tries them with a mail"
            return unknown("credentials", f"{settings.type} cannot be asked without sending", todo)
        return good("credentials", await provider.verify())
    except Misconfigured as error:
        todo = f"correct [providers.{name}]: {error.hint or 'these are the words of the provider'}"
        return wrong("credentials", str(error), todo)
    except Unavailable as error:
        todo = "check host, port and proxy, whether a firewall lets us out, or try again later"
        return wrong("credentials", str(error), error.hint or todo)
    except SendingError as error:
        return unknown("credentials", str(error), "`mailroom send` tries them with a mail")
    finally:
        await provider.aclose()


async def _sender(
    settings: ProviderSettings, sender: Address, seen: IpAddress | None, resolver: Resolver, wishes: Wishes
) -> Sender:
    host = getattr(settings, "host", "")  # a relay's; providers over HTTP have none
    vendor = vendor_of(settings.type, host, getattr(settings, "region", None) or "")
    egress = wishes.egress if vendor is None else ()  # a vendor has addresses of its own
    if not egress and vendor is None and seen is not None and await _is_near(resolver, host):
        egress = (seen,)  # a relay of this house leaves by the same door
    signing = getattr(settings, "dkim", None)  # where we sign ourselves
    return Sender(
        ascii_form(sender.email),
        vendor,
        egress,
        wishes.selectors or ((signing.selector,) if signing else ()),
        signing.domain if signing and not wishes.selectors else None,
    )


async def _is_near(resolver: Resolver, host: str) -> bool:
    """Tell whether a relay stands in this machine or its private network."""
    if not host:
        return False
    try:
        return ip_address(host).is_private
    except ValueError:
        pass
    if "." not in host:
        return True  # a container's name
    try:
        found = await addresses(resolver, host)
    except NoAnswer:
        return False
    return bool(found) and all(address.is_private for address in found)


class _Nothing:
    """No mail is caught here: none is sent."""

    async def keep(self, email: Email) -> None:
        raise AssertionError(email.id)
