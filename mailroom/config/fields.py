"""Inspects the settings' model: a setting's name in the file and as a variable, its type, whether it is a secret."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from mailroom.config.model import Settings

SettingPath = tuple[str | int, ...]
"""The path of a setting: `("providers", "main", "port")`."""

PREFIX: Final = "MAILROOM_"


def fields_by_name(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a table by the names that the operator writes."""
    return {field.alias or name: field for name, field in model.model_fields.items() if not field.exclude}


def table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model if the setting is a table with fixed names."""
    for part in alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def values_of(annotation: Any) -> Any | None:
    """Return the type of the values if the setting is a table with names of the operator's own."""
    return next((get_args(part)[1] for part in alternatives(annotation) if get_origin(part) is dict), None)


def item_table_of(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the items if the setting is a list of tables."""
    lists = (part for part in alternatives(annotation) if get_origin(part) is tuple)
    return next((table for part in lists if (table := table_of(get_args(part)[0]))), None)


def is_list(annotation: Any) -> bool:
    """Return whether several values may be given."""
    return any(get_origin(part) in (tuple, list, set, frozenset) for part in alternatives(annotation))


def is_secret(annotation: Any) -> bool:
    """Return whether the value must never be shown, and may be given as `…_FILE`."""
    return any(
        part is SecretStr or (is_list(part) and any(is_secret(item) for item in get_args(part)))
        for part in alternatives(annotation)
    )


def is_path(annotation: Any) -> bool:
    """Return whether the value is the path of a file or folder."""
    return Path in alternatives(annotation)


def leaves(model: type[BaseModel] = Settings, above: SettingPath = ()) -> Iterator[tuple[SettingPath, FieldInfo]]:
    """Yield every setting below a table that is not a table with fixed names itself."""
    for name, field in fields_by_name(model).items():
        inner = table_of(field.annotation)
        if inner is None:
            yield (*above, name), field
        else:
            yield from leaves(inner, (*above, name))


def variable(path: SettingPath) -> str:
    """Return the variable for a setting: `MAILROOM_PROVIDERS__MAIN__PORT`."""
    return PREFIX + "__".join(str(part).replace("-", "_").upper() for part in path)


def dotted(path: SettingPath) -> str:
    """Return the setting's place below a table: `.main.port`, `.allowed_ips[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def alternatives(annotation: Any) -> list[Any]:
    """Return the alternatives of `Annotated` and union types."""
    if get_origin(annotation) is Annotated:
        return alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [part for choice in get_args(annotation) for part in alternatives(choice)]
    return [annotation]
