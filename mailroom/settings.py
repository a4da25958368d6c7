"""What can be set, with its types and defaults; `loading.py` finds the values."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from mailroom.providers import Mailbox, ProviderSettings
from mailroom.rendering import Brand

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: Any) -> Any:
    """Read `10m`, `24h`, `8s`, `0`; a bare number is refused, for it has no unit."""
    if not isinstance(value, str):
        if value in (0, timedelta(0)) or isinstance(value, timedelta):
            return value
        raise ValueError('write a duration as "30s", "10m", "24h" or "7d"')
    text = value.strip()
    if text == "0":
        return timedelta(0)
    for unit in sorted(_UNITS, key=len, reverse=True):
        if text.endswith(unit):
            number = text[: -len(unit)].strip()
            if number.replace(".", "", 1).isdigit():
                return timedelta(seconds=float(number) * _UNITS[unit])
    raise ValueError('write a duration as "30s", "10m", "24h" or "7d"')


Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)]
"""One secret or several: rotation."""


class Section(BaseModel):
    """A table of the TOML file."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Connector(Section):
    """The door for Logto's HTTP email connector."""

    authorization: Secrets = Field((), description="the `Authorization` header's exact text; several while rotating")
    allowed_ips: tuple[IPv4Network | IPv6Network, ...] = Field((), description="networks that may post; empty: all")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="networks of reverse proxies whose `X-Forwarded-For` is believed"
    )
    trusted_hops: int = Field(
        0, ge=0, le=10, description="instead: how many proxies stand in front, whatever their address"
    )


class Event(Section):
    """What a Logto event sends."""

    template: str
    only: Literal["registration"] | None = Field(None, description="leave out users made by the Management API")


class Webhook(Section):
    """The door for Logto's webhooks; closed (404) without signing keys."""

    signing_keys: Secrets = ()
    max_age: Duration = Field(timedelta(hours=24), description="an older `createdAt` is refused; 0 accepts any age")
    events: dict[str, Event] = Field(
        default_factory=lambda: {"User.Created": Event(template="Welcome")}, description="Logto event -> template"
    )


class Lifetimes(Section):
    """How long a message is worth sending."""

    code: Duration = Field(timedelta(minutes=10), description="Logto's verification-code policy; printed as validity")
    invitation: Duration = timedelta(days=7)
    event: Duration = timedelta(days=3)


class Console(Section):
    """The operator's pages."""

    password: SecretStr | None = Field(None, description="without it the console is off (but for --dev)")


class Settings(Section):
    """Everything; one object a Logto tenant, handed down and never global."""

    sender: Mailbox = Field(alias="from", description="the mails' From")
    reply_to: Mailbox | None = None
    database_url: str = "sqlite:///data/mailroom.db"
    secret_key: Secrets = Field(description="seals what is kept; the first seals, all open (rotation)")
    retention: Duration = Field(timedelta(days=30), description="how long metadata of settled messages is kept")
    metrics_token: SecretStr | None = Field(None, description="asked for on /metrics as `Bearer …`")
    shutdown_timeout: Duration = Field(timedelta(seconds=8), description="of which the drain takes 6 s")
    default_locale: str = "en"
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    role: Literal["all", "web", "worker"] = "all"
    connector: Connector = Connector()
    webhook: Webhook = Webhook()
    lifetimes: Lifetimes = Lifetimes()
    brand: Brand = Brand()
    providers: dict[str, ProviderSettings]
    routes: dict[str, tuple[str, ...]] = Field({}, description="template -> providers in order; `default` for the rest")
    console: Console = Console()
    dev: bool = Field(default=False, exclude=True, description="set by --dev only")

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return Path(self.database_url.removeprefix("sqlite:///"))
