"""Looks up DNS records, with a time limit and a cache.

records = await SystemResolver().look_up("acme.example", "TXT")  # raises LookupFailed
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Literal, Protocol

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver
from dns.rdtypes.txtbase import TXTBase

RecordType = Literal["A", "AAAA", "MX", "PTR", "TXT"]
IpAddress = IPv4Address | IPv6Address

SECONDS: Final = 8.0
"""Time limit of one look-up, all name servers and repeats together."""


class LookupFailed(Exception):
    """A look-up failed: a time-out, or a failing name server. Trying again later may help."""


class Resolver(Protocol):
    """Looks up DNS records."""

    async def look_up(self, name: str, type_: RecordType) -> Sequence[str]:
        """Return the records, () if there are none: texts with their strings joined, `10 mx.acme.example`, names.

        Aliases are followed; names come in lower case without a final dot. Raises LookupFailed.
        """


class SystemResolver:
    """Queries the resolvers of this machine, or those given; caches the answers."""

    def __init__(self, servers: Sequence[str] = (), *, port: int = 53, seconds: float = SECONDS) -> None:
        """Read /etc/resolv.conf unless `servers` (addresses) are given."""
        self._servers = list(servers)
        self._port = port
        self._seconds = seconds
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._cache: dict[tuple[str, RecordType], Sequence[str] | LookupFailed] = {}

    async def look_up(self, name: str, type_: RecordType) -> Sequence[str]:
        """Return the records, see `Resolver`."""
        key = (name.lower().removesuffix("."), type_)
        if key not in self._cache:
            try:
                self._cache[key] = await self._query(*key)
            except LookupFailed as error:
                self._cache[key] = error
        cached = self._cache[key]
        if isinstance(cached, LookupFailed):
            raise LookupFailed(str(cached))
        return cached

    async def _query(self, name: str, type_: RecordType) -> Sequence[str]:
        try:
            query_name = dns.name.from_text(name + ".")
            answer = await self._get_resolver().resolve(query_name, type_, search=False, lifetime=self._seconds)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, dns.resolver.YXDOMAIN):
            return ()
        except (dns.exception.SyntaxError, dns.name.NameTooLong):
            return ()  # an invalid name has no records
        except dns.resolver.NoNameservers:
            raise LookupFailed(f"the name servers of {name} fail (SERVFAIL)") from None
        except dns.exception.Timeout:
            raise LookupFailed(f"no answer about {name} within {self._seconds:g} s") from None
        except dns.resolver.NoResolverConfiguration:
            raise LookupFailed("this machine has no name server in /etc/resolv.conf") from None
        except (dns.exception.DNSException, OSError) as error:
            raise LookupFailed(f"no answer about {name}: {type(error).__name__}") from None
        return tuple(_to_text(record) for record in answer)

    def _get_resolver(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            self._resolver = dns.asyncresolver.Resolver(configure=not self._servers)
            if self._servers:
                self._resolver.nameservers = list(self._servers)
                self._resolver.port = self._port
            self._resolver.use_edns(0, 0, 1232)
        return self._resolver


def _to_text(record: object) -> str:
    if isinstance(record, TXTBase):
        return b"".join(record.strings).decode("latin-1")
    return str(record).lower().removesuffix(".")


async def addresses(resolver: Resolver, name: str, *versions: Literal[4, 6]) -> tuple[IpAddress, ...]:
    """Return a host's addresses, of both versions by default. Raises LookupFailed."""
    types: dict[int, RecordType] = {4: "A", 6: "AAAA"}
    records = [text for version in versions or (4, 6) for text in await resolver.look_up(name, types[version])]
    return tuple(map(ip_address, records))


def unmapped(address: IpAddress) -> IpAddress:
    """Return the IPv4 address of an IPv4-mapped IPv6 address (`::ffff:192.0.2.1`), else the address itself."""
    return (address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address


async def names(resolver: Resolver, address: IpAddress) -> Sequence[str]:
    """Return the names in the PTR records of an address. Raises LookupFailed."""
    return await resolver.look_up(address.reverse_pointer, "PTR")


def is_within(name: str, domain: str) -> bool:
    """Return whether a name is the domain or a subdomain of it."""
    name, domain = name.lower().removesuffix("."), domain.lower().removesuffix(".")
    return name == domain or name.endswith(f".{domain}")
