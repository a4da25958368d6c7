"""Describes settings for people, from the model: names, variables, types, defaults, descriptions.

Used by `mailroom providers` and by the generators of the documentation (`tools/`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mailroom.config import toml
from mailroom.config.constraints import MISSING
from mailroom.config.fields import (
    SettingPath,
    alternatives,
    fields_by_name,
    is_list,
    is_secret,
    table_of,
    values_of,
    variable,
)
from mailroom.message import Address
from mailroom.outbox.limits import RateLimit

_TYPES: Final = {
    str: "text",
    int: "number",
    float: "number",
    bool: "`true`, `false`",
    timedelta: "duration",
    RateLimit: "limit",
    Address: "mailbox",
    IPv4Network: "network",
    IPv6Network: "network",
    IPv4Address: "address",
    IPv6Address: "address",
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting."""

    name: str
    """Within its table: `port`, `oauth2.scope`."""
    variable: str
    value: str
    """The type of the value, in Markdown."""
    default: str | None
    """As TOML."""
    required: bool
    """In a nested table: required if that table is given."""
    description: str


def setting_rows(fields: Mapping[str, FieldInfo], above: SettingPath, prefix: str = "") -> Iterator[SettingRow]:
    """Yield a row for each setting; the settings of a nested table follow it with its name: `oauth2.scope`."""
    for name, field in fields.items():
        path = (*above, name)
        required = field.is_required() or path in MISSING
        default = None if required else _default(field)
        value = _type_text(field.annotation)
        yield SettingRow(f"{prefix}{name}", variable(path), value, default, required, field.description or "")
        if (inner := table_of(field.annotation)) is not None:
            yield from setting_rows(fields_by_name(inner), path, f"{prefix}{name}.")


def _type_text(annotation: Any) -> str:
    if values_of(annotation) is not None or table_of(annotation) is not None:
        return "table"
    if is_secret(annotation):
        return "secrets" if is_list(annotation) else "secret"
    parts = [part for part in alternatives(annotation) if part is not NoneType]
    return " or ".join(dict.fromkeys(map(_part_text, parts)))


def _part_text(part: Any) -> str:
    """Return the name of one alternative of a type."""
    if get_origin(part) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(part))
    if is_list(part):
        item = _type_text(get_args(part)[0])
        return f"list of {item}" if item.endswith("`") else f"list of {item}s"
    if issubclass(part, Enum):
        return ", ".join(f"`{choice.value}`" for choice in part)
    return _TYPES.get(part) or part.__name__.lower()


def _default(field: FieldInfo) -> str | None:
    value = field.get_default(call_default_factory=True)
    if value in (None, (), "", PydanticUndefined) or value == {}:
        return None
    return toml.literal(_as_written(value))


def _as_written(value: Any) -> Any:
    """Return a default as the operator would write it."""
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, RateLimit):
        return f"{value.count}/{duration_text(timedelta(seconds=value.seconds))}"
    if isinstance(value, dict):
        return {key: _as_written(item) for key, item in value.items()}
    if isinstance(value, BaseModel):
        table = value.model_dump(exclude_defaults=True)
        return next(iter(table.values())) if len(table) == 1 else table
    return value


def duration_text(value: timedelta) -> str:
    """Write a duration as it is read: `10m`, `24h`, `30d`."""
    seconds = value.total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and not seconds % length and seconds > length:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s" if seconds else "0"
