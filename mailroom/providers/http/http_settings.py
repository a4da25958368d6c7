"""The settings of every provider over HTTP, and the types that they share."""

import re
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mailroom.providers.base import ProviderSettings
from mailroom.providers.egress import CONNECT_SECONDS, Egress, ProxyUrl, parse_proxy, split_bare_url

_KEY: Final = re.compile(r"[!-~]{8,4096}")


def origin(url: str) -> str:
    """Return a URL's scheme, host and port (RFC 6454). Raises ValueError if there is more to it."""
    parts = split_bare_url(url, ("https", "http"))
    if "@" in parts.netloc:
        raise ValueError("no credentials go here")
    return f"{parts.scheme}://{parts.netloc}"


def _check_key(value: SecretStr) -> SecretStr:
    if not _KEY.fullmatch(value.get_secret_value()):
        raise ValueError("this is no key: at least 8 printable ASCII characters without blanks")
    return value


ApiKey = Annotated[SecretStr, AfterValidator(_check_key)]
"""A secret that is valid in a header."""


class HttpSettings(ProviderSettings):
    """The settings of a provider over HTTP."""

    endpoint: Annotated[str, AfterValidator(origin)] | None = Field(
        None, description="scheme, host and port instead of the vendor's, such as a gateway's; paths stay the vendor's"
    )
    local_address: IPv4Address | IPv6Address | None = Field(None, description="source address for outgoing connections")
    proxy: ProxyUrl | None = Field(
        None,
        description="connect through this proxy: `http://`, `https://` or `socks5://user:password@host:port`; "
        "the environment's proxies are not used",
    )
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the system's")
    connect_timeout: float = Field(
        CONNECT_SECONDS, gt=0, le=100, description="seconds to connect and encrypt; within `timeout`"
    )

    @model_validator(mode="after")
    def _check_ca_file(self) -> Self:
        if self.ca_file is not None:
            self.egress.tls_context()
        return self

    @property
    def egress(self) -> Egress:
        """How its connections leave this machine."""
        return Egress(self.local_address, parse_proxy(self.proxy), self.ca_file, self.connect_timeout)
