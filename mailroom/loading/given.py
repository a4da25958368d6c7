"""Gathers what the operator wrote, in file and variables, into one tree that knows where each value came from."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path as File
from typing import Any, Final

from mailroom import providers
from mailroom.errors import Fault
from mailroom.loading.shape import (
    PREFIX,
    Path,
    dotted,
    is_list,
    is_secret,
    leaves,
    table_of,
    values_of,
    variable,
    written,
)
from mailroom.message import TEMPLATES
from mailroom.providers import ProviderSettings
from mailroom.settings import Settings

CONFIG: Final = "MAILROOM_CONFIG"
LOGTO_SECRET: Final = "MAILROOM_LOGTO_APP_SECRET"  # noqa: S105 - a variable's name
"""Read by `mailroom import --from-logto`, as is `…_FILE`; no setting, and no fault where it is still set."""

_KUBERNETES: Final = re.compile(
    r"MAILROOM_(?:[A-Z0-9]+_)*(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_KUBERNETES_PORT: Final = re.compile(r"MAILROOM_(?:[A-Z0-9]+_)*PORT")
_A_PROVIDER: Final = ("providers", "name")
_LONGEST_SECRET: Final = 65_536
"""Octets of a file that holds a secret."""


@dataclass
class Given:
    """What was written, not yet validated."""

    tree: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    """Which variable a value came from; what is not here is the file's."""
    faults: list[Fault] = field(default_factory=list)
    in_file: frozenset[str] = frozenset()
    """The providers that the file names; their order is known."""
    incomplete: bool = False
    """The file could not be read, so nothing can be said about what is missing."""

    def read_file(self, file: File, *, named_by: str | None) -> None:
        """Take the TOML file; one that was named must be there."""
        try:
            self.tree = tomllib.loads(file.read_text(encoding="utf-8"))
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
        """Overlay `MAILROOM_…`, whole tables before what stands inside, and a provider's type before its settings."""
        mine = {name: value for name, value in environ.items() if _ours(name, value)}
        for name in sorted(mine, key=_breadth_first):
            self._place(name, mine[name])

    def read_platform(self, environ: Mapping[str, str], *, dev: bool) -> None:
        """Take what platforms set under names of their own, where ours say nothing.

        `HOST` is left alone unless it is an address: some shells export the machine's name under it.
        """
        for name in ("port", "host", "database_url"):
            value = environ.get(name.upper(), "")
            if not value or (name,) in self.variables or (name == "host" and (dev or not _is_address(value))):
                continue
            self._set((name,), value, name.upper())
        if self.variables.get(("port",)) == "PORT" and "host" not in self.tree and not dev:
            self._set(("host",), "0.0.0.0", "PORT")  # noqa: S104 - whoever sets PORT routes to it from outside

    def fault(self, path: Path, problem: str) -> None:
        """Note a fault at a setting, as the operator wrote it: the variable, or its place in the file."""
        path = self._as_written(path)
        for length in range(len(path), 0, -1):
            if path[:length] in self.variables:
                self.faults.append(Fault(self.variables[path[:length]] + dotted(path[length:]), problem))
                return
        self.faults.append(Fault(dotted(path).removeprefix("."), problem))

    def provider(self, name: str) -> type[ProviderSettings] | None:
        """Return the settings' class of a provider by the type that was given; None if that is of no use."""
        table = self._providers().get(name)
        try:
            return providers.module_of(table["type"]).Settings if isinstance(table, dict) else None
        except (KeyError, LookupError, TypeError):
            return None

    def _providers(self) -> dict[str, Any]:
        table = self.tree.get("providers")
        return table if isinstance(table, dict) else {}

    def _as_written(self, path: Path) -> Path:
        """Leave the index out where a list was given as its only value."""
        value: Any = self.tree
        kept: Path = ()
        for part in path:
            if isinstance(part, int) and not (isinstance(value, list) and len(value) > 1):
                break
            kept = (*kept, part)
            value = value[part] if isinstance(part, int) else value.get(part) if isinstance(value, dict) else None
        return kept

    def _place(self, name: str, text: str) -> None:
        segments = name.removeprefix(PREFIX).split("__")
        found = self._find(segments)
        if found is None and segments[-1].upper().endswith("_FILE"):
            secret = self._find([*segments[:-1], segments[-1][: -len("_FILE")]])
            if secret is not None and is_secret(secret[1]):
                path, annotation = secret
                value = self._secret_in(name, text, several=is_list(annotation))
                if value is not None:
                    self._set(path, value, name)
                return
        if found is None:
            self.faults.append(Fault(name, f"unknown setting{self._meant(segments)}"))
            return
        path, annotation = found
        try:
            self._set(path, _parsed(text, annotation), name)
        except (ValueError, RecursionError):
            kind = "list" if is_list(annotation) else "object"
            self.faults.append(Fault(name, f"is not a JSON {kind}"))

    def _set(self, path: Path, value: Any, name: str) -> None:
        if path in self.variables:
            self.faults.append(Fault(name, f"says the same as {self.variables[path]}; unset one of them"))
            return
        table: Any = self.tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                return  # the file has something else there, and is told so by the validation
        table[path[-1]] = value
        self.variables[path] = name

    def _find(self, segments: list[str]) -> tuple[Path, Any] | None:
        """Return the setting that a variable names, and its type; None: there is none."""
        path: Path = ()
        annotation: Any = Settings
        for segment in segments:
            fields = table_of(annotation)
            if path == ("providers",):
                key: str | None = self._provider_named(segment)
                annotation = self.provider(key) if key else None
                if key and annotation is None and len(segments) > len(_A_PROVIDER):
                    return (*path, key, "__".join(segments[2:]).lower()), str  # refused for its type
                annotation = annotation or ProviderSettings
            elif path == ("routes",):
                key, annotation = self._template_named(segment), values_of(annotation)
            elif fields is not None:
                key = segment.lower()
                annotation = written(fields)[key].annotation if key in written(fields) else None
            else:
                return None
            if key is None or annotation is None:
                return None
            path = (*path, key)
        return path, annotation

    def _provider_named(self, segment: str) -> str | None:
        """Variables are written in capitals and without hyphens: find the file's spelling."""
        wanted = segment.lower()
        return next((name for name in self._providers() if _plain(name) == _plain(wanted)), wanted) or None

    def _template_named(self, segment: str) -> str | None:
        routes = self.tree.get("routes")
        known = [*(routes if isinstance(routes, dict) else ()), *TEMPLATES, "default"]
        if segment in known or not segment.isupper():
            return segment or None
        return next((name for name in known if _plain(name) == _plain(segment)), None)

    def _secret_in(self, name: str, path: str, *, several: bool) -> str | list[str] | None:
        """Read a secret's file: one trailing line break is not part of it; a list has one secret a line."""
        try:
            with File(path).open("rb") as file:
                content = file.read(_LONGEST_SECRET + 1)
            text = content.decode()
        except OSError as error:
            self.faults.append(Fault(name, f"cannot read {path}: {error.strerror}"))
        except ValueError:  # not UTF-8, or a path with NUL
            self.faults.append(Fault(name, f"{path!r} is no file with UTF-8 text"))
        else:
            if len(content) > _LONGEST_SECRET:
                self.faults.append(Fault(name, f"{path} is too long for a secret"))
                return None
            if several:
                return [line for line in text.splitlines() if line]
            return text.removesuffix("\n").removesuffix("\r")
        return None

    def _meant(self, segments: list[str]) -> str:
        if segments[0].upper() == "ROUTES":
            return """; for a template of your own write MAILROOM_ROUTES='{"MyTemplate": ["main"]}'"""
        known = [variable(path) for path, _ in leaves()]
        for name in self._providers():
            known += [
                variable(path) for path, _ in leaves(self.provider(name) or ProviderSettings, ("providers", name))
            ]
        return did_you_mean("__".join(segments).upper(), [name.removeprefix(PREFIX) for name in known], PREFIX)


def did_you_mean(word: str, known: list[str], prefix: str = "") -> str:
    """Return `; did you mean …?` if there is something near."""
    near = difflib.get_close_matches(word, known, 1, 0.75)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _ours(name: str, value: str) -> bool:
    """Tell our variables from those that Kubernetes injects for a service called mailroom; empty is unset."""
    if not name.startswith(PREFIX) or name in (CONFIG, LOGTO_SECRET, f"{LOGTO_SECRET}_FILE") or not value:
        return False
    injected_port = _KUBERNETES_PORT.fullmatch(name) and re.match(r"(?:tcp|udp|sctp)://", value)
    return not (_KUBERNETES.fullmatch(name) or injected_port)


def _breadth_first(name: str) -> tuple[int, bool, str]:
    segments = name.split("__")
    return len(segments), segments[-1].upper() != "TYPE", name


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return text == "localhost"
    return True


def _parsed(text: str, annotation: Any) -> Any:
    """Turn a variable's text into what TOML would have given. Raises ValueError."""
    if values_of(annotation) is not None or table_of(annotation) is not None:
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError("not an object")
        return value
    if not is_list(annotation):
        return text
    if text.lstrip().startswith("["):
        return json.loads(text)
    return list(_comma_separated(text))


def _comma_separated(text: str) -> Iterator[str]:
    return (item.strip() for item in text.split(",") if item.strip())
