"""Merges imported settings: makes a new TOML file, or the text to paste into an existing one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailroom.config import toml
from mailroom.config.fields import variable
from mailroom.importing.plan import ImportLog, Plan, ProviderPlan

_HEADER: Final = """\
# Written by `mailroom import`; it does not change it again. The passwords are in .env, beside this file.
# mailroom.example.toml shows more settings; `mailroom check` reports what is missing.

"""
_READ_DIFFERENTLY: Final = frozenset("'\"\\$#`")
"""Characters that readers of environment files interpret differently."""


@dataclass(frozen=True, slots=True)
class ExistingSettings:
    """The existing settings."""

    toml: Mapping[str, Any] | None
    """The settings file as a tree; None if there is none."""
    variables: Mapping[str, str] = field(repr=False)
    """The variables in the environment file."""
    toml_name: str = "mailroom.toml"

    @property
    def templates(self) -> str | None:
        """The templates folder."""
        folder = (self.toml or {}).get("templates")
        return folder if isinstance(folder, str) else None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The changes to the settings."""

    new_toml: str | None
    """The whole file, if there is none yet."""
    block: str
    """Text to paste into the existing file; may be empty."""
    new_variables: Mapping[str, str] = field(repr=False)
    """Variables to add to the environment file."""
    settled: tuple[str, ...]
    """Providers that the file already has, unchanged."""


def merge(plan: Plan, existing: ExistingSettings, *, templates: str, log: ImportLog) -> Configuration:
    """Compare the imported with the existing settings, which are never changed.

    `templates` is the folder of the overlay files.
    """
    general = _general(plan, templates)
    sender = general.get("from")
    if existing.toml is not None:
        sender = existing.variables.get("MAILROOM_FROM") or existing.toml.get("from", sender)
    tables = {provider.name: _table(provider, sender) for provider in plan.providers}
    if existing.toml is None:
        text = _document(general, tables)
        variables = _new_variables(plan.providers, {}, existing, log)
        return Configuration(_HEADER + text if tables else None, "" if tables else text, variables, ())
    present = existing.toml.get("providers")
    present = present if isinstance(present, dict) else {}
    settled = tuple(name for name, table in tables.items() if _contains(present.get(name), table))
    missing = {key: value for key, value in general.items() if key not in existing.toml}
    for key, value in general.items():
        if key != "from" and existing.toml.get(key, value) != value:
            why = f"{existing.toml_name} has another value"
            log.leave_out(existing.toml_name, key, why, f"it is not changed; Logto's was {toml.literal(value)}")
    unsettled = {name: table for name, table in tables.items() if name not in settled}
    for name, table in unsettled.items():
        _leave_out_provider(name, table, present.get(name), existing.toml_name, log)
    if missing:
        why = f"{existing.toml_name} exists and is not rewritten"
        log.leave_out(existing.toml_name, ", ".join(missing), why, "paste the lines below at its top")
    providers = [provider for provider in plan.providers if provider.name in settled]
    variables = _new_variables(providers, present, existing, log)
    return Configuration(None, _document(missing, unsettled), variables, settled)


def _general(plan: Plan, templates: str) -> dict[str, Any]:
    """Return the settings outside of tables."""
    values = {
        "from": next((provider.sender for provider in plan.providers if provider.sender), None),
        "reply_to": plan.reply_to,
        "templates": templates if plan.files else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _table(provider: ProviderPlan, general_sender: str | None) -> dict[str, Any]:
    own_sender = {} if provider.sender in (None, general_sender) else {"from": provider.sender}
    return {**provider.settings, **own_sender}


def _document(general: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return TOML: the general settings, then a table for each provider."""
    sections = [toml.table(("providers", name), table) for name, table in tables.items()]
    return "\n".join(filter(None, [toml.pairs(general), *sections]))


def _contains(present: Any, wanted: Any) -> bool:
    """Return whether the value is present; a table may have more keys."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(_contains(present.get(key), item) for key, item in wanted.items())
    return bool(present == wanted)


def _value_at(table: Any, path: Iterable[str]) -> Any:
    for part in path:
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _leave_out_provider(name: str, table: Mapping[str, Any], present: Any, toml_name: str, log: ImportLog) -> None:
    if present is None:
        why = f"{toml_name} exists and is not rewritten"
        remedy = "paste the lines below, and import again to add the secrets"
    else:
        values = present if isinstance(present, dict) else {}
        differing = ", ".join(key for key, value in table.items() if not _contains(values.get(key), value))
        why = f"{toml_name} has a provider of this name with other values: {differing}"
        remedy = "change it there, or give this one another name with --provider"
    log.leave_out(toml_name, f"providers.{name}", why, remedy)


def _new_variables(
    providers: Iterable[ProviderPlan], present: Mapping[str, Any], existing: ExistingSettings, log: ImportLog
) -> dict[str, str]:
    """Return the secrets that are not set yet; a different existing one is not changed."""
    new: dict[str, str] = {}
    for provider in providers:
        for setting, value in provider.secrets.items():
            path = setting.split(".")
            name = variable(("providers", provider.name, *path))
            old = existing.variables.get(name, _value_at(present, (provider.name, *path)))
            if old is None and f"{name}_FILE" not in existing.variables:
                new[name] = value
                if _READ_DIFFERENTLY & set(value):
                    log.note(
                        provider.source,
                        f"{name} has characters that Docker, Compose and systemd read differently from an environment "
                        f"file; if the login fails, put the secret into a file and name that in {name}_FILE",
                    )
            elif old not in (None, value):
                why = "there is already another value"
                log.leave_out(provider.source, name, why, "it is not changed; check which is right")
    return new
