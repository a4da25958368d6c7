"""Tests of the writer: concurrent operations share a transaction, and an error fails one of them only."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

from mailroom.errors import CannotKeep
from mailroom.outbox.sqlite.database import Connection, create
from mailroom.outbox.sqlite.files import Files
from mailroom.outbox.sqlite.writer import RunSeparately, Writer


class Table(Files):
    """A table of numbers that records how it was written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        create(path)
        self.opened = 0
        self.calls: list[list[Any]] = []
        self._open().execute("CREATE TABLE numbers (n)")

    def _open(self) -> Connection:
        self.opened += 1
        return super()._open()

    def insert(self, connection: apsw.Connection, numbers: Sequence[int]) -> list[int]:
        """Insert numbers; raises ValueError for a negative one."""
        self.calls.append(list(numbers))
        connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in numbers])
        if min(numbers) < 0:
            raise ValueError(min(numbers))
        return [number * 2 for number in numbers]

    def content(self) -> list[Any]:
        """Return the numbers in the table."""
        return [n for (n,) in self._open().execute("SELECT n FROM numbers ORDER BY n")]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Return an empty table."""
    return Table(tmp_path / "numbers.db")


@pytest.fixture
async def writer(table: Table) -> AsyncIterator[Writer]:
    """Return a writer of it."""
    writer = Writer(table)
    yield writer
    await writer.close()


async def test_concurrent_operations_are_one_call(writer: Writer, table: Table) -> None:
    """One call, one transaction, a result for each."""
    assert await asyncio.gather(*(writer.run(table.insert, n) for n in range(5))) == [0, 2, 4, 6, 8]
    assert table.calls == [[0, 1, 2, 3, 4]]
    assert table.content() == [0, 1, 2, 3, 4]


async def test_only_the_operation_that_raises_fails(writer: Writer, table: Table) -> None:
    """The others are stored."""
    answers = await asyncio.gather(*(writer.run(table.insert, n) for n in (1, -2, 3)), return_exceptions=True)
    assert answers[::2] == [2, 6]
    assert isinstance(answers[1], ValueError)
    assert table.content() == [1, 3]


async def test_work_can_request_a_call_for_each_argument(writer: Writer, table: Table) -> None:
    """By raising RunSeparately."""

    def alone(connection: apsw.Connection, numbers: Sequence[int]) -> list[int]:
        if len(numbers) > 1:
            raise RunSeparately
        return table.insert(connection, numbers)

    assert await asyncio.gather(*(writer.run(alone, n) for n in range(3))) == [0, 2, 4]
    assert table.content() == [0, 1, 2]


async def test_a_function_is_not_called_twice_when_an_insert_fails(writer: Writer, table: Table) -> None:
    """It is called last in its transaction, whenever it was passed."""
    calls: list[int] = []

    def count(connection: apsw.Connection) -> int:
        calls.append(1)
        return len(calls)

    results = await asyncio.gather(writer.call(count), writer.run(table.insert, -1), return_exceptions=True)
    assert results[0] == 1
    assert calls == [1]


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError, apsw.BusyError, apsw.CorruptError, apsw.ReadOnlyError])
async def test_a_disk_error_refuses_the_whole_transaction(
    writer: Writer, table: Table, error: type[apsw.Error]
) -> None:
    """Each operation gets an exception of its own, and the next transaction works."""
    trouble = [error("made up")]

    def troubled(connection: apsw.Connection, numbers: Sequence[int]) -> list[int]:
        if trouble:
            raise trouble.pop()
        return table.insert(connection, numbers)

    answers = await asyncio.gather(*(writer.run(troubled, n) for n in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [CannotKeep] * 3
    assert len({id(answer) for answer in answers}) == 3
    assert await writer.run(troubled, 7) == 14
    assert table.content() == [7]


async def test_a_disk_error_during_separate_runs_refuses_the_rest_at_once(writer: Writer, table: Table) -> None:
    """The others do not wait for the same disk one by one."""
    tried: list[int] = []

    def troubled(connection: apsw.Connection, numbers: Sequence[int]) -> list[int]:
        if len(numbers) > 1:
            raise RunSeparately
        tried.extend(numbers)
        raise apsw.BusyError("made up")

    answers = await asyncio.gather(*(writer.run(troubled, n) for n in range(9)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [CannotKeep] * 9
    assert tried == [0]


async def test_a_broken_connection_is_reopened(writer: Writer, table: Table) -> None:
    """With the next transaction."""
    await writer.run(table.insert, 1)
    opened = table.opened

    def broken(connection: apsw.Connection, numbers: Sequence[int]) -> list[int]:
        raise apsw.IOError("made up")

    with pytest.raises(CannotKeep):
        await writer.run(broken, 1)
    await writer.run(table.insert, 2)
    assert table.opened == opened + 1


async def test_a_transaction_whose_rollback_failed_is_left_behind(writer: Writer, table: Table) -> None:
    """The next operation uses a new connection."""
    await writer.run(table.insert, 1)
    assert table.connection is not None
    table.connection.execute("BEGIN")
    assert await writer.run(table.insert, 2) == 4
    assert table.content() == [1, 2]


async def test_a_file_that_cannot_be_opened_raises(tmp_path: Path) -> None:
    """Opening is tried again each time."""
    writer = Writer(Files(tmp_path / "missing" / "x.db"))
    for _ in range(2):
        with pytest.raises(CannotKeep, match=r"x\.db was deleted or moved"):
            await writer.run(lambda connection, numbers: list(numbers), 1)
    await writer.close()


async def test_an_operation_cancelled_before_it_began_is_not_run(writer: Writer, table: Table) -> None:
    """Concurrent ones are."""
    tasks = [asyncio.create_task(writer.run(table.insert, n)) for n in range(3)]
    asyncio.get_running_loop().call_soon(tasks[1].cancel)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert (answers[0], type(answers[1]), answers[2]) == (0, asyncio.CancelledError, 4)
    assert set(table.content()) >= {0, 2}


async def test_close_can_be_called_twice(writer: Writer, table: Table) -> None:
    """Operations that waited are finished."""
    task = asyncio.create_task(writer.run(table.insert, 5))
    await asyncio.sleep(0)
    await asyncio.gather(writer.close(), writer.close())
    assert await task == 10
    with pytest.raises(CannotKeep, match="closed"):
        await writer.run(table.insert, 6)
