"""An operator's templates are checked together with the bundled ones; findings name the operator's files."""

import json
from pathlib import Path

import pytest

from mailroom.errors import Fault
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.logto import EVENT_FIELDS
from tests.rendering.overlays import write_files
from tests.rendering.samples import SENDER, make_renderer

PAGE = """<!DOCTYPE html><html lang="{{ lang }}" dir="{{ dir }}"><head><meta charset="utf-8">
<title>{{ words.title }}</title></head>
<body><table width="480"><tr><td>{{ words.title }} {{ code }} {{ wrods.reason }}</td></tr></table></body></html>
"""


def lint_context(folder: Path, files: dict[str, str]) -> LintContext:
    write_files(folder, files)
    return LintContext(make_renderer(overlay=folder, on_fault=lambda _: None), SENDER)


def test_a_template_over_a_bundled_one_is_judged(tmp_path: Path) -> None:
    found = check(lint_context(tmp_path / "mine", {"SignIn/html.jinja": PAGE}), kinds=["SignIn"], languages=["en"])
    unknown = next(finding for finding in found if finding.check == 3)
    assert (unknown.file, unknown.line) == ("mine/SignIn/html.jinja", 3)
    assert 8 in {finding.check for finding in found}


def test_a_word_over_a_bundled_one_is_judged_in_its_own_file(tmp_path: Path) -> None:
    words = '[SignIn]\nsubject = "{code}, said at such a length that no telephone shows it to its very end"\n'
    found = check(lint_context(tmp_path / "mine", {"locales/en.toml": words}), kinds=["SignIn"], languages=["en"])
    # It is too long, and lacks the {app} that the other languages have.
    assert [(one.check, one.file, one.line) for one in found] == [(n, "mine/locales/en.toml", 2) for n in (5, 22)]


def test_a_template_of_logtos_is_judged_in_its_languages(tmp_path: Path) -> None:
    files = {
        "SignIn/logto/en.toml": 'subject = "{{code}} is it"\n',
        "SignIn/logto/en.html": "<p>{{code}}</p>",
        "SignIn/logto/en.txt": "No number.",
    }
    context = lint_context(tmp_path / "mine", files)
    assert set(context.inventory.kinds["SignIn"]) >= {"en", "de"}
    found = [finding for finding in check(context, kinds=["SignIn"]) if finding.check == 2]
    assert {finding.file for finding in found} == {"mine/SignIn/logto/en.html"}
    assert "en" in found[0].languages


def test_a_failing_overlay_template_is_reported_as_a_fault(tmp_path: Path) -> None:
    """The bundled template is used, so the code is sent all the same."""
    write_files(
        tmp_path / "mine", {"SignIn/html.jinja": "{{ code }} {{ user.name|length + organization.name.x|length }}"}
    )
    reported: list[Fault] = []
    found = check(
        LintContext(make_renderer(overlay=tmp_path / "mine", on_fault=reported.append), SENDER), kinds=["SignIn"]
    )
    assert not {1, 2} & {finding.check for finding in found}
    assert [fault.path for fault in reported] == ["mine/SignIn/html.jinja, line 1"]


@pytest.mark.parametrize(
    ("expression", "suggestion"),
    [
        ("user.nmae", "did you mean user.name?"),
        ("application.brandng", "did you mean application.branding?"),
        ("brand.colr", "did you mean brand.color?"),
        ("recipent", "did you mean recipient?"),
        ("words.titel", "did you mean words.title?"),
    ],
)
def test_an_unknown_variable_is_wrong_and_gets_a_suggestion(tmp_path: Path, expression: str, suggestion: str) -> None:
    page = '{% extends "layout.html.jinja" %}\n{% block content %}\n{{ code }}\n{{ ' + expression + " }}{% endblock %}"
    context = lint_context(tmp_path / "mine", {"SignIn/html.jinja": page})
    [found] = [one for one in check(context, kinds=["SignIn"], languages=["en"]) if one.check == 3]
    assert (found.place, found.is_warning) == ("mine/SignIn/html.jinja, line 4", False)
    assert found.problem == f"the variable {expression} does not exist"
    assert found.remedy.startswith(suggestion)


@pytest.mark.parametrize("name", ["user.profile.nickname", "user.profile.address.locality", "application.tenantId"])
def test_fields_that_the_samples_lack_are_known(tmp_path: Path, name: str) -> None:
    context = lint_context(tmp_path / "mine", {"SignIn/text.jinja": "{{ code }} {{ " + name + " }}"})
    assert not [one for one in check(context, kinds=["SignIn"], languages=["en"]) if one.check == 3]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Moin {{ user.name }}, dein Code: {{ code }}", "Moin ,"),
        ("Code {{ code }} for {{ user.name }}. Bye", "for ."),
        ("{{ code }}\n{{ user.name }}, your code", ","),
        ("Hello {{ user.name }}! {{ code }}", "Hello !"),
        ("Your code: {{ code }} ({{ user.name }})", "()"),
    ],
)
def test_an_empty_value_before_punctuation_is_doubtful(tmp_path: Path, text: str, shown: str) -> None:
    layout = '{% extends "layout.html.jinja" %}\n{% block content %}\n<p>' + text + "</p>\n{% endblock %}"
    context = lint_context(tmp_path / "mine", {"SignIn/html.jinja": layout, "SignIn/text.jinja": f"one\ntwo\n{text}\n"})
    found = [one for one in check(context, kinds=["SignIn"], languages=["de"]) if one.check == 3]
    assert {(one.file, one.is_warning) for one in found} == {
        ("mine/SignIn/html.jinja", True),
        ("mine/SignIn/text.jinja", True),
    }
    assert all(shown in one.problem and "if a value is missing" in one.problem for one in found)


def test_french_has_a_space_before_an_exclamation_mark(tmp_path: Path) -> None:
    context = lint_context(tmp_path / "mine", {"SignIn/text.jinja": "Bonjour ! {{ code }} {{ brand.support_email }}"})
    assert not check(context, kinds=["SignIn"], languages=["fr"])


def test_a_short_line_of_the_operators_file_is_the_place(tmp_path: Path) -> None:
    page = (
        '{% extends "layout.html.jinja" %}\n{% block content %}\n{% for digit in code %}<b>{{ digit }}</b>{% endfor %}'
    )
    context = lint_context(tmp_path / "mine", {"SignIn/html.jinja": page + "\n{% endblock %}"})
    [found] = [one for one in check(context, kinds=["SignIn"], languages=["en"]) if one.check == 18]
    assert found.place == "mine/SignIn/html.jinja, line 3"


def test_the_keys_of_all_captured_events_are_known() -> None:
    for file in (Path(__file__).parents[1] / "logto-wire" / "webhooks").glob("*.http"):
        assert set(json.loads(file.read_bytes().partition(b"\r\n\r\n")[2])) <= EVENT_FIELDS, file.name
