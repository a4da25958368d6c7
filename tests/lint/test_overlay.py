"""An operator's templates are checked together with the bundled ones; findings name the operator's files."""

from pathlib import Path

from mailroom.errors import Fault
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
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
