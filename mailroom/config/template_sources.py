"""Builds the renderer from the settings: brand, default language, the operator's templates, sender domains."""

from collections.abc import Callable

from mailroom.address import ascii_form
from mailroom.config.model import Settings
from mailroom.errors import Fault
from mailroom.rendering.renderer import TemplateRenderer, log_fault


def build_renderer(settings: Settings, *, on_fault: Callable[[Fault], None] = log_fault) -> TemplateRenderer:
    """Return the renderer; `on_fault` is called once for each fault in the operator's templates.

    Raises RenderingError for a `default_locale` without translations.
    """
    return TemplateRenderer(
        brand=settings.brand,
        code_lifetime=settings.lifetimes.code,
        message_id_domain=_domain(settings.sender.email),
        default_locale=settings.default_locale,
        sender_domains=sender_domains(settings),
        link_schemes=settings.link_schemes,
        overlay=settings.templates,
        on_fault=on_fault,
    )


def sender_domains(settings: Settings) -> frozenset[str]:
    """Return the domains, in ASCII, that mail may be sent from."""
    of_providers = [provider.sender for provider in settings.providers.values()]
    senders = filter(None, (settings.sender, *of_providers, *(override.sender for override in settings.overrides)))
    domains = [*(_domain(sender.email) for sender in senders), *settings.sender_domains]
    return frozenset(domain.lower() for domain in domains)


def _domain(email: str) -> str:
    return ascii_form(email).rpartition("@")[2]
