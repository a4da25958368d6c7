"""What is looked at when a server starts."""

import subprocess
import sys

import pytest

from mailroom.checking.making import unwritable, vital
from mailroom.errors import RenderingError
from tests.checking.conftest import Copy


def test_a_template_that_fails_is_found_with_its_line(copy: Copy) -> None:
    copy.replace("Welcome/html.jinja", "{{ words.reason }}", "{{ user.name|length }}")
    [found] = vital(copy.desk())
    assert (found.check, found.file, found.kinds, found.samples) == (1, "Welcome/html.jinja", ("Welcome",), ("null",))
    assert found.line
    assert len(found.languages) >= 20
    assert found.told()["place"] == f"Welcome/html.jinja, line {found.line}"


def test_a_mail_without_its_code_is_found(copy: Copy) -> None:
    copy.replace("Generic/text.jinja", "{{ code }}", "")
    [found] = vital(copy.desk())
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
def test_the_writers_words_are_taken_apart(error: str, file: str, line: int | None, problem: str) -> None:
    found = unwritable(RenderingError(error))
    assert (found.file, found.line, found.problem) == (file, line, problem)


def test_a_start_loads_no_parser() -> None:
    """It would cost every server a tenth of a second and some megabytes."""
    program = "import sys, server; sys.exit('html5lib' in sys.modules or 'tinycss2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
