"""Variables for vendors that accept texts only, or insert them into HTML unescaped."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailroom.providers.http.template_variables import escaped, flat

_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"end": "<here>"}
    for _ in range(depth):
        found = {"x": found, "y": [found]}
    return found


def test_each_value_has_one_name() -> None:
    given = {"code": "1", "user": {"name": "A & B", "age": 7, "new": True, "no": None}, "list": ["x"]}
    assert flat(given) == {"code": "1", "user_name": "A &amp; B", "user_age": 7, "user_new": "true"}


def test_an_invalid_variable_name_is_left_out() -> None:
    assert flat({"a b": "1", "é": "2", "x" * 51: "3", "": "4", "{{{": "5", "ok_1": "6"}) == {"ok_1": "6"}


def test_texts_are_escaped_at_every_depth() -> None:
    assert escaped({"a": "<", "b": {"c": ["'", {"d": '"'}], "e": 1}}) == {
        "a": "&lt;",
        "b": {"c": ["&#x27;", {"d": "&quot;"}], "e": 1},
    }


def test_a_deeply_nested_payload_is_cut() -> None:
    deep = {"a": "b", **nested(15)}
    for _ in range(2_000):
        deep = {"x": deep}
    assert "<" not in str(escaped(deep)) + str(flat(deep))
    assert flat({**deep, "code": "1"}) == {"code": "1"}


@given(st.dictionaries(st.text(), _ANY, max_size=4))
def test_no_variable_inserts_markup(variables: dict[str, Any]) -> None:
    for text in (*_texts(escaped(variables)), *_texts(flat(variables))):
        assert not {"<", ">", '"', "'"} & set(text)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return _texts(list(value.values()))
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []
