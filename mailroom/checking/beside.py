"""Checks an operator's templates beside the server that writes with them: in a process of its own, which may fail.

That takes seconds and parsers, and neither may be at the cost of a start or of a mail. So `__main__` does it with the
lowest priority, told by a pipe what to check and answering by another. It gets no secrets, and opens no outbox.
"""

import asyncio
import os
import pickle
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import msgspec
import structlog

from mailroom.checking import Finding
from mailroom.checking.making import VITAL, Desk
from mailroom.errors import Fault
from mailroom.message import Address
from mailroom.rendering.writer import TemplateWriter

_ROOT: Final = Path(__file__).parents[2]
_NEEDED: Final = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT"})
_MOST_TOLD: Final = 100
"""Lines of a log about one reading of the templates."""

Core: TypeAlias = tuple[int, str, int | None, str]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be checked."""

    recipe: Callable[..., TemplateWriter]
    """Makes the writer, but for its `tell`; can be pickled."""
    sender: Address
    reply_to: Address | None
    domains: frozenset[str]
    default_language: str


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    faults: list[Fault]
    """Of templates that could not be used: others stood in."""
    findings: list[Finding]


class Checking:
    """Has the overlay checked whenever it is asked to, one check at a time, and tells the log what is new."""

    def __init__(self, order: Order, known: Callable[[], Collection[Fault]]) -> None:
        """Take what to check; `known` returns the faults that the server's own writer has told."""
        self._order = order
        self._known = known
        self._asked = asyncio.Event()
        self._told: Collection[Core] | None = None

    def ask(self) -> None:
        """Have it checked; once more, if it is being checked."""
        self._asked.set()

    async def run(self) -> None:
        """Check as often as asked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                self._tell(msgspec.json.decode(await _answer(self._order), type=Report))
            except Exception as error:  # noqa: BLE001 - whatever it is, mails go out without it
                log.warning("templates.unchecked", problem=f"{error}", remedy="run `mailroom check`")

    def _tell(self, report: Report) -> None:
        faults = [fault for fault in report.faults if fault not in self._known()]
        new = [finding for finding in report.findings if self._is_new(finding)]
        self._told = {finding.core for finding in report.findings}
        for fault in faults[:_MOST_TOLD]:
            log.error("template.faulty", place=fault.path, problem=fault.problem)
        for finding in new[: max(0, _MOST_TOLD - len(faults))]:
            if finding.is_warning:
                log.warning("template.doubtful", **finding.told())
            else:
                log.error("template.faulty", **finding.told())
        doubtful = sum(finding.is_warning for finding in report.findings)
        wrong = len(report.findings) - doubtful
        log.info("templates.checked", faults=len(report.faults), wrong=wrong, doubtful=doubtful)

    def _is_new(self, finding: Finding) -> bool:
        if self._told is None:  # at the start `vital` has told its own
            return finding.check not in VITAL or bool(finding.owners)
        return finding.core not in self._told


class CannotCheck(Exception):
    """The process that checks ended without an answer."""


async def _answer(order: Order) -> bytes:
    """Return what the process answers; it ends with us. Raises OSError or CannotCheck."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        __package__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(os.environ),
        start_new_session=True,  # a terminal's Ctrl-C is for the server, which ends it
    )
    try:
        answer, complaint = await process.communicate(pickle.dumps(order))
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    if process.returncode:
        words = complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise CannotCheck(f"the check ended with {process.returncode}: {words}")
    return answer


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Return what Python needs, and nothing that could be a secret."""
    needed = {name: value for name, value in ours.items() if name in _NEEDED or name.startswith(("PYTHON", "LC_"))}
    return needed | {"PYTHONPATH": os.pathsep.join(filter(None, (str(_ROOT), ours.get("PYTHONPATH"))))}


def carry_out(order: Order, progress: Callable[[], None]) -> Report:
    """Check what the overlay changes, in this process."""
    from mailroom.checking.running import check  # noqa: PLC0415 - a server's start needs no parser

    faults: list[Fault] = []
    writer = order.recipe(tell=faults.append)
    desk = Desk(writer, order.sender, order.reply_to, order.domains)
    found = check(desk, default_language=order.default_language, only_overlay=True, progress=progress)
    return Report(faults, found)
