"""Finds names in an operator's templates that nothing uses: misspelt kinds and keys, and a missing text part."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from difflib import get_close_matches
from typing import Final

from jinja2 import nodes

from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.source_lines import SourceLines
from mailroom.logto import MESSAGE_TYPES
from mailroom.rendering.inventory import Inventory

_COMMON: Final = "common"
_SUBJECT: Final = "subject"
_WORDS: Final = "words"
_SIMILAR: Final = 0.8


def find_unused_names(context: LintContext, event_templates: Collection[str]) -> Iterator[Finding]:
    """Yield findings for all mails, then for those of each owner. `event_templates`: those that events send."""
    for owner in (None, *context.renderer.owners):
        inventory = replace(context, owner=owner).inventory
        label, _ = inventory.folders[0]
        if not label:
            continue  # the bundled templates
        owners = (owner.folder,) if owner else ()
        known = {*MESSAGE_TYPES, *event_templates, *inventory.layers.base.kinds}
        for finding in _find_in_layer(inventory, label, known):
            yield replace(finding, owners=owners)


def _find_in_layer(inventory: Inventory, label: str, known: Collection[str]) -> Iterator[Finding]:
    sources = SourceLines(inventory)
    own = {name: source.place for name, source in inventory.layers.sources.items() if source.place.startswith(label)}
    for kind in dict.fromkeys(name.partition("/")[0] for name in own if "/" in name):
        if kind not in (*inventory.kinds, "parts", "bundled"):
            yield _unused_kind(kind, label + kind, known, "there are no texts for it in locales")
    for kind, place in _new_kinds(inventory, sources, label):
        if kind not in known:
            finding = _unused_kind(kind, place, known, "no event in [webhook.events] sends it")
            yield replace(finding, is_warning="did you mean" not in finding.remedy)
    yield from _find_unused_keys(inventory, sources, label)
    for kind in inventory.layers.base.kinds:
        html, text = f"{kind}/html.jinja", f"{kind}/text.jinja"
        if html in own and text not in own:
            problem = f"the text part is not yours: readers of the text get that of {_text_template(inventory, kind)}"
            yield Finding(6, problem, f"add {label}{text}", (kind,), (), file=own[html], is_warning=True)


def _text_template(inventory: Inventory, kind: str) -> str:
    names = (f"{kind}/text.jinja", "Generic/text.jinja")
    return next(inventory.layers.sources[name].place for name in names if name in inventory.layers.sources)


def _new_kinds(inventory: Inventory, sources: SourceLines, label: str) -> Iterator[tuple[str, str]]:
    """Yield each kind that the bundled templates lack, with the place that defines it."""
    for kind, tags in inventory.kinds.items():
        if kind in inventory.layers.base.kinds:
            continue
        for tag in tags:
            file, _ = sources.translation(tag, kind, _SUBJECT)
            if file.startswith(label):
                yield kind, file
                break
        else:
            yield kind, f"{label}{kind}"


def _unused_kind(kind: str, place: str, known: Collection[str], reason: str) -> Finding:
    similar = _similar(kind, known)
    remedy = f"did you mean {similar}?" if similar else f"remove it: {reason}"
    return Finding(1, f"no message is of the kind {kind}", remedy, (kind,), (), file=place)


def _find_unused_keys(inventory: Inventory, sources: SourceLines, label: str) -> Iterator[Finding]:
    """Yield a finding for each text that no template prints and the bundled translations do not have."""
    printed = _printed_keys(inventory, sources)
    if printed is None:
        return
    base = inventory.layers.base
    known = printed.union(*base.locales[base.default].kinds.values())
    for tag, tables in inventory.layers.tables.items():
        for kind, texts in tables.tables.items():
            for key in texts.keys() - known:
                file, line = sources.translation(tag, kind, key)
                if file.startswith(label) and line:
                    similar = _similar(key, known)
                    remedy = f"did you mean {similar}?" if similar else f"remove it, or print {{{{ words.{key} }}}}"
                    kinds = (kind,) if kind != _COMMON else ()
                    yield Finding(3, f"no template prints {key}", remedy, kinds, (tag,), file=file, line=line)


def _printed_keys(inventory: Inventory, sources: SourceLines) -> set[str] | None:
    """Return the keys of `words` that templates print; None if one computes a key."""
    keys = {_SUBJECT}
    for name in inventory.layers.sources:
        tree = sources.tree(name)
        attributes = [node.attr for node in tree.find_all(nodes.Getattr) if _is_words(node.node)]
        constants = [
            str(node.arg.value)
            for node in tree.find_all(nodes.Getitem)
            if _is_words(node.node) and isinstance(node.arg, nodes.Const)
        ]
        if len(attributes) + len(constants) != sum(map(_is_words, tree.find_all(nodes.Name))):
            return None
        keys.update(attributes, constants)
    return keys


def _is_words(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == _WORDS


def _similar(name: str, known: Collection[str]) -> str:
    folded = {one.casefold(): one for one in known if one != name}
    return next((folded[one] for one in get_close_matches(name.casefold(), folded, 1, _SIMILAR)), "")
