"""Faults in translations are reported on loading, with file and line."""

from pathlib import Path

import pytest

from mailroom.errors import RenderingError
from mailroom.rendering.languages.translations import Locale, compare, parse
from mailroom.rendering.overlay import bundled

GOOD = """
direction = "ltr"
[common]
validity.one = "{minutes} minute"
validity.other = "{minutes} minutes"
[SignIn]
subject = "{code} for {app}"
preheader = "Valid: {validity}."
[Register]
subject = "{{literal}} {code}"
validity = "not long"
"""


def locale(text: str, tag: str = "en", *, minutes: int = 10) -> Locale:
    return parse(text, tag=tag, place=f"locales/{tag}.toml", minutes=minutes).locale()


def test_a_kind_has_the_common_texts_and_its_own() -> None:
    english = locale(GOOD)
    assert english.tag == "en"
    assert english.direction == "ltr"
    assert english.is_latin
    assert not english.greets_by_given_name
    assert english.kinds == {
        "SignIn": {"validity": "10 minutes", "subject": "{code} for {app}", "preheader": "Valid: 10 minutes."},
        "Register": {"validity": "not long", "subject": "{{literal}} {code}"},
    }


@pytest.mark.parametrize(("minutes", "form"), [(1, "1 minute"), (2, "2 minutes")])
def test_the_plural_form_is_that_of_the_number(minutes: int, form: str) -> None:
    assert locale(GOOD, minutes=minutes).kinds["SignIn"]["validity"] == form


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("{app}", "{apps}", "line 7: apps is not a placeholder here"),
        ("{app}", "{app.__class__}", "line 7: app.__class__ is not a placeholder here"),
        ("{app}", "{app!r}", "is not a placeholder here"),
        ("{app}", "{app:>9999}", "is not a placeholder here"),
        ("{app}", "{}", "is not a placeholder here"),
        ("{app}", "{minutes}", "is not a placeholder here"),
        ("{app}", "{app", "line 7: subject is not a text, or its braces do not match"),
        ('validity.one = "{minutes} minute"\n', "", "line 4: validity must be a text, or a table with the forms one"),
        ("validity.one", "validity.few", "validity must be a text"),
        ('"{code} for {app}"', "7", "line 7: subject must be a text"),
        ('direction = "ltr"', 'direction = "up"', 'line 2: direction must be "ltr" or "rtl"'),
        ('direction = "ltr"', 'direction = "ltr"\ntext_size = "huge"', 'line 3: text_size must be "normal" or "large"'),
        (
            'direction = "ltr"',
            'direction = "ltr"\ngreeting_name = 1',
            'line 3: greeting_name must be "full" or "given"',
        ),
        ("[common]", "[dates]\ndate = 1\n[common]", "line 4: date is not a pattern of {year}, {month}, {day}"),
        (
            "[common]",
            '[dates]\ntime = "{second}"\n[common]',
            "line 4: time is not a pattern of {date}, {hour}, {minute}",
        ),
        ("[common]", '[dates]\ndate = "{year.real.x}"\n[common]', "line 4: date is not a pattern"),
        ("[common]", '[dates]\nmonths = ["May"]\n[common]', "line 4: months must be twelve names"),
        ("[common]", '[dates]\nday = "x"\n[common]', "line 4: day is unknown; the keys are months, date, time"),
        ("[common]", "dates = 1\n[common]", "line 3: dates is not a table"),
        ('direction = "ltr"', 'direction = "ltr"\nSignOut = "x"', "line 3: SignOut is not a table"),
        ('"{{literal}} {code}"', "7", "line 10: subject must be a text"),
        ("[SignIn]", "[SignIn", "at line 6"),
    ],
)
def test_a_fault_has_file_and_line(before: str, after: str, complaint: str) -> None:
    with pytest.raises(RenderingError) as caught:
        locale(GOOD.replace(before, after, 1))
    assert "en.toml" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_polish_text_needs_three_plural_forms() -> None:
    with pytest.raises(RenderingError, match="one, few, many"):
        locale(GOOD, "pl-PL")


def test_a_file_that_is_not_utf_8_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "locales").mkdir()
    (tmp_path / "locales" / "en.toml").write_bytes(b"\xff")
    with pytest.raises(RenderingError, match=r"en\.toml: is not UTF-8 text"):
        bundled(tmp_path, minutes=10)


def test_a_locale_that_lacks_a_text_of_another_is_a_fault() -> None:
    german = locale(GOOD.replace('preheader = "Valid: {validity}."', ""), "de")
    with pytest.raises(RenderingError, match=r"de\.toml: \[SignIn\] lacks preheader"):
        compare(german, locale(GOOD), "SignIn")
