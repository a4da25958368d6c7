"""Runs the write operations of the outbox in one thread, many of them in one transaction (group commit).

    number = await writer.run(insert_rows, row)       # insert_rows gets the rows of all callers that wait
    count = await writer.call(lambda connection: ...)  # a function of its own for each caller

Operations that arrive while a transaction is being written share the next one. Those with the same work are one call,
so that a hundred inserts can be one statement: each step of a statement gives up the GIL and has to get it back from
a busy event loop.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeAlias, TypeVar

import apsw
import msgspec

from mailroom.errors import CannotKeep
from mailroom.outbox.sqlite.database import transaction, truncate_log
from mailroom.outbox.sqlite.files import Files

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Work: TypeAlias = Callable[[apsw.Connection, Sequence[Argument]], Sequence[Result | Exception]]
"""Works on a list of arguments within a transaction; returns a result for each, or the exception for its caller."""

Undo: TypeAlias = Callable[[apsw.Connection, Argument], None]
"""Reverts what the work has done for this argument."""

_MAX_OPERATIONS: Final = 512
"""Operations per transaction; about 10 ms of inserts, which limits the latency of the first one."""

_DISK_ERRORS: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.NoMemError,
    apsw.NotADBError,
    apsw.PermissionsError,
    apsw.ProtocolError,
    apsw.ReadOnlyError,
)
"""Errors that no single operation causes: at the moment nothing can be stored."""

_CONNECTION_BROKEN: Final = (apsw.CantOpenError, apsw.CorruptError, apsw.IOError, apsw.NotADBError)


class RunSeparately(Exception):
    """Raised by work that cannot tell which of its arguments failed: it is called again with each of them."""


class _Operation(msgspec.Struct, frozen=True, eq=False):
    work: Work[Any, Any]
    argument: Any
    undo: Undo[Any] | None
    future: "asyncio.Future[Any]"


_Outcome: TypeAlias = tuple[_Operation, Any]
"""An operation with its result, or with the exception that its caller gets."""


class Writer:
    """Runs operations, one transaction after the other. Belongs to the event loop in which it is used first."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._waiting: list[_Operation] = []
        self._flushing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="outbox-writer")

    async def run(
        self, work: Work[Argument, Result], argument: Argument, *, undo: Undo[Argument] | None = None
    ) -> Result:
        """Return the operation's result once it is durable.

        Raises CannotKeep when the disk did not accept it, and whatever the work itself raises. Cancelling this call
        does not undo an operation that has begun.

        An operation with `undo` is refused, and undone, when the database is not at its path any more. The others
        continue in the file that is still open: messages accepted before exist only there.
        """
        self._refuse_if_closed()
        operation = _Operation(work, argument, undo, asyncio.get_running_loop().create_future())
        self._waiting.append(operation)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        result: Result = await operation.future
        return result

    async def call(self, function: Callable[[apsw.Connection], Result]) -> Result:
        """Return the function's result once it is durable.

        It is called last in its transaction, so that it is not repeated because an insert failed.
        """
        return await self.run(_call_each, function)

    async def truncate_log(self) -> bool:
        """Empty SQLite's log, between two transactions; False: another process is reading it. Raises CannotKeep."""
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._truncate_log)

    async def data_version(self) -> object:
        """Return a value that differs from the last one if another connection has written. Raises CannotKeep."""
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._read_data_version)

    async def close(self) -> None:
        """Finish the operations that wait, then close the connection and end the thread."""
        self._closing = self._closing or asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    def _refuse_if_closed(self) -> None:
        if self._closing:
            raise CannotKeep("the outbox is closed")

    async def _close(self) -> None:
        if self._flushing:
            await self._flushing
        await asyncio.get_running_loop().run_in_executor(self._executor, self._files.disconnect)
        self._executor.shutdown()

    async def _flush(self) -> None:
        """Run what waits, one transaction after the other."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            # Let requests that have arrived join this transaction: fewer commits, a sixth less CPU in bench row a.
            await asyncio.sleep(0)
            batch, self._waiting = self._waiting[:_MAX_OPERATIONS], self._waiting[_MAX_OPERATIONS:]
            for operation, result in await loop.run_in_executor(self._executor, self._run, batch):
                if operation.future.done():  # its caller was cancelled
                    continue
                if isinstance(result, Exception):
                    operation.future.set_exception(result)
                else:
                    operation.future.set_result(result)
        self._flushing = None

    # The methods below run in the thread.

    def _run(self, operations: list[_Operation]) -> list[_Outcome]:
        """Run operations in one transaction; if one of them makes it fail, each in its own."""
        operations = [operation for operation in operations if not operation.future.cancelled()]
        if not operations:
            return []
        try:
            return self._transact(operations)
        except _DISK_ERRORS as error:
            problem = self._recover(error)
            return [(operation, CannotKeep(problem)) for operation in operations]
        except Exception as error:  # noqa: BLE001 - its caller gets it
            if len(operations) == 1:
                return [(operations[0], error)]
        outcomes: list[_Outcome] = []
        for operation in operations:
            if outcomes and isinstance(refusal := outcomes[-1][1], CannotKeep):  # the rest would fail as slowly
                outcomes.append((operation, CannotKeep(str(refusal))))
            else:
                outcomes += self._run([operation])
        return outcomes

    def _transact(self, operations: list[_Operation]) -> list[_Outcome]:
        connection = self._files.connect()
        outcomes: list[_Outcome] = []
        if problem := self._files.problem:
            outcomes = [(operation, CannotKeep(problem)) for operation in operations if operation.undo]
            operations = [operation for operation in operations if not operation.undo]
        groups: dict[Work[Any, Any], list[_Operation]] = {}
        for operation in sorted(operations, key=lambda operation: operation.work is _call_each):
            groups.setdefault(operation.work, []).append(operation)
        with transaction(connection):
            for work, group in groups.items():
                results = work(connection, [operation.argument for operation in group])
                outcomes += zip(group, results, strict=True)
        self._files.verify(connection)
        if not (problem := self._files.problem):
            return outcomes
        with contextlib.suppress(apsw.Error):  # if undoing fails, a refused message may still be sent
            for operation in operations:
                if operation.undo:
                    operation.undo(connection, operation.argument)
        return [(one, CannotKeep(problem) if one.undo else result) for one, result in outcomes]

    def _truncate_log(self) -> bool:
        try:
            return truncate_log(self._files.connect())
        except _DISK_ERRORS as error:
            raise CannotKeep(self._recover(error)) from error

    def _read_data_version(self) -> object:
        try:
            connection = self._files.connect()
            return id(connection), connection.pragma("data_version")
        except _DISK_ERRORS as error:
            raise CannotKeep(self._recover(error)) from error

    def _recover(self, error: apsw.Error) -> str:
        """Close a broken connection; return what to say to the callers."""
        if isinstance(error, _CONNECTION_BROKEN):
            self._files.disconnect()
        return f"the outbox cannot be written: {error}"


def _call_each(connection: apsw.Connection, functions: Sequence[Callable[[apsw.Connection], Result]]) -> list[Result]:
    return [function(connection) for function in functions]
