"""What an SMTP provider can be told. The names follow Logto's SMTP connector."""

import re
import ssl
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from mailroom.providers import ProviderSettings

PORTS: Final = {"starttls": 587, "implicit": 465, "opportunistic": 587, "none": 25}

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,75}")
_LONGEST_VALUE: Final = 900
_OURS: Final = frozenset(
    {
        *("from", "to", "cc", "bcc", "reply-to", "sender", "return-path", "subject", "date", "message-id"),
        *("in-reply-to", "references", "mime-version", "received", "dkim-signature", "auto-submitted"),
        *("x-auto-response-suppress", "x-entity-ref-id", "feedback-id", "list-unsubscribe", "list-unsubscribe-post"),
    }
)
"""Headers that the mail has already, or that say who it is from and to."""


def _headers(headers: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
    for name, given in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no header name: letters, digits and hyphens")
        if name.lower() in _OURS or name.lower().startswith("content-"):
            raise ValueError(f"{name} is set by Mailroom itself")
        for value in (given,) if isinstance(given, str) else given:
            if not value.isprintable():
                raise ValueError(f"the value of {name} holds a line break or another control character")
            if len(value) > _LONGEST_VALUE:
                raise ValueError(f"the value of {name} is longer than {_LONGEST_VALUE} characters")
    return headers


def _host(host: str) -> str:
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("this is no host name") from None
    return host


class Settings(ProviderSettings):
    """An SMTP server: a provider's submission endpoint or a relay of your own."""

    type: Literal["smtp"] = "smtp"
    host: Annotated[str, AfterValidator(_host)] = Field(
        pattern=r"^[^\s/@\[\]\x00-\x20]{1,253}$", description="the server's name or address"
    )
    port: int = Field(587, ge=1, le=65535, description='587; unless given, 465 with tls = "implicit", 25 with "none"')
    tls: Literal["starttls", "implicit", "opportunistic", "none"] = Field(
        "starttls",
        description="`starttls`: encrypted after STARTTLS, or nothing is sent; `implicit`: encrypted from the first "
        "byte; `opportunistic`: encrypted if the server offers it, a password never goes in clear; "
        "`none`: in clear, password and all",
    )
    tls_verify: bool = Field(
        default=True, description="whether the server's certificate must be valid for `host`; leave it on"
    )
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the system's")
    username: str | None = Field(
        None, min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$", description="without it: a relay that trusts our address"
    )
    password: SecretStr | None = Field(None, min_length=1, description="goes with `username`")
    auth: Literal["auto", "plain", "login"] = Field(
        "auto", description="how to log in; `auto` takes PLAIN where the server offers it, else LOGIN"
    )
    helo_name: str | None = Field(
        None,
        max_length=255,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
        r"|\[(IPv6:)?[0-9A-Fa-f.:]+\])$",
        description="our name in EHLO; default: this machine's full name, or its address in brackets",
    )
    local_address: IPv4Address | IPv6Address | None = Field(None, description="leave from this address of this machine")
    headers: Annotated[dict[str, str | tuple[str, ...]], AfterValidator(_headers)] = Field(
        {}, description='added to each mail: `{"X-Env" = "prod"}`; a list gives the header several times'
    )
    connect_timeout: float = Field(
        15, gt=0, le=100, description="seconds to connect, encrypt and log in; within `timeout`"
    )
    idle_seconds: float = Field(
        60, ge=0, le=3600, description="a connection that was idle for longer is closed and not used again"
    )
    mails_per_connection: int = Field(100, ge=1, description="a connection is closed after so many mails")

    @model_validator(mode="before")
    @classmethod
    def _usual_port(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("port") is not None:
            return given
        tls = given.get("tls")
        return {**given, "port": PORTS[tls]} if isinstance(tls, str) and tls in PORTS else given

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or neither for a relay without login")
        if self.ca_file is not None:
            self.tls_context()
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether the host was named as this very machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def tls_context(self) -> ssl.SSLContext:
        """Return how TLS is to be spoken. Raises ValueError if `ca_file` is of no use."""
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # SSLError is one
            raise ValueError(f"ca_file: {error.strerror or error}") from None
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
