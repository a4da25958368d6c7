"""Reloading templates that change while the server runs."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from jinja2 import Environment

from mailroom.errors import Fault
from mailroom.rendering.renderer import TemplateRenderer
from tests.clock import FakeClock
from tests.rendering.overlays import render, renderer_with, write_files
from tests.rendering.samples import make_renderer


def code_part(text: str) -> dict[str, str]:
    return {"SignIn/html.jinja": text + " {{ code }}"}


def settle(renderer: TemplateRenderer) -> bool:
    """Let the renderer check twice: it reads a folder that has not changed between two checks."""
    return renderer.refresh() or renderer.refresh()


def test_a_changed_file_is_read_at_the_second_look(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, code_part("old"))
    assert not settle(renderer)
    write_files(tmp_path, code_part("newer"))
    assert not renderer.refresh(), "it may still be being written"
    assert render(renderer).html == "old 314159"
    assert renderer.refresh()
    assert render(renderer).html == "newer 314159"
    assert not settle(renderer)


def test_a_change_of_the_same_length_is_seen_by_its_time(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, code_part("old"))
    write_files(tmp_path, code_part("new"))
    os.utime(tmp_path / "SignIn" / "html.jinja", (1, 1))
    assert settle(renderer)
    assert render(renderer).html == "new 314159"


def test_new_files_and_removed_ones_are_seen(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {})
    plain = render(renderer).raw
    write_files(tmp_path, {**code_part("new"), "locales/en.toml": '[SignIn]\nsubject = "{code}"\n'})
    assert settle(renderer)
    assert (render(renderer).html, render(renderer).subject) == ("new 314159", "314159")
    (tmp_path / "SignIn" / "html.jinja").unlink()
    (tmp_path / "locales" / "en.toml").unlink()
    assert settle(renderer)
    assert render(renderer).raw == plain


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("SignIn/html.jinja", "good {{ code }}", "{% if %}"),
        ("SignIn/html.jinja", "good {{ code }}", "<p class={{ code }}>"),
        ("locales/en.toml", '[SignIn]\nsubject = "good {code}"\n', "[SignIn"),
        ("SignIn/logto/default.toml", 'subject = "good {{code}}"', "subject = 1"),
    ],
)
def test_the_last_valid_version_is_used_and_the_fault_reported_once(
    tmp_path: Path, name: str, good: str, bad: str
) -> None:
    renderer = renderer_with(
        tmp_path, {"SignIn/logto/default.html": "{{code}}", name: good} if "logto" in name else {name: good}
    )
    before = render(renderer).raw
    write_files(tmp_path, {name: bad})
    with structlog.testing.capture_logs() as logs:
        assert settle(renderer)
        assert render(renderer).raw == before
        write_files(tmp_path, {"README.md": "x", "parts/x.html.jinja": "x"})
        assert settle(renderer)
    assert render(renderer).raw == before
    assert [line["log_level"] for line in logs if line["event"] == "template.faulty"] == ["error"]
    assert len(renderer.faults) == 1
    write_files(tmp_path, {name: good})
    assert settle(renderer)
    assert not renderer.faults


def test_other_files_are_renewed_beside_a_faulty_one(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {**code_part("old"), "layout.html.jinja": "{% if %}"})
    write_files(tmp_path, code_part("newer"))
    assert settle(renderer)
    assert render(renderer).html == "newer 314159"
    assert len(renderer.faults) == 1


def test_a_folder_that_vanishes_leaves_the_bundled_templates(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path / "mine", code_part("old"))
    (tmp_path / "mine").rename(tmp_path / "gone")
    assert settle(renderer)
    assert render(renderer).raw == render(make_renderer()).raw
    (tmp_path / "gone").rename(tmp_path / "mine")
    assert settle(renderer)
    assert render(renderer).html == "old 314159"


def test_a_default_language_that_vanishes_keeps_the_last_words(tmp_path: Path) -> None:
    words = 'direction = "ltr"\n[SignIn]\nsubject = "{code}!"\npreheader = "p"\ntitle = "t"\n'
    renderer = renderer_with(tmp_path, {"locales/nl.toml": words}, default_locale="nl")
    (tmp_path / "locales" / "nl.toml").unlink()
    assert not settle(renderer)
    assert render(renderer, "SignIn", {"code": "1"}).subject == "1!"
    assert "default_locale" in renderer.faults[0].path


async def test_a_change_is_read_within_a_second(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, code_part("old"))
    clock = FakeClock()
    began = clock.monotonic()
    waiting = asyncio.create_task(renderer.wait_for_change(clock))
    await clock.until_asleep()
    write_files(tmp_path, code_part("newer"))
    for _ in range(2):
        assert not waiting.done()
        await clock.until_asleep()
        await clock.advance(0.5)
    await waiting
    assert render(renderer).html == "newer 314159"
    assert clock.monotonic() - began <= 1


def test_without_a_folder_there_is_nothing_to_read() -> None:
    assert not make_renderer().refresh()


def test_a_fault_of_rendering_is_reported_once_across_reloads(tmp_path: Path) -> None:
    reported: list[Fault] = []
    renderer = renderer_with(tmp_path, {"SignIn/html.jinja": "{{ code + 1 }}"}, on_fault=reported.append)
    render(renderer)
    write_files(tmp_path, {"Welcome/html.jinja": "x"})
    assert settle(renderer)
    render(renderer)
    [fault] = reported
    assert fault.path == f"{tmp_path.name}/SignIn/html.jinja, line 1"
    assert renderer.faults == (fault,)


@pytest.mark.parametrize("bad", ["{{ code + 1 }}", "{% if %}"])
def test_a_file_saved_with_the_same_fault_is_reported_again(tmp_path: Path, bad: str) -> None:
    reported: list[Fault] = []
    renderer = renderer_with(tmp_path, {"SignIn/html.jinja": bad}, on_fault=reported.append)
    render(renderer)
    write_files(tmp_path, {"SignIn/html.jinja": f"{bad}<br>"})
    assert settle(renderer)
    render(renderer)
    assert reported == [reported[0]] * 2


def test_a_reload_compiles_only_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling holds the GIL, which delays codes."""
    renderer = renderer_with(
        tmp_path, {**code_part("old"), "Welcome/html.jinja": "{{ name }}", "parts/x.html.jinja": "x"}
    )
    compiled: set[str | None] = set()
    compile_ = Environment.compile

    def noted(self: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any, **named: Any) -> Any:
        compiled.add(filename)
        return compile_(self, source, name, filename, *more, **named)

    monkeypatch.setattr(Environment, "compile", noted)
    for text in ("newer", "newest"):
        write_files(tmp_path, code_part(text))
        assert settle(renderer)
        assert compiled == {f"{tmp_path.name}/SignIn/html.jinja"}
        assert render(renderer).html == f"{text} 314159"
