"""Finds the mails that an upper layer of templates changes, so that inherited ones are not checked again."""

from collections.abc import Callable

from mailroom.lint.samples import Sample, message
from mailroom.lint.source_lines import SourceLines
from mailroom.rendering.inventory import Ingredients, Inventory


def find_changed_mails(above: Inventory, below: Inventory) -> dict[str, tuple[str, ...]]:
    """Return kind -> languages of the mails that differ from those without the layer."""
    changed = compare_layers(above, below)
    languages_of = {kind: tuple(tag for tag in tags if changed(kind, tag)) for kind, tags in above.kinds.items()}
    return {kind: tags for kind, tags in languages_of.items() if tags}


def compare_layers(above: Inventory, below: Inventory) -> Callable[[str, str], Ingredients | None]:
    """Return a function of kind and language that gives their ingredients, or None if the layer changes nothing."""
    sources = SourceLines(above)
    changed = {name for name, source in above.sources.items() if source != below.sources.get(name)}

    def changed_ingredients(kind: str, language: str) -> Ingredients | None:
        request = message(kind, Sample.MINIMAL, language)
        ingredients = above.ingredients(request)
        if ingredients != below.ingredients(request):
            return ingredients
        if not changed:
            return None
        if changed.isdisjoint(sources.files(ingredients.templates)) and not sources.has_computed_references(
            ingredients.templates
        ):
            return None
        return ingredients

    return changed_ingredients
