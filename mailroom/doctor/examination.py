"""Runs all checks of one provider."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from mailroom.address import ascii_form
from mailroom.clock import Clock
from mailroom.doctor.check_results import CheckResult, good, unknown, wrong
from mailroom.doctor.dnsauth.resolver import IpAddress, LookupFailed, Resolver, addresses
from mailroom.doctor.echo import seen_address
from mailroom.doctor.sender import Sender, check_dns
from mailroom.doctor.smtp_checks import check_envelope, wrong_tls
from mailroom.doctor.vendors import vendor_of
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.message import Address
from mailroom.providers import ProviderContext, ProviderSettings, Verifiable, connect
from mailroom.providers.base import NoCatcher
from mailroom.providers.smtp.smtp_provider import Settings as SmtpSettings
from mailroom.providers.smtp.smtp_provider import Smtp
from mailroom.sealing import SecretStore


@dataclass(frozen=True, slots=True)
class ExaminationOptions:
    """The operator's options."""

    echo_url: str | None = None
    """The address echo service; None: none is requested."""
    egress: tuple[IpAddress, ...] = ()
    """The addresses from which the operator's own relays deliver; not used for vendors."""
    selectors: tuple[str, ...] = ()
    """DKIM selectors."""


@dataclass(frozen=True, slots=True)
class Examination:
    """The results of one provider's checks."""

    provider: str
    type: str
    senders: Sequence[Address]
    """The From addresses of its mails."""
    results: Sequence[CheckResult]
    """Those of the provider itself."""
    domains: Mapping[str, Sequence[CheckResult]]
    """Those of DNS, by the senders' domains."""

    @property
    def all_results(self) -> list[CheckResult]:
        """Return the results of the provider and of all domains."""
        return [*self.results, *(result for results in self.domains.values() for result in results)]


async def examine(
    name: str,
    settings: ProviderSettings,
    senders: Sequence[Address],
    *,
    resolver: Resolver,
    clock: Clock,
    secrets: SecretStore,
    options: ExaminationOptions,
) -> Examination:
    """Run all checks of one provider; `senders` are the From addresses of its mails. Sends nothing.

    Senders of one domain are checked once, as the first of them: what DNS says is the same for all.
    """
    if settings.type == "capture":
        text = "stores mails instead of sending them: nothing to examine"
        return Examination(name, settings.type, senders, (good("credentials", text),), {})
    address, seen = await seen_address(settings, options.echo_url, clock)
    context = ProviderContext(name=name, clock=clock, catcher=NoCatcher(), secrets=secrets)
    credentials = await _check_credentials(settings, context, senders)
    domains: dict[str, list[CheckResult]] = {}
    for sender in senders:
        built = await _build_sender(settings, sender, seen, resolver, options)
        if built.domain not in domains:
            domains[built.domain] = await check_dns(resolver, built)
    return Examination(name, settings.type, senders, (address, *credentials), domains)


async def _check_credentials(
    settings: ProviderSettings, context: ProviderContext, senders: Sequence[Address]
) -> Sequence[CheckResult]:
    provider = connect(settings, context)
    try:
        if not isinstance(provider, Verifiable):
            todo = "`mailroom send` tries them with a mail"
            return [unknown("credentials", f"{settings.type} cannot be verified without sending", todo)]
        text = await provider.verify()
    except SendingError as error:
        if isinstance(settings, SmtpSettings) and not error.code:
            fault = await wrong_tls(settings, context)
            if fault is not None:
                return [fault]
        return [_failed(context.name, error)]
    else:
        results = [good("credentials", text)]
        if isinstance(provider, Smtp):
            results += [await check_envelope(provider, context.name, sender.email) for sender in senders]
        return results
    finally:
        await provider.aclose()


def _failed(name: str, error: SendingError) -> CheckResult:
    if isinstance(error, Misconfigured):
        todo = f"correct [providers.{name}]: {error.hint or 'this is the message of the provider'}"
        return wrong("credentials", str(error), todo)
    if isinstance(error, Unavailable):
        todo = "check host, port and proxy, whether a firewall blocks us, or try again later"
        return wrong("credentials", str(error), error.hint or todo)
    return unknown("credentials", str(error), "`mailroom send` tries them with a mail")


async def _build_sender(
    settings: ProviderSettings, sender: Address, seen: IpAddress | None, resolver: Resolver, options: ExaminationOptions
) -> Sender:
    host = getattr(settings, "host", "")  # a relay's; providers over HTTP have none
    vendor = vendor_of(settings.type, host, getattr(settings, "region", None) or "")
    egress = options.egress if vendor is None else ()  # a vendor has addresses of its own
    if not egress and vendor is None and seen is not None and await _is_local(resolver, host):
        egress = (seen,)  # a local relay has the same public address
    signing = getattr(settings, "dkim", None)  # where we sign ourselves
    return Sender(
        ascii_form(sender.email),
        vendor,
        egress,
        options.selectors or ((signing.selector,) if signing else ()),
        signing.domain if signing and not options.selectors else None,
    )


async def _is_local(resolver: Resolver, host: str) -> bool:
    """Return whether a relay runs on this machine or in its private network."""
    if not host:
        return False
    with suppress(ValueError):
        return ip_address(host).is_private
    if "." not in host:
        return True  # a container's name
    with suppress(LookupFailed):
        hosts = await addresses(resolver, host)
        return bool(hosts) and all(address.is_private for address in hosts)
    return False
