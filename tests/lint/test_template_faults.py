"""Files that cannot be used become findings: place, cause, and the template that is used instead."""

from pathlib import Path

import pytest

from mailroom.errors import Fault
from mailroom.lint import Finding
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.lint.template_faults import find_template_faults
from tests.rendering.overlays import write_files
from tests.rendering.samples import SENDER, make_renderer


def faults_of(folder: Path, files: dict[str, str]) -> list[Finding]:
    """Return the findings for faults of these files, also of those that rendering shows."""
    reported: list[Fault] = []
    write_files(folder / "mine", files)
    context = LintContext(make_renderer(overlay=folder / "mine", on_fault=reported.append), SENDER)
    check(context, kinds=["SignIn"], languages=["en", "de"])
    return list(find_template_faults(reported, context))


BROKEN = "one\n{% if app }\n"
GOOD = "<p>{{ code }}</p>"


@pytest.mark.parametrize(
    ("files", "place", "problem", "used"),
    [
        (
            {"SignIn/html.jinja": BROKEN},
            "SignIn/html.jinja, line 2",
            "unexpected '}'",
            "the bundled Generic/html.jinja",
        ),
        (
            {"SignIn/text.jinja": BROKEN},
            "SignIn/text.jinja, line 2",
            "unexpected '}'",
            "the bundled Generic/text.jinja",
        ),
        (
            {"SignIn/de/html.jinja": BROKEN, "SignIn/html.jinja": GOOD},
            "SignIn/de/html.jinja, line 2",
            "unexpected '}'",
            "mine/SignIn/html.jinja",
        ),
        ({"layout.html.jinja": BROKEN}, "layout.html.jinja, line 2", "unexpected '}'", "the bundled layout.html.jinja"),
        (
            {"SignIn/html.jinja": GOOD + "\n{{ app.toUpperCase() }}"},
            "SignIn/html.jinja, line 2",
            "calls or computes with a value that does not exist: {{ app.toUpperCase() }}",
            "the bundled Generic/html.jinja",
        ),
        (
            {"SignIn/html.jinja": GOOD + "\n{% include 'parts/foot.html.jinja' %}"},
            "SignIn/html.jinja, line 2",
            "extends or includes a template that does not exist: {% include 'parts/foot.html.jinja' %}",
            "the bundled Generic/html.jinja",
        ),
        (
            {"applications/a1/SignIn/html.jinja": BROKEN, "SignIn/html.jinja": GOOD},
            "applications/a1/SignIn/html.jinja, line 2",
            "unexpected '}'",
            "mine/SignIn/html.jinja",
        ),
        (
            {"locales/en.toml": "[SignIn]\nsubject = x\n"},
            "locales/en.toml, line 2",
            "Invalid value",
            "the bundled texts",
        ),
    ],
)
def test_a_broken_file_is_named_with_its_replacement(
    tmp_path: Path, files: dict[str, str], place: str, problem: str, used: str
) -> None:
    found = [finding for finding in faults_of(tmp_path, files) if finding.line]
    assert [(one.check, one.place, one.problem, one.is_warning) for one in found] == [
        (1, f"mine/{place}", problem, False)
    ]
    assert found[0].remedy == f"fix it; until then {used} {'are' if used.endswith('texts') else 'is'} used"


@pytest.mark.parametrize(
    ("tag", "jinja"),
    [
        ("{{#if app}}x{{/if}}", "{% if app %}"),
        ("{{#unless app}}x{{/unless}}", "{% if not app %}"),
        ("{{#each user.roles}}x{{/each}}", "{% for item in user.roles %}"),
        ("{{> footer}}", '{% include "parts/footer.html.jinja" %}'),
        ("{{{user.name}}}", "{{ user.name }}"),
    ],
)
def test_handlebars_is_recognized(tmp_path: Path, tag: str, jinja: str) -> None:
    [found] = faults_of(tmp_path, {"SignIn/html.jinja": f"{GOOD}\n{tag}"})
    assert found.place == "mine/SignIn/html.jinja, line 2"
    assert found.problem.endswith(f"is Handlebars; Jinja writes {jinja}")


def test_a_mail_without_its_code_names_the_template_that_is_sent(tmp_path: Path) -> None:
    [found] = faults_of(tmp_path, {"SignIn/html.jinja": "<p>Hello</p>"})
    assert (found.check, found.problem) == (2, "the mail does not show its code")
    assert found.remedy == "print {{ code }}; until then the bundled Generic/html.jinja is used"


def test_a_misspelt_file_gets_a_suggestion(tmp_path: Path) -> None:
    [found] = faults_of(tmp_path, {"SignIn/htm.jinja.txt": "x"})
    assert found.remedy == "did you mean SignIn/html.jinja?"
