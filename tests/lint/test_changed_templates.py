"""The server's check: it renders each mail that an operator's templates change, once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from mailroom.errors import Fault
from mailroom.lint import changed_templates
from mailroom.lint.changed_templates import check_changed_templates, watch_templates
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from mailroom.message import TEMPLATES
from mailroom.rendering.renderer import BUNDLED
from tests.clock import FakeClock
from tests.rendering.overlays import write_files
from tests.rendering.samples import SENDER, make_renderer

FAILS = "{{ code }}\n{{ code + 1 }}"
LAYOUT = (BUNDLED / "layout.html.jinja").read_text(encoding="utf-8")
LANGUAGES = 20
KINDS = len(TEMPLATES)


def lint_context(folder: Path, files: dict[str, str], reported: list[Fault] | None = None) -> LintContext:
    on_fault = [].append if reported is None else reported.append
    return LintContext(make_renderer(overlay=write_files(folder / "mine", files), on_fault=on_fault), SENDER)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Return the kind, language and owner of each mail that is rendered from now on."""
    found: list[tuple[str, str, str]] = []
    mail = LintContext.render

    def noted(self: LintContext, kind: str, language: str, sample: Sample) -> object:
        found.append((kind, language, self.owner.id if self.owner else ""))
        return mail(self, kind, language, sample)

    monkeypatch.setattr(LintContext, "render", noted)
    return found


@pytest.mark.parametrize(
    ("file", "faulty"),
    [
        ("SignIn/de/html.jinja", "mine/SignIn/de/html.jinja, line 2"),
        ("layout.text.jinja", "mine/layout.text.jinja, line 2"),
        ("applications/app1/Welcome/html.jinja", "mine/applications/app1/Welcome/html.jinja, line 2"),
    ],
)
async def test_a_failing_template_is_reported_before_a_mail_uses_it(tmp_path: Path, file: str, faulty: str) -> None:
    reported: list[Fault] = []
    await check_changed_templates(lint_context(tmp_path, {file: FAILS}, reported), {}, FakeClock())
    assert [fault.path for fault in reported] == [faulty]


@pytest.mark.parametrize(
    ("files", "mails", "of_nulls"),
    [
        ({}, 0, 0),
        ({"SignIn/de/html.jinja": "{{ code }}"}, 1, 1),
        ({"locales/de.toml": '[common]\nquestions = "Noch Fragen?"\n'}, KINDS, KINDS),
        ({"layout.html.jinja": LAYOUT + "\n"}, KINDS * LANGUAGES, KINDS),
        ({"SignIn/logto/de.toml": 'subject = "{{code}}"\n', "SignIn/logto/de.html": "<p>{{code}}</p>"}, 1, 1),
        ({"organizations/org1/SignIn/html.jinja": "{{ code }}"}, LANGUAGES, 1),
        ({"SignIn/html.jinja": "{{ code }}", "SignIn/de/html.jinja": "{{ code }}"}, LANGUAGES, 2),
    ],
)
async def test_unchanged_bundled_mails_are_not_rendered(
    tmp_path: Path, rendered: list[tuple[str, str, str]], files: dict[str, str], mails: int, of_nulls: int
) -> None:
    await check_changed_templates(lint_context(tmp_path, files), {}, FakeClock())
    assert len(set(rendered)) == mails
    assert len(rendered) == mails + of_nulls


async def test_unchanged_mails_are_not_rendered_again(tmp_path: Path, rendered: list[tuple[str, str, str]]) -> None:
    context = lint_context(
        tmp_path,
        {
            "SignIn/html.jinja": "{{ code }}",
            "applications/app1/Welcome/de/html.jinja": "x",
            "organizations/org1/Welcome/fr/html.jinja": "x",
        },
    )
    checked: changed_templates.Checked = {}
    await check_changed_templates(context, checked, FakeClock())
    rendered.clear()
    write_files(tmp_path / "mine", {"organizations/org1/Welcome/fr/html.jinja": "other"})
    assert context.renderer.refresh() or context.renderer.refresh()
    await check_changed_templates(context, checked, FakeClock())
    assert set(rendered) == {("Welcome", "fr", "org1")}


class WorkingClock(FakeClock):
    """A clock that advances by a millisecond at each reading."""

    def monotonic(self) -> float:
        """Return a millisecond more than the last time."""
        self._monotonic += 0.001
        return self._monotonic


async def test_the_event_loop_is_free_again_after_a_few_renderings(
    tmp_path: Path, rendered: list[tuple[str, str, str]]
) -> None:
    context = lint_context(tmp_path, {"layout.html.jinja": LAYOUT + "\n"})
    clock = WorkingClock()
    checking = asyncio.create_task(check_changed_templates(context, {}, clock))
    slices: list[int] = []
    while True:
        before = len(rendered)
        await asyncio.sleep(0)
        if checking.done():
            break
        slices.append(len(rendered) - before)
        await clock.until_asleep()
        at = clock.monotonic()
        await clock.advance(0.012)
        assert clock.monotonic() - at < 0.02
    assert len(rendered) == KINDS * LANGUAGES + KINDS
    assert max(slices) <= 2


@asynccontextmanager
async def watching(context: LintContext, clock: FakeClock) -> AsyncIterator[list[EventDict]]:
    """Watch templates during the block; yield the log."""
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(watch_templates(context, clock))
        try:
            yield logs
        finally:
            task.cancel()
            await asyncio.wait((task,))


async def test_a_faulty_change_is_reported_once_within_2_seconds(tmp_path: Path) -> None:
    reported: list[Fault] = []
    context = lint_context(tmp_path, {"SignIn/html.jinja": "{{ code }}"}, reported)
    clock = FakeClock()
    async with watching(context, clock) as logs:
        await clock.until_asleep()
        assert not reported
        for file, text in (("Welcome/fr/html.jinja", FAILS), ("Welcome/de/html.jinja", "ok")):
            write_files(tmp_path / "mine", {file: text})
            began = clock.monotonic()
            while not logs:
                await clock.advance(0.5)
                await clock.until_asleep()
            assert clock.monotonic() - began <= 1
            assert logs.pop()["event"] == "templates.read"
            assert [fault.path for fault in reported] == ["mine/Welcome/fr/html.jinja, line 2"]


async def test_a_failing_check_is_logged_and_the_next_change_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Fault] = []
    context = lint_context(tmp_path, {"SignIn/html.jinja": "{{ code }}"}, reported)
    clock = FakeClock()
    with monkeypatch.context() as broken:
        broken.setattr(LintContext, "render", lambda *_: 1 / 0)
        async with watching(context, clock) as logs:
            await clock.until_asleep()
            assert [(line["event"], line["log_level"]) for line in logs] == [("templates.check_failed", "error")]
            broken.undo()
            write_files(tmp_path / "mine", {"Welcome/html.jinja": FAILS})
            for _ in range(4):
                await clock.advance(60)
                await clock.until_asleep()
    assert [fault.path for fault in reported] == ["mine/Welcome/html.jinja, line 2"]
