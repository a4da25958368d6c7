"""Finds the mails that an upper layer of templates changes, so that inherited ones are not checked again."""

from collections.abc import Iterator

from mailroom.lint.samples import Sample, message
from mailroom.lint.source_lines import SourceLines
from mailroom.rendering.inventory import Inventory, MailSources


def find_changed_mails(above: Inventory, below: Inventory) -> Iterator[tuple[str, str, MailSources | None]]:
    """Yield kind and language of each mail, with its mail_sources, or None if they are the same without the layer."""
    sources = SourceLines(above)
    changed = {name for name, source in above.layers.sources.items() if source != below.layers.sources.get(name)}
    for kind, languages in above.kinds.items():
        for language in languages:
            request = message(kind, Sample.MINIMAL, language)
            mail_sources = above.mail_sources(request)
            templates = mail_sources.templates
            is_changed = mail_sources != below.mail_sources(request) or not changed.isdisjoint(sources.files(templates))
            if not is_changed and changed:
                is_changed = sources.has_computed_references(templates)
            yield kind, language, mail_sources if is_changed else None
