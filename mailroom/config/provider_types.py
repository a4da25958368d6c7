"""Describes the types of providers from their code: for `mailroom providers` and for docs/providers.md.

`python -m mailroom.config.provider_types > docs/providers.md` writes the page.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from mailroom import providers
from mailroom.config.fields import written
from mailroom.config.reference import Row, rows
from mailroom.providers import ProviderSettings

PAGES: Final = Path(__file__).parents[2] / "docs" / "providers"
"""One page a type, written by hand, with its table put in."""

_PLACEHOLDERS: Final = {
    "mailbox": '"Acme <no-reply@acme.example>"',
    "number": "1",
    "secrets": '["replace-this"]',
    "table": "{}",
}

_INTRODUCTION: Final = """\
# Providers

<!-- Written by `python -m mailroom.config.provider_types` from the code; a test fails when it is not current. -->

A provider is a service or relay that delivers your mails. It needs `type = "…"` and the settings in the last column.
`mailroom providers` prints this table, `mailroom providers TYPE` a block to copy. `mailroom doctor` checks the result:
the address that the provider sees, the credentials, and MX, SPF, DKIM and DMARC of `from`.

Several providers are tried in the order of the file, or as `routes` says; the next one is tried at once
when one is unavailable or refuses our credentials.
"""

_COMMON: Final = """\
## Settings of every provider

`from` in a provider's table is for relays that require a certain sender. `local_address` and `proxy`, where a
type has them, make its connections come from an address that you can have whitelisted. Of a host's addresses, IPv6 or
IPv4, the first that accepts a connection is used: one that drops packets costs 0.25 s, not the time-out. With
`local_address` only those of its family are tried.
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of provider."""

    type: str
    sentence: str
    """A description of one line."""
    own: tuple[Row, ...]
    """Settings that not every provider has."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The required settings."""
        return tuple(row.name for row in self.own if row.is_required and "." not in row.name)

    def block(self, name: str = "main") -> str:
        """Return TOML to copy: required settings with placeholders, the others commented out."""
        lines = [f"[providers.{name}]", f'type = "{self.type}"']
        for row in self.own:
            if any(other.name.startswith(f"{row.name}.") for other in self.own):
                continue  # a table; its own settings follow
            mark = "" if row.name in self.needs else "# "
            lines.append(
                f"{mark}{row.name} = {row.default or _placeholder(row.kind)}  # {row.description}".rstrip(" #")
            )
        return "\n".join(lines) + "\n"


def kinds() -> Iterator[Kind]:
    """Yield all types."""
    for type_name in providers.types():
        yield kind(type_name)


def kind(type_name: str) -> Kind:
    """Return a type. Raises LookupError when there is none of that name."""
    module = providers.module_of(type_name)
    fields = {name: field for name, field in written(module.Settings).items() if name not in _common()}
    sentence = (sys.modules[f"{providers.__name__}.{type_name}"].__doc__ or "").partition("\n")[0]
    return Kind(type_name, sentence.removesuffix("."), tuple(rows(fields, ("providers", "main"))))


def _placeholder(kind: str) -> str:
    return "[]" if kind.startswith("list") else _PLACEHOLDERS.get(kind, '"replace-this"')


def _common() -> frozenset[str]:
    return frozenset(written(ProviderSettings))


def page() -> str:
    """Return docs/providers.md."""
    parts = [_INTRODUCTION, "| type | what it is | needs |", "| --- | --- | --- |"]
    for found in kinds():
        name = f"`{found.type}`"
        if (PAGES / f"{found.type}.md").exists():
            name = f"[{name}](providers/{found.type}.md)"
        needs = ", ".join(f"`{need}`" for need in found.needs)
        parts.append(f"| {name} | {found.sentence} | {needs} |")
    parts += ["", _COMMON, "| setting | value | default | |", "| --- | --- | --- | --- |"]
    for row in rows(written(ProviderSettings), ("providers", "main")):
        default = "**required**" if row.is_required else f"`{row.default}`" if row.default else ""
        parts.append(f"| `{row.name}` | {row.kind} | {default} | {row.description} |")
    parts += ["", "All settings of all types, with their variables, are in [settings.md](settings.md#providersname)."]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    click.echo(page(), nl=False)
