"""The operator's templates are checked beside the server, by a process of its own."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.typing import EventDict

from mailroom.checking import beside
from mailroom.checking.__main__ import Pace
from mailroom.checking.beside import Checking, Order
from mailroom.errors import Fault
from mailroom.rendering.writer import TemplateWriter
from tests.rendering.overlays import lay
from tests.rendering.samples import BRAND, SENDER

TOO_LONG = '[SignIn]\nsubject = "{app}: {code}, said at such a length that no telephone shows it to its very end"\n'


def order(folder: Path, **changes: Any) -> Order:
    recipe = partial(
        TemplateWriter,
        brand=BRAND,
        code_lifetime=timedelta(minutes=10),
        message_id_domain="acme.example",
        overlay=folder,
        **changes,
    )
    return Order(recipe, SENDER, None, frozenset(), "en")


class Log(asyncio.Queue[EventDict]):
    """What was logged, to be waited for."""

    async def upto(self, event: str) -> list[EventDict]:
        """Return the lines until this event, and take them out."""
        taken = [await self.get()]
        while taken[-1]["event"] != event:
            taken.append(await self.get())
        return taken


@asynccontextmanager
async def running(checking: Checking) -> AsyncIterator[Log]:
    """Run it for a while, and see what it logs."""
    told = Log()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "log", structlog.wrap_logger(None, processors=[partial(_noted, told)]))
        task = asyncio.create_task(checking.run())
        try:
            async with asyncio.timeout(240):  # the lowest priority has to wait where others work
                yield told
        finally:
            task.cancel()
            await asyncio.wait((task,))


def _noted(told: Log, _logger: Any, level: str, line: EventDict) -> EventDict:
    told.put_nowait({**line, "level": level})
    raise structlog.DropEvent


async def test_what_is_wrong_and_what_is_doubtful_is_told_and_later_what_is_new(tmp_path: Path) -> None:
    mine = lay(
        tmp_path / "mine",
        {"locales/de.toml": TOO_LONG, "applications/app1/Register/de/html.jinja": "{{ code }}"},
    )
    checking = Checking(order(mine), known=lambda: ())
    async with running(checking) as told:
        checking.ask()
        *lines, last = await told.upto("templates.checked")
        long = next(line for line in lines if line["event"] == "template.doubtful")
        assert (long["level"], long["check"], long["place"]) == ("warning", 5, "mine/locales/de.toml, line 2")
        wrong = [line for line in lines if line["event"] == "template.faulty"]
        assert {line["level"] for line in wrong} == {"error"}
        assert {line["owners"] for line in wrong} == {"applications/app1"}
        assert 7 in {line["check"] for line in wrong}
        assert (last["doubtful"], last["wrong"], last["faults"]) == (1, len(wrong), 0)

        lay(mine, {"locales/fr.toml": TOO_LONG})
        checking.ask()
        *lines, last = await told.upto("templates.checked")
        assert {line["place"] for line in lines} == {"mine/locales/fr.toml, line 2"}
        assert last["doubtful"] == 2


async def test_what_the_server_has_told_is_not_told_again(tmp_path: Path) -> None:
    """Faults by its writer; codes that are not shown by `vital`, but for those of single owners."""
    no_code = "{% extends 'bundled/layout.text.jinja' %}"
    mine = lay(
        tmp_path / "mine",
        {
            "SignIn/de/html.jinja": "{% if %}",
            "Register/de/html.jinja": "{{ code }} {{ user.name|length + organization.name.x|length }}",
            "SignIn/de/text.jinja": no_code,
            "organizations/org1/Register/de/text.jinja": no_code,
        },
    )
    read = Fault("mine/SignIn/de/html.jinja, line 1", "Expected an expression, got 'end of statement block'")
    checking = Checking(order(mine), known=lambda: (read,))
    async with running(checking) as told:
        checking.ask()
        *lines, last = await told.upto("templates.checked")
    assert last["faults"] == 2
    assert [line["place"] for line in lines if "check" not in line] == ["mine/Register/de/html.jinja, line 1"]
    assert [(line["check"], line["owners"]) for line in lines if line.get("check") in {1, 2}] == [
        (2, "organizations/org1")
    ]


async def test_a_check_that_fails_is_told_and_the_next_one_is_made(tmp_path: Path) -> None:
    checking = Checking(order(tmp_path, default_locale="tlh"), known=lambda: ())
    async with running(checking) as told:
        for _ in range(2):
            checking.ask()
            [line] = await told.upto("templates.unchecked")
            assert line["level"] == "warning"
            assert "there are no words in 'tlh'" in line["problem"]


async def test_what_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    checking = Checking(order(tmp_path), known=lambda: ())
    async with running(checking) as told:
        checking.ask()
        [line] = await told.upto("templates.unchecked")
        assert "No such file" in line["problem"]


async def test_it_ends_with_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()
    start = asyncio.create_subprocess_exec

    async def noting(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        started.put_nowait(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noting)
    checking = Checking(order(lay(tmp_path, {"layout.html.jinja": "{{ code }}"})), known=lambda: ())
    async with running(checking):
        checking.ask()
        process = await started.get()
    assert process.returncode == -9


def test_it_gets_no_secrets_and_finds_mailroom() -> None:
    ours = {"PATH": "/bin", "PYTHONPATH": "/a", "MAILROOM_SECRET_KEY": "s", "DATABASE_URL": "s", "AWS_X": "s"}
    root = str(Path(beside.__file__).parents[2])
    assert beside._environment(ours) == {"PATH": "/bin", "PYTHONPATH": f"{root}{os.pathsep}/a"}


def test_it_rests_for_longer_than_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    rested: list[float] = []
    monkeypatch.setattr(time, "sleep", rested.append)
    spent = iter([1.0, 1.5, 1.5])
    monkeypatch.setattr(time, "process_time", lambda: next(spent))
    Pace()()
    assert rested == [1.0]
