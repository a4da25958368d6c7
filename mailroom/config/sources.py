"""Merges the TOML file and the variables into one tree, and records which variable each value came from."""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from mailroom import providers
from mailroom.config import env_file, fields
from mailroom.config.fields import PREFIX, SettingPath
from mailroom.config.model import Settings
from mailroom.errors import Fault
from mailroom.message import TEMPLATES
from mailroom.outbox.by_url import SQLITE
from mailroom.providers import ProviderSettings

CONFIG: Final = "MAILROOM_CONFIG"
LOGTO_SECRET: Final = "MAILROOM_LOGTO_APP_SECRET"  # noqa: S105 - a variable's name
"""Read by `mailroom import --from-logto`, as is `…_FILE`; not a setting, and no fault if it is still set."""

_KUBERNETES: Final = re.compile(
    r"MAILROOM_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT: Final = re.compile(r"MAILROOM_(?:[A-Z0-9]+_)*PORT")
_LONGEST_SECRET: Final = 65_536
"""Octets of a file that holds a secret."""


@dataclass
class RawConfig:
    """The merged sources, not validated yet."""

    folder: Path
    """The file's: its relative paths begin here."""
    tree: dict[str, Any] = field(default_factory=dict)
    variables: dict[SettingPath, str] = field(default_factory=dict)
    """Path → the variable that set it; all other values come from the file."""
    faults: list[Fault] = field(default_factory=list)
    in_file: frozenset[str] = frozenset()
    """The providers in the file, whose order is known."""
    incomplete: bool = False
    """The file could not be read, so missing settings are not reported."""

    def read_file(self, file: Path, *, named_by: str | None) -> None:
        """Read the TOML file; a fault if it is missing although `named_by` names it."""
        try:
            self.tree = tomllib.loads(file.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            if named_by is None:
                return
            self.faults.append(Fault(named_by, f"there is no file {file}"))
        except OSError as error:
            self.faults.append(Fault(named_by or str(file), f"cannot read {file}: {error.strerror}"))
        except UnicodeDecodeError:
            self.faults.append(Fault(str(file), "is not UTF-8 text"))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            self.faults.append(Fault(str(file), f"is not TOML: {error}"))
        else:
            self.in_file = frozenset(self._providers())
            return
        self.incomplete = True

    def read_variables(self, environ: Mapping[str, str]) -> None:
        """Apply `MAILROOM_…`: tables before the settings in them, a provider's type before its other settings."""
        ours = {name: env_file.unquote(value) for name, value in environ.items() if _is_setting(name, value)}
        for name in sorted(ours, key=_sort_key):
            self._apply_variable(name, ours[name])

    def read_platform(self, environ: Mapping[str, str], *, dev: bool) -> None:
        """Apply `PORT`, `HOST` and `DATABASE_URL`, which platforms set, unless our own variables do.

        `HOST` is ignored unless it is an address: some shells export the host name as `HOST`.
        """
        for name in ("port", "host", "database_url"):
            value = environ.get(name.upper(), "")
            if not value or (name,) in self.variables or (name == "host" and (dev or not _is_address(value))):
                continue
            self._set((name,), value, name.upper())
        if self.variables.get(("port",)) == "PORT" and "host" not in self.tree and not dev:
            self._set(("host",), "0.0.0.0", "PORT")  # noqa: S104 - platforms that set PORT connect from outside

    def resolve_paths(self) -> None:
        """Let relative paths begin at the file's folder, unless they are variables' or the command line's."""
        for name in (None, *self._providers()):
            model = Settings if name is None else self.provider(name)
            above: SettingPath = () if name is None else ("providers", name)
            for path, field_ in fields.leaves(model, above) if model else ():
                if fields.is_path(field_.annotation):
                    self._resolve_path(path, "")
        self.tree.setdefault("database_url", Settings.model_fields["database_url"].default)
        self._resolve_path(("database_url",), SQLITE)

    def _resolve_path(self, path: SettingPath, scheme: str) -> None:
        table: Any = self.tree
        for part in path[:-1]:
            table = table.get(part) if isinstance(table, dict) else None
        value = table.get(path[-1]) if isinstance(table, dict) else None
        is_variable = any(path[:length] in self.variables for length in range(1, len(path) + 1))
        if isinstance(value, str) and value.startswith(scheme) and value != scheme and not is_variable:
            table[path[-1]] = f"{scheme}{self.folder / value.removeprefix(scheme)}"

    def fault(self, path: SettingPath, problem: str) -> None:
        """Add a fault, named by the variable that set the value or by its path in the file."""
        path = self._normalize_path(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                self.faults.append(Fault(self.variables[path[:length]] + fields.dotted(path[length:]), problem))
                return
        self.faults.append(Fault(fields.dotted(path).removeprefix("."), problem))

    def provider(self, name: str) -> type[ProviderSettings] | None:
        """Return the settings class for the type of a provider; None if there is no such type."""
        table = self._providers().get(name)
        try:
            return providers.module_of(table["type"]).Settings if isinstance(table, dict) else None
        except (KeyError, LookupError, TypeError):
            return None

    def _providers(self) -> dict[str, Any]:
        table = self.tree.get("providers")
        return table if isinstance(table, dict) else {}

    def _normalize_path(self, path: SettingPath) -> SettingPath:
        """Remove the index of a list with a single value, which may be given without the list, unless it is a table."""
        value: Any = self.tree
        normalized: SettingPath = ()
        for part in path:
            if isinstance(part, int) and not (
                isinstance(value, list) and (len(value) > 1 or isinstance(value[0], dict))
            ):
                break
            normalized = (*normalized, part)
            value = value[part] if isinstance(part, int) else value.get(part) if isinstance(value, dict) else None
        return normalized

    def _apply_variable(self, name: str, text: str) -> None:
        segments = name.removeprefix(PREFIX).split("__")
        setting = self._resolve(segments)
        parse: Callable[[str, Any], Any] = _parse
        if setting is None and segments[-1].upper().endswith("_FILE"):
            setting, parse = self._resolve([*segments[:-1], segments[-1][: -len("_FILE")]]), _read_secret
            # The database's URL is shown without its password, and has one.
            if setting is not None and not fields.is_secret(setting[1]) and setting[0] != ("database_url",):
                setting = None
        if setting is None:
            self.faults.append(Fault(name, f"unknown setting{self._suggest(segments)}"))
            return
        path, annotation = setting
        try:
            self._set(path, parse(text, annotation), name)
        except ValueError as error:
            self.faults.append(Fault(name, str(error)))

    def _set(self, path: SettingPath, value: Any, name: str) -> None:
        if path in self.variables:
            self.faults.append(Fault(name, f"sets the same setting as {self.variables[path]}; unset one of them"))
            return
        table: Any = self.tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return  # the file has another type here; the validation reports it
        table[path[-1]] = value
        self.variables[path] = name

    def _resolve(self, segments: list[str]) -> tuple[SettingPath, Any] | None:
        """Return the setting that a variable names, and its type; None: there is none."""
        path: SettingPath = ()
        annotation: Any = Settings
        for segment in segments:
            table = fields.table_of(annotation)
            if path == ("providers",):
                key: str | None = self._provider_name(segment)
                annotation = self.provider(key) if key else None
                below = "__".join(segments[2:]).lower()
                if key and annotation is None and below:
                    return (*path, key, below), str  # the fault in its type is reported instead
                annotation = annotation or ProviderSettings
            elif path == ("routes",):
                key, annotation = self._template_name(segment), fields.values_of(annotation)
            elif table is not None:
                key = segment.lower()
                setting = fields.fields_by_name(table).get(key)
                annotation = setting.annotation if setting else None
            else:
                return None
            if key is None or annotation is None:
                return None
            path = (*path, key)
        return path, annotation

    def _provider_name(self, segment: str) -> str | None:
        """Return the file's spelling of a name; variables have capitals and no hyphens."""
        wanted = segment.lower()
        return next((name for name in self._providers() if _normalize(name) == _normalize(wanted)), wanted) or None

    def _template_name(self, segment: str) -> str | None:
        routes = self.tree.get("routes")
        known = [*(routes if isinstance(routes, dict) else ()), *TEMPLATES, "default"]
        if segment in known or not segment.isupper():
            return segment or None
        return next((name for name in known if _normalize(name) == _normalize(segment)), None)

    def _suggest(self, segments: list[str]) -> str:
        if segments[0].upper() == "ROUTES":
            return """; for a template of your own write MAILROOM_ROUTES='{"MyTemplate": ["main"]}'"""
        known = [fields.variable(path) for path, _ in fields.leaves()]
        for name in self._providers():
            model = self.provider(name) or ProviderSettings
            known += [fields.variable(path) for path, _ in fields.leaves(model, ("providers", name))]
        return did_you_mean("__".join(segments).upper(), [name.removeprefix(PREFIX) for name in known], PREFIX)


def did_you_mean(word: str, known: list[str], prefix: str = "") -> str:
    """Return `; did you mean …?` if a known name is similar."""
    near = difflib.get_close_matches(word, known, 1, 0.75)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _is_setting(name: str, value: str) -> bool:
    """Return whether a variable is a setting: not empty, not injected by Kubernetes for a service called mailroom."""
    if not name.startswith(PREFIX) or name in (CONFIG, LOGTO_SECRET, f"{LOGTO_SECRET}_FILE") or not value:
        return False
    injected_port = _KUBERNETES_PORT.fullmatch(name) and re.match(r"(?:tcp|udp|sctp)://", value)
    return not (_KUBERNETES.fullmatch(name) or injected_port)


def _sort_key(name: str) -> tuple[int, bool, str]:
    segments = name.split("__")
    return len(segments), segments[-1].upper() != "TYPE", name


def _normalize(name: str) -> str:
    return name.lower().replace("-", "_")


def _is_address(text: str) -> bool:
    with suppress(ValueError):
        ip_address(text)
        return True
    return text == "localhost"


def _parse(text: str, annotation: Any) -> Any:
    """Parse a variable's text into the value that TOML would have. Raises ValueError with the problem."""
    is_object = fields.values_of(annotation) is not None or fields.table_of(annotation) is not None
    if not is_object and not fields.is_list(annotation):
        return text
    if not is_object and not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict if is_object else list):
        raise ValueError(f"is not a JSON {'object' if is_object else 'list'}")  # noqa: TRY004 - a value, not an argument
    return value


def _read_secret(file: str, annotation: Any) -> str | list[str]:
    """Read a secret from a file, without one trailing line break; for a list, one secret per line.

    Raises ValueError with the problem.
    """
    try:
        with Path(file).open("rb") as stream:
            content = stream.read(_LONGEST_SECRET + 1)
        text = content.decode("utf-8-sig")  # some editors write a byte order mark
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a path with NUL
        raise ValueError(f"{file!r} is not a file with UTF-8 text") from None
    if len(content) > _LONGEST_SECRET:
        raise ValueError(f"{file} is too long for a secret")
    if fields.is_list(annotation):
        return [line for line in text.splitlines() if line]
    return text.removesuffix("\n").removesuffix("\r")
