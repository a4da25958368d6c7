"""Configures logging: structlog for our own lines, uvicorn's and every library's; JSON, or colours on a terminal.

    lines = logs.configure(sys.stderr)
    structlog.get_logger().info("mail.sent", id=message.id, provider="main")
    lines.drain()

An event is named `noun.verb`. Its fields are ids, templates, states, provider names, counts, durations, and diagnostics
of providers in which the message's secrets are masked. Never log an address, a code, a link, a subject, a payload or a
header. As a second defence dangerous keys are masked here, of objects only the type is logged, and the text of an
exception is left out unless it is ours.

Logging never blocks. If nobody reads the other end (a full pipe, a stopped terminal), up to 1 MiB is buffered; lines
beyond that are dropped and counted.
"""

import logging
import os
import select
import stat
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from traceback import extract_tb
from typing import IO, Any, Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from mailroom.errors import MailroomError, SendingError
from mailroom.message import MASK
from mailroom.text import printable

DANGEROUS: Final = frozenset(
    {
        "address", "authorization", "body", "code", "content", "cookie", "email", "header", "headers", "html", "link",
        "links", "password", "payload", "raw", "recipient", "secret", "secret_key", "signature", "signing_key",
        "subject", "text", "to", "token", "url", "username", "variables",
    }
)  # fmt: skip
"""Keys whose values are masked; compared without case."""

_LEVELS: Final = {"uvicorn": logging.INFO, "uvicorn.access": logging.CRITICAL}
"""Levels of libraries' loggers; others log from WARNING on. The access log has paths, and paths hold tokens."""


def configure(stream: IO[Any]) -> "Lines":
    """Send all logging to a stream with a file descriptor, as JSON unless that is a terminal.

    Call `drain` of the result before the process ends. uvicorn needs `log_config=None`.
    """
    lines = Lines(stream)
    render: Processor = _Terminal() if stream.isatty() else _json
    structlog.configure(
        processors=[compose, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        context_class=dict,
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
    return lines


_ATOMIC: Final = getattr(select, "PIPE_BUF", 512)
_MOST_FRAMES: Final = 20


class Lines:
    """A logger for structlog that writes lines to a stream's file descriptor and never waits for its reader."""

    def __init__(self, stream: IO[Any], *, most_bytes: int = 1 << 20) -> None:
        self._stream = stream
        self._descriptor = stream.fileno()
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._dropped = 0
        """Lines since the last report."""
        self._lock = Lock()
        can_block = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._poll = select.poll() if can_block and hasattr(select, "poll") else None
        if self._poll:
            self._poll.register(self._descriptor, select.POLLOUT)

    def msg(self, line: bytes) -> None:
        """Write a line, or buffer it if that would block."""
        with self._lock:
            if len(self._buffer) + len(line) >= self._most_bytes:
                self._dropped += 1
            else:
                self._buffer += line + b"\n"
            self._write()

    debug = info = warning = error = critical = exception = log = fatal = msg

    def drain(self, timeout_seconds: float = 1.0) -> None:
        """Write what is buffered; give up when nobody has read for so long."""
        with self._lock:
            give_up_at = time.monotonic() + timeout_seconds
            self._write()
            while self._buffer and (left := give_up_at - time.monotonic()) > 0:
                self._write(int(left * 1000))

    def _write(self, wait_milliseconds: int = 0) -> None:
        if self._stream.closed:  # its descriptor may belong to another file by now
            self._buffer.clear()
        while self._buffer and (self._poll is None or self._poll.poll(wait_milliseconds)):
            try:
                # A descriptor that is ready takes PIPE_BUF octets without blocking, and writes of at most so many do
                # not mix with those of other processes (POSIX).
                end = self._buffer.rfind(b"\n", 0, _ATOMIC) + 1 or _ATOMIC
                written = os.write(self._descriptor, self._buffer[:end])
            except OSError:  # the reader has gone, or the disk is full: this cannot be reported anywhere
                self._dropped += self._buffer.count(b"\n")
                self._buffer.clear()
                return
            del self._buffer[:written]
            if self._dropped and not self._buffer:
                report = {"event": "log.lost", "lines": self._dropped}
                self._buffer += _json(None, "", compose(None, "error", report)) + b"\n"
                self._dropped = 0


class _Bridge(logging.Handler):
    """Passes the standard library's log records to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage().partition("\n")[0]  # asyncio writes exceptions and their texts from line two on
            level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
            structlog.get_logger().log(level, event, logger=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - logging must not stop the caller
            self.handleError(record)


def compose(_logger: WrappedLogger, method: str, given: EventDict) -> EventDict:
    """Return the fields of a line: time, level, event, and the given ones with dangerous values masked."""
    line: dict[str, Any] = {
        "timestamp": _timestamp(time.time()),
        "level": "error" if method == "exception" else method,
        "event": str(given.pop("event", "")),
    }
    cause = given.pop("exc_info", None)
    line |= _plain(given)
    if cause:
        error = cause if isinstance(cause, BaseException) else cause[1] if isinstance(cause, tuple) else sys.exception()
        if error is not None:
            line["exception"] = _describe(error)
            frames = extract_tb(error.__traceback__, limit=-_MOST_FRAMES)
            line["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return line


def _timestamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    """Return the value if it is data, else only its type: the text of an object may hold anything."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): MASK if str(key).lower() in DANGEROUS else _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _describe(error: BaseException) -> str:
    """Return the exception's type, and its text if it is ours or the system's: others may quote a payload."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"
    if isinstance(error, MailroomError) and not isinstance(error, SendingError):  # its diagnostic is not masked yet
        return f"{kind}: {error}"
    return kind


_encoder: Final = msgspec.json.Encoder()


def _json(_logger: WrappedLogger, _method: str, line: EventDict) -> bytes:
    try:
        return _encoder.encode(line)
    except UnicodeEncodeError:  # lone surrogates, as file names and arguments may have them
        return _encoder.encode({"event": "log.unwritable", "level": line["level"], "timestamp": line["timestamp"]})


class _Terminal:
    """Renders a line with colours."""

    def __init__(self) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=True, pad_event_to=24)

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> bytes:
        trace = line.pop("trace", ())
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in line.items()}
        if trace:
            shown["exception"] = "\n".join((f"{shown.pop('exception')}", *(f"    {printable(step)}" for step in trace)))
        return self._render(logger, method, shown).encode(errors="backslashreplace")
