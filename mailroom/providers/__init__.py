"""Hands mail to whoever delivers it. One file a provider; the name in `type = "…"` finds it, there is no registry.

A provider's module has two public names: `Settings`, a `ProviderSettings`, and `connect(settings, context)`,
which returns a `Provider` without dialling. Providers know no outbox, never retry, and hold no message
longer than one `send`. One whose service can be asked without sending is `Verifiable` too.
"""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Protocol, cast, runtime_checkable

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

    def template_for(self, kind: str) -> str:  # noqa: ARG002 - of those that have templates
        """Return what the provider calls its own template for a kind of mail; empty: it has none."""
        return ""

    def inexpressible(self, sender: Address, reply_to: Address | None) -> str:  # noqa: ARG002  # for who overrides it
        """Return why mails from these cannot be sent this way, as a sentence for the operator; empty if they can."""
        return ""

    @property
    def forwards(self) -> bool:
        """Whether it passes messages on as they came: its mails are `unwritten`."""
        return False


class TemplatesAtProvider(ProviderSettings):
    """What a provider can be told that keeps templates of its own; its `send` then takes `Email.template_at_provider`.

    Such a mail is sent by the template's name with `Email.variables`, which hold `locale` and `uiLocales`, and without
    subject and bodies. All else is as ever: sender, recipient, Reply-To, headers, idempotency key.
    """

    templates: dict[str, str] = Field(
        {},
        description="kind of mail → the provider's own template, sent instead of ours; `default` is for the rest",
    )

    def template_for(self, kind: str) -> str:
        """Return what the provider calls its own template for a kind of mail; empty: it has none."""
        return self.templates.get(kind, self.templates.get("default", ""))


class Provider(Protocol):
    """One way out."""

    async def send(self, email: Email) -> Receipt:
        """Hand one mail over, once.

        Raises Rejected, Misconfigured, Unavailable or Uncertain, with the provider's own words, and nothing else;
        returns or raises within the settings' `timeout`.
        """

    async def aclose(self) -> None:
        """Close its connections."""


@runtime_checkable
class Verifiable(Protocol):
    """A provider whose credentials `mailroom doctor` can try."""

    async def verify(self) -> str:
        """Try the credentials without sending a mail; return in a few words what works.

        Raises Rejected, Misconfigured, Unavailable or Uncertain like `send`, within the settings' `timeout`. Ask for
        the least: a key that may only send is not wrong because it may not list domains.
        """


class MailCatcher(Protocol):
    """Where the `capture` provider keeps mails instead of sending them."""

    async def keep(self, email: Email) -> None:
        """Keep a mail. Raises CannotKeep."""


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """What a provider may use beside its settings."""

    name: str
    """The provider's name in the settings."""
    clock: Clock
    catcher: MailCatcher


class ProviderModule(Protocol):
    """What a provider's file exports."""

    Settings: type[ProviderSettings]

    def connect(self, settings: Any, context: ProviderContext) -> Provider:
        """Return the provider, not yet connected to anything."""


_SHARED: Final = frozenset({"connection_failure", "egress", "refusals"})
"""Modules of this package that are not types of providers."""


def types() -> list[str]:
    """Return the names that `type = "…"` may have."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _SHARED)


def module_of(type_name: str) -> ProviderModule:
    """Return the provider's module. Raises LookupError when there is no such type."""
    if type_name not in types():
        raise LookupError(f"unknown type {type_name!r}; there are: {', '.join(types())}")
    return cast("ProviderModule", importlib.import_module(f"{__name__}.{type_name}"))


def connect(settings: ProviderSettings, context: ProviderContext) -> Provider:
    """Return the provider that these settings describe."""
    return module_of(settings.type).connect(settings, context)
