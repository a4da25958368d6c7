"""Tells what an upper layer of templates changes, so that what it inherits is not checked again."""

from collections.abc import Callable

from mailroom.checking.samples import Sample, message
from mailroom.checking.sources import Sources
from mailroom.rendering.inventory import Ingredients, Inventory


def touched(above: Inventory, below: Inventory) -> dict[str, tuple[str, ...]]:
    """Return the kinds, and the languages of each, whose mails are made of something else than without the layer."""
    changed = comparison(above, below)
    found = {kind: tuple(tag for tag in tags if changed(kind, tag)) for kind, tags in above.kinds.items()}
    return {kind: tags for kind, tags in found.items() if tags}


def comparison(above: Inventory, below: Inventory) -> Callable[[str, str], Ingredients | None]:
    """Return what tells of a kind and a language what their mails are made of; None: of the same without the layer."""
    sources = Sources(above)
    changed = {name for name, source in above.sources.items() if source != below.sources.get(name)}

    def changed_ingredients(kind: str, language: str) -> Ingredients | None:
        asked = message(kind, Sample.MINIMAL, language)
        made = above.ingredients(asked)
        if made != below.ingredients(asked):
            return made
        if not changed:
            return None
        if changed.isdisjoint(sources.files(made.templates)) and not sources.choose_while_written(made.templates):
            return None
        return made

    return changed_ingredients
