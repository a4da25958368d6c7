"""What can be copied from our files does not start until its secrets have been replaced: everybody knows them."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel, SecretStr

from mailroom import providers
from mailroom.config import load
from mailroom.config.constraints import is_placeholder
from mailroom.config.fields import is_secret, leaves
from mailroom.config.model import Settings
from mailroom.config.provider_types import provider_type
from mailroom.errors import SettingsError

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_COMMENTED: Final = re.compile(r'(?m)^# (?=\[|[a-z_"].*? = |[A-Z][A-Za-z]+ = )')
_VARIABLE: Final = re.compile(r"^(?:# )?(MAILROOM_\w+)=(.+)$", re.MULTILINE)
_NO_CREDENTIAL: Final = frozenset({"url"})
"""A secret because it may hold a token; the examples have none."""


def blocks() -> Iterator[tuple[str, str]]:
    """Yield all TOML that we show: the stem of its file's name, and its text with what is commented out."""
    for page in (ROOT / "mailroom.example.toml", *PAGES):
        text = page.read_text()
        for block in [text] if page.suffix == ".toml" else re.findall(r"(?s)```toml\n(.*?)```", text):
            yield page.stem, _COMMENTED.sub("", block)


def secrets(tree: dict[str, Any], kind: str) -> Iterator[tuple[str, str]]:
    """Yield the secrets of a file; `kind` is that of a provider which does not say it."""
    models: list[tuple[tuple[str, ...], type[BaseModel]]] = [((), Settings)]
    for name, table in tree.get("providers", {}).items():
        models.append((("providers", name), providers.module_of(table.get("type", kind)).Settings))
    for above, model in models:
        for path, field in leaves(model, above):
            if is_secret(field.annotation) and path[-1] not in _NO_CREDENTIAL:
                value = value_at(tree, path)
                for text in [value] if isinstance(value, str) else value or ():
                    yield ".".join(map(str, path)), text


def value_at(tree: Any, path: tuple[str | int, ...]) -> Any:
    """Return what stands there, if anything."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


@pytest.mark.parametrize(("stem", "text"), [*blocks()])
def test_every_secret_in_an_example_is_a_placeholder(stem: str, text: str) -> None:
    found = list(secrets(tomllib.loads(text), stem))
    assert [(path, value) for path, value in found if not is_placeholder(SecretStr(value))] == []


def test_the_secrets_of_the_examples_are_found() -> None:
    """The test above looks at something."""
    found = [path for stem, text in blocks() for path, _ in secrets(tomllib.loads(text), stem)]
    assert {"secret_key", "connector.authorization", "webhook.signing_keys", "console.password", "metrics_token"} <= {
        *found
    }
    assert len(found) > 30


@pytest.mark.parametrize("kind", providers.types())
def test_a_block_of_mailroom_providers_has_placeholders(kind: str) -> None:
    text = re.sub(r"(?m)^# (?=\w+ = )", "", provider_type(kind).example())
    assert [value for _, value in secrets(tomllib.loads(text), kind) if not is_placeholder(SecretStr(value))] == []


@pytest.mark.parametrize("page", [ROOT / ".env.example", ROOT / "deploy/mailroom.service", *PAGES])
def test_every_secret_in_a_variable_is_a_placeholder(page: Path) -> None:
    words = ("KEY", "AUTHORIZATION", "PASSWORD", "TOKEN", "SECRET", "KEYS")
    found = [(name, value) for name, value in _VARIABLE.findall(page.read_text()) if name.endswith(words)]
    assert [(name, value) for name, value in found if not is_placeholder(SecretStr(value))] == []


def faults(config: Path, environ: dict[str, str] | None = None) -> dict[str, str]:
    """Return why these settings do not start."""
    with pytest.raises(SettingsError) as caught:
        load(environ=environ or {}, config=config)
    return {fault.path: fault.problem for fault in caught.value.faults}


def test_a_copied_example_does_not_start(tmp_path: Path) -> None:
    found = faults(ROOT / "mailroom.example.toml")
    assert list(found) == ["secret_key", "connector.authorization"]
    assert all("placeholder" in problem and "`mailroom keygen`" in problem for problem in found.values())


def test_copied_variables_do_not_start(tmp_path: Path) -> None:
    lines = re.findall(r"(?m)^(MAILROOM_\w+)=(.*)$", (ROOT / ".env.example").read_text())
    (tmp_path / "mailroom.toml").touch()
    found = faults(tmp_path / "mailroom.toml", dict(lines))
    assert list(found) == [
        "MAILROOM_SECRET_KEY",
        "MAILROOM_CONNECTOR__AUTHORIZATION",
        "MAILROOM_PROVIDERS__MAIN__PASSWORD",
    ]
    assert "`mailroom keygen`" in found["MAILROOM_SECRET_KEY"]
    assert "`mailroom keygen`" in found["MAILROOM_CONNECTOR__AUTHORIZATION"]


def test_the_settings_of_the_readme_do_not_start_with_their_dots(tmp_path: Path) -> None:
    (text,) = re.findall(r"(?s)```toml\n(.*?)```", (ROOT / "README.md").read_text())
    (tmp_path / "mailroom.toml").write_text(text)
    found = faults(tmp_path / "mailroom.toml")
    assert {path: problem.partition(";")[0] for path, problem in found.items()} == {
        "secret_key": "missing",
        "connector.authorization": "missing",
        "providers.main.password": "is a placeholder from an example",
    }


def test_not_even_in_development(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        load(environ={}, config=ROOT / "mailroom.example.toml", dev=True)


@pytest.mark.parametrize("secret", ["replace-this", "Replace this", "REPLACE_THIS-by-yours", "SG.…", "Bearer …", "…"])
def test_what_is_a_placeholder(secret: str) -> None:
    assert is_placeholder(SecretStr(secret))


@pytest.mark.parametrize("secret", ["Bearer 5cY...x", "irreplaceable", "replace", "this replaces", "k3y-k3y"])
def test_what_is_none(secret: str) -> None:
    assert not is_placeholder(SecretStr(secret))
