"""Sends mail by the service that the settings name. `type = "acme"` is the module `mailroom.providers.acme`.

    provider = connect(settings, context)
    receipt = await provider.send(email)

A provider's module has two public names: `Settings`, a `ProviderSettings`, and `connect(settings, context)`, which
returns a `Provider` without opening a connection. Providers do not import the outbox, never retry, and hold no message
longer than one `send`. One whose service can be queried without sending is `Verifiable` too.
"""

import importlib
import pkgutil
from typing import Any, Final, Protocol, cast

from mailroom.providers.base import Mailbox, Provider, ProviderContext, ProviderSettings, Rate, Verifiable

__all__ = [
    "Mailbox",
    "Provider",
    "ProviderContext",
    "ProviderSettings",
    "Rate",
    "Verifiable",
    "connect",
    "module_of",
    "types",
]


class ProviderModule(Protocol):
    """What a provider's module exports."""

    Settings: type[ProviderSettings]

    def connect(self, settings: Any, context: ProviderContext) -> Provider:
        """Return the provider, without opening a connection."""


_SHARED: Final = frozenset({"base", "connection_failure", "egress", "refusals"})
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
