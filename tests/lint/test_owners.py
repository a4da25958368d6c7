"""Templates of single applications and organizations are checked where they change mails."""

from pathlib import Path
from typing import Final

import pytest

from mailroom.errors import Fault
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check, count
from mailroom.lint.samples import Sample
from mailroom.rendering.renderer import BUNDLED
from tests.lint.test_checks import CODE, PLACED, SPOILT, kinds_of
from tests.rendering.overlays import lay
from tests.rendering.samples import SENDER, writer


def desk(folder: Path, files: dict[str, str], told: list[Fault] | None = None) -> LintContext:
    lay(folder / "mine", files)
    return LintContext(writer(overlay=folder / "mine", on_fault=[].append if told is None else told.append), SENDER)


def spoilt(file: str, old: str, new: str, *, times: int = -1) -> str:
    """Return a bundled file with something else in it."""
    text = (BUNDLED / file).read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new, times)


SEVERAL: Final = [row for row in SPOILT if row in PLACED and row[0] in (3, 5, 6, 8, 9, 10, 11, 16, 22)][::2]
"""Of the checks that name a line."""
WHOLE: Final = [row for row in SPOILT if row[0] in (2, 15, 17, 18) and row[1:] != (CODE, "{{ code }}", "")][::2]
"""Of those that tell what is not there, or too much."""


@pytest.mark.parametrize(("number", "file", "old", "new"), [*SEVERAL, *WHOLE], ids=lambda value: str(value)[:60])
def test_what_is_spoilt_for_one_application_is_caught_there(
    tmp_path: Path, number: int, file: str, old: str, new: str
) -> None:
    files = {f"applications/app1/{file}": spoilt(file, old, new)}
    found = check(desk(tmp_path, files), kinds=kinds_of(file), languages=["en"])
    assert {(one.check, one.file, one.owners) for one in found} == {
        (number, f"mine/applications/app1/{file}", ("applications/app1",))
    }
    if (number, file, old, new) in SEVERAL:
        lines = files[f"applications/app1/{file}"].splitlines()
        at = [number for number, line in enumerate(lines, 1) if new.splitlines()[-1] in line]
        # Where its style sheet was put into the elements, it is the nearest line above that is as it was written.
        assert any(-8 <= (one.line or 0) - line <= 3 for one in found for line in at), (found, at)


def test_what_is_spoilt_for_one_organization_is_caught_in_the_language_that_it_touches(tmp_path: Path) -> None:
    words = '[SignIn]\nsubject = "{code}, said at such a length that no telephone shows it to its very end"\n'
    found = check(desk(tmp_path, {"organizations/org1/locales/de.toml": words}), kinds=["SignIn", "Register"])
    place = "mine/organizations/org1/locales/de.toml"
    # It is too long, and lacks the {app} that the other languages have.
    assert [(one.check, one.file, one.line, one.languages) for one in found] == [
        (number, place, 2, ("de",)) for number in (5, 22)
    ]
    assert {(one.kinds, one.owners) for one in found} == {(("SignIn",), ("organizations/org1",))}
    assert found[0].as_log_fields()["owners"] == "organizations/org1"


def test_a_template_of_logtos_for_one_application_is_judged(tmp_path: Path) -> None:
    files = {
        "applications/app1/SignIn/logto/en.toml": 'subject = "{{code}} is it"\n',
        "applications/app1/SignIn/logto/en.html": "<p>{{code}}</p>",
        "applications/app1/SignIn/logto/en.txt": "No number.",
    }
    found = [one for one in check(desk(tmp_path, files), kinds=["SignIn"], languages=["en"]) if one.check == 2]
    assert {(one.file, one.owners) for one in found} == {
        ("mine/applications/app1/SignIn/logto/en.html", ("applications/app1",))
    }


def test_a_kind_that_only_one_organization_has_is_judged(tmp_path: Path) -> None:
    words = '[Joined]\nsubject = ""\npreheader = "How to begin with your new team, and whom to ask."\ntitle = "t"\n'
    found = check(desk(tmp_path, {"organizations/org1/locales/en.toml": words}), kinds=["Joined"])
    assert (5, ("organizations/org1",), 2) in {(one.check, one.owners, one.line) for one in found}


def test_what_fails_for_one_application_is_told_as_a_fault(tmp_path: Path) -> None:
    told: list[Fault] = []
    broken = "{{ code }} {{ user.name|length + organization.name.x|length }}"
    check(desk(tmp_path, {"applications/app1/SignIn/html.jinja": broken}, told), kinds=["SignIn"], languages=["en"])
    assert [fault.path for fault in told] == ["mine/applications/app1/SignIn/html.jinja, line 1"]


def test_a_mail_without_its_code_is_told_as_a_fault_of_the_file_that_lacks_it(tmp_path: Path) -> None:
    told: list[Fault] = []
    found = check(desk(tmp_path, {f"applications/app1/{CODE}": ""}, told), kinds=["SignIn"], languages=["en"])
    assert [fault.path for fault in told] == [f"mine/applications/app1/{CODE}"]
    assert "does not show its code" in told[0].problem
    assert not [finding for finding in found if finding.check == 2], "the bundled template stands in"


def test_what_everybodys_mails_show_is_told_once_and_of_everybody(tmp_path: Path) -> None:
    old, new = '<table role="presentation" width="480"', '<table width="480"'
    files = {
        "layout.html.jinja": spoilt("layout.html.jinja", old, new),
        "applications/app1/locales/en.toml": '[SignIn]\ntitle = "Your code"\n',
    }
    [found] = check(desk(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert (found.check, found.file, found.owners) == (8, "mine/layout.html.jinja", ())


def test_what_everybodys_mails_lack_is_not_told_of_the_owner_who_changed_something_else(tmp_path: Path) -> None:
    files = {
        "Generic/text.jinja": spoilt("Generic/text.jinja", "{{ code }}", ""),
        "applications/app1/Generic/html.jinja": "{% extends 'bundled/Generic/html.jinja' %}",
    }
    [found] = check(desk(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert (found.check, found.file, found.owners) == (2, "mine/Generic/text.jinja", ())


def test_what_a_change_spoils_in_another_file_is_told_by_the_file_that_was_changed(tmp_path: Path) -> None:
    """The text lacks the address that the inherited layout's HTML leads to."""
    files = {
        "layout.html.jinja": "{% extends 'bundled/layout.html.jinja' %}",
        "organizations/org1/layout.text.jinja": spoilt(
            "layout.text.jinja", "{{ words.questions }} {{ brand.support_email }}", ""
        ),
    }
    found = check(desk(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert {(one.check, one.file, one.owners) for one in found} == {
        (6, "mine/organizations/org1/layout.text.jinja", ("organizations/org1",))
    }


NONE: Final = 10 * 20 * len(Sample)
"""Mails where no single owner has anything."""


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ({}, 0),
        ({"locales/de.toml": '[SignIn]\nsubject = "{app}: {code}"\n'}, 1),
        ({"locales/de.toml": '[common]\nquestions = "Noch Fragen?"\n'}, 10),
        ({"locales/ar.toml": 'direction = "ltr"\n'}, 10),
        ({"SignIn/de/html.jinja": "{% extends 'layout.html.jinja' %}"}, 1),
        ({"SignIn/html.jinja": "{% extends 'layout.html.jinja' %}"}, 20),
        ({"parts/button.html.jinja": "<b>{{ link }}</b>"}, 40),
        ({"layout.html.jinja": "{{ code }}"}, 200),
        ({"Welcome/html.jinja": "{% include part %}", "parts/mine.html.jinja": "x"}, 20),
    ],
)
def test_what_is_inherited_is_not_checked_again(tmp_path: Path, files: dict[str, str], more: int) -> None:
    writing = desk(tmp_path, {f"organizations/org1/{name}": text for name, text in files.items()})
    assert count(writing) == NONE + more * len(Sample)


def test_a_template_that_is_chosen_while_a_mail_is_written_counts_as_changed(tmp_path: Path) -> None:
    files = {
        "Welcome/html.jinja": "{% set part = 'parts/mine.html.jinja' %}{% include part %}",
        "parts/mine.html.jinja": "x",
        "applications/app1/parts/mine.html.jinja": "y",
    }
    writing = desk(tmp_path, files)
    assert count(writing) == NONE + 20 * len(Sample)
