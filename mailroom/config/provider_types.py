"""Describes the types of providers from their code, for `mailroom providers` and docs/providers.md."""

import sys
from dataclasses import dataclass
from typing import Final

from mailroom import providers
from mailroom.config.fields import fields_by_name
from mailroom.config.setting_rows import SettingRow, setting_rows
from mailroom.providers import ProviderSettings

_PLACEHOLDERS: Final = {
    "mailbox": '"Acme <no-reply@acme.example>"',
    "number": "1",
    "secrets": '["replace-this"]',
    "table": "{}",
}


@dataclass(frozen=True, slots=True)
class ProviderType:
    """A type of provider."""

    type: str
    description: str
    """The first line of its module."""
    settings: tuple[SettingRow, ...]
    """Those that not every provider has."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The required settings."""
        return tuple(row.name for row in self.settings if row.required and "." not in row.name)

    def example(self, name: str = "main") -> str:
        """Return TOML to copy: required settings with placeholders, the others commented out."""
        lines = [f"[providers.{name}]", f'type = "{self.type}"']
        for row in self.settings:
            if any(other.name.startswith(f"{row.name}.") for other in self.settings):
                continue  # a table; its own settings follow
            mark = "" if row.name in self.needs else "# "
            value = row.default or _placeholder(row.value)
            lines.append(f"{mark}{row.name} = {value}  # {row.description}".rstrip(" #"))
        return "\n".join(lines) + "\n"


def provider_types() -> list[ProviderType]:
    """Return all types."""
    return [provider_type(name) for name in providers.types()]


def provider_type(name: str) -> ProviderType:
    """Return a type. Raises LookupError when there is none of that name."""
    fields = fields_by_name(providers.module_of(name).Settings)
    own = {setting: field for setting, field in fields.items() if setting not in fields_by_name(ProviderSettings)}
    description = (sys.modules[f"{providers.__name__}.{name}"].__doc__ or "").partition("\n")[0]
    return ProviderType(name, description.removesuffix("."), tuple(setting_rows(own, ("providers", "main"))))


def _placeholder(value: str) -> str:
    return "[]" if value.startswith("list") else _PLACEHOLDERS.get(value, '"replace-this"')
