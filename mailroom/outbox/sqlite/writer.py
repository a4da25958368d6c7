"""One thread with the only writing connection: it takes all operations that wait and runs them in one transaction.

Knows nothing of messages. An operation is a function that serves many of its kind at once, and one argument; those
that wait together are called together, so that a hundred inserts can be one statement. (Each step of a statement
gives up the GIL and has to get it back from a busy event loop.)
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, TypeAlias, TypeVar

import apsw
import msgspec

from mailroom.errors import CannotKeep
from mailroom.outbox.sqlite.database import Connection, truncate_log
from mailroom.outbox.sqlite.files import Files

Argument = TypeVar("Argument")
Result = TypeVar("Result")

Work: TypeAlias = Callable[[apsw.Connection, Sequence[Argument]], Sequence[Result]]
"""Serves a list of arguments within a transaction, and returns one result for each."""

Undo: TypeAlias = Callable[[apsw.Connection, Sequence[Argument]], None]
"""Takes back what the work has done for these arguments."""

_MOST: Final = 512
"""Operations a transaction; about 10 ms of inserts, so that the first do not wait long for the last."""

OF_THE_DISK: Final = (
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
"""What blames no operation: nothing could be kept just now."""

_CONNECTION_BROKEN: Final = (apsw.CantOpenError, apsw.CorruptError, apsw.IOError, apsw.NotADBError)


class RunSeparately(Exception):
    """Raised by work that can tell the results of its arguments only one by one: it is called again for each."""


class _Operation(msgspec.Struct, frozen=True, eq=False):
    work: Work[Any, Any]
    argument: Any
    late: bool
    undo: Undo[Any] | None
    future: "asyncio.Future[Any]"


class _Done(msgspec.Struct, frozen=True):
    future: "asyncio.Future[Any]"
    result: Any
    error: Exception | None = None


class Writer:
    """Runs operations in another thread, many in one transaction. Belongs to the loop in which it was made."""

    def __init__(self, files: Files, connection: Connection | None = None) -> None:
        self._files = files
        self._connection = connection
        self._problem = ""  # why nothing may be kept just now
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Operation] = []
        self._queue: SimpleQueue[list[_Operation] | None] = SimpleQueue()
        self._ended = self._loop.create_future()
        self._closed = False
        self._thread = Thread(target=self._work, name="outbox-writer", daemon=True)
        self._thread.start()

    async def run(
        self,
        work: Work[Argument, Result],
        argument: Argument,
        *,
        late: bool = False,
        undo: Undo[Argument] | None = None,
    ) -> Result:
        """Return the operation's result once it is durable.

        Raises CannotKeep when the disk did not take it, and whatever the work itself raises. A `late` operation
        comes last in its transaction: it is not run again because another one failed. Giving up the wait
        does not undo what has begun.

        An operation with `undo` is refused, and undone, when the database is not at its path any more. The others
        go on in the file that is open: what was acknowledged before is only there.
        """
        if self._closed:
            raise CannotKeep("the outbox is closed")
        future: asyncio.Future[Result] = self._loop.create_future()
        if not self._gathered:  # what arrives in the same turn of the loop goes together
            self._loop.call_soon(self._hand_over)
        self._gathered.append(_Operation(work, argument, late, undo, future))
        return await future

    async def truncate_log(self) -> bool:
        """Empty SQLite's log, between two transactions; False: somebody reads just now. Raises CannotKeep."""
        return await self.run(_truncate, None)

    async def close(self) -> None:
        """Finish what was begun, then close the connection and end the thread."""
        if not self._closed:
            self._closed = True
            self._hand_over()
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _hand_over(self) -> None:
        if self._gathered:
            self._queue.put(self._gathered)
            self._gathered = []

    def _resolve(self, done: Sequence[_Done]) -> None:
        for operation in done:
            if operation.future.done():  # nobody waits any more
                continue
            if operation.error is None:
                operation.future.set_result(operation.result)
            else:
                operation.future.set_exception(operation.error)

    # From here on in the thread.

    def _work(self) -> None:
        last = False
        while not last:
            operations, last = self._take()
            operations = [operation for operation in operations if not operation.future.cancelled()]
            done = self._run([operation for operation in operations if operation.work is not _truncate])
            done += self._run([operation for operation in operations if operation.work is _truncate])
            if done:
                self._tell(self._resolve, done)
        self._disconnect()
        self._tell(self._ended.set_result, None)

    def _tell(self, callback: Callable[..., object], argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, argument)
        except RuntimeError:  # the loop was closed: nobody is left to be told
            return

    def _take(self) -> tuple[list[_Operation], bool]:
        """Wait for operations and take all there are; True: they are the last."""
        taken: list[_Operation] = []
        while not taken or (len(taken) < _MOST and not self._queue.empty()):
            operations = self._queue.get()
            if operations is None:
                return taken, True
            taken += operations
        return taken, False

    def _run(self, operations: list[_Operation]) -> list[_Done]:
        try:
            return self._transact(operations)
        except OF_THE_DISK as error:
            self._recover(error)
            return [_refused(operation, error) for operation in operations]
        except Exception as error:  # noqa: BLE001 - whatever it is goes to the one who asked
            if len(operations) == 1:
                return [_Done(operations[0].future, None, error)]
        return self._run_apart(operations)

    def _run_apart(self, operations: list[_Operation]) -> list[_Done]:
        """Give each operation a transaction of its own, so that only the guilty one fails."""
        done: list[_Done] = []
        for operation in operations:
            done += self._run([operation])
            trouble = done[-1].error
            if isinstance(trouble, CannotKeep):  # the others would only wait for the same disk, one after the other
                rest = operations[len(done) :]
                return done + [_refused(other, trouble) for other in rest]
        return done

    def _transact(self, operations: list[_Operation]) -> list[_Done]:
        if not operations:
            return []
        if operations[0].work is _truncate:
            emptied = _truncate(self._connected(), [None] * len(operations))
            return [_Done(operation.future, result) for operation, result in zip(operations, emptied, strict=True)]
        connection = self._connected()
        if self._problem:
            lost = CannotKeep(self._problem)
            refused = [_refused(operation, lost) for operation in operations if operation.undo]
            return refused + self._commit(connection, [operation for operation in operations if not operation.undo])
        return self._commit(connection, operations)

    def _commit(self, connection: Connection, operations: list[_Operation]) -> list[_Done]:
        groups: dict[Work[Any, Any], list[_Operation]] = {}
        for operation in sorted(operations, key=_lateness):
            groups.setdefault(operation.work, []).append(operation)
        connection.execute("BEGIN IMMEDIATE")
        try:
            done: list[tuple[_Operation, Any]] = []
            for work, members in groups.items():
                results = work(connection, [member.argument for member in members])
                done += zip(members, results, strict=True)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise
        self._connection, self._problem = self._files.verify(connection)
        if not self._problem:
            return [_Done(operation.future, result) for operation, result in done]
        lost = CannotKeep(self._problem)
        with contextlib.suppress(apsw.Error):  # then they may be sent although they were refused
            for operation in operations:
                if operation.undo:
                    operation.undo(connection, [operation.argument])
        return [
            _refused(operation, lost) if operation.undo else _Done(operation.future, result)
            for operation, result in done
        ]

    def _connected(self) -> Connection:
        if self._problem and self._connection is not None:  # it may be over
            self._connection, self._problem = self._files.verify(self._connection)
        if self._connection is None:
            self._connection, self._problem = self._files.connect(), ""
        return self._connection

    def _roll_back(self, connection: apsw.Connection) -> None:
        if connection.in_transaction:  # SQLite has rolled back by itself after some errors
            try:
                connection.execute("ROLLBACK")
            except apsw.Error:
                self._disconnect()

    def _recover(self, error: apsw.Error) -> None:
        if isinstance(error, _CONNECTION_BROKEN):
            self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection; the next transaction opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close(True)
            except apsw.Error:
                return  # it is gone either way


def _lateness(operation: _Operation) -> bool:
    return operation.late


def _truncate(connection: apsw.Connection, calls: Sequence[None]) -> Sequence[bool]:
    """Empty SQLite's log; the one work that is done outside of a transaction."""
    return [truncate_log(connection)] * len(calls)


def _refused(operation: _Operation, error: Exception) -> _Done:
    refusal = CannotKeep(str(error) if isinstance(error, CannotKeep) else f"the outbox cannot be written: {error}")
    refusal.__cause__ = error
    return _Done(operation.future, None, refusal)
