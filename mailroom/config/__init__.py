"""Loads the settings from one optional TOML file and from variables, which override it, and validates them.

    settings = load(environ=os.environ)  # raises SettingsError with all faults at once

`sources` merges file and variables, pydantic validates each setting by the `model`, `constraints` checks the settings
together; `development` has the defaults of `--dev`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mailroom import providers
from mailroom.config import constraints, development, env_file
from mailroom.config.constraints import warnings
from mailroom.config.fields import PREFIX, SettingPath, fields_by_name, item_table_of, table_of, values_of, variable
from mailroom.config.model import Settings
from mailroom.config.sources import CONFIG, RawConfig, did_you_mean
from mailroom.errors import Fault, SettingsError
from mailroom.providers import ProviderSettings

__all__ = ["load", "settings_file", "warnings"]

DEFAULT_CONFIG: Final = Path("mailroom.toml")
ENV_FILE: Final = ".env"
"""Read beside the TOML file; variables of the environment override it."""
PROVIDER_NAME: Final = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")

_PREAMBLE: Final = re.compile(r"(?:Value error, |(?:Input|String|Value|Tuple|Dictionary) (?=should))")
_STAND_INS: Final[dict[str, Any]] = {
    "from": "nobody@localhost.localdomain",
    "secret_key": "stands in for a missing secret key",
    "providers": {"none": ProviderSettings(type="none")},
}
"""Values for missing settings, so that the others can be validated."""


def load(*, environ: Mapping[str, str], config: Path | None = None, dev: bool = False) -> Settings:
    """Return the validated settings.

    `config` is the TOML file, see `settings_file`. Raises SettingsError with all faults at once, none of which shows a
    secret. With `dev` missing settings get defaults, and a generated secret key is stored in `data` beside the file.
    """
    named_by = "--config" if config else CONFIG if environ.get(CONFIG) else None
    file = settings_file(environ, config)
    raw = RawConfig(file.parent)
    raw.read_file(file, named_by=named_by)
    env, unreadable = _read_env_file(file.parent / ENV_FILE)
    given = {name: value for name, value in environ.items() if value}  # an empty variable counts as not set
    raw.read_variables({**{name: env[name] for name in env if not _is_overridden(name, environ)}, **given})
    raw.read_platform(environ, dev=dev)
    if dev:
        development.fill(raw)
    raw.resolve_paths()
    settings = _validate(raw, environ, dev=dev)
    if raw.faults:
        raise SettingsError([*dict.fromkeys(raw.faults), *unreadable])
    return settings


def settings_file(environ: Mapping[str, str], config: Path | None = None) -> Path:
    """Return the TOML file: `config`, else the one that `MAILROOM_CONFIG` names, else `./mailroom.toml`."""
    return config or Path(environ.get(CONFIG) or DEFAULT_CONFIG)


def _read_env_file(file: Path) -> tuple[dict[str, str], list[Fault]]:
    """Return its `MAILROOM_…` variables, and why it cannot be read.

    That alone is no fault: systemd passes the variables of a file that only root can read.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""  # a virtual environment may have this name
    except OSError as error:
        return {}, [Fault(str(file), f"cannot be read: {error.strerror}")]
    except UnicodeDecodeError:
        return {}, [Fault(str(file), "is not UTF-8 text")]
    return {name: value for name, value in env_file.parse(text).items() if name.startswith(PREFIX)}, []


def _is_overridden(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether the environment has the same setting, be it as `…_FILE`."""
    other = name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"
    return bool(environ.get(name) or environ.get(other))


def _validate(raw: RawConfig, environ: Mapping[str, str], *, dev: bool) -> Settings:
    provider_tables = raw.tree.get("providers")
    faulty: set[SettingPath] = set()
    tree = dict(raw.tree)
    if tree.pop("dev", None) is not None:
        raw.fault(("dev",), "unknown setting; use the command-line option --dev")
    if provider_tables == {}:
        del tree["providers"]
    elif isinstance(provider_tables, dict):
        tree["providers"] = _validate_providers(raw, provider_tables)
        if not tree["providers"]:  # all of them are faulty and have been reported
            tree["providers"] = _STAND_INS["providers"]
    try:
        settings = Settings.model_validate(tree, by_alias=True, by_name=False)
    except ValidationError as error:
        faulty = _report(raw, Settings, (), tree, error)
        settings = _validate_without(faulty, tree)
    names = list(provider_tables) if isinstance(provider_tables, dict) else []
    alone = [name for name in names if ("providers", name, "type") in raw.variables and name not in raw.in_file]
    unordered = len(names) > 1 and bool(alone)
    for path, problem in constraints.find_faults(settings, names=names, unordered=unordered, environ=environ, dev=dev):
        is_reported = any(path[: len(other)] == other or other[: len(path)] == path for other in faulty)
        if not is_reported and not (raw.incomplete and problem in constraints.MISSING.values()):
            raw.fault(path, problem)
    return settings.model_copy(update={"dev": dev})


def _validate_providers(raw: RawConfig, provider_tables: dict[str, Any]) -> dict[str, ProviderSettings]:
    """Validate each provider by its own type's settings."""
    valid: dict[str, ProviderSettings] = {}
    for name, table in provider_tables.items():
        path: SettingPath = ("providers", name)
        if not isinstance(table, dict):
            raw.fault(path, "a provider is a table: [providers.main]")
            continue
        if not PROVIDER_NAME.fullmatch(name):
            raw.fault(path, "a provider's name has small letters, digits, single - and _ between them")
        model = raw.provider(name)
        if model is None:
            _report_type(raw, name, table.get("type"))
            continue
        try:
            valid[name] = model.model_validate(table, by_alias=True, by_name=False)
        except ValidationError as error:
            _report(raw, model, path, table, error)
    return valid


def _report_type(raw: RawConfig, name: str, type_name: Any) -> None:
    known = ", ".join(providers.types())
    path: SettingPath = ("providers", name)
    if type_name is not None:
        suggestion = did_you_mean(type_name.lower(), providers.types()) if isinstance(type_name, str) else ""
        raw.fault((*path, "type"), f"there is no such type; there are: {known}{suggestion}")
        return
    variables = sorted(word for place, word in raw.variables.items() if place[:2] == path and name not in raw.in_file)
    if variables:
        suggestion = did_you_mean(name, sorted(raw.in_file))
        problem = f"there is no provider {name!r}{suggestion}; a new one needs {variable((*path, 'type'))}"
        raw.faults.append(Fault(variables[0], problem))
    else:
        raw.fault((*path, "type"), f"missing; one of: {known}")


def _report(
    raw: RawConfig, model: type[BaseModel], above: SettingPath, tree: dict[str, Any], error: ValidationError
) -> set[SettingPath]:
    """Report pydantic's errors in the operator's terms; return the paths of the faulty settings."""
    problems: dict[SettingPath, list[str]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        path = _as_in_tree(detail["loc"], tree, missing=detail["type"] == "missing")
        messages = problems.setdefault(path, [])
        if not (detail["type"] == "missing" and raw.incomplete):
            messages.append(_describe(model, (*above, *path), path, detail))
    for path, messages in problems.items():
        if messages:
            raw.fault((*above, *path), ", or ".join(dict.fromkeys(messages)))
    return set(problems)


def _describe(model: type[BaseModel], whole: SettingPath, path: SettingPath, detail: ErrorDetails) -> str:
    error = detail["type"]
    if error == "missing":
        return constraints.MISSING.get(whole, f"missing; set it here or as {variable(whole)}")
    if error == "extra_forbidden":
        table = _table_at(model, path[:-1])
        return f"unknown setting{did_you_mean(str(path[-1]), list(fields_by_name(table)) if table else [])}"
    if error in ("model_type", "model_attributes_type", "dict_type"):
        return "should be a table"
    message = _PREAMBLE.sub("", detail["msg"]).rstrip(".")
    return message[:1].lower() + message[1:]


def _as_in_tree(path: SettingPath, tree: Any, *, missing: bool) -> SettingPath:
    """Remove the parts that pydantic adds to a path: the alternative of a union, or a mark that a key is meant."""
    path_in_tree: SettingPath = ()
    for number, part in enumerate(path, start=1):
        if isinstance(tree, dict) and (part in tree or (missing and number == len(path))):
            tree = tree.get(part)
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            continue
        path_in_tree = (*path_in_tree, part)
    return path_in_tree


def _table_at(model: type[BaseModel], path: SettingPath) -> type[BaseModel] | None:
    annotation: Any = model
    for part in path:
        table = table_of(annotation)
        if isinstance(part, int):
            annotation = item_table_of(annotation)
        elif table is None:
            annotation = values_of(annotation)
        elif part in fields_by_name(table):
            annotation = fields_by_name(table)[str(part)].annotation
        else:
            return None
    return table_of(annotation)


def _validate_without(faulty: set[SettingPath], tree: dict[str, Any]) -> Settings:
    """Return the settings without the faulty ones, so that the rest can be validated together."""
    for path in faulty:
        _remove(tree, path)
    try:
        return Settings.model_validate(_STAND_INS | tree, by_alias=True, by_name=False)
    except ValidationError as error:  # something is missing inside of a table, which then has to go as a whole
        for detail in error.errors(include_url=False, include_input=False):
            tree.pop(str(detail["loc"][0]), None)
        return Settings.model_validate(_STAND_INS | tree, by_alias=True, by_name=False)


def _remove(tree: dict[str, Any], path: SettingPath) -> None:
    """Remove one setting; a list is removed as a whole."""
    table: Any = tree
    for part in path[:-1]:
        inner = table.get(part) if isinstance(table, dict) else None
        if not isinstance(inner, dict):
            path = (part,)
            break
        table[part] = table = dict(inner)  # the original tree is not changed
    if isinstance(table, dict):
        table.pop(path[-1], None)
