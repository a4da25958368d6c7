"""Templates of single applications and organizations are checked where they change mails."""

from pathlib import Path
from typing import Final

import pytest

from mailroom.errors import Fault
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check, count
from mailroom.lint.samples import Sample
from mailroom.message import TEMPLATES
from mailroom.rendering.renderer import BUNDLED
from tests.lint.test_checks import CODE, PLACED, SPOILT, kinds_of
from tests.rendering.overlays import write_files
from tests.rendering.samples import SENDER, make_renderer


def lint_context(folder: Path, files: dict[str, str], reported: list[Fault] | None = None) -> LintContext:
    write_files(folder / "mine", files)
    return LintContext(
        make_renderer(overlay=folder / "mine", on_fault=[].append if reported is None else reported.append), SENDER
    )


def with_defect(file: str, old: str, new: str, *, times: int = -1) -> str:
    """Return a bundled file with a defect."""
    text = (BUNDLED / file).read_text(encoding="utf-8")
    assert old in text
    return text.replace(old, new, times)


SEVERAL: Final = [row for row in SPOILT if row in PLACED and row[0] in (3, 5, 6, 8, 9, 10, 11, 16, 22)][::2]
"""For checks that name a line."""
WHOLE: Final = [row for row in SPOILT if row[0] in (2, 15, 17, 18) and row[1:] != (CODE, "{{ code }}", "")][::2]
"""For checks of missing or excessive parts."""


@pytest.mark.parametrize(("number", "file", "old", "new"), [*SEVERAL, *WHOLE], ids=lambda value: str(value)[:60])
def test_a_defect_of_one_application_is_assigned_to_it(
    tmp_path: Path, number: int, file: str, old: str, new: str
) -> None:
    files = {f"applications/app1/{file}": with_defect(file, old, new)}
    found = check(lint_context(tmp_path, files), kinds=kinds_of(file), languages=["en"])
    assert {(one.check, one.file, one.owners) for one in found} == {
        (number, f"mine/applications/app1/{file}", ("applications/app1",))
    }
    if (number, file, old, new) in SEVERAL:
        lines = files[f"applications/app1/{file}"].splitlines()
        at = [number for number, line in enumerate(lines, 1) if new.splitlines()[-1] in line]
        # Where its style sheet was put into the elements, it is the nearest line above that is as it was written.
        assert any(-8 <= (one.line or 0) - line <= 3 for one in found for line in at), (found, at)


def test_a_defect_of_one_organization_is_found_in_its_language(tmp_path: Path) -> None:
    words = '[SignIn]\nsubject = "{code}, said at such a length that no telephone shows it to its very end"\n'
    found = check(lint_context(tmp_path, {"organizations/org1/locales/de.toml": words}), kinds=["SignIn", "Register"])
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
    found = [one for one in check(lint_context(tmp_path, files), kinds=["SignIn"], languages=["en"]) if one.check == 2]
    assert {(one.file, one.owners) for one in found} == {
        ("mine/applications/app1/SignIn/logto/en.html", ("applications/app1",))
    }


def test_a_kind_that_only_one_organization_has_is_judged(tmp_path: Path) -> None:
    words = '[Joined]\nsubject = ""\npreheader = "How to begin with your new team, and whom to ask."\ntitle = "t"\n'
    found = check(lint_context(tmp_path, {"organizations/org1/locales/en.toml": words}), kinds=["Joined"])
    assert (5, ("organizations/org1",), 2) in {(one.check, one.owners, one.line) for one in found}


def test_a_failing_template_of_one_application_is_reported_as_a_fault(tmp_path: Path) -> None:
    reported: list[Fault] = []
    broken = "{{ code }} {{ user.name|length + organization.name.x|length }}"
    check(
        lint_context(tmp_path, {"applications/app1/SignIn/html.jinja": broken}, reported),
        kinds=["SignIn"],
        languages=["en"],
    )
    assert [fault.path for fault in reported] == ["mine/applications/app1/SignIn/html.jinja, line 1"]


def test_a_mail_without_its_code_is_reported_as_a_fault_of_its_file(tmp_path: Path) -> None:
    reported: list[Fault] = []
    found = check(
        lint_context(tmp_path, {f"applications/app1/{CODE}": ""}, reported), kinds=["SignIn"], languages=["en"]
    )
    assert [fault.path for fault in reported] == [f"mine/applications/app1/{CODE}"]
    assert "does not show its code" in reported[0].problem
    assert not [finding for finding in found if finding.check == 2], "the bundled template is used"


def test_a_defect_of_all_mails_is_reported_once_without_owner(tmp_path: Path) -> None:
    old, new = '<table role="presentation" width="480"', '<table width="480"'
    files = {
        "layout.html.jinja": with_defect("layout.html.jinja", old, new),
        "applications/app1/locales/en.toml": '[SignIn]\ntitle = "Your code"\n',
    }
    [found] = check(lint_context(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert (found.check, found.file, found.owners) == (8, "mine/layout.html.jinja", ())


def test_a_defect_of_all_mails_is_not_assigned_to_an_owner(tmp_path: Path) -> None:
    files = {
        "Generic/text.jinja": with_defect("Generic/text.jinja", "{{ code }}", ""),
        "applications/app1/Generic/html.jinja": "{% extends 'bundled/Generic/html.jinja' %}",
    }
    [found] = check(lint_context(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert (found.check, found.file, found.owners) == (2, "mine/Generic/text.jinja", ())


def test_a_defect_in_a_shared_file_names_the_owners_changed_file(tmp_path: Path) -> None:
    """The text lacks the address that the inherited layout's HTML leads to."""
    files = {
        "layout.html.jinja": "{% extends 'bundled/layout.html.jinja' %}",
        "organizations/org1/layout.text.jinja": with_defect(
            "layout.text.jinja", "{{ words.questions }} {{ contact }}", ""
        ),
    }
    found = check(lint_context(tmp_path, files), kinds=["SignIn"], languages=["en"])
    assert {(one.check, one.file, one.owners) for one in found} == {
        (6, "mine/organizations/org1/layout.text.jinja", ("organizations/org1",))
    }


KINDS: Final = len(TEMPLATES)
NONE: Final = KINDS * 20 * len(Sample)
"""Mails without an owner's templates."""


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ({}, 0),
        ({"locales/de.toml": '[SignIn]\nsubject = "{app}: {code}"\n'}, 1),
        ({"locales/de.toml": '[common]\nquestions = "Noch Fragen?"\n'}, KINDS),
        ({"locales/ar.toml": 'direction = "ltr"\n'}, KINDS),
        ({"SignIn/de/html.jinja": "{% extends 'layout.html.jinja' %}"}, 1),
        ({"SignIn/html.jinja": "{% extends 'layout.html.jinja' %}"}, 20),
        ({"parts/button.html.jinja": "<b>{{ link }}</b>"}, 40),
        ({"layout.html.jinja": "{{ code }}"}, KINDS * 20),
        ({"Welcome/html.jinja": "{% include part %}", "parts/mine.html.jinja": "x"}, 20),
    ],
)
def test_inherited_mails_are_not_checked_again(tmp_path: Path, files: dict[str, str], more: int) -> None:
    context = lint_context(tmp_path, {f"organizations/org1/{name}": text for name, text in files.items()})
    assert count(context) == NONE + more * len(Sample)


def test_a_template_with_a_computed_include_counts_as_changed(tmp_path: Path) -> None:
    files = {
        "Welcome/html.jinja": "{% set part = 'parts/mine.html.jinja' %}{% include part %}",
        "parts/mine.html.jinja": "x",
        "applications/app1/parts/mine.html.jinja": "y",
    }
    context = lint_context(tmp_path, files)
    assert count(context) == NONE + 20 * len(Sample)
