"""Converts the faults that the renderer reports for an operator's files to findings."""

import re
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Final

from mailroom.errors import Fault
from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample, message
from mailroom.lint.source_lines import SourceLines
from mailroom.rendering.inventory import Inventory
from mailroom.rendering.overlay import Owner

_NOT_SHOWN: Final = re.compile(r"the mail does not show its (?P<name>code|link)")
_OWNER: Final = re.compile(r"(?:applications|organizations)/[^/]+/")
_PLACE: Final = re.compile(r"(?P<file>.*?)(?:, line (?P<line>\d+))?", re.DOTALL)
_TOML_LINE: Final = re.compile(r" \(at line (\d+), column \d+\)$")
_PARTS: Final = ("html.jinja", "text.jinja")


def find_template_faults(faults: list[Fault], context: LintContext) -> Iterator[Finding]:
    """Yield a finding for each fault, with the template that is used instead of the file.

    What is missing in a Logto template's content is doubtful, because Logto itself would send it.
    """
    for fault in dict.fromkeys(faults):
        place = _PLACE.fullmatch(fault.path)
        assert place  # it matches every text
        toml_line = _TOML_LINE.search(fault.problem)
        line = place["line"] or (toml_line[1] if toml_line else None)
        file = place["file"]
        is_logto = PurePosixPath(file).suffix in (".html", ".txt")
        missing = _NOT_SHOWN.match(fault.problem)
        fix = "fix it"
        if missing:
            fix = f"write {{{{{missing['name']}}}}} into it" if is_logto else f"print {{{{ {missing['name']} }}}}"
        yield Finding(
            2 if missing else 1,
            missing[0] if missing else _TOML_LINE.sub("", fault.problem),
            _find_remedy(fault, file, fix, context),
            (),
            (),
            file=file,
            line=int(line) if line else None,
            is_warning=is_logto,
        )


def _find_remedy(fault: Fault, file: str, fix: str, context: LintContext) -> str:
    owner, name = _split_place(file, context)
    if "no template has this name" in fault.problem:
        similar = get_close_matches(name, _known_names(name, context.inventory), 1)
        return f"did you mean {similar[0]}?" if similar else "rename or remove it; docs/templates.md lists the names"
    if name.startswith("locales/"):
        return f"{fix}; until then {'the texts of all other mails' if owner else 'the bundled texts'} are used"
    owner_context = replace(context, owner=owner)
    if fault in context.renderer.file_faults and _is_used(file, owner_context.inventory):
        return f"{fix}; until then its last valid version is used"
    used = _find_replacement(file, name, owner_context)
    return f"{fix}; until then {used} is used" if used else fix


def _split_place(file: str, context: LintContext) -> tuple[Owner | None, str]:
    """Return the owner of a file, and its name within the folder of all mails or of this owner."""
    name = file.partition("/")[2]
    for owner in context.renderer.owners:
        if name.startswith(f"{owner.folder}/"):
            return owner, name.removeprefix(f"{owner.folder}/")
    return None, name


def _known_names(name: str, inventory: Inventory) -> list[str]:
    kinds = {name.partition("/")[0], *inventory.kinds}
    return [*inventory.layers.sources, *(f"{kind}/{part}" for kind in kinds for part in _PARTS), "locales/en.toml"]


def _is_used(file: str, inventory: Inventory) -> bool:
    return any(source.place == file for source in inventory.layers.sources.values())


def _find_replacement(file: str, name: str, context: LintContext) -> str:
    """Return the file that is used instead; empty if none is."""
    inventory: Inventory | None = context.inventory
    while inventory:
        templates = _find_templates(name, inventory, context.owner)
        sources = SourceLines(inventory)
        if templates and file not in map(sources.file, sources.files(templates) or templates):
            template = templates[-1] if name.endswith("text.jinja") else templates[0]
            is_bundled = inventory.layers.levels.get(template) == 0
            return f"the bundled {template}" if is_bundled else sources.file(template)
        inventory = inventory.below
    return ""


def _find_templates(name: str, inventory: Inventory, owner: Owner | None) -> tuple[str, ...]:
    """Return the templates of the mails for which a file is meant; for a layout or a part the one of this name."""
    kind, _, rest = name.partition("/")
    if kind == "parts" or not rest:
        return (name,) if name in inventory.layers.sources else ()
    tags = inventory.kinds.get(kind, ())
    tag = next((tag for tag in re.split(r"[/.]", rest) if tag in tags), next(iter(tags), ""))
    return inventory.mail_sources(message(kind, Sample.MINIMAL, tag, owner=owner)).templates
