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
from tests.rendering.overlays import lay, over, write
from tests.rendering.samples import writer


def code_part(text: str) -> dict[str, str]:
    return {"SignIn/html.jinja": text + " {{ code }}"}


def settle(author: TemplateRenderer) -> bool:
    """Let the writer look twice: it reads what has not changed between two looks."""
    return author.refresh() or author.refresh()


def test_a_changed_file_is_read_at_the_second_look(tmp_path: Path) -> None:
    author = over(tmp_path, code_part("old"))
    assert not settle(author)
    lay(tmp_path, code_part("newer"))
    assert not author.refresh(), "it may still be being written"
    assert write(author).html == "old 314159"
    assert author.refresh()
    assert write(author).html == "newer 314159"
    assert not settle(author)


def test_a_change_of_the_same_length_is_seen_by_its_time(tmp_path: Path) -> None:
    author = over(tmp_path, code_part("old"))
    lay(tmp_path, code_part("new"))
    os.utime(tmp_path / "SignIn" / "html.jinja", (1, 1))
    assert settle(author)
    assert write(author).html == "new 314159"


def test_new_files_and_removed_ones_are_seen(tmp_path: Path) -> None:
    author = over(tmp_path, {})
    plain = write(author).raw
    lay(tmp_path, {**code_part("new"), "locales/en.toml": '[SignIn]\nsubject = "{code}"\n'})
    assert settle(author)
    assert (write(author).html, write(author).subject) == ("new 314159", "314159")
    (tmp_path / "SignIn" / "html.jinja").unlink()
    (tmp_path / "locales" / "en.toml").unlink()
    assert settle(author)
    assert write(author).raw == plain


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("SignIn/html.jinja", "good {{ code }}", "{% if %}"),
        ("SignIn/html.jinja", "good {{ code }}", "<p class={{ code }}>"),
        ("locales/en.toml", '[SignIn]\nsubject = "good {code}"\n', "[SignIn"),
        ("SignIn/logto/default.toml", 'subject = "good {{code}}"', "subject = 1"),
    ],
)
def test_the_last_good_version_is_kept_and_the_fault_told_once(tmp_path: Path, name: str, good: str, bad: str) -> None:
    author = over(tmp_path, {"SignIn/logto/default.html": "{{code}}", name: good} if "logto" in name else {name: good})
    before = write(author).raw
    lay(tmp_path, {name: bad})
    with structlog.testing.capture_logs() as logs:
        assert settle(author)
        assert write(author).raw == before
        lay(tmp_path, {"README.md": "x", "parts/x.html.jinja": "x"})
        assert settle(author)
    assert write(author).raw == before
    assert [line["log_level"] for line in logs if line["event"] == "template.faulty"] == ["error"]
    assert len(author.faults) == 1
    lay(tmp_path, {name: good})
    assert settle(author)
    assert not author.faults


def test_other_files_are_renewed_beside_a_faulty_one(tmp_path: Path) -> None:
    author = over(tmp_path, {**code_part("old"), "layout.html.jinja": "{% if %}"})
    lay(tmp_path, code_part("newer"))
    assert settle(author)
    assert write(author).html == "newer 314159"
    assert len(author.faults) == 1


def test_a_folder_that_vanishes_leaves_the_bundled_templates(tmp_path: Path) -> None:
    author = over(tmp_path / "mine", code_part("old"))
    (tmp_path / "mine").rename(tmp_path / "gone")
    assert settle(author)
    assert write(author).raw == write(writer()).raw
    (tmp_path / "gone").rename(tmp_path / "mine")
    assert settle(author)
    assert write(author).html == "old 314159"


def test_a_default_language_that_vanishes_keeps_the_last_words(tmp_path: Path) -> None:
    words = 'direction = "ltr"\n[SignIn]\nsubject = "{code}!"\npreheader = "p"\ntitle = "t"\n'
    author = over(tmp_path, {"locales/nl.toml": words}, default_locale="nl")
    (tmp_path / "locales" / "nl.toml").unlink()
    assert not settle(author)
    assert write(author, "SignIn", {"code": "1"}).subject == "1!"
    assert "default_locale" in author.faults[0].path


async def test_a_change_is_read_within_a_second(tmp_path: Path) -> None:
    author = over(tmp_path, code_part("old"))
    clock = FakeClock()
    began = clock.monotonic()
    waiting = asyncio.create_task(author.wait_for_change(clock))
    await clock.until_asleep()
    lay(tmp_path, code_part("newer"))
    for _ in range(2):
        assert not waiting.done()
        await clock.until_asleep()
        await clock.advance(0.5)
    await waiting
    assert write(author).html == "newer 314159"
    assert clock.monotonic() - began <= 1


def test_without_a_folder_there_is_nothing_to_read() -> None:
    assert not writer().refresh()


def test_a_fault_that_a_mail_met_is_told_once_for_all_readings(tmp_path: Path) -> None:
    told: list[Fault] = []
    author = over(tmp_path, {"SignIn/html.jinja": "{{ code + 1 }}"}, on_fault=told.append)
    write(author)
    lay(tmp_path, {"Welcome/html.jinja": "x"})
    assert settle(author)
    write(author)
    [fault] = told
    assert fault.path == f"{tmp_path.name}/SignIn/html.jinja, line 1"
    assert author.faults == (fault,)


@pytest.mark.parametrize("bad", ["{{ code + 1 }}", "{% if %}"])
def test_a_file_that_is_saved_with_the_same_fault_is_told_again(tmp_path: Path, bad: str) -> None:
    told: list[Fault] = []
    author = over(tmp_path, {"SignIn/html.jinja": bad}, on_fault=told.append)
    write(author)
    lay(tmp_path, {"SignIn/html.jinja": f"{bad}<br>"})
    assert settle(author)
    write(author)
    assert told == [told[0]] * 2


def test_a_reading_compiles_what_changed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling holds Python's lock, and so up codes."""
    author = over(tmp_path, {**code_part("old"), "Welcome/html.jinja": "{{ name }}", "parts/x.html.jinja": "x"})
    compiled: set[str | None] = set()
    compile_ = Environment.compile

    def noted(self: Environment, source: Any, name: Any = None, filename: Any = None, *more: Any, **named: Any) -> Any:
        compiled.add(filename)
        return compile_(self, source, name, filename, *more, **named)

    monkeypatch.setattr(Environment, "compile", noted)
    for text in ("newer", "newest"):
        lay(tmp_path, code_part(text))
        assert settle(author)
        assert compiled == {f"{tmp_path.name}/SignIn/html.jinja"}
        assert write(author).html == f"{text} 314159"
