"""Sanitizing payload values."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.rendering.links import link, logo
from mailroom.rendering.sanitize import LONGEST_NAME, LONGEST_VALUE, code, name, to_printable
from tests.rendering.samples import unhurried

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("Grace Höpper 😀", "Grace Höpper 😀"),
        ('"The\nNewline" \\ O\'Neil\r\nBcc: x@example.com', '"The Newline" \\ O\'Neil Bcc: x@\u2060example.\u2060com'),
        ("a\x00b\x1b[31m", "a b [31m"),
        ("\u202eevil\u202c \u2066x\u2069", "evil x"),
        ("  spaced\u3000 out ", "spaced out"),
        ("\ud800lone", "\ufffdlone"),
        ("n" * 10_000, "n" * 59 + "…"),
        ("https://evil.example", "https:\u2060//evil.\u2060example"),
        ("Dr. No", "Dr. No"),
        ("", ""),
        ("\n", ""),
        (None, ""),
        (True, ""),
        (7, ""),
        (["Grace"], ""),
        ({"name": "Grace"}, ""),
    ],
)  # fmt: skip
def test_a_name_is_one_short_line_in_which_nothing_can_be_clicked(given_name: Any, shown: str) -> None:
    assert name(given_name) == shown


@unhurried
@given(json_values)
def test_no_value_makes_a_name_that_breaks_a_line(value: Any) -> None:
    shown = name(value)
    assert len(shown.replace("\u2060", "")) <= LONGEST_NAME
    assert not re.search("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert not re.search(r"\w[.@]\w|://", shown)
    assert shown == shown.strip()


@pytest.mark.parametrize(
    ("given_code", "shown"),
    [
        ("031415", "031415"),
        ("A1B2-C3", "A1B2-C3"),
        (314159, "314159"),
        ("31\r\n41", "31 41"),
        ("", ""),
        ("x" * 65, ""),
        pytest.param(10**5000, "", id="huge"),
        (True, ""),
        (3.14, ""),
        (None, ""),
        (["1"], ""),
    ],
)
def test_a_code_is_shown_as_it_is_or_not_at_all(given_code: Any, shown: str) -> None:
    assert code(given_code) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        ("text", "text"),
        ("two\r\nlines", "two\nlines"),
        ("a\u202eb\x00c\x1b", "abc"),
        ("\ud83d", "\ufffd"),
        ("z" * 300_000, "z" * LONGEST_VALUE),
        ({"id": 1}, ""),
        ([1, 2], ""),
        (len, ""),
        (12, 12),
        pytest.param(10**5000, "", id="huge"),
        (2.5, 2.5),
        (False, False),
    ],
)
def test_printed_values_are_bounded_text(value: Any, shown: Any) -> None:
    assert to_printable(value) == shown


def test_three_hundred_kilobytes_are_looked_at_in_no_time() -> None:
    """Every pattern takes linear time."""
    for evil in ("a" * 300_000, "." * 300_000, "\u202e" * 300_000, json.dumps(["x"] * 60_000)):
        for look in (name, code, link, logo, to_printable):
            look(evil)
