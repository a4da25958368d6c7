"""`.env`: lines that every reader of such files takes for the same, and Mailroom itself."""

import subprocess

import pytest
from honcho.environ import parse as parse_by_honcho

from mailroom.config.env_file import line, parse, unquote

VALUES = ["plain", "Acme <no-reply@acme.example>", "Bearer abc=", " two  blanks ", "tab\tbed"]


@pytest.mark.parametrize("value", [*VALUES, "", '"quoted"', "'q'", "it's", 'a "b" c', "a=b#c"])
def test_what_is_written_is_read(value: str) -> None:
    assert parse(line("A", value)) == {"A": value}


@pytest.mark.parametrize("value", VALUES)
def test_other_readers_read_the_same(value: str) -> None:
    """Honcho and shells split at blanks; `docker run --env-file` keeps the quotes, which are removed later."""
    text = line("A", value)
    assert parse_by_honcho(text) == {"A": value}
    shell = subprocess.run(["sh", "-c", f'{text}printf %s "$A"'], capture_output=True, text=True, check=True)
    assert shell.stdout == value
    by_docker = text.removesuffix("\n").partition("=")[2]
    assert unquote(by_docker) == value


@pytest.mark.parametrize("value", ['"quoted"', "'a b'", '"Acme, Inc." <no-reply@acme.example>', '["a b", "c"]', '" '])
def test_other_quotes_belong_to_the_value(value: str) -> None:
    """A password, a mailbox, JSON."""
    assert unquote(value) == value


def test_comments_and_other_lines_are_ignored() -> None:
    assert parse("\ufeffA=1\r\n# B=2\nexport C=3\nnonsense\n") == {"A": "1", "C": "3"}
