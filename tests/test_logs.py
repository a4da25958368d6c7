"""Log lines: their fields, what they never contain, and that logging never blocks."""

import ast
import asyncio
import io
import json
import logging
import os
import pty
import re
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import structlog
from pydantic import SecretStr

from mailroom import logs
from mailroom.errors import CannotKeep, Rejected
from mailroom.message import MASK, Message, Priority, State

_ROOT = Path(__file__).parents[1]
_LEVELS = {"info", "warning", "error", "exception", "critical"}


def test_each_event_has_a_row_in_the_documentation() -> None:
    """And each row an event: the reader of a log finds there what a line means."""
    logged, texts = set[str](), set[str]()
    for path in [*_ROOT.glob("*.py"), *_ROOT.glob("handlers/**/*.py"), *_ROOT.glob("mailroom/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(ast.Name("log"), level), [ast.Constant(str(event)), *_]) if (
                    level in _LEVELS
                ):
                    logged.add(event)
                case ast.Constant(str(text)):
                    texts.add(text)
    rows = re.findall(r"^\| (`\w+\.\w+`[^|]*) \|", (_ROOT / "docs/operating.md").read_text(), re.MULTILINE)
    documented = {event for row in rows for event in re.findall(r"`(\w+\.\w+)`", row)}
    assert logged - documented == set()
    assert documented - texts == set()


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "log").open("w+b") as file:
        yield file


def lines_of(stream: BinaryIO) -> list[dict[str, Any]]:
    """Return the lines."""
    stream.seek(0)
    return [json.loads(line) for line in stream]


def written(patch: pytest.MonkeyPatch) -> list[bytes]:
    """Return what is written to files from here on, write by write."""
    writes: list[bytes] = []
    write = os.write

    def remembered(descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return write(descriptor, data)

    patch.setattr("os.write", remembered)
    return writes


def test_a_line_is_json_with_time_level_and_event(stream: BinaryIO) -> None:
    logs.configure(stream)
    structlog.get_logger().info("mail.sent", id="0192", state=State.SENT, tries=1, provider=None)
    (line,) = lines_of(stream)
    assert line.pop("timestamp")[10:].endswith("Z")
    assert line == {
        "level": "info", "event": "mail.sent", "id": "0192", "state": "sent", "tries": 1, "provider": None
    }  # fmt: skip


def test_the_timestamp_is_utc_in_milliseconds() -> None:
    assert logs._timestamp(1_700_000_000.0625) == "2023-11-14T22:13:20.062Z"


def test_debug_lines_are_not_written(stream: BinaryIO) -> None:
    logs.configure(stream)
    structlog.get_logger().debug("quiet")
    logging.getLogger("uvicorn.error").debug("quiet")
    structlog.get_logger().error("loud")
    assert [line["event"] for line in lines_of(stream)] == ["loud"]


@pytest.mark.parametrize(
    "key", ["code", "authorization", "payload", "recipient", "subject", "to", "link", "token", "password"]
)
def test_dangerous_keys_are_masked(stream: BinaryIO, key: str) -> None:
    logs.configure(stream)
    structlog.get_logger().info("slip", **{key: "123456", key.title(): "123456"}, deep=[{"fine": 1, key: ["123456"]}])
    (line,) = lines_of(stream)
    assert (line[key], line[key.title()], line["deep"]) == (MASK, MASK, [{"fine": 1, key: MASK}])


def test_of_an_object_only_the_type_is_logged(stream: BinaryIO) -> None:
    message = Message("0192", "SignIn", Priority.CODE, "a@b.example", {"code": "123456"}, 0, 1)
    logs.configure(stream)
    structlog.get_logger().info(
        "slip", thing=message, key=SecretStr("x"), raw_bytes=b"123456", error=ValueError("123456")
    )
    (line,) = lines_of(stream)
    assert [line[key] for key in ("thing", "key", "raw_bytes", "error")] == [
        "<Message>", "<SecretStr>", "<bytes>", "<ValueError>"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (ValueError("quotes 123456"), "ValueError"),
        (Rejected("550 no such user a@b.example"), "Rejected"),
        (CannotKeep("the disk is full"), "CannotKeep: the disk is full"),
        (FileNotFoundError(2, "No such file", "123456"), "FileNotFoundError: No such file"),
    ],
)
def test_the_text_of_an_exception_is_left_out_unless_it_is_ours(
    stream: BinaryIO, error: Exception, description: str
) -> None:
    logs.configure(stream)
    try:
        _raise(error)
    except type(error):
        structlog.get_logger().exception("server.stumbled")
    (line,) = lines_of(stream)
    assert (line["level"], line["exception"]) == ("error", description)
    assert "123456" not in str(line)
    assert line["trace"][-1].endswith(" _raise")


def _raise(error: Exception) -> None:
    raise error


def test_a_deep_trace_is_bounded(stream: BinaryIO) -> None:
    def deeper(levels: int) -> None:
        if not levels:
            raise RuntimeError
        deeper(levels - 1)

    logs.configure(stream)
    try:
        deeper(200)
    except RuntimeError:
        structlog.get_logger().exception("deep")
    assert len(lines_of(stream)[0]["trace"]) == 20


def test_records_of_the_standard_library_are_written_like_ours(stream: BinaryIO) -> None:
    logs.configure(stream)
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 7)
    logging.getLogger("uvicorn.access").warning("GET /unsubscribe/t0ken")
    logging.getLogger("httpx").info("HTTP Request: GET https://api.example/?key=1")
    logging.getLogger("anything").log(35, "odd level")
    assert [(line["logger"], line["level"], line["event"]) for line in lines_of(stream)] == [
        ("uvicorn.error", "info", "Started server process [7]"),
        ("anything", "warning", "odd level"),
    ]


def test_a_record_that_does_not_format_raises_nothing(stream: BinaryIO, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(stream)
    logging.getLogger("x").error("%d", "no number")
    assert "no number" in capsys.readouterr().err
    assert lines_of(stream) == []


def test_reports_of_asyncio_do_not_quote_exceptions(stream: BinaryIO) -> None:
    """The loop's own handler prints the exception's repr into the message."""
    logs.configure(stream)
    loop = asyncio.new_event_loop()
    loop.call_exception_handler({"message": "Task died", "exception": ValueError("123456"), "task": "123456"})
    loop.close()
    (line,) = lines_of(stream)
    assert (line["event"], line["exception"]) == ("Task died", "ValueError")
    assert "123456" not in str(line)


def test_a_line_that_is_not_valid_utf_8_is_reported(stream: BinaryIO) -> None:
    logs.configure(stream)
    structlog.get_logger().info("odd", name="\udcff")
    assert lines_of(stream)[0]["event"] == "log.unwritable"


def test_a_terminal_gets_colours_and_no_escape_sequences_of_others() -> None:
    """Diagnostics of a server may hold escape sequences; they are shown escaped."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb", buffering=0) as terminal:
        logs.configure(terminal)
        error = CannotKeep("\x1b[2Jfull")
        structlog.get_logger().error("mail.sent", diagnostic="250 \x1b]0;owned\x07", code="123456", exc_info=error)
        structlog.get_logger().info("the end")
        shown = ""
        while "the end" not in shown:
            shown += os.read(ours, 65536).decode()
    os.close(ours)
    assert "\x1b[1mmail.sent" in shown
    assert "x1b]0;owned" in shown
    assert "CannotKeep: \\x1b[2Jfull" in shown
    assert "\x1b]0" not in shown
    assert "\x1b[2J" not in shown
    assert "123456" not in shown


def test_a_pipe_that_nobody_reads_does_not_block() -> None:
    """Lines are buffered up to a limit, counted beyond it, and written in order when somebody reads."""
    reader, descriptor = os.pipe()
    writer = os.fdopen(descriptor, "wb", buffering=0)
    lines = logs.Lines(writer, most_bytes=100_000)
    for number in range(5_000):
        lines.msg(b'{"event":"%04d"}' % number + b" " * 90)
    lines.drain(0)
    os.set_blocking(reader, False)
    read = b""
    while chunk := _available(reader):
        read += chunk
        lines.drain(0)
    lines.msg(b'{"event":"after"}')
    read += _available(reader)
    os.close(reader)
    writer.close()
    events = [json.loads(line) for line in read.splitlines()]
    kept = len(events) - 2
    assert [line["event"] for line in events] == [f"{number:04d}" for number in range(kept)] + ["log.lost", "after"]
    assert events[kept]["lines"] == 5_000 - kept


def _available(reader: int) -> bytes:
    try:
        return os.read(reader, 1 << 20)
    except BlockingIOError:
        return b""


def test_buffered_lines_are_written_in_pieces_of_whole_lines() -> None:
    """So another process that writes to the same pipe does not write into the middle of a line."""
    reader, descriptor = os.pipe()
    with os.fdopen(descriptor, "wb", buffering=0) as writer:
        lines = logs.Lines(writer)
        lines._buffer += b"".join(b"%03d" % number + b"x" * 100 + b"\n" for number in range(100))
        with pytest.MonkeyPatch.context() as patch:
            writes = written(patch)
            lines.drain(0)
    os.close(reader)
    assert len(writes) > 2
    assert all(part.endswith(b"\n") and len(part) <= select.PIPE_BUF for part in writes)


def test_a_closed_pipe_raises_nothing() -> None:
    reader, descriptor = os.pipe()
    os.close(reader)
    with os.fdopen(descriptor, "wb", buffering=0) as writer:
        lines = logs.Lines(writer)
        lines.msg(b"one")
        lines.msg(b"two")
        lines.drain()


def test_the_descriptor_of_a_closed_stream_is_not_written_to(tmp_path: Path) -> None:
    """The system reuses its number for the next file that is opened."""
    stream = (tmp_path / "log").open("wb")
    logs.configure(stream)
    number = stream.fileno()
    stream.close()
    with (tmp_path / "other").open("w+b") as other:
        assert other.fileno() == number
        structlog.get_logger().error("lost")
        assert other.read() == b""


def test_a_full_disk_raises_nothing() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        logs.configure(full)
        structlog.get_logger().error("lost")


def test_a_stream_without_a_descriptor_is_refused() -> None:
    with pytest.raises(io.UnsupportedOperation):
        logs.configure(io.BytesIO())
