"""Logto's placeholders, compared with Logto's own package."""

import json
import random
import subprocess
from collections.abc import Callable
from html import escape
from itertools import repeat
from typing import Any

import pytest

from mailroom.rendering.engines.placeholders import fill
from tests.e2e import node
from tests.e2e.harness import ROOT

PAIRS = 24_000

INHERITED = (
    "constructor", "toString", "valueOf", "hasOwnProperty", "isPrototypeOf", "propertyIsEnumerable", "toLocaleString",
    "__proto__", "__defineGetter__", "__defineSetter__", "__lookupGetter__", "__lookupSetter__",
)  # fmt: skip
"""Properties that every JavaScript object inherits; Logto prints the functions' source."""

ROOTS = ["code", "application", "user", "x", "0", "_", "Code", "a1_b", "list", "uiLocales"]
STEPS = ["name", "id", "branding", "0", "1", "07", "10", "length", "", "-1", "foo", "Name"]
SPACES = ["", " ", "  ", "\n", "\t", "\v", "\f", "\r", "\u00a0", "\ufeff", "\u3000", "\u2029", "\u1680"]
NO_SPACES = ["\x1c", "\x85", "\u200b", "\u180e", "\0"]
LITERALS = [
    "Your code is ", "{", "}", "{{", "}}", "{#outlook", "{%", "{{user-name}}", "{{#if}}", "{{{code}}}", "{{ code", "\n",
    "code }}", "<p>", "$&", "$1", "\\", "日本", "😀", "{{ü}}", "{{code}", "{{}}", "{{ }}", "{{.}}", "", "{{a b}}",
]  # fmt: skip
NUMBERS = [
    0, -0.0, 1, -1, 0.5, 1e-6, 1e-7, 1.5e-7, 123456.789, 1e20, 1e21, 1.5e21, 123456789012345680000, -1e-10, 5e-324,
    1.7976931348623157e308, 2**53, 2**53 + 1, 2**60, -(2**63), 10**25, 10**400, 0.1 + 0.2, 100.0, 1e16,
    12345678901234567.0,
]  # fmt: skip
TEXTS = ["314159", "", "Ada", "<b>", "&amp;", "$&", "$1", "{{code}}", "a\nb", '"', "'", "日本", "0"]


def values(dice: random.Random, depth: int = 0) -> Any:
    """Draw any JSON value."""
    kind = dice.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return None
    if kind == 1:
        return dice.choice([True, False])
    if kind == 2:
        return dice.choice([*NUMBERS, dice.uniform(-1e6, 1e6), dice.uniform(-1, 1) * 10 ** dice.randint(-30, 30)])
    if kind < 6:
        return dice.choice(TEXTS)
    if kind == 6:
        return [values(dice, depth + 1) for _ in range(dice.randrange(4))]
    return {dice.choice(STEPS): values(dice, depth + 1) for _ in range(dice.randrange(5))}


def payloads(dice: random.Random) -> dict[str, Any]:
    """Draw a payload."""
    return {root: values(dice) for root in dice.sample(ROOTS, dice.randrange(len(ROOTS)))}


def templates(dice: random.Random, literals: list[str]) -> str:
    """Draw a template with placeholders, things that look like them, and texts."""
    return "".join(
        _placeholder(dice) if dice.random() < 0.6 else dice.choice(literals) for _ in range(dice.randrange(1, 7))
    )


def _placeholder(dice: random.Random) -> str:
    path = ".".join([dice.choice([*ROOTS, ""]), *(dice.choice(STEPS) for _ in range(dice.randrange(4)))])
    blanks = SPACES if dice.random() < 0.95 else NO_SPACES
    return f"{{{{{dice.choice(blanks)}{path}{dice.choice(blanks)}}}}}"


def as_logto(pairs: list[tuple[str, dict[str, Any]]]) -> list[str | None]:
    """Return what Logto's package renders."""
    given = "".join(json.dumps(pair) + "\n" for pair in pairs)
    told = subprocess.run(
        ["node", "placeholders.mjs"],
        cwd=ROOT / "tests" / "node",
        input=given,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [json.loads(line) for line in told.stdout.split("\n") if line]


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with its texts changed."""
    if isinstance(value, dict):
        return {key: with_texts(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [with_texts(item, change) for item in value]
    return change(value) if isinstance(value, str) else value


@pytest.mark.skipif(bool(node.missing()), reason=node.missing())
def test_placeholders_are_filled_as_logto_fills_them() -> None:
    dice = random.Random("placeholders")
    pairs = [(templates(dice, LITERALS), payloads(dice)) for _ in range(PAIRS)]
    theirs = as_logto(pairs)
    assert len(theirs) == PAIRS
    for (source, payload), wanted in zip(pairs, theirs, strict=True):
        assert fill(source, payload) == wanted, (source, payload)
    changed = sum(source != wanted for (source, _), wanted in zip(pairs, theirs, strict=True))
    assert changed > PAIRS / 3, "most templates must have something to fill"


@pytest.mark.skipif(bool(node.missing()), reason=node.missing())
def test_escaping_is_the_only_difference_in_html() -> None:
    """What we make with escaping is what Logto makes of a payload whose texts are escaped already."""
    dice = random.Random("escaping")
    pairs = [(templates(dice, LITERALS), payloads(dice)) for _ in range(4000)]
    theirs = as_logto([(source, with_texts(payload, escape)) for source, payload in pairs])
    for (source, payload), wanted in zip(pairs, theirs, strict=True):
        assert fill(source, payload, repeat(escape)) == wanted, (source, payload)


@pytest.mark.skipif(bool(node.missing()), reason=node.missing())
def test_inherited_properties_are_the_only_difference_from_logto() -> None:
    theirs = as_logto([(f"{{{{{name}}}}}", {"code": "1"}) for name in INHERITED])
    assert all(text and ("native code" in text or text == "[object Object]") for text in theirs)


@pytest.mark.parametrize("name", INHERITED)
def test_inherited_properties_are_not_in_the_payload(name: str) -> None:
    source = f"{{{{{name}}}}}"
    assert fill(source, {}) == source
    assert fill(source, {name: "own"}) == "own"
    assert fill(f"{{{{a.{name}}}}}", {"a": {}}) == ""


@pytest.mark.parametrize(
    ("source", "payload", "text"),
    [
        ("Your code is {{code}}", {"code": "314159"}, "Your code is 314159"),
        ("{{\ufeff code\n}}", {"code": 1}, "1"),
        ("{{code}}", {}, "{{code}}"),
        ("{{user.name}}!", {"user": {"name": None}}, "!"),
        ("{{user.name.first}}", {"user": {"name": "Ada"}}, ""),
        ("{{user}} {{list}}", {"user": {}, "list": [1, [2, None], {}]}, "[object Object] 1,2,,[object Object]"),
        ("{{list.1}} {{list.length}}", {"list": ["a", "b"]}, "b 2"),
        ("{{{code}}}", {"code": "1"}, "{1}"),
        ("{{#if code}}{{user-name}}{%", {"code": "1"}, "{{#if code}}{{user-name}}{%"),
        ("{{code}}\n", {"code": True}, "true\n"),
        ("{{n}}", {"n": 1e21}, "1e+21"),
        ("{{code}}", {"code": "{{code}}"}, "{{code}}"),
    ],
)
def test_the_rules_by_example(source: str, payload: dict[str, Any], text: str) -> None:
    """The same rules where there is no Node."""
    assert fill(source, payload) == text
