"""Which providers send which mails, and from which addresses, by routes and overrides together."""

from collections.abc import Mapping

from mailroom.config.model import Settings
from mailroom.config.overrides import Override
from mailroom.message import Address


def routes(settings: Settings) -> Mapping[str, tuple[str, ...]]:
    """Return the names of providers in order, by template; `default` is always among them."""
    return {"default": tuple(settings.providers)} | settings.routes


def providers_of(settings: Settings, override: Override) -> tuple[str, ...]:
    """Return the providers that may send the mails of an override."""
    by_template = routes(settings)
    if override.providers:
        return override.providers
    if override.when.kind:
        return by_template.get(override.when.kind, by_template["default"])
    return tuple(dict.fromkeys(name for names in by_template.values() for name in names))


def senders_of(settings: Settings, provider: str) -> tuple[Address, ...]:
    """Return the From addresses of the mails that a provider may send; that of mails without an override first."""
    usual = settings.providers[provider].sender or settings.sender
    overridden = [one.sender or usual for one in settings.overrides if provider in providers_of(settings, one)]
    is_routed = any(provider in names for names in routes(settings).values())
    return tuple(dict.fromkeys([usual, *overridden] if is_routed or not overridden else overridden))
