"""Finds the mails that an upper layer of templates changes, so that inherited ones are not checked again."""

from collections.abc import Iterator

from mailroom.lint.samples import Sample, message
from mailroom.lint.source_lines import SourceLines
from mailroom.rendering.inventory import Ingredients, Inventory


def find_changed_mails(above: Inventory, below: Inventory) -> Iterator[tuple[str, str, Ingredients | None]]:
    """Yield kind and language of each mail, with its ingredients, or None if they are the same without the layer."""
    sources = SourceLines(above)
    changed = {name for name, source in above.layers.sources.items() if source != below.layers.sources.get(name)}
    for kind, languages in above.kinds.items():
        for language in languages:
            request = message(kind, Sample.MINIMAL, language)
            ingredients = above.ingredients(request)
            templates = ingredients.templates
            is_changed = ingredients != below.ingredients(request) or not changed.isdisjoint(sources.files(templates))
            if not is_changed and changed:
                is_changed = sources.has_computed_references(templates)
            yield kind, language, ingredients if is_changed else None
