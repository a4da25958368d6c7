"""Log lines: JSON for machines, colours on a terminal, one way for our own, uvicorn's and every library's.

The rule for whoever logs: an event named `noun.happened`, then ids, templates, states, provider names, counts,
durations, and a provider's words once the message's secrets are masked. Never an address, a code, a link, a subject, a
payload, a header. What follows from the rule is not left to memory alone: dangerous keys are masked here, objects
are named but not shown, and of an exception the message is left out unless it is ours.

Writing never waits. Where nobody reads the other end (a full pipe, a stopped terminal) lines are kept up to 1 MiB, then
dropped and counted: a log that stands still must not hold up codes. What an event loop says in one turn leaves together
at its end: each write lets other threads in, which costs more than the line.
"""

import asyncio
import logging
import os
import select
import stat
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock
from traceback import FrameSummary, extract_tb
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
"""Keys whose values are masked, in whatever case they are written."""

_FOREIGN: Final = {"uvicorn": logging.INFO, "uvicorn.error": logging.INFO, "uvicorn.access": logging.CRITICAL}
"""Other loggers speak from WARNING on; the access log shows paths, and paths hold tokens."""


def configure(stream: IO[Any], *, json: bool | None = None, level: int = logging.INFO) -> "Lines":
    """Send all logging to a stream with a file descriptor, as JSON unless that is a terminal.

    Returns what writes the lines; `drain` it before the process ends. uvicorn must be told `log_config=None`.
    """
    lines = Lines(stream)
    as_json = not stream.isatty() if json is None else json
    render: Processor = _json if as_json else _Terminal()
    structlog.configure(
        processors=[compose, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    root.addHandler(_Bridge())
    root.setLevel(max(level, logging.WARNING))
    for name, least in _FOREIGN.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(level, least))
    return lines


_ATOMIC: Final = getattr(select, "PIPE_BUF", 512)


class Lines:
    """Writes lines to a stream's file descriptor and never waits for its reader."""

    def __init__(self, stream: IO[Any], *, most_bytes: int = 1 << 20) -> None:
        self._stream = stream
        self._descriptor = stream.fileno()
        self._most_bytes = most_bytes
        self._waiting = bytearray()
        self._lost = 0
        self._lock = Lock()
        self._turn: asyncio.AbstractEventLoop | None = None
        """Whose turn's end is awaited."""
        may_wait = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._poll = select.poll() if may_wait and hasattr(select, "poll") else None
        if self._poll:
            self._poll.register(self._descriptor, select.POLLOUT)

    def msg(self, line: bytes) -> None:
        """Write a line at the end of this turn, or keep it until the next one if it would have to wait."""
        loop = _running_loop()
        with self._lock:
            if len(self._waiting) + len(line) >= self._most_bytes:
                self._lost += 1
            else:
                self._waiting += line + b"\n"
            if loop is None:
                self._write()
            elif loop is not self._turn:
                self._turn = loop
                loop.call_soon(self._end_turn)

    debug = info = warning = error = critical = exception = log = fatal = msg

    def drain(self, timeout_seconds: float = 1.0) -> None:
        """Write what is kept; give up when nobody has read for so long."""
        with self._lock:
            give_up = time.monotonic() + timeout_seconds
            self._write()
            while self._waiting and (left := give_up - time.monotonic()) > 0:
                self._write(int(left * 1000))

    def _end_turn(self) -> None:
        with self._lock:
            self._turn = None
            self._write()

    def _write(self, patience_milliseconds: int = 0) -> None:
        if self._stream.closed:  # its descriptor may be somebody else's by now
            self._waiting.clear()
        while self._waiting and self._room(patience_milliseconds):
            try:
                # Where there is room at all there is room for PIPE_BUF (POSIX), so this does not block; and nobody else
                # who writes there comes into the middle of a line.
                written = os.write(
                    self._descriptor, self._waiting[: self._waiting.rfind(b"\n", 0, _ATOMIC) + 1 or _ATOMIC]
                )
            except OSError:  # the reader has gone, the disk is full: there is nowhere left to say so
                self._lost += self._waiting.count(b"\n")
                self._waiting.clear()
                return
            del self._waiting[:written]
            if self._lost and not self._waiting:
                self._waiting += _lost(self._lost)
                self._lost = 0

    def _room(self, patience_milliseconds: int) -> bool:
        return self._poll is None or bool(self._poll.poll(patience_milliseconds))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Bridge(logging.Handler):
    """Brings the standard library's log records onto our way."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            words = record.getMessage().partition("\n")[0]  # asyncio shows exceptions and their texts from line two on
            level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
            structlog.get_logger().log(level, words, logger=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - what cannot be logged must not stop the one who logs
            self.handleError(record)


def compose(_logger: WrappedLogger, method: str, given: EventDict) -> EventDict:
    """Return what a line says: time, level, event, and the rest with nothing in it that must not be seen."""
    line: dict[str, Any] = {
        "timestamp": _timestamp(time.time()),
        "level": "error" if method == "exception" else method,
        "event": str(given.pop("event", "")),
    }
    cause = given.pop("exc_info", None)
    for key, value in given.items():
        line[key] = MASK if _dangerous(key) else value if value.__class__ in _DATA else _plain(value)
    if cause:
        error = cause if isinstance(cause, BaseException) else cause[1] if isinstance(cause, tuple) else sys.exception()
        if error is not None:
            line["exception"] = _described(error)
            line["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in _frames(error)]
    return line


def _timestamp(now: float) -> str:
    return f"{_to_the_second(int(now))}.{int(now % 1 * 1000):03}Z"


@lru_cache(2)
def _to_the_second(now: int) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")


_DATA: Final = frozenset({str, int, float, bool, type(None)})


@lru_cache(1000)
def _dangerous(key: str) -> bool:
    return key.lower() in DANGEROUS


def _plain(value: Any) -> Any:
    """Return the value if it is data; an object's text is anybody's guess, so only its type is shown."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): MASK if _dangerous(str(key)) else _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


def _described(error: BaseException) -> str:
    """Return the exception's kind, and its text where we wrote it or the system did: others may quote a payload."""
    kind = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"
    if isinstance(error, MailroomError) and not isinstance(error, SendingError):  # its words are not masked yet
        return f"{kind}: {error}"
    return kind


_MOST_FRAMES: Final = 20


def _frames(error: BaseException) -> list[FrameSummary]:
    return list(extract_tb(error.__traceback__))[-_MOST_FRAMES:]


_encoder: Final = msgspec.json.Encoder()


def _json(_logger: WrappedLogger, _method: str, line: EventDict) -> bytes:
    try:
        return _encoder.encode(line)
    except UnicodeEncodeError:  # lone surrogates, as file names and arguments may have them
        return _encoder.encode({"event": "log.unwritable", "level": line["level"], "timestamp": line["timestamp"]})


def _lost(lines: int) -> bytes:
    return _json(None, "", compose(None, "error", {"event": "log.lost", "lines": lines})) + b"\n"


class _Terminal:
    """Colours for people."""

    def __init__(self) -> None:
        self._render = structlog.dev.ConsoleRenderer(colors=True, pad_event_to=24)

    def __call__(self, logger: WrappedLogger, method: str, line: EventDict) -> bytes:
        trace = line.pop("trace", ())
        shown = {key: printable(value) if isinstance(value, str) else value for key, value in line.items()}
        if trace:
            shown["exception"] = "\n".join((f"{shown.pop('exception')}", *(f"    {printable(step)}" for step in trace)))
        return self._render(logger, method, shown).encode(errors="backslashreplace")
