"""Makes the writer that the settings describe."""

from mailroom.address import ascii_form
from mailroom.rendering.writer import TemplateWriter
from mailroom.settings import Settings


def writer(settings: Settings) -> TemplateWriter:
    """Return the writer. Raises RenderingError for templates or words that cannot be used."""
    return TemplateWriter(
        brand=settings.brand,
        code_lifetime=settings.lifetimes.code,
        message_id_domain=ascii_form(settings.sender.email).rpartition("@")[2],
        default_locale=settings.default_locale,
    )
