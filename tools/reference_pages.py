"""Writes docs/settings.md, docs/providers.md and the tables in docs/providers/: `python -m tools.reference_pages`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from mailroom import providers
from mailroom.config.fields import table_of, written
from mailroom.config.model import Settings
from mailroom.config.provider_types import provider_type, provider_types
from mailroom.config.setting_rows import SettingRow, setting_rows
from mailroom.providers import ProviderSettings

DOCS: Final = Path(__file__).parents[1] / "docs"
PROVIDER_PAGES: Final = DOCS / "providers"
"""One hand-written page for each type, with a generated table of its settings."""

_BEGIN: Final = "<!-- Written by `make docs`; a test fails when this table is not current. -->"
_END: Final = "<!-- The end of what is written. -->"
_PROVIDER: Final = ("providers", "main")

_SETTINGS: Final = """\
# Settings

<!-- Written by `make docs` from the code; a test fails when it is not current. -->

Settings come from one optional TOML file (the one that `MAILROOM_CONFIG` names, else `./mailroom.toml`) and from
variables, which win. All of them can be variables, so no file is needed. `mailroom check` prints
all faults at once; unknown settings and misspelt variables are faults. Copy `mailroom.example.toml` or
`.env.example` to start with; their placeholders are refused as secrets.

- **Names**: `port` is `MAILROOM_PORT`, `connector.allowed_ips` is `MAILROOM_CONNECTOR__ALLOWED_IPS` (two underscores
  where the file has a dot), `password` of the provider `main` is `MAILROOM_PROVIDERS__MAIN__PASSWORD`. A provider's
  name has small letters and digits, with single `-` or `_` between them; in a variable both are `_`.
- **Lists** are comma-separated, or JSON where an item holds a comma. In the file they have brackets; a list of secrets
  with a single item needs none.
- **Tables** are JSON: `MAILROOM_ROUTES='{"default": ["main", "backup"]}'`; a whole table replaces the file's. One route
  can be a variable of its own: `MAILROOM_ROUTES__DEFAULT=main,backup`.
- **Durations** have a unit: `30s`, `10m`, `24h`, `7d`.
- **Secrets** can be in files: `MAILROOM_SECRET_KEY_FILE=/run/secrets/mailroom`. One trailing line break is not part of
  the secret; where several secrets are allowed, each has a line of its own.
- **Empty** variables are unset.
- **Platforms**: `PORT` is used (`host` is then `0.0.0.0` unless it is set), and so are `DATABASE_URL`, and `HOST` if it
  is an address. `MAILROOM_…` overrides them. What Kubernetes injects for a service called mailroom
  (`MAILROOM_PORT=tcp://…`) is ignored.
- **Several providers** that are set by variables alone have no order: set `routes.default`.

`server.py --dev` needs none of this: it listens on this machine only, accepts any `Authorization`, stores mails instead
of sending them (provider `capture`), and generates a secret key in `data/dev-secret-key`. Without `--dev` the
server does not start without `from`, `secret_key`, `connector.authorization` and a provider; nor on hosts that lose
their disk at every restart (Heroku, Cloud Run, AWS Lambda, Vercel): they need PostgreSQL, which is not supported yet.
"""

_PROVIDERS: Final = """\
# Providers

<!-- Written by `make docs` from the code; a test fails when it is not current. -->

A provider is a service or relay that delivers your mails. It needs `type = "…"` and the settings in the last column.
`mailroom providers` prints this table, `mailroom providers TYPE` a block to copy. `mailroom doctor` checks the result:
the address that the provider sees, the credentials, and MX, SPF, DKIM and DMARC of `from`.

Several providers are tried in the order of the file, or as `routes` says; the next one is tried at once
when one is unavailable or refuses our credentials.
"""

_COMMON_SETTINGS: Final = """\
## Settings of every provider

`from` in a provider's table is for relays that require a certain sender. `local_address` and `proxy`, where a
type has them, make its connections come from an address that you can have whitelisted. Of a host's addresses, IPv6 or
IPv4, the first that accepts a connection is used: one that drops packets costs 0.25 s, not the time-out. With
`local_address` only those of its family are tried.
"""


def settings_page() -> str:
    """Return docs/settings.md."""
    tables = {name: table for name, field in written(Settings).items() if (table := table_of(field.annotation))}
    general = {name: field for name, field in written(Settings).items() if name not in tables}
    parts = [_SETTINGS, "## General\n", _table(setting_rows(general, ()))]
    for name, table in tables.items():
        parts += [f"## [{name}]\n", _first_paragraph(table), _table(setting_rows(written(table), (name,)))]
    parts += ["## [providers.*name*]\n", "Every provider has these:\n", _common_settings()]
    for found in provider_types():
        parts += [f'### type = "{found.type}"\n', _first_paragraph(providers.module_of(found.type).Settings)]
        parts += [_table(found.settings)] if found.settings else []
    return "\n".join(parts)


def providers_page() -> str:
    """Return docs/providers.md."""
    rows = ["| type | what it is | needs |", "| --- | --- | --- |"]
    for found in provider_types():
        has_page = (PROVIDER_PAGES / f"{found.type}.md").exists()
        name = f"[`{found.type}`](providers/{found.type}.md)" if has_page else f"`{found.type}`"
        rows.append(f"| {name} | {found.description} | {', '.join(f'`{need}`' for need in found.needs)} |")
    links = "All settings of all types, with their variables, are in [settings.md](settings.md#providersname).\n"
    return "\n".join([_PROVIDERS, *rows, "", _COMMON_SETTINGS, _common_settings(), links])


def provider_page(text: str, type_name: str) -> str:
    """Return the page of a type with a current table. Raises ValueError when the page lacks the two markers."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{type_name}.md has no markers for its settings: {_BEGIN} … {_END}")
    return f"{before}{_BEGIN}\n\n{_table(provider_type(type_name).settings)}\n{_END}{after}"


def _common_settings() -> str:
    return _table(setting_rows(written(ProviderSettings), _PROVIDER))


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
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / "providers.md").write_text(providers_page())
    for file in sorted(PROVIDER_PAGES.glob("*.md")):
        file.write_text(provider_page(file.read_text(), file.stem))
