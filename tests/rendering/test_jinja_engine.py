"""Templates in the sandbox."""

from pathlib import Path
from typing import Any

import pytest

from mailroom.errors import RenderingError
from mailroom.rendering.engines.jinja_engine import LONGEST_PART, Engine, Source

CONSTANTS = {"font": "'Segoe UI'", "brand": {"name": "Acme & Co"}}


def render(folder: Path, source: str, variables: dict[str, Any] | None = None, name: str = "X/text.jinja") -> str:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(source, encoding="utf-8")
    return compiled(folder).render(name, variables or {})


def compiled(folder: Path) -> Engine:
    """Return the templates of a folder, compiled."""
    names = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*.jinja")}
    sources = {name: Source(file.read_text(encoding="utf-8"), name) for name, file in names.items()}
    return Engine(sources, CONSTANTS)


def html(folder: Path, source: str, variables: dict[str, Any] | None = None) -> str:
    return render(folder, source, variables, "X/html.jinja")


def test_html_is_escaped_and_text_is_not(tmp_path: Path) -> None:
    variables = {"name": "<b>\"A\" & 'B'</b>"}
    assert html(tmp_path, "{{ name }}", variables) == "&lt;b&gt;&#34;A&#34; &amp; &#39;B&#39;&lt;/b&gt;"
    assert render(tmp_path, "{{ name }}", variables) == variables["name"]


def test_parts_and_layout_are_escaped_too(tmp_path: Path) -> None:
    (tmp_path / "layout.html.jinja").write_text("{{ x }}{% block content %}{% endblock %}", encoding="utf-8")
    assert html(tmp_path, '{% extends "layout.html.jinja" %}', {"x": "<"}) == "&lt;"


@pytest.mark.parametrize(
    "source",
    [
        "{{ user.name }}",
        "{{ nobody }}",
        "{{ nobody.name.first }}",
        "{{ nobody['x'].y }}",
        "{% for x in nobody.list %}{{ x }}{% endfor %}",
        "{{ user }}",
        "{{ user.get }}",
        "{% if nobody.name == 'x' %}x{% endif %}",
    ],
)
def test_null_and_missing_values_print_nothing(tmp_path: Path, source: str) -> None:
    assert render(tmp_path, source, {"user": {"name": None}}) == ""


def test_a_missing_value_can_have_a_default(tmp_path: Path) -> None:
    assert render(tmp_path, "{{ organization.name or 'x' }}{{ user.name or 'y' }}", {"user": {"name": None}}) == "xy"


def test_a_key_has_precedence_over_an_attribute(tmp_path: Path) -> None:
    assert render(tmp_path, "{{ user.items }}", {"user": {"items": "three"}}) == "three"


def test_a_template_still_has_the_methods_of_values(tmp_path: Path) -> None:
    source = "{% for key, value in user.items() %}{{ key }}={{ value }};{% endfor %}"
    assert render(tmp_path, source, {"user": {"a": 1, "b": 2}}) == "a=1;b=2;"


def test_constants_are_escaped_in_html_only(tmp_path: Path) -> None:
    source = "{{ font }}|{{ brand.name }}|{{ brand.color }}"
    assert html(tmp_path, source) == "&#39;Segoe UI&#39;|Acme &amp; Co|"
    assert render(tmp_path, source) == "'Segoe UI'|Acme & Co|"


def test_a_payload_does_not_override_constants(tmp_path: Path) -> None:
    assert (
        render(tmp_path, "{{ font }}{{ brand.name }}", {"font": "x", "brand": {"name": "y"}}) == "'Segoe UI'Acme & Co"
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ user.__init__.__globals__ }}",
        "{% set x = user.update({'a': 1}) %}",
        "{{ 'x' * 10 }}",
        "{{ [1] * 10 }}",
        "{{ 10 ** 10 }}",
        "{{ 1 / 0 }}",
        "{% for x in range(1000000) %}{% endfor %}",
        "{% include 'nothing.jinja' %}",
    ],
)
def test_a_forbidden_operation_is_an_error_with_its_line(tmp_path: Path, source: str) -> None:
    try:
        assert render(tmp_path, f"one\ntwo {source}", {"user": {}}).strip() == "one\ntwo"
    except RenderingError as error:
        assert str(error).startswith("X/text.jinja, line 2: ")  # noqa: PT017 - either outcome is safe


def test_numbers_may_be_multiplied(tmp_path: Path) -> None:
    assert render(tmp_path, "{{ 6 * n }}", {"n": 7}) == "42"


def test_an_error_contains_no_value(tmp_path: Path) -> None:
    with pytest.raises(RenderingError) as caught:
        render(tmp_path, "\n\n{{ code + 1 }}{{ {}[code] }}", {"code": "314159"})
    assert str(caught.value).startswith("X/text.jinja, line 3: applies a filter, a test or an operator to a value")
    assert "314159" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "source",
    [
        "{% for x in items %}{{ x }}{% endfor %}",
        "{% for x in items %}{% for y in items %}.{% endfor %}{% endfor %}",
        "{% macro m() %}{% for x in items %}{{ x }}{% endfor %}{% endmacro %}{{ m() }}",
    ],
)
def test_a_part_is_bounded_whatever_the_payload(tmp_path: Path, source: str) -> None:
    with pytest.raises(RenderingError, match=str(LONGEST_PART)):
        html(tmp_path, source, {"items": ["x" * 1000] * 1000})


def test_a_faulty_template_is_found_at_once_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.html.jinja").write_text("one\n{% if %}", encoding="utf-8")
    with pytest.raises(RenderingError, match=r"^bad\.html\.jinja, line 2: "):
        compiled(tmp_path)


def test_non_ascii_characters_become_references_in_html(tmp_path: Path) -> None:
    made = Engine({"html.jinja": Source("é{{ x }}", "html.jinja")}, {})
    assert made.render("html.jinja", {"x": "日\ud800"}, ascii_only=True) == "&#233;&#26085;&#65533;"
    assert made.render("html.jinja", {"x": "日\ud800"}) == "é日\ufffd"


def test_non_ascii_characters_stay_if_a_style_has_some(tmp_path: Path) -> None:
    source = "<style>p{font-family:'微软雅黑'}</style>é"
    assert html(tmp_path, source) == source
