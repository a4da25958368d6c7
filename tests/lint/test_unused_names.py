"""Misspelt kinds and keys of an operator's templates are findings, with the name that was meant."""

from pathlib import Path

import pytest

from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.unused_names import find_unused_names
from tests.rendering.overlays import write_files
from tests.rendering.samples import SENDER, make_renderer

JOINED = '[{kind}]\nsubject = "Hello"\npreheader = "How to begin."\ntitle = "Hello"\nreason = "You have joined."\n'


def unused(folder: Path, files: dict[str, str]) -> list[tuple[str, str, str, bool]]:
    write_files(folder / "mine", files)
    context = LintContext(make_renderer(overlay=folder / "mine", on_fault=lambda _: None), SENDER)
    return [(one.place, one.problem, one.remedy, one.is_warning) for one in find_unused_names(context, ["Joined"])]


@pytest.mark.parametrize("kind", ["Signin", "SingIn", "sign_in"])
@pytest.mark.parametrize("part", ["{kind}/html.jinja", "{kind}/logto/en.toml", "locales/en.toml"])
def test_a_misspelt_kind(tmp_path: Path, kind: str, part: str) -> None:
    files = {
        "{kind}/html.jinja": {"html.jinja": "{{ code }}"},
        "{kind}/logto/en.toml": {"logto/en.toml": 'subject = "{{code}}"', "logto/en.txt": "{{code}}"},
        "locales/en.toml": {},
    }[part]
    written = {f"{kind}/{name}": text for name, text in files.items()} or {part: JOINED.format(kind=kind)}
    place = "mine/locales/en.toml" if part == "locales/en.toml" else f"mine/{kind}"
    assert unused(tmp_path, written) == [(place, f"no message is of the kind {kind}", "did you mean SignIn?", False)]


def test_a_kind_that_no_event_sends_is_doubtful(tmp_path: Path) -> None:
    [(place, problem, remedy, is_warning)] = unused(tmp_path, {"locales/en.toml": JOINED.format(kind="Receipt")})
    assert (place, problem, is_warning) == ("mine/locales/en.toml", "no message is of the kind Receipt", True)
    assert "[webhook.events]" in remedy
    assert unused(tmp_path / "other", {"locales/en.toml": JOINED.format(kind="Joined")}) == []


def test_a_misspelt_key(tmp_path: Path) -> None:
    found = unused(tmp_path, {"locales/en.toml": '[SignIn]\ntitle = "Hello"\nsubjekt = "x"\n'})
    assert found == [("mine/locales/en.toml, line 3", "no template prints subjekt", "did you mean subject?", False)]


def test_a_key_that_a_template_prints_is_used(tmp_path: Path) -> None:
    files = {"locales/en.toml": '[SignIn]\nhint = "x"\n', "parts/code.html.jinja": "{{ code }} {{ words['hint'] }}"}
    assert unused(tmp_path, files) == []
    files["parts/code.html.jinja"] = "{{ code }}{% set key = 'hint' %}{{ words[key] }}"
    assert unused(tmp_path, files) == [], "it cannot be known"


def test_a_missing_text_part_is_doubtful(tmp_path: Path) -> None:
    [(place, problem, remedy, is_warning)] = unused(tmp_path, {"SignIn/html.jinja": "{{ code }}"})
    assert (place, is_warning) == ("mine/SignIn/html.jinja", True)
    assert problem.endswith("readers of the text get that of Generic/text.jinja")
    assert remedy == "add mine/SignIn/text.jinja"
    assert unused(tmp_path, {"SignIn/text.jinja": "{{ code }}"}) == []
