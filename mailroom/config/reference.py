"""Writes docs/settings.md from the model: `python -m mailroom.config.reference > docs/settings.md`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mailroom import providers
from mailroom.config.constraints import MISSING
from mailroom.config.fields import Path, alternatives, is_list, is_secret, table_of, values_of, variable, written
from mailroom.config.model import Settings
from mailroom.message import Address
from mailroom.providers import ProviderSettings

_INTRODUCTION: Final = """\
# Settings

<!-- Written by `python -m mailroom.config.reference` from the model; a test fails when this page is not current. -->

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


def page() -> str:
    """Return the page."""
    general = {name: field for name, field in written(Settings).items() if table_of(field.annotation) is None}
    parts = [_INTRODUCTION, "## General\n", _table(general, ())]
    for name, field in written(Settings).items():
        table = table_of(field.annotation)
        if table is not None:
            parts += [f"## [{name}]\n", _first_sentence(table), _table(written(table), (name,))]
    parts += ["## [providers.*name*]\n", "Every provider has these:\n", _table(written(ProviderSettings), _PROVIDER)]
    common = set(written(ProviderSettings))
    for kind in providers.types():
        model = providers.module_of(kind).Settings
        own = {name: field for name, field in written(model).items() if name not in common}
        parts += [f'### type = "{kind}"\n', _first_sentence(model)]
        parts += [_table(own, _PROVIDER)] if own else []
    return "\n".join(parts)


_PROVIDER: Final[Path] = ("providers", "main")


def _first_sentence(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").partition("\n\n")[0].strip() + "\n"


def _table(fields: dict[str, FieldInfo], above: Path) -> str:
    lines = ["| setting | variable | value | default | |", "| --- | --- | --- | --- | --- |"]
    for row in rows(fields, above):
        description = row.description.replace("|", "\\|")
        default = "**required**" if row.is_required else f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | `{row.variable}` | {row.kind} | {default} | {description} |")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table of settings."""

    name: str
    variable: str
    kind: str
    """The type of the value, for people."""
    default: str
    """As TOML; empty if there is none."""
    is_required: bool
    """In a nested table: required if that table is given."""
    description: str


def rows(fields: dict[str, FieldInfo], above: Path, table: str = "") -> Iterator[Row]:
    """Yield a row for each setting; the settings of a nested table follow it with its name: `oauth2.scope`."""
    for name, field in fields.items():
        path = (*above, name)
        is_required = field.is_required() or path in MISSING
        default = "" if is_required else _default(field)
        description = field.description or ""
        yield Row(f"{table}{name}", variable(path), _kind(field.annotation), default, is_required, description)
        if (inner := table_of(field.annotation)) is not None:
            yield from rows(written(inner), path, f"{table}{name}.")


_KINDS: Final = {str: "text", int: "number", float: "number", bool: "`true`, `false`", timedelta: "duration"}


def _kind(annotation: Any) -> str:
    """Return the type of the value, for people."""
    if values_of(annotation) is not None or table_of(annotation) is not None:
        return "table"
    if is_secret(annotation):
        return "secrets" if is_list(annotation) else "secret"
    kinds: dict[str, None] = {}
    for part in alternatives(annotation):
        if part is NoneType:
            continue
        if get_origin(part) is Literal:
            kinds[", ".join(f"`{choice}`" for choice in get_args(part))] = None
        elif is_list(part):
            kinds[f"list of {_kind(get_args(part)[0])}s"] = None
        elif part is Address:
            kinds["mailbox"] = None
        elif isinstance(part, type) and issubclass(part, Enum):
            kinds[", ".join(f"`{choice.value}`" for choice in part)] = None
        else:
            kinds[_KINDS.get(part) or _type_name(part)] = None
    return " or ".join(kinds)


def _type_name(part: Any) -> str:
    name = getattr(part, "__name__", str(part))
    return {"IPv4Network": "network", "IPv6Network": "network", "IPv4Address": "address", "IPv6Address": "address"}.get(
        name, name.lower()
    )


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value in (None, (), "", PydanticUndefined) or value == {}:
        return ""
    return _as_toml(value)


def _as_toml(value: Any) -> str:
    if isinstance(value, timedelta):
        return json.dumps(duration_text(value))
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_as_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, BaseModel):
        description = value.model_dump(exclude_defaults=True)
        return _as_toml(next(iter(description.values())) if len(description) == 1 else description)
    return json.dumps(value)


def duration_text(value: timedelta) -> str:
    """Write a duration as it is read: `10m`, `24h`, `30d`."""
    seconds = value.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % length and seconds > length:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds else "0"


if __name__ == "__main__":
    click.echo(page(), nl=False)
