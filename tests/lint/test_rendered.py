"""A mail can be rendered, and shows its code or link."""

import pytest

from mailroom.errors import RenderingError
from mailroom.lint.rules.rendered import render_failure
from mailroom.logto import CODE_TYPES
from tests.lint.conftest import Copy


def test_a_template_that_fails_is_found_with_its_line(copy: Copy) -> None:
    copy.replace("Welcome/html.jinja", "{{ words.reason }}", "{{ user.name|length }}")
    [found] = copy.check(["Welcome"], ())
    assert (found.check, found.file, found.kinds) == (1, "Welcome/html.jinja", ("Welcome",))
    assert "null" in found.samples
    assert found.line
    assert len(found.languages) >= 20
    assert found.as_log_fields()["place"] == f"Welcome/html.jinja, line {found.line}"


def test_a_mail_without_its_code_is_found(copy: Copy) -> None:
    copy.replace("Generic/text.jinja", "{{ code }}", "")
    [found] = copy.check(sorted(CODE_TYPES))
    assert (found.check, found.file) == (2, "Generic/html.jinja")
    assert len(found.kinds) == 8


@pytest.mark.parametrize(
    ("error", "file", "line", "problem"),
    [
        ("SignIn/html.jinja, line 7: TypeError", "SignIn/html.jinja", 7, "TypeError"),
        ("locales/pt-BR.toml: [SignIn] lacks title", "locales/pt-BR.toml", None, "[SignIn] lacks title"),
        ("the recipient is no address", "", None, "the recipient is no address"),
    ],
)
def test_the_renderers_error_is_split_into_file_line_and_problem(
    error: str, file: str, line: int | None, problem: str
) -> None:
    found = render_failure(RenderingError(error))
    assert (found.file, found.line, found.problem) == (file, line, problem)
