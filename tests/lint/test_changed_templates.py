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
from mailroom.rendering.renderer import BUNDLED
from tests.clock import FakeClock
from tests.rendering.overlays import lay
from tests.rendering.samples import SENDER, writer

FAILS = "{{ code }}\n{{ code + 1 }}"
LAYOUT = (BUNDLED / "layout.html.jinja").read_text(encoding="utf-8")
LANGUAGES = 20
KINDS = 10


def desk(folder: Path, files: dict[str, str], told: list[Fault] | None = None) -> LintContext:
    on_fault = [].append if told is None else told.append
    return LintContext(writer(overlay=lay(folder / "mine", files), on_fault=on_fault), SENDER)


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Return the kind, language and owner of each mail that is rendered from now on."""
    found: list[tuple[str, str, str]] = []
    mail = LintContext.mail

    def noted(self: LintContext, kind: str, language: str, sample: Sample) -> object:
        found.append((kind, language, self.owner.id if self.owner else ""))
        return mail(self, kind, language, sample)

    monkeypatch.setattr(LintContext, "mail", noted)
    return found


@pytest.mark.parametrize(
    ("file", "faulty"),
    [
        ("SignIn/de/html.jinja", "mine/SignIn/de/html.jinja, line 2"),
        ("layout.text.jinja", "mine/layout.text.jinja, line 2"),
        ("applications/app1/Welcome/html.jinja", "mine/applications/app1/Welcome/html.jinja, line 2"),
    ],
)
async def test_a_template_that_fails_is_told_before_a_mail_meets_it(tmp_path: Path, file: str, faulty: str) -> None:
    told: list[Fault] = []
    await check_changed_templates(desk(tmp_path, {file: FAILS}, told), {}, FakeClock())
    assert [fault.path for fault in told] == [faulty]


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
async def test_what_mailroom_brings_is_not_rendered(
    tmp_path: Path, rendered: list[tuple[str, str, str]], files: dict[str, str], mails: int, of_nulls: int
) -> None:
    await check_changed_templates(desk(tmp_path, files), {}, FakeClock())
    assert len(set(rendered)) == mails
    assert len(rendered) == mails + of_nulls


async def test_what_did_not_change_is_not_rendered_again(tmp_path: Path, rendered: list[tuple[str, str, str]]) -> None:
    writing = desk(
        tmp_path,
        {
            "SignIn/html.jinja": "{{ code }}",
            "applications/app1/Welcome/de/html.jinja": "x",
            "organizations/org1/Welcome/fr/html.jinja": "x",
        },
    )
    checked: changed_templates.Checked = {}
    await check_changed_templates(writing, checked, FakeClock())
    rendered.clear()
    lay(tmp_path / "mine", {"organizations/org1/Welcome/fr/html.jinja": "other"})
    assert writing.renderer.refresh() or writing.renderer.refresh()
    await check_changed_templates(writing, checked, FakeClock())
    assert set(rendered) == {("Welcome", "fr", "org1")}


class WorkingClock(FakeClock):
    """A clock on which a millisecond passes at each look."""

    def monotonic(self) -> float:
        """Return a millisecond more than the last time."""
        self._monotonic += 0.001
        return self._monotonic


async def test_the_event_loop_is_free_again_after_a_few_renderings(
    tmp_path: Path, rendered: list[tuple[str, str, str]]
) -> None:
    writing = desk(tmp_path, {"layout.html.jinja": LAYOUT + "\n"})
    clock = WorkingClock()
    checking = asyncio.create_task(check_changed_templates(writing, {}, clock))
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
async def watching(writing: LintContext, clock: FakeClock) -> AsyncIterator[list[EventDict]]:
    """Watch for a while, and see what is logged."""
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(watch_templates(writing, clock))
        try:
            yield logs
        finally:
            task.cancel()
            await asyncio.wait((task,))


async def test_a_change_with_a_fault_is_told_within_2_seconds_and_once(tmp_path: Path) -> None:
    told: list[Fault] = []
    writing = desk(tmp_path, {"SignIn/html.jinja": "{{ code }}"}, told)
    clock = FakeClock()
    async with watching(writing, clock) as logs:
        await clock.until_asleep()
        assert not told
        for file, text in (("Welcome/fr/html.jinja", FAILS), ("Welcome/de/html.jinja", "ok")):
            lay(tmp_path / "mine", {file: text})
            began = clock.monotonic()
            while not logs:
                await clock.advance(0.5)
                await clock.until_asleep()
            assert clock.monotonic() - began <= 1
            assert logs.pop()["event"] == "templates.read"
            assert [fault.path for fault in told] == ["mine/Welcome/fr/html.jinja, line 2"]


async def test_a_check_that_fails_is_told_and_the_next_change_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Fault] = []
    writing = desk(tmp_path, {"SignIn/html.jinja": "{{ code }}"}, told)
    clock = FakeClock()
    with monkeypatch.context() as broken:
        broken.setattr(LintContext, "mail", lambda *_: 1 / 0)
        async with watching(writing, clock) as logs:
            await clock.until_asleep()
            assert [(line["event"], line["log_level"]) for line in logs] == [("templates.check_failed", "error")]
            broken.undo()
            lay(tmp_path / "mine", {"Welcome/html.jinja": FAILS})
            for _ in range(4):
                await clock.advance(60)
                await clock.until_asleep()
    assert [fault.path for fault in told] == ["mine/Welcome/html.jinja, line 2"]
