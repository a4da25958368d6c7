"""Hands mail to whoever delivers it. One file a provider; the name in `type = "…"` finds it, there is no registry.

A provider's module has two public names: `Settings`, a `ProviderSettings`, and `connect(settings, surroundings)`,
which returns a `Provider` without dialling. Providers know no outbox, never retry, and hold no message
longer than one `send`.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mailroom.address import mailbox
from mailroom.clock import Clock
from mailroom.message import Address, Email, Receipt


def _mailbox(value: Any) -> Any:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError("write a mailbox as Name <address>")  # noqa: TRY004 - pydantic collects ValueErrors
    return mailbox(value)


Mailbox = Annotated[Address, BeforeValidator(_mailbox)]
"""A setting that is written `Name <address>`."""


class ProviderSettings(BaseModel):
    """What every provider can be told."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True
    )

    type: str
    sender: Mailbox | None = Field(None, alias="from", description="overrides the general `from`")
    concurrency: int = Field(10, ge=1, le=1000, description="mails handed over at the same time")
    timeout: float = Field(30, gt=0, le=100, description="seconds that one mail may take")

    def may_send_as(self, sender: Address) -> None:
        """Raise ValueError if the vendor is known to refuse this sender."""


class Provider(Protocol):
    """One way out."""

    async def send(self, email: Email) -> Receipt:
        """Hand one mail over, once.

        Raises Rejected, Misconfigured, Unavailable or Uncertain, with the provider's own words, and nothing else;
        returns or raises within the settings' `timeout`.
        """

    async def aclose(self) -> None:
        """Close its connections."""


class Catcher(Protocol):
    """Where the `capture` provider keeps mails instead of sending them."""

    async def keep(self, email: Email) -> None:
        """Keep a mail. Raises CannotKeep."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a provider may use beside its settings."""

    name: str
    """The provider's name in the settings."""
    clock: Clock
    catcher: Catcher


class ProviderModule(Protocol):
    """What a provider's file exports."""

    Settings: type[ProviderSettings]

    def connect(self, settings: Any, surroundings: Surroundings) -> Provider:
        """Return the provider, not yet connected to anything."""


def types() -> list[str]:
    """Return the names that `type = "…"` may have."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def module_of(type_name: str) -> ProviderModule:
    """Return the provider's module. Raises LookupError when there is no such type."""
    if type_name not in types():
        raise LookupError(f"unknown type {type_name!r}; there are: {', '.join(types())}")
    return cast("ProviderModule", importlib.import_module(f"{__name__}.{type_name}"))


def connect(settings: ProviderSettings, surroundings: Surroundings) -> Provider:
    """Return the provider that these settings describe."""
    return module_of(settings.type).connect(settings, surroundings)
