"""The parent that keeps the socket, with children that follow a script (`supervised.py`)."""

import ast
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import supervisor

ROOT = Path(__file__).parents[1]
PROGRAM = Path(__file__).with_name("supervised.py")


class Running:
    """A supervisor that runs."""

    def __init__(self, folder: Path, process: asyncio.subprocess.Process) -> None:
        self._folder = folder
        self._process = process

    def behave(self, how: str) -> None:
        """Set what children do that are started from now on."""
        (self._folder / "behaviour").write_text(how)

    def signal(self, number: int) -> None:
        """Send the parent a signal."""
        self._process.send_signal(number)

    def notes(self) -> list[tuple[int, str]]:
        """Return what the children recorded: process and text."""
        path = self._folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(pid), words) for pid, _, words in (line.partition(" ") for line in lines)]

    def words(self) -> list[str]:
        """Return what the children recorded, without processes and ports."""
        return [words.split()[0] for _, words in self.notes()]

    async def notes_with(self, word: str, times: int = 1) -> list[tuple[int, str]]:
        """Return the notes that begin with a word, once there are so many."""
        async with asyncio.timeout(20):
            while len(found := [one for one in self.notes() if one[1].startswith(word)]) < times:  # noqa: ASYNC110 - a file sets no event
                await asyncio.sleep(0.005)
        return found

    async def ended(self) -> int:
        """Wait for its end; return the exit code."""
        return await asyncio.wait_for(self._process.wait(), 20)

    def log(self) -> list[dict[str, Any]]:
        """Return the lines that the parent wrote."""
        return [json.loads(line) for line in (self._folder / "log").read_text().splitlines() if line.startswith("{")]

    async def logged(self, event: str, times: int = 1) -> list[dict[str, Any]]:
        """Return the lines about an event, once there are so many."""
        async with asyncio.timeout(20):
            while len(found := [line for line in self.log() if line["event"] == event]) < times:  # noqa: ASYNC110 - a file sets no event
                await asyncio.sleep(0.005)
        return found

    @property
    def port(self) -> int:
        """Where the children listen."""
        return next(int(words.split()[1]) for _, words in self.notes() if words.startswith("serving"))

    def ask(self) -> int:
        """Connect; return the process that answered."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            return int(connection.recv(100))


@asynccontextmanager
async def running(folder: Path, behaviour: str, *arguments: str, **options: Any) -> AsyncIterator[Running]:
    """Run a supervisor; leaves no process behind."""
    (folder / "behaviour").write_text(behaviour)
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), str(folder), *arguments, stderr=log, start_new_session=True, **options
        )
    try:
        yield Running(folder, process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def test_it_serves_until_sigterm_and_ends_with_the_childs_code(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(child, _)] = await one.notes_with("serving")
        assert one.ask() == child
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert one.words() == ["first", "serving", "SIGTERM"]
        assert one.log() == []


async def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        await one.notes_with("serving")
        one.signal(signal.SIGINT)
        assert await one.ended() == 0
        assert one.words()[-1] == "SIGINT"


async def test_a_child_that_is_not_prepared_is_killed_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, "hang") as one:
        await one.notes_with("first")
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0


async def test_sighup_replaces_the_child_on_the_same_socket(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(old, _)] = await one.notes_with("serving")
        one.signal(signal.SIGHUP)
        await one.notes_with("SIGTERM")
        (_, _), (new, words) = await one.notes_with("serving", 2)
        assert words == f"serving {one.port}"
        assert (new, "next") in one.notes()
        assert new != old
        assert one.ask() in (old, new)
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert (new, "SIGTERM") in one.notes()


async def test_several_children_serve_and_one_that_dies_is_replaced(tmp_path: Path) -> None:
    """On the same socket; all of them drain at the end."""
    async with running(tmp_path, "serve 3") as one:
        children = {child for child, _ in await one.notes_with("serving", 3)}
        assert len(children) == 3
        assert one.words().count("first") == 1
        for victim in sorted(children):  # the one that leads, and those beside it
            os.kill(victim, signal.SIGKILL)
        await one.logged("process.died", 3)
        alive = {child for child, _ in await one.notes_with("serving", 6)} - children
        assert len(alive) == 3
        assert one.ask() in alive
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert {child for child, words in one.notes() if words == "SIGTERM"} == alive


async def test_sighup_replaces_all_children_by_as_many_as_are_wanted_now(tmp_path: Path) -> None:
    """Once the next one is prepared, and not before."""
    async with running(tmp_path, "serve 2") as one:
        old = {child for child, _ in await one.notes_with("serving", 2)}
        one.behave("exit 1")
        one.signal(signal.SIGHUP)
        await one.logged("reload.failed")
        assert "SIGTERM" not in one.words()
        one.behave("serve 3")
        one.signal(signal.SIGHUP)
        new = {child for child, _ in await one.notes_with("serving", 5)} - old
        assert {child for child, _ in await one.notes_with("SIGTERM", 2)} == old
        assert len(new) == 3
        assert one.ask() in new | old


async def test_wrong_settings_end_none_that_serve(tmp_path: Path) -> None:
    """Whichever dies: starting another one is tried until the settings are right; a reload then replaces both."""
    async with running(tmp_path, "serve 2") as one:
        [(leader, _), (other, _)] = await one.notes_with("serving", 2)
        one.behave("exit 2")
        os.kill(leader, signal.SIGKILL)
        died = await one.logged("process.died", 4)
        assert [line["exit_code"] for line in died[1:]] == [supervisor.EXIT_SETTINGS] * 3
        assert died[2]["replaced_after_seconds"] < died[3]["replaced_after_seconds"]
        one.signal(signal.SIGHUP)
        await one.logged("reload.failed")
        assert one.ask() == other
        assert (other, "SIGTERM") not in one.notes()
        one.behave("serve 2")
        (third, _) = (await one.notes_with("serving", 3))[-1]
        assert one.ask() in {other, third}
        one.signal(signal.SIGHUP)
        await one.notes_with("serving", 5)
        assert {(other, "SIGTERM"), (third, "SIGTERM")} <= set(one.notes())


async def test_wrong_settings_end_all_once_none_serves(tmp_path: Path) -> None:
    async with running(tmp_path, "serve 2") as one:
        [(leader, _), (other, _)] = await one.notes_with("serving", 2)
        one.behave("exit 2")
        os.kill(leader, signal.SIGKILL)
        await one.logged("process.died", 2)
        os.kill(other, signal.SIGKILL)
        assert await one.ended() == supervisor.EXIT_SETTINGS


async def test_a_next_child_that_fails_changes_nothing_and_is_logged(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(old, _)] = await one.notes_with("serving")
        for code in (1, 2):
            one.behave(f"exit {code}")
            one.signal(signal.SIGHUP)
            line = (await one.logged("reload.failed", code))[-1]
            assert (line["level"], line["exit_code"]) == ("error", code)
        assert one.ask() == old
        assert "SIGTERM" not in one.words()


async def test_a_second_sighup_kills_a_next_child_that_is_not_prepared(tmp_path: Path) -> None:
    """It may have read the settings before they were corrected."""
    async with running(tmp_path, "serve") as one:
        await one.notes_with("serving")
        one.behave("hang")
        one.signal(signal.SIGHUP)
        [(hanging, _)] = await one.notes_with("next")
        one.behave("serve")
        one.signal(signal.SIGHUP)
        (_, _), (new, _) = await one.notes_with("serving", 2)
        assert not os.path.exists(f"/proc/{hanging}")  # noqa: ASYNC240, PTH110 - no disk is read
        assert not [line for line in one.log() if line["event"] == "reload.failed"]
        await one.notes_with("SIGTERM")
        assert one.ask() == new


async def test_a_child_that_dies_is_replaced_and_connections_wait(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(old, _)] = await one.notes_with("serving")
        os.kill(old, signal.SIGKILL)
        new = await asyncio.to_thread(one.ask)
        assert new != old
        assert (new, "again") in one.notes()
        [line] = await one.logged("process.died")
        assert (line["level"], line["exit_code"], line["replaced_after_seconds"]) == ("error", -9, 0)
        assert line["timestamp"][-1] == "Z"


async def test_the_pauses_grow_while_children_die_early(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        for times in range(1, 4):
            child = (await one.notes_with("serving", times))[-1][0]
            os.kill(child, signal.SIGKILL)
        lines = await one.logged("process.died", 3)
        assert [line["replaced_after_seconds"] for line in lines] == list(supervisor._PAUSES[:3])
        assert list(supervisor._PAUSES) == sorted(supervisor._PAUSES)


async def test_a_child_that_dies_while_the_next_one_gets_ready_is_replaced_by_it(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(old, _)] = await one.notes_with("serving")
        one.behave("hang")
        one.signal(signal.SIGHUP)
        await one.notes_with("next")
        os.kill(old, signal.SIGKILL)
        one.behave("serve")
        one.signal(signal.SIGHUP)
        (_, _), (new, _) = await one.notes_with("serving", 2)
        assert one.ask() == new


async def test_wrong_settings_end_it(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(child, _)] = await one.notes_with("serving")
        one.behave(f"exit {supervisor.EXIT_SETTINGS}")
        os.kill(child, signal.SIGKILL)
        assert await one.ended() == supervisor.EXIT_SETTINGS


@pytest.mark.parametrize("code", [0, 1, 2])
async def test_a_first_child_that_cannot_start_ends_it(tmp_path: Path, code: int) -> None:
    """The exit code is passed on; `--help` exits with 0."""
    async with running(tmp_path, f"exit {code}") as one:
        assert await one.ended() == code
        assert one.words() == ["first"]


async def test_a_later_child_that_cannot_start_is_replaced(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        [(child, _)] = await one.notes_with("serving")
        one.behave("exit 1")
        os.kill(child, signal.SIGKILL)
        await one.notes_with("again", 2)
        one.behave("serve")
        (_, _), (new, _) = await one.notes_with("serving", 2)
        assert one.ask() == new


async def test_children_end_when_the_parent_dies(tmp_path: Path) -> None:
    async with running(tmp_path, "serve") as one:
        await one.notes_with("serving")
        one.signal(signal.SIGKILL)
        await one.ended()
        await one.notes_with("orphaned")


async def test_a_child_that_exceeds_its_shutdown_time_is_killed(
    tmp_path: Path,
) -> None:
    """Otherwise the next one would wait for the outbox for ever."""
    async with running(tmp_path, "stubborn") as one:
        await one.notes_with("serving")
        one.signal(signal.SIGTERM)
        assert await one.ended() == 128 + signal.SIGKILL
        assert len(await one.logged("process.overdue")) == 1


async def test_sockets_of_systemd_are_passed_to_the_children(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        (tmp_path / "behaviour").write_text("serve")
        command = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "{sys.executable}" "{PROGRAM}" "{tmp_path}" 3<&0'
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdin=own.fileno(), stderr=subprocess.DEVNULL, start_new_session=True
        )
        one = Running(tmp_path, process)
        port = own.getsockname()[1]
        assert [words for _, words in await one.notes_with("serving")] == [f"serving {port}"]
        one.signal(signal.SIGHUP)
        assert [words for _, words in await one.notes_with("serving", 2)] == [f"serving {port}"] * 2
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0


def test_there_is_no_parent_in_development_and_a_child_is_no_parent() -> None:
    assert supervisor.is_wanted(["server.py"], {})
    assert not supervisor.is_wanted(["server.py", "--dev"], {})
    assert not supervisor.is_wanted(["server.py"], {"SUPERVISOR_FD": "3"})


def test_it_imports_nothing_but_the_standard_library() -> None:
    """So the parent stays small, and no fault of the application ends it."""
    tree = ast.parse((ROOT / "supervisor.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
