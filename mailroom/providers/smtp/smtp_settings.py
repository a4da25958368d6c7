"""The settings of an SMTP provider. The names follow Logto's SMTP connector."""

import re
import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from mailroom.message import Address
from mailroom.pem import private_key_in
from mailroom.providers.base import ProviderSettings
from mailroom.providers.egress import Egress, ProxyUrl, parse_proxy
from mailroom.providers.smtp.oauth2 import OAuth2
from mailroom.providers.smtp.presets import Name, check_login, fill_in
from mailroom.smtpclient import DkimSigner

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,75}")
_LONGEST_VALUE: Final = 900
_DNS_NAME: Final = r"^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9])?)*$"
_SET_BY_US: Final = frozenset(
    {
        *("from", "to", "cc", "bcc", "reply-to", "sender", "return-path", "subject", "date", "message-id"),
        *("in-reply-to", "references", "mime-version", "received", "dkim-signature", "auto-submitted"),
        *("x-auto-response-suppress", "x-entity-ref-id", "feedback-id", "list-unsubscribe", "list-unsubscribe-post"),
    }
)
"""Headers that the mail has already, or that name its sender and recipients."""


def check_header(name: str, given: str | Sequence[str]) -> None:
    """Raise ValueError for a header, with one value or several, that cannot be added to mails."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no header name: letters, digits and hyphens")
    if name.lower() in _SET_BY_US or name.lower().startswith("content-"):
        raise ValueError(f"{name} is set by Mailroom itself")
    for value in (given,) if isinstance(given, str) else given:
        if not value.isprintable():
            raise ValueError(f"the value of {name} holds a line break or another control character")
        if len(value) > _LONGEST_VALUE:
            raise ValueError(f"the value of {name} is longer than {_LONGEST_VALUE} characters")


def _check_headers(headers: dict[str, str | tuple[str, ...]]) -> dict[str, str | tuple[str, ...]]:
    for name, given in headers.items():
        check_header(name, given)
    return headers


def _check_host(host: str) -> str:
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("this is no host name") from None
    return host


class Dkim(BaseModel):
    """How mails are signed."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    domain: str = Field(
        pattern=_DNS_NAME, max_length=253, description="the signing domain: that of `from`, or a parent of it"
    )
    selector: str = Field(
        pattern=_DNS_NAME,
        max_length=253,
        description="its public key is in the DNS at `<selector>._domainkey.<domain>`",
    )
    private_key: SecretStr = Field(description="RSA (2048 bits) or Ed25519 in PEM format")

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        self.signer()
        return self

    def signer(self) -> DkimSigner:
        """Return the signer. Raises ValueError for an unusable key."""
        key = private_key_in(self.private_key.get_secret_value())
        return DkimSigner(key, domain=self.domain, selector=self.selector)


class Settings(ProviderSettings):
    """An SMTP server: a provider's submission endpoint or a relay of your own."""

    type: Literal["smtp"] = "smtp"
    preset: Name | None = Field(None, description="a vendor, whose host, port and encryption are then the defaults")
    region: str | None = Field(
        None, pattern=r"^[a-z0-9-]{2,40}$", description="of the presets that have several: `ses`, `aliyun`, `mailgun`"
    )
    host: Annotated[str, AfterValidator(_check_host)] = Field(
        pattern=r"^[^\s/@\[\]\x00-\x20]{1,253}$", description="the server's name or address; default: the preset's"
    )
    port: int = Field(587, ge=1, le=65535, description='587; unless given, 465 with tls = "implicit", 25 with "none"')
    tls: Literal["starttls", "implicit", "opportunistic", "none"] = Field(
        "starttls",
        description="unless given, `implicit` with port 465; `starttls`: encrypted after STARTTLS, or nothing is sent; "
        "`implicit`: encrypted from the first "
        "byte; `opportunistic`: encrypted if the server offers it, a password is never sent in clear; "
        "`none`: never encrypted, the password neither",
    )
    tls_verify: bool = Field(
        default=True, description="whether the server's certificate must be valid for `host`; leave it on"
    )
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust instead of the system's")
    client_certificate: Path | None = Field(
        None, description="PEM file of our certificate and its chain, if the server requires one"
    )
    client_key: Path | None = Field(None, description="PEM file of its key, if that is not in the same file")
    servername: Annotated[str, AfterValidator(_check_host)] | None = Field(
        None, min_length=1, description="the name that the certificate must be valid for, instead of `host`"
    )
    tls_min_version: Literal["1.2", "1.3"] = Field("1.2", description="older versions of TLS are refused")
    username: str | None = Field(
        None, min_length=1, pattern=r"^[^\x00-\x1f\x7f]+$", description="not for a relay that trusts our IP address"
    )
    password: SecretStr | None = Field(None, min_length=1, description="goes with `username`")
    auth: Literal["auto", "plain", "login", "cram-md5", "oauth2"] = Field(
        "auto",
        description="how to log in; `auto` is `oauth2` if there is such a table, else the first that is offered of "
        "PLAIN, LOGIN and CRAM-MD5; any other is used whether it is offered or not",
    )
    oauth2: OAuth2 | None = Field(None, description="log in by XOAUTH2 instead of a password")
    helo_name: str | None = Field(
        None,
        max_length=255,
        pattern=r"^([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*"
        r"|\[(IPv6:)?[0-9A-Fa-f.:]+\])$",
        description="our name in EHLO; default: this machine's full name, or its address in brackets",
    )
    pipelining: bool = Field(
        default=True,
        description="whether commands are sent together where the server offers PIPELINING; where it does not work "
        "they are sent one by one for six hours",
    )
    chunking: bool = Field(
        default=True, description="whether mails are sent by BDAT where the server offers CHUNKING; likewise"
    )
    local_address: IPv4Address | IPv6Address | None = Field(None, description="source address for outgoing connections")
    proxy: ProxyUrl | None = Field(
        None,
        description="connect through this proxy, by CONNECT or SOCKS5: `http://`, `https://` or "
        "`socks5://user:password@host:port`, also for OAuth2 tokens",
    )
    dkim: Dkim | None = Field(None, description="sign mails, for a relay that does not")
    dsn: tuple[Literal["success", "failure", "delay"], ...] = Field(
        (), description="when to send the sender a status notification, where the server offers DSN (RFC 3461)"
    )
    headers: Annotated[dict[str, str | tuple[str, ...]], AfterValidator(_check_headers)] = Field(
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
    def _fill_in(cls, given: Any) -> Any:
        return fill_in(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if self.oauth2 is not None:
            if self.auth not in ("auto", "oauth2") or self.password is not None:
                raise ValueError("oauth2 takes the place of a password: take password and auth out, or oauth2")
            if self.username is None:
                raise ValueError("oauth2 needs a username: the mailbox's address")
            if not self.oauth2.access_url and self.oauth2.access_token is None:
                raise ValueError("oauth2 needs an access_url: where tokens come from")
        elif self.auth == "oauth2":
            raise ValueError("auth is oauth2, but there is no oauth2 table")
        elif (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together: give both, or neither for a relay without login")
        if self.client_key is not None and self.client_certificate is None:
            raise ValueError("client_key goes with a client_certificate")
        if self.preset is not None:
            password = self.password.get_secret_value() if self.password else None
            check_login(self.preset, username=self.username, password=password)
        self.tls_context()
        return self

    def inexpressible(self, sender: Address, reply_to: Address | None) -> str:  # noqa: ARG002 - Reply-To may be any
        """Return a sentence if the vendor accepts only the login's address and the sender is another, else nothing."""
        if self.preset == "aliyun" and self.username and sender.email.lower() != self.username.lower():
            return "Aliyun takes mail only from the address that logs in: make it the same as username"
        return ""

    @property
    def egress(self) -> Egress:
        """How connections leave this machine."""
        return Egress(self.local_address, parse_proxy(self.proxy), connect_timeout=self.connect_timeout)

    def tls_context(self) -> ssl.SSLContext:
        """Return the TLS context. Raises ValueError for an unusable file."""
        setting = "ca_file"
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.client_certificate is not None:
                setting = "client_certificate and client_key"
                context.load_cert_chain(self.client_certificate, self.client_key, _no_password)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ValueError(f"{setting}: {getattr(error, 'strerror', None) or error}") from None
        context.minimum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[self.tls_min_version]
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _no_password() -> str:
    """Prevent OpenSSL's prompt on the terminal."""
    raise ValueError("the key must not be encrypted")
