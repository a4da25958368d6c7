"""The settings' model: types, bounds, defaults and descriptions. `sources` finds the values."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from mailroom.address import ascii_domain
from mailroom.config.durations import Duration, Limit
from mailroom.config.overrides import Override
from mailroom.logto import USER_CREATED
from mailroom.message import WELCOME
from mailroom.notices import CHANGES, NOTICES
from mailroom.outbox.limits import RateLimit
from mailroom.providers import Mailbox, ProviderSettings
from mailroom.rendering import Brand
from mailroom.rendering.links import DANGEROUS_SCHEMES, SCHEME


class Section(BaseModel):
    """A table of the TOML file."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _check_not_empty(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is empty")
    return value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | SecretStr) else value


def _strip(value: SecretStr) -> SecretStr:
    return SecretStr(value.get_secret_value().strip())


def _check_tables(value: Any) -> Any:
    if isinstance(value, dict):
        raise ValueError("write each as a table with two brackets: [[overrides]]")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


Secret = Annotated[SecretStr, AfterValidator(_check_not_empty)]
Secrets = Annotated[tuple[Secret, ...], BeforeValidator(_as_list)]
"""One secret or several: rotation."""
HeaderValues = Annotated[tuple[Annotated[Secret, AfterValidator(_strip)], ...], BeforeValidator(_as_list)]
"""The same for header values, which have no blanks around them (RFC 9110 §5.5)."""


def _parse_network(value: Any) -> Any:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    if not isinstance(value, str):
        raise ValueError('write a network as "203.0.113.0/24"')  # noqa: TRY004 - pydantic collects ValueErrors
    return ip_network(value)


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_parse_network)]


def _to_ascii_domain(value: str) -> str:
    try:
        return ascii_domain(value)
    except ValueError:
        raise ValueError("write a domain: mail.acme.example") from None


def _parse_link_scheme(value: str) -> str:
    scheme = value.lower()
    if not SCHEME.fullmatch(scheme):
        raise ValueError("write a scheme without its colon: acme")
    if scheme in DANGEROUS_SCHEMES:
        raise ValueError("links with this scheme can run code or read local data")
    return scheme


def _check_host(value: str) -> str:
    if value != "localhost":
        ip_address(value)
    return value


class Connector(Section):
    """The endpoint for Logto's HTTP email connector."""

    authorization: HeaderValues = Field(
        (),
        description="the `Authorization` header's exact text, as it is typed into Logto (blanks around it do not "
        "count); several while rotating",
    )
    allowed_ips: tuple[Network, ...] = Field((), description="networks that may send requests; empty: all")
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="networks of reverse proxies whose `X-Forwarded-For` is trusted"
    )
    trusted_hops: int = Field(
        0,
        ge=0,
        le=10,
        description="instead of `trusted_proxies`: number of proxies in front of the server, at any address",
    )


class EventRule(Section):
    """What a Logto event sends."""

    template: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="template of the mail")
    only: Literal["registration"] | None = Field(
        None, description='`"registration"` skips users that were created through the Management API'
    )
    delay: Duration = Field(
        timedelta(0),
        ge=timedelta(0),
        le=timedelta(days=30),
        description="how long after the event the mail is sent; its lifetime starts then",
    )
    once_per: Literal["user", "address"] | None = Field(
        None,
        description="each user, or address, gets this template once; the default for `User.Created` is `user`, for "
        "`Identifier.Lockout` `address` within an hour",
    )
    once_within: Duration = Field(
        timedelta(0), ge=timedelta(0), description="how long `once_per` is remembered; `0`: for ever"
    )


def _expand_event(value: Any) -> Any:
    return {"template": value} if isinstance(value, str) else value


class Webhook(Section):
    """The endpoint for Logto's webhooks; it answers 404 without signing keys."""

    signing_keys: Secrets = Field((), description="the signing key that Logto's console shows; several while rotating")
    max_age: Duration = Field(
        timedelta(hours=24),
        ge=timedelta(0),
        description="events whose `createdAt` is older are refused; `0` accepts any age",
    )
    events: dict[str, Annotated[EventRule, BeforeValidator(_expand_event)]] = Field(
        default_factory=lambda: {USER_CREATED: EventRule(template=WELCOME)},
        description='Logto event → template, or a table: `template`; `only = "registration"` skips users that were '
        'created through the Management API; `delay = "1h"` sends that long after the event, and the lifetime starts '
        'then; `once_per = "user"` or `"address"` sends each of them this template once (the default for '
        "`User.Created` is `user`, for `Identifier.Lockout` `address` within an hour), for ever or "
        '`once_within = "24h"`',
    )
    max_per_hour: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="mails of events beyond this number are held until an operator releases them or their lifetime "
        "ends; `0`: no limit",
    )

    @field_validator("events")
    @classmethod
    def _check_events(cls, events: dict[str, EventRule]) -> dict[str, EventRule]:
        for name, rule in events.items():
            if ":" in name and name not in CHANGES:
                raise ValueError(f"{name} is not known; known are {', '.join(CHANGES)}")
            senders = NOTICES.get(rule.template)
            if senders and name not in senders:
                raise ValueError(f"{rule.template} is sent by {' and '.join(senders)}, not by {name}")
        return events

    @property
    def event_limit(self) -> RateLimit | None:
        """`max_per_hour` as a limit."""
        return RateLimit(self.max_per_hour, 3600) if self.max_per_hour else None


class Limits(Section):
    """How many codes all processes accept in a sliding window; beyond a limit `POST /email` answers 429."""

    recipient: Limit = Field(
        RateLimit(50, 600),
        description="for one recipient, failed ones not counted; Logto's own limit is 10 in 10 minutes",
    )
    ip: Limit = Field(
        None,
        description="for one end user's address as Logto reports it (IPv6: its /64 network), which can be a whole "
        "company's; without a limit a WARNING from 500 in 10 minutes on. On PostgreSQL processes may exceed this limit "
        "and the next two by what they accept in a second",
    )
    recipient_domain: Limit = Field(
        None, description="for one domain of recipients; without a limit a WARNING from 5,000 in 10 minutes on"
    )
    total: Limit = Field(None, description="for all; without a limit a WARNING from 10,000 in 10 minutes on")


class Lifetimes(Section):
    """How long after acceptance a message is still sent."""

    code: Duration = Field(
        timedelta(minutes=10),
        ge=timedelta(seconds=60),
        le=timedelta(hours=1),
        description="for codes: the same as in Logto's verification-code policy; templates print it as validity",
    )
    invitation: Duration = Field(timedelta(days=7), ge=timedelta(minutes=1), description="for organization invitations")
    event: Duration = Field(
        timedelta(days=3), ge=timedelta(minutes=1), description="for mails that webhook events send"
    )


class Console(Section):
    """The operator's web console."""

    password: Secret | None = Field(
        None,
        description="password of the console, long and random; without it the console is disabled, except with `--dev`",
    )


class Settings(Section):
    """All settings of one Logto tenant; passed as an argument, never global."""

    sender: Mailbox = Field(alias="from", description="From address of the mails; a provider can have its own")
    reply_to: Mailbox | None = Field(None, description="Reply-To address")
    database_url: str = Field(
        "sqlite:///data/mailroom.db",
        description="the outbox: a file on this machine, or for any number of machines "
        "`postgresql://user:password@host/database?sslmode=verify-full` (docs/postgresql.md)",
    )
    database_listen_url: Secret | None = Field(
        None,
        description="the same PostgreSQL without the PgBouncer of `database_url`, so that processes wake each other",
    )
    secret_key: Secrets = Field(
        description="encrypts the outbox (see `mailroom keygen`); of several the first encrypts, all decrypt (rotation)"
    )
    retention: Duration = Field(
        timedelta(days=30), ge=timedelta(hours=1), description="how long metadata of finished messages is stored"
    )
    metrics_token: Secret | None = Field(None, description="`/metrics` requires it as `Authorization: Bearer …`")
    shutdown_timeout: Duration = Field(
        timedelta(seconds=8),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=10),
        description="time limit of a shutdown: 6 s until Logto has closed its connections, 1 s for requests, the rest "
        "for mails that are being sent, which are sent again if it is too short",
    )
    default_locale: str = Field(
        "en",
        pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$",
        description="language of a mail whose reader's language is not known",
    )
    templates: Path | None = Field(
        None,
        description="folder whose files override the bundled templates (docs/templates.md); reloaded when it changes",
    )
    sender_domains: tuple[Annotated[str, AfterValidator(_to_ascii_domain)], ...] = Field(
        (),
        description="domains that a template's `send_from` may use, besides those of every `from` in the settings",
    )
    link_schemes: tuple[Annotated[str, AfterValidator(_parse_link_scheme)], ...] = Field(
        (), description="schemes of invitation links besides http and https: `acme` for `acme://join?…`"
    )
    host: Annotated[str, AfterValidator(_check_host)] = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on")
    echo_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/@]+[^\s@]*$",
        description="service that returns its caller's address; used by `mailroom doctor` only",
    )
    supersede: bool = Field(
        True,
        description="a code ends unsent once a newer one for the same recipient, type, application and ip was sent",
    )
    role: Literal["all", "web", "worker"] = Field(
        "all",
        description="on PostgreSQL: `web` stores messages and does not send them, `worker` sends them and listens for "
        "`/livez`, `/readyz` and `/metrics` only",
    )
    workers: int = Field(
        1, ge=1, le=64, description="on PostgreSQL: how many processes serve, each in its `role`; a processor core each"
    )
    connector: Connector = Field(Connector(), description="")
    webhook: Webhook = Field(Webhook(), description="")
    limits: Limits = Field(Limits(), description="")
    lifetimes: Lifetimes = Field(Lifetimes(), description="")
    brand: Brand = Field(Brand(), description="")
    providers: dict[str, ProviderSettings] = Field(
        min_length=1,
        description="the delivering services, by names of your choice; tried in the file's order, or as `routes` says",
    )
    routes: dict[str, tuple[str, ...]] = Field(
        {}, description="template → names of providers in order; `default` is for all other templates"
    )
    overrides: Annotated[tuple[Override, ...], BeforeValidator(_check_tables)] = Field(
        (), description="other senders or providers for some mails, see `[[overrides]]`; in a variable a JSON list"
    )
    console: Console = Field(Console(), description="")
    dev: bool = Field(default=False, exclude=True, description="set by --dev only")
