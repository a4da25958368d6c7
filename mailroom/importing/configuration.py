"""Merges imported settings: makes a new TOML file, or the text to paste into an existing one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailroom.config.fields import variable
from mailroom.importing import toml
from mailroom.importing.plan import Ledger, Plan, ProviderPlan

_HEADER: Final = """\
# Written by `mailroom import`; it does not change it again. `mailroom check` reports what is missing:
# `mailroom keygen` prints secret_key and connector.authorization; mailroom.example.toml shows more settings.

"""
_READ_DIFFERENTLY: Final = frozenset("'\"\\$#` \t")
"""Characters that readers of environment files interpret differently."""


@dataclass(frozen=True, slots=True)
class ExistingSettings:
    """The existing settings."""

    toml: Mapping[str, Any] | None
    """The settings file as a tree; None if there is none."""
    variables: Mapping[str, str] = field(repr=False)
    """The variables in the environment file."""
    toml_name: str = "mailroom.toml"


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


def merge(plan: Plan, there: ExistingSettings, *, templates: str, ledger: Ledger) -> Configuration:
    """Compare the imported with the existing settings, which are never changed.

    `templates` is the folder of the overlay files.
    """
    wanted = _general(plan, templates)
    own = _own_senders(plan, wanted, there)
    tables = {provider.name: _table(provider, own) for provider in plan.providers}
    if there.toml is None:
        text = "\n".join(filter(None, [toml.pairs(wanted), *map(_section, tables, tables.values())]))
        new = _HEADER + text if tables else None
        variables = _new_variables(plan.providers, {}, there, ledger)
        return Configuration(new, "" if tables else text, variables, ())
    present = there.toml.get("providers")
    present = present if isinstance(present, dict) else {}
    settled = tuple(name for name, table in tables.items() if _contains(present.get(name), table))
    missing = {key: value for key, value in wanted.items() if key not in there.toml}
    for key, value in wanted.items():
        if key != "from" and there.toml.get(key, value) != value:
            why = f"{there.toml_name} has another value"
            ledger.leave_out(there.toml_name, key, why, f"it is not changed; Logto's was {toml.literal(value)}")
    unsettled = {name: table for name, table in tables.items() if name not in settled}
    for name, table in unsettled.items():
        _report(name, table, present.get(name), there, ledger)
    if missing:
        why = f"{there.toml_name} exists and is not rewritten"
        ledger.leave_out(there.toml_name, ", ".join(missing), why, "paste the lines below at its top")
    providers = [provider for provider in plan.providers if provider.name in settled]
    return Configuration(
        new_toml=None,
        block="\n".join(filter(None, [toml.pairs(missing), *map(_section, unsettled, unsettled.values())])),
        new_variables=_new_variables(providers, present, there, ledger),
        settled=settled,
    )


def _general(plan: Plan, templates: str) -> dict[str, Any]:
    """Return the settings outside of tables."""
    wanted = {
        "from": next((provider.sender for provider in plan.providers if provider.sender), None),
        "reply_to": plan.reply_to,
        "templates": templates if plan.files else None,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _own_senders(plan: Plan, wanted: Mapping[str, Any], there: ExistingSettings) -> Mapping[str, str]:
    """Return the providers whose sender differs from the general `from`."""
    general = wanted.get("from")
    if there.toml is not None:
        general = there.variables.get("MAILROOM_FROM") or there.toml.get("from", general)
    return {provider.name: provider.sender for provider in plan.providers if provider.sender not in (None, general)}


def _table(provider: ProviderPlan, own: Mapping[str, str]) -> dict[str, Any]:
    sender = {"from": own[provider.name]} if provider.name in own else {}
    return {**provider.settings, **sender}


def _section(name: str, table: Mapping[str, Any]) -> str:
    return toml.table(("providers", name), table)


def _contains(present: Any, wanted: Any) -> bool:
    """Return whether the value is present; a table may have more keys."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(_contains(present.get(key), item) for key, item in wanted.items())
    return bool(present == wanted)


def _value_at(table: Any, path: Iterable[str]) -> Any:
    for part in path:
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _report(name: str, table: Mapping[str, Any], present: Any, there: ExistingSettings, ledger: Ledger) -> None:
    what = f"providers.{name}"
    if present is None:
        why = f"{there.toml_name} exists and is not rewritten"
        remedy = "paste the lines below, and import again to add the secrets"
    else:
        existing: Mapping[str, Any] = present if isinstance(present, dict) else {}
        differing = ", ".join(key for key, value in table.items() if not _contains(existing.get(key), value))
        why = f"{there.toml_name} has a provider of this name with other values: {differing}"
        remedy = "change it there, or give this one another name with --provider"
    ledger.leave_out(there.toml_name, what, why, remedy)


def _new_variables(
    providers: Iterable[ProviderPlan], present: Mapping[str, Any], there: ExistingSettings, ledger: Ledger
) -> dict[str, str]:
    """Return the secrets that are not set yet; a different existing one is not changed."""
    new: dict[str, str] = {}
    for provider in providers:
        table = present.get(provider.name, {})
        for setting, value in provider.secrets.items():
            path = setting.split(".")
            name = variable(("providers", provider.name, *path))
            existing = there.variables.get(name, _value_at(table, path))
            if existing is None and f"{name}_FILE" not in there.variables:
                new[name] = value
                if _READ_DIFFERENTLY & set(value):
                    ledger.note(
                        provider.source,
                        f"{name} has characters that Docker, Compose and systemd read differently from an environment "
                        f"file; if the login fails, put the secret into a file and name that in {name}_FILE",
                    )
            elif existing not in (None, value):
                ledger.leave_out(
                    provider.source, name, "there is already another value", "it is not changed; check which is right"
                )
    return new


def variables_in(text: str) -> dict[str, str]:
    """Parse an environment file: `NAME=value` lines, without quotes around values."""
    variables: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            variables[name.strip()] = value[1:-1] if quoted else value
    return variables
