"""Keeps the listening socket while the processes that serve come and go: the parent process of `python server.py`.

It imports nothing of the application and reads no settings. A child is the same command again, with one end of a Unix
socket whose descriptor is in SUPERVISOR_FD. Over it they send words, one a line:

    parent → child    `first`; `again`: one that served has died; `next`: take over from the one that serves.
                      With the listening sockets, if the parent has any
    child → parent    `listening`, with its sockets. `warm 8.0`: ready but for the outbox; it will end within so many
                      seconds. `serving`: it answers

SIGHUP starts the next child; when that is warm, the serving one gets SIGTERM, drains, and releases the outbox. If the
next child ends before, the serving one goes on. A child that dies is replaced, after a growing pause. SIGTERM and
SIGINT are passed on; the parent then ends with the child's exit code. It ends as well when its first child ends before
it served, or any child with the code for wrong settings. When the parent dies, its children read the end of the socket.
"""

import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

EXIT_SETTINGS: Final = 2
"""A child's exit code: with these settings no start can succeed. (argparse uses it likewise.)"""

_VARIABLE: Final = "SUPERVISOR_FD"
_FIRST_SYSTEMD_FD: Final = 3
_PAUSES: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Seconds before a child is replaced, by how many in a row died young."""
_YOUNG_SECONDS: Final = 5.0
_EXTRA_SECONDS: Final = 2.0
"""A child that has not ended so long after the time it gave itself is killed: the next one waits for the outbox."""
_HANDLED: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_IGNORED_AT_FIRST: Final = (signal.SIGHUP, signal.SIGINT)
"""What a child ignores until it handles it: a terminal sends Ctrl-C, and its own end, to parent and child."""
_MOST_SOCKETS: Final = 16


def is_wanted(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Tell whether this process is to be a parent: not in development, and not if it is a child."""
    return "--dev" not in arguments and _VARIABLE not in environ


class Parent:
    """The parent as its child sees it; of a process that has none it hears nothing, and tells nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._link = socket.socket(fileno=int(environ[_VARIABLE])) if _VARIABLE in environ else None
        self.descriptors: list[int] = []
        """The listening sockets that the parent keeps."""
        word = b"first\n"
        if self._link:
            self._link.set_inheritable(False)
            word, self.descriptors, _, _ = socket.recv_fds(self._link, 64, _MOST_SOCKETS)
        self.is_first = word == b"first\n"
        """Whether no other child can hold the outbox."""
        self.replaces = word == b"next\n"
        """Whether another child serves until this one says that it is warm."""

    def tell(self, word: str, sockets: Sequence[socket.socket] = ()) -> None:
        """Send the parent a word."""
        if self._link:
            try:
                socket.send_fds(self._link, [f"{word}\n".encode()], [one.fileno() for one in sockets])
            except OSError:  # it is gone; `watch` notices that, too
                return

    def watch(self, loop: Any, gone: Callable[[], object]) -> None:
        """Have `gone` called once in this event loop of asyncio's when the parent has died."""
        if link := self._link:

            def ended() -> None:
                loop.remove_reader(link.fileno())
                gone()

            loop.add_reader(link.fileno(), ended)  # it sends nothing more


class _Child:
    """A process that serves, waits to serve, or drains."""

    def __init__(self, word: str, sockets: Sequence[int]) -> None:
        self.link, theirs = socket.socketpair()
        theirs.set_inheritable(True)
        for number in _IGNORED_AT_FIRST:
            signal.signal(number, signal.SIG_IGN)
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *sys.orig_argv[1:]],
                {**os.environ, _VARIABLE: str(theirs.fileno())},
            )
        finally:
            for number in _IGNORED_AT_FIRST:
                signal.signal(number, _note)
            theirs.close()
        socket.send_fds(self.link, [f"{word}\n".encode()], sockets)
        self.started_at = time.monotonic()
        self.state = "starting"
        self.shutdown_seconds = 0.0
        self.kill_at: float | None = None
        self.is_discarded = False

    def end(self, number: int) -> None:
        """Send a signal that ends it; kill it if it has not begun to wait or to serve."""
        if self.state in ("starting", "listening"):
            self.is_discarded = True
            number = signal.SIGKILL
        elif self.kill_at is None:
            self.kill_at = time.monotonic() + self.shutdown_seconds + _EXTRA_SECONDS
        os.kill(self.pid, number)


class Supervisor:
    """Starts and replaces children until it is told to end."""

    def __init__(self) -> None:
        self._children: dict[int, _Child] = {}
        self._serving: _Child | None = None
        """The one that serves, or that takes over from one that drains."""
        self._next: _Child | None = None
        """The one that is not warm yet."""
        self._sockets = _from_systemd(os.environ)
        self._has_served = False
        self._died_young = 0
        self._start_at = 0.0
        self._ending = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Serve until told to end; return the exit code."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the environment may hold secrets
        wake, woken = socket.socketpair()
        wake.setblocking(False)
        woken.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _note)
        self._selector.register(wake, selectors.EVENT_READ, lambda: self._take(wake.recv(4096)))
        while self._children or not self._ending:
            if self._serving is None and not self._ending and time.monotonic() >= self._start_at:
                self._serving = self._start("again" if self._has_served else "first")
            for key, _ in self._selector.select(self._seconds_to_wait()):
                key.data()
            self._reap()
            self._kill_overdue()
        return self._exit_code

    def _start(self, word: str) -> _Child:
        child = _Child(word, self._sockets)
        self._children[child.pid] = child
        self._selector.register(child.link, selectors.EVENT_READ, lambda: self._hear(child))
        return child

    def _take(self, signals: bytes) -> None:
        for number in signals:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._ending = True
                for child in self._children.values():
                    child.end(number)
            elif number == signal.SIGHUP and not self._ending:
                self._reload()

    def _reload(self) -> None:
        """Start the next child. One that was not warm yet may have read older settings: it is dropped."""
        self._start_at = 0.0
        if self._serving is None:
            return
        if self._next:
            self._next.end(signal.SIGKILL)
        self._next = self._start("next")
        _log("info", "reload.started", process=self._next.pid)

    def _hear(self, child: _Child) -> None:
        try:
            data, sockets, _, _ = socket.recv_fds(child.link, 4096, _MOST_SOCKETS)
        except ConnectionResetError:  # it ended before it read our word
            data, sockets = b"", []
        if self._sockets:
            for descriptor in sockets:  # we have them
                os.close(descriptor)
        else:
            self._sockets = sockets
        if not data:
            self._selector.unregister(child.link)
            child.link.close()
        for line in data.decode().splitlines():
            child.state, _, seconds = line.partition(" ")
            if child.state == "warm":
                child.shutdown_seconds = float(seconds)
                if child is self._next:
                    self._hand_over()
            elif child.state == "serving":
                self._has_served = True

    def _hand_over(self) -> None:
        if self._serving:
            self._serving.end(signal.SIGTERM)
        self._serving, self._next = self._next, None

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)  # as process 1 of a container we have orphans to reap, too
            if not pid:
                return
            if child := self._children.pop(pid, None):
                self._bury(child, os.waitstatus_to_exitcode(status))

    def _bury(self, child: _Child, code: int) -> None:
        if child.link.fileno() >= 0:
            self._hear(child)  # its last words
        if child.link.fileno() >= 0:
            self._selector.unregister(child.link)
            child.link.close()
        if child is self._next:
            self._next = None
            if not (child.is_discarded or self._ending):
                _log("error", "reload.failed", process=child.pid, exit_code=code, remedy="the old process goes on")
        elif child is self._serving:
            self._serving = None
            self._replace(child, code)
        elif code and not child.is_discarded:
            _log("error", "process.died", process=child.pid, exit_code=code)

    def _replace(self, child: _Child, code: int) -> None:
        """Decide what follows the end of the one that served."""
        if self._ending:
            self._exit_code = 0 if child.is_discarded else _as_exit_code(code)
        elif self._next:
            self._serving, self._next = self._next, None
        elif code == EXIT_SETTINGS or (not self._has_served and code >= 0):
            self._ending, self._exit_code = True, code
        else:
            young = time.monotonic() - child.started_at < _YOUNG_SECONDS
            pause = _PAUSES[min(self._died_young, len(_PAUSES) - 1)] if young else 0.0
            self._died_young = self._died_young + 1 if young else 0
            self._start_at = time.monotonic() + pause
            _log("error", "process.died", process=child.pid, exit_code=code, replaced_after_seconds=pause)

    def _seconds_to_wait(self) -> float | None:
        moments = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        if self._serving is None and not self._ending:
            moments.append(self._start_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _kill_overdue(self) -> None:
        for child in self._children.values():
            if child.kill_at is not None and time.monotonic() >= child.kill_at:
                _log("error", "process.overdue", process=child.pid, remedy="it is killed")
                child.kill_at = None
                os.kill(child.pid, signal.SIGKILL)


def _from_systemd(environ: Mapping[str, str]) -> list[int]:
    """Return the sockets that systemd passed to this process (sd_listen_fds(3))."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(_FIRST_SYSTEMD_FD, _FIRST_SYSTEMD_FD + int(count)))


def _note(_number: int, _frame: object) -> None:
    """Handle a signal by nothing more than the byte that Python writes to the wake-up descriptor."""


def _as_exit_code(code: int) -> int:
    """Return what a shell says of a process that a signal has ended: 128 and the signal's number."""
    return code if code >= 0 else 128 - code


def _log(level: str, event: str, **fields: str | float) -> None:
    """Write a line as the server does: JSON, on a terminal words."""
    now = time.time()
    timestamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z"
    if sys.stderr.isatty():
        line = f"{timestamp} [{level}] {event}" + "".join(f" {name}={value}" for name, value in fields.items())
    else:
        line = json.dumps({"timestamp": timestamp, "level": level, "event": event, **fields}, separators=(",", ":"))
    try:
        os.write(sys.stderr.fileno(), line.encode() + b"\n")
    except OSError:  # nobody reads it
        return
