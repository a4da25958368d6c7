"""Writes the tables of the pages in docs/ that describe settings and variables: `python -m tools.reference_pages`.

The rest of these pages is written by hand: only what is between the two markers is replaced.
"""

import re
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from mailroom import providers
from mailroom.config.fields import fields_by_name, item_table_of, table_of, variable
from mailroom.config.model import Settings
from mailroom.config.provider_types import provider_type, provider_types
from mailroom.config.setting_rows import SettingRow, setting_rows
from mailroom.logto import CODE_VARIABLES, EVENT_VARIABLES, INVITATION, INVITATION_VARIABLES
from mailroom.providers import ProviderSettings

DOCS: Final = Path(__file__).parents[1] / "docs"
PROVIDER_PAGES: Final = DOCS / "providers"
"""One page for each type."""

_BEGIN: Final = "<!-- Written by `make docs`; a test fails when this section is not current. -->"
_END: Final = "<!-- End of the section. -->"
_SECTION: Final = re.compile(f"{re.escape(_BEGIN)}.*?{re.escape(_END)}", re.DOTALL)


def pages() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield each page, and its generated sections."""
    yield DOCS / "settings.md", (_all_settings(),)
    yield DOCS / "providers.md", (_types_table(), _common_settings())
    yield DOCS / "templates.md", (_variables_table(),)
    for file in sorted(PROVIDER_PAGES.glob("*.md")):
        yield file, (_table(provider_type(file.stem).settings),)


def fill(text: str, *sections: str) -> str:
    """Return a page with current sections. Raises ValueError unless it has markers for each of them."""
    if len(_SECTION.findall(text)) != len(sections):
        raise ValueError(f"the page needs {len(sections)} sections between markers: {_BEGIN} … {_END}")
    remaining = iter(sections)
    return _SECTION.sub(lambda _: f"{_BEGIN}\n\n{next(remaining)}\n{_END}", text)


def _all_settings() -> str:
    fields = fields_by_name(Settings)
    tables = {name: table for name, field in fields.items() if (table := table_of(field.annotation))}
    lists = {name: table for name, field in fields.items() if (table := item_table_of(field.annotation))}
    general = {name: field for name, field in fields.items() if name not in tables}
    parts = ["## General\n", _table(setting_rows(general, ()))]
    for name, table in tables.items():
        parts += [f"## [{name}]\n", _first_paragraph(table), _table(setting_rows(fields_by_name(table), (name,)))]
    for name, table in lists.items():
        rows = setting_rows(fields_by_name(table), (name,))
        parts += [f"## [[{name}]]\n", _first_paragraph(table)]
        parts += [_table(replace(row, variable=variable((name,))) for row in rows)]
    parts += ["## [providers.*name*]\n", "Every provider has these:\n", _common_settings()]
    for provider in provider_types():
        parts += [f'### type = "{provider.type}"\n', _first_paragraph(providers.module_of(provider.type).Settings)]
        parts += [_table(provider.settings)] if provider.settings else []
    return "\n".join(parts)


def _types_table() -> str:
    rows = ["| type | what it is | needs |", "| --- | --- | --- |"]
    for provider in provider_types():
        has_page = (PROVIDER_PAGES / f"{provider.type}.md").exists()
        name = f"[`{provider.type}`](providers/{provider.type}.md)" if has_page else f"`{provider.type}`"
        rows.append(f"| {name} | {provider.description} | {', '.join(f'`{need}`' for need in provider.needs)} |")
    return "\n".join(rows) + "\n"


def _common_settings() -> str:
    return _table(setting_rows(fields_by_name(ProviderSettings), ("providers", "main")))


def _variables_table() -> str:
    """Return which variables a template at the provider has: by kind of mail, then by object."""
    kinds = {
        "kinds with a code": CODE_VARIABLES,
        f"`{INVITATION}`": INVITATION_VARIABLES,
        "kinds for events, `Welcome` too": EVENT_VARIABLES,
    }
    rows = {kind: [f"{name}.…" if value else name for name, value in known.items()] for kind, known in kinds.items()}
    objects: dict[tuple[str, ...], dict[str, None]] = {}
    for name, value in ChainMap(*map(dict, reversed(kinds.values()))).items():
        if value:
            objects.setdefault(tuple(_dotted_names(value)), {})[f"`{name}.…`"] = None
    rows |= {", ".join(names): list(fields) for fields, names in objects.items()}
    lines = ["| of | variables |", "| --- | --- |"]
    lines += [f"| {of} | {', '.join(f'`{name}`' for name in names)} |" for of, names in rows.items()]
    return "\n".join(lines) + "\n"


def _dotted_names(known: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name, value in known.items():
        yield from _dotted_names(value, f"{above}{name}.") if value else (f"{above}{name}",)


def _first_paragraph(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n\n")[0].strip() + "\n"


def _table(rows: Iterable[SettingRow]) -> str:
    lines = ["| setting | variable | value | default | |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        description = row.description.replace("|", "\\|")
        default = "**required**" if row.required else f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | `{row.variable}` | {row.value} | {default} | {description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for file, sections in pages():
        file.write_text(fill(file.read_text(), *sections))
