"""What every provider that is reached over HTTP can be told, and the types that their settings share."""

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mailroom.providers import ProviderSettings

PORTS: Final = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

_HOST: Final = re.compile(r"[A-Za-z0-9._:-]{1,253}")
_WORD: Final = re.compile(r"[!-~]{8,4096}")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that opens tunnels: by CONNECT (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928)."""

    scheme: str
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)


def _split(url: str, schemes: tuple[str, ...]) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        raise ValueError("this is no URL") from None
    if parts.scheme not in schemes or not _HOST.fullmatch(parts.hostname or "") or port == 0:
        raise ValueError(f"write it as {schemes[0]}://host or {schemes[0]}://host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("nothing may follow the host and port")
    return parts


def origin(url: str) -> str:
    """Return a URL's scheme, host and port (RFC 6454). Raises ValueError if there is more to it."""
    parts = _split(url, ("https", "http"))
    if "@" in parts.netloc:
        raise ValueError("no credentials go here")
    return f"{parts.scheme}://{parts.netloc}"


def _proxy(url: SecretStr) -> SecretStr:
    proxy = parse_proxy(url.get_secret_value())
    if proxy.scheme.startswith("socks5") and max(len(proxy.username.encode()), len(proxy.password.encode())) > 255:  # noqa: PLR2004  # RFC 1929 §2: one octet
        raise ValueError("SOCKS5 allows 255 octets of username and of password")
    if proxy.password and not proxy.username:
        raise ValueError("a password needs a username")
    return url


def parse_proxy(url: str) -> Proxy:
    """Take `socks5://user:password@host:1080` apart. Raises ValueError, without the value."""
    parts = _split(url, ("http", "https", "socks5", "socks5h"))
    return Proxy(
        parts.scheme,
        parts.hostname or "",
        parts.port or PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def _word(value: SecretStr) -> SecretStr:
    if not _WORD.fullmatch(value.get_secret_value()):
        raise ValueError("this is no key: at least 8 printable ASCII characters without blanks")
    return value


ApiKey = Annotated[SecretStr, AfterValidator(_word)]
"""A secret that fits into a header."""

ProxyUrl = Annotated[SecretStr, AfterValidator(_proxy)]
"""A proxy, with its credentials."""


class HttpSettings(ProviderSettings):
    """A provider that is reached over HTTP."""

    endpoint: Annotated[str, AfterValidator(origin)] | None = Field(
        None, description="scheme, host and port instead of the vendor's: a gateway, a test; paths stay the vendor's"
    )
    local_address: IPv4Address | IPv6Address | None = Field(None, description="leave from this address of this machine")
    proxy: ProxyUrl | None = Field(
        None,
        description="leave through this proxy: `http://`, `https://` or `socks5://user:password@host:port`; "
        "the environment's proxies are not used",
    )
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the usual ones")
    connect_timeout: float = Field(10, gt=0, le=100, description="seconds to connect and encrypt; within `timeout`")

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.ca_file is not None:
            self.tls_context()
        return self

    def tls_context(self) -> ssl.SSLContext:
        """Return how TLS is to be spoken; certificates are always verified. Raises ValueError for a bad `ca_file`."""
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # SSLError is one
            raise ValueError(f"ca_file: {error.strerror or error}") from None
