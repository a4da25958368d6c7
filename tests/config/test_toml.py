"""A value is set in a TOML file that somebody wrote."""

import pytest

from mailroom.config.toml import with_text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", 'key = "new"\n'),
        ("# mine\na = 1  # one\n", 'key = "new"\n# mine\na = 1  # one\n'),
        ("[t]\nkey = 1", 'key = "new"\n[t]\nkey = 1\n'),
        ('a = 1\nkey = "…"   # a comment\n', 'a = 1\nkey = "new"   # a comment\n'),
        ("key = '…'\n[t]\n", 'key = "new"\n[t]\n'),
    ],
)
def test_a_setting_is_set_at_the_top(before: str, after: str) -> None:
    assert with_text(before, None, "key", "new") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[t]\nkey = "new"\n'),
        ("a = 1\n", 'a = 1\n\n[t]\nkey = "new"\n'),
        ("[t]", '[t]\nkey = "new"\n'),
        ("[t]  # mine\nb = 2\n[u]\nkey = 3\n", '[t]  # mine\nkey = "new"\nb = 2\n[u]\nkey = 3\n'),
        ('[u]\nkey = "u"\n[ t ]\nkey = "…"\n', '[u]\nkey = "u"\n[ t ]\nkey = "new"\n'),
    ],
)
def test_a_setting_of_a_table_is_set_there(before: str, after: str) -> None:
    assert with_text(before, "t", "key", "new") == after


@pytest.mark.parametrize("text", ["t.key = 1\n", "t = {key = 1}\n", "[t]\nkey = ['a']\n", "[t]\nkey = '''\na'''\n"])
def test_other_forms_are_left_to_the_operator(text: str) -> None:
    with pytest.raises(ValueError, match=r"^key cannot be set by a program here; change it yourself$"):
        with_text(text, "t", "key", "new")
