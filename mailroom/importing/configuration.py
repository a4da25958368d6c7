"""Says what becomes of the settings: a new TOML file, or, where there is one, what is to be pasted into it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mailroom.importing import toml
from mailroom.importing.plan import Ledger, Plan, ProviderPlan
from mailroom.loading.shape import variable

_HEADER: Final = """\
# Written by `mailroom import`; yours from here on. What is still missing, `mailroom check` says: `mailroom keygen`
# prints secret_key and connector.authorization, and mailroom.example.toml has all there is.

"""
_READ_DIFFERENTLY: Final = frozenset("'\"\\$#` \t")
"""Characters that not all who read environment files take as they stand."""


@dataclass(frozen=True, slots=True)
class There:
    """What the operator has already."""

    toml: Mapping[str, Any] | None
    """The settings' file as a tree; None where there is none."""
    variables: Mapping[str, str] = field(repr=False)
    """The environment file's."""
    toml_name: str = "mailroom.toml"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is to be done about the settings."""

    new_toml: str | None
    """The whole file, where there is none yet."""
    block: str
    """What is to be pasted into the file that is there; empty where nothing is."""
    new_variables: Mapping[str, str] = field(repr=False)
    """What the environment file lacks."""
    settled: tuple[str, ...]
    """Providers that are in the file as they should be."""


def arrange(plan: Plan, there: There, *, templates: str, ledger: Ledger) -> Configuration:
    """Compare what is wanted with what is there; nothing that is there is changed.

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
            why = f"{there.toml_name} has another"
            ledger.leave_out(there.toml_name, key, why, f"it stays; Logto's was {toml.literal(value)}")
    unsettled = {name: table for name, table in tables.items() if name not in settled}
    for name, table in unsettled.items():
        _tell(name, table, present.get(name), there, ledger)
    if missing:
        why = f"{there.toml_name} is yours and is not rewritten"
        ledger.leave_out(there.toml_name, ", ".join(missing), why, "paste what is printed below at its top")
    providers = [provider for provider in plan.providers if provider.name in settled]
    return Configuration(
        new_toml=None,
        block="\n".join(filter(None, [toml.pairs(missing), *map(_section, unsettled, unsettled.values())])),
        new_variables=_new_variables(providers, present, there, ledger),
        settled=settled,
    )


def _general(plan: Plan, templates: str) -> dict[str, Any]:
    """Return the settings that are in no table."""
    wanted = {
        "from": next((provider.sender for provider in plan.providers if provider.sender), None),
        "reply_to": plan.reply_to,
        "templates": templates if plan.files else None,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _own_senders(plan: Plan, wanted: Mapping[str, Any], there: There) -> Mapping[str, str]:
    """Return who needs a `from` in its own table, because the general one is another."""
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
    """Tell whether a value is there; what a table has beyond it is the operator's business."""
    if isinstance(wanted, Mapping):
        return isinstance(present, Mapping) and all(_contains(present.get(key), item) for key, item in wanted.items())
    return bool(present == wanted)


def _at(table: Any, path: Iterable[str]) -> Any:
    for part in path:
        table = table.get(part) if isinstance(table, Mapping) else None
    return table


def _tell(name: str, table: Mapping[str, Any], present: Any, there: There, ledger: Ledger) -> None:
    what = f"providers.{name}"
    if present is None:
        why = f"{there.toml_name} is yours and is not rewritten"
        remedy = "paste what is printed below, and import again: the secrets come with it then"
    else:
        held: Mapping[str, Any] = present if isinstance(present, dict) else {}
        differing = ", ".join(key for key, value in table.items() if not _contains(held.get(key), value))
        why = f"{there.toml_name} has a provider of this name that says otherwise: {differing}"
        remedy = "change it there, or give this one another name with --provider"
    ledger.leave_out(there.toml_name, what, why, remedy)


def _new_variables(
    providers: Iterable[ProviderPlan], present: Mapping[str, Any], there: There, ledger: Ledger
) -> dict[str, str]:
    """Return the secrets that are nowhere yet. One that is there, and another, stays."""
    new: dict[str, str] = {}
    for provider in providers:
        table = present.get(provider.name, {})
        for setting, value in provider.secrets.items():
            path = setting.split(".")
            name = variable(("providers", provider.name, *path))
            held = there.variables.get(name, _at(table, path))
            if held is None and f"{name}_FILE" not in there.variables:
                new[name] = value
                if _READ_DIFFERENTLY & set(value):
                    ledger.note(
                        provider.source,
                        f"{name} has characters that Docker, Compose and systemd read differently from an environment "
                        f"file; if the login fails, put the secret into a file and name that in {name}_FILE",
                    )
            elif held not in (None, value):
                ledger.leave_out(
                    provider.source, name, "there is another value already", "it stays; see which is right"
                )
    return new


def variables_in(text: str) -> dict[str, str]:
    """Return what an environment file sets: `NAME=value` lines, quotes around a value not counted."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name.strip()] = value[1:-1] if quoted else value
    return found
