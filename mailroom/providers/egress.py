"""How connections leave this machine: source address, proxy, trusted authorities, and the time to connect in."""

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import AfterValidator, SecretStr

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
"""Default ports by URL scheme."""
CONNECT_SECONDS: Final = 10.0

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_LONGEST_SOCKS_FIELD: Final = 255
"""Octets of a username or a password: the length of each is sent as one octet (RFC 1929 §2)."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that opens tunnels: by CONNECT (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928)."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The URL that `parse_proxy` takes."""
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.username else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{login}{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Egress:
    """How connections leave this machine."""

    local_address: IPv4Address | IPv6Address | None = None
    proxy: Proxy | None = None
    ca_file: Path | None = None
    """PEM file of the authorities to trust instead of the system's, for the proxy's certificate as well."""
    connect_timeout: float = CONNECT_SECONDS
    """Seconds to connect and encrypt."""

    def tls_context(self) -> ssl.SSLContext:
        """Return a context that verifies certificates. Raises ValueError for a bad `ca_file`."""
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # SSLError is one
            raise ValueError(f"ca_file: {error.strerror or error}") from None


def parse_proxy(url: SecretStr | None) -> Proxy | None:
    """Parse `socks5://user:password@host:1080`. Raises ValueError, whose text does not hold the URL."""
    if url is None:
        return None
    parts = split_bare_url(url.get_secret_value(), ("http", "https", "socks5", "socks5h"))
    proxy = Proxy(
        parts.scheme,
        parts.hostname or "",
        parts.port or PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
    if proxy.scheme.startswith("socks5"):
        if max(len(proxy.username), len(proxy.password)) > _LONGEST_SOCKS_FIELD:
            raise ValueError("SOCKS5 allows 255 octets of username and of password")
        if not (proxy.username + proxy.password).isascii():  # RFC 1929 names no charset, python-socks writes ASCII
            raise ValueError("for SOCKS5, username and password must be ASCII")
    elif ":" in proxy.username:
        raise ValueError("for HTTP, a username cannot hold a colon")  # RFC 7617 §2
    if proxy.password and not proxy.username:
        raise ValueError("a password needs a username")
    return proxy


def split_bare_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Split a URL that has nothing after host and port. Raises ValueError, whose text does not hold the URL."""
    parts = split_url(url, schemes)
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the host and port")
    return parts


def split_url(url: str, schemes: tuple[str, ...]) -> SplitResult:
    """Split a URL with one of the schemes and a valid host. Raises ValueError, whose text does not hold the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in schemes or not _HOST.fullmatch(parts.hostname or "") or port == 0:
        raise ValueError(f"write it as {schemes[0]}://host or {schemes[0]}://host:port")
    return parts


def _check_proxy(url: SecretStr) -> SecretStr:
    parse_proxy(url)
    return url


ProxyUrl = Annotated[SecretStr, AfterValidator(_check_proxy)]
"""A setting: a proxy with its credentials."""
