"""Tells what an upper layer of templates changes, so that what it inherits is not checked again."""

from collections.abc import Callable

from mailroom.checking.samples import Sample, message
from mailroom.checking.sources import Sources
from mailroom.rendering.inventory import Inventory


def touched(above: Inventory, below: Inventory) -> dict[str, tuple[str, ...]]:
    """Return the kinds, and the languages of each, whose mails are made of something else than without the layer."""
    touches = comparison(above, below)
    found = {kind: tuple(tag for tag in tags if touches(kind, tag)) for kind, tags in above.kinds.items()}
    return {kind: tags for kind, tags in found.items() if tags}


def comparison(above: Inventory, below: Inventory) -> Callable[[str, str], bool]:
    """Return what tells of a kind and a language whether their mails are made of something else with the layer."""
    sources = Sources(above)
    changed = {name for name, source in above.sources.items() if source != below.sources.get(name)}

    def touches(kind: str, language: str) -> bool:
        asked = message(kind, Sample.MINIMAL, language)
        made = above.ingredients(asked)
        if made != below.ingredients(asked):
            return True
        if not changed:
            return False
        return not changed.isdisjoint(sources.files(made.templates)) or sources.choose_while_written(made.templates)

    return touches
