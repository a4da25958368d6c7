"""The parent process of `python server.py`: keeps the listening sockets and starts the processes that serve.

It imports nothing of the application and reads no settings. A child runs the same command, with one end of a Unix
socket whose descriptor is in SUPERVISOR_FD. Parent and child send each other lines of text:

    parent → child    `first`; `again`: replaces one that died, or serves beside others; `next`: takes over from those
                      that serve. With the listening sockets, if the parent has any
    child → parent    `listening`, with its sockets. `warm 8.0 4`: everything but the outbox is prepared; a shutdown
                      takes at most 8 s, and 4 children are to serve. `serving`: it responds to requests

One child leads: when it serves, the others are started; when it dies, another that serves leads. SIGHUP starts the next
one; when that is prepared, those that serve get SIGTERM, drain, and release the outbox. If the next child exits before,
they continue. A child that dies is replaced, after a growing pause. SIGTERM and SIGINT are passed on; then the parent
exits with the child's exit code. It also exits when its first child exits before it served, and when any child exits
with the code for wrong settings while none serves. When the parent dies, its children read the end of the socket.
"""

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

EXIT_SETTINGS: Final = 2
"""A child's exit code: with these settings no start can succeed. (argparse uses it likewise.)"""

_VARIABLE: Final = "SUPERVISOR_FD"
_FIRST_SYSTEMD_FD: Final = 3
_PAUSES: Final = (0.0, 0.1, 0.5, 2.0, 5.0)
"""Seconds before a child is replaced, by how many in a row died within `_YOUNG_SECONDS`."""
_YOUNG_SECONDS: Final = 5.0
_EXTRA_SECONDS: Final = 2.0
"""A child that runs so much longer than its shutdown may take is killed: the next one waits for the outbox."""
_HANDLED: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_IGNORED_AT_FIRST: Final = (signal.SIGHUP, signal.SIGINT)
"""A child ignores these until it has handlers: a terminal sends Ctrl-C, and its own end, to parent and child."""
_MOST_SOCKETS: Final = 16


def is_wanted(arguments: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether this process should be a parent: not in development, and not if it is a child."""
    return "--dev" not in arguments and _VARIABLE not in environ


class ParentLink:
    """A child's end of the socket; without a parent nothing is sent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._socket = socket.socket(fileno=int(environ[_VARIABLE])) if _VARIABLE in environ else None
        self.descriptors: list[int] = []
        """The listening sockets that the parent keeps."""
        message = b"first\n"
        if self._socket:
            self._socket.set_inheritable(False)
            message, self.descriptors, _, _ = socket.recv_fds(self._socket, 64, _MOST_SOCKETS)
        self.is_first = message == b"first\n"
        """Whether no other child can hold the outbox."""
        self.replaces = message == b"next\n"
        """Whether another child serves until this one is prepared."""

    def send(self, message: str, sockets: Sequence[socket.socket] = ()) -> None:
        """Send the parent a message, with sockets."""
        if self._socket:
            with contextlib.suppress(OSError):  # the parent has died; `watch` reports that
                socket.send_fds(self._socket, [f"{message}\n".encode()], [one.fileno() for one in sockets])

    def watch(self, loop: Any, on_death: Callable[[], object]) -> None:
        """Have this event loop of asyncio's call `on_death` once when the parent has died."""
        if link := self._socket:

            def report() -> None:
                loop.remove_reader(link)
                on_death()

            loop.add_reader(link, report)  # after its first message the parent sends nothing


class _Child:
    """A process that serves, prepares to serve, or drains."""

    def __init__(self, message: str, sockets: Sequence[int]) -> None:
        self.link, childs_end = socket.socketpair()
        childs_end.set_inheritable(True)
        for number in _IGNORED_AT_FIRST:
            signal.signal(number, signal.SIG_IGN)
        try:
            environ = {**os.environ, _VARIABLE: str(childs_end.fileno())}
            self.pid = os.posix_spawn(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)
        finally:
            for number in _IGNORED_AT_FIRST:
                signal.signal(number, _record_signal)
            childs_end.close()
        socket.send_fds(self.link, [f"{message}\n".encode()], sockets)
        self.started_at = time.monotonic()
        self.state = "starting"
        """The last message from it."""
        self.shutdown_seconds = 0.0
        self.processes = 1
        self.kill_at: float | None = None
        self.is_discarded = False  # killed before it was prepared

    def end(self, number: int) -> None:
        """Send a signal that ends it; kill it if it has not prepared anything to shut down."""
        if self.state in ("starting", "listening"):
            self.is_discarded = True
            number = signal.SIGKILL
        elif self.kill_at is None:
            self.kill_at = time.monotonic() + self.shutdown_seconds + _EXTRA_SECONDS
        os.kill(self.pid, number)


class Supervisor:
    """Starts and replaces children until SIGTERM or SIGINT."""

    def __init__(self) -> None:
        self._children: dict[int, _Child] = {}  # by process id
        self._serving: _Child | None = None  # leads: it serves, or takes over from those that drain
        self._beside: set[_Child] = set()  # the others that serve
        self._next: _Child | None = None  # is not prepared yet
        self._sockets = systemd_descriptors(os.environ)
        self._has_served = False
        self._early_deaths = 0  # in a row, within `_YOUNG_SECONDS`
        self._start_at = 0.0
        self._start_beside_at = 0.0
        self._is_ending = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()

    def run(self) -> int:
        """Supervise until the end; return the exit code."""
        forbid_core_dumps()
        signals, wakeup = socket.socketpair()
        signals.setblocking(False)
        wakeup.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in _HANDLED:
            signal.signal(number, _record_signal)
        self._selector.register(signals, selectors.EVENT_READ, lambda: self._handle_signals(signals.recv(4096)))
        while self._children or not self._is_ending:
            if self._serving is None and not self._is_ending and time.monotonic() >= self._start_at:
                self._serving = self._start("again" if self._has_served else "first")
            while self._lacks_processes() and time.monotonic() >= self._start_beside_at:
                self._beside.add(self._start("again"))
            for key, _ in self._selector.select(self._seconds_to_wait()):
                key.data()
            self._reap()
            self._kill_overdue()
        return self._exit_code

    def _start(self, message: str) -> _Child:
        child = _Child(message, self._sockets)
        self._children[child.pid] = child
        self._selector.register(child.link, selectors.EVENT_READ, lambda: self._read_messages(child))
        return child

    def _lacks_processes(self) -> bool:
        """Return whether more of them are to serve beside the one that leads."""
        leader = None if self._is_ending else self._serving
        return leader is not None and leader.state == "serving" and len(self._beside) < leader.processes - 1

    def _handle_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._is_ending = True
                self._beside.clear()
                for child in self._children.values():
                    child.end(number)
            elif number == signal.SIGHUP and not self._is_ending:
                self._reload()

    def _reload(self) -> None:
        """Start the next child. One that is not prepared yet may have read older settings: it is killed."""
        self._start_at = self._start_beside_at = 0.0
        if self._serving is None:
            self._end_beside()
            return
        if self._next:
            self._next.end(signal.SIGKILL)
        self._next = self._start("next")
        _log("info", "reload.started", process=self._next.pid)

    def _end_beside(self) -> None:
        """Let those drain that serve beside the one that leads: they may have older settings than the next one."""
        for child in self._beside:
            child.end(signal.SIGTERM)
        self._beside.clear()

    def _read_messages(self, child: _Child) -> None:
        try:
            data, sockets, _, _ = socket.recv_fds(child.link, 4096, _MOST_SOCKETS)
        except ConnectionResetError:  # it ended before it read our message
            data, sockets = b"", []
        if self._sockets:
            for descriptor in sockets:  # a copy of those that we have
                os.close(descriptor)
        else:
            self._sockets = sockets
        if not data:
            self._close_link(child)
        for line in data.decode().splitlines():
            child.state, *numbers = line.split()
            if child.state == "warm":
                child.shutdown_seconds, child.processes = float(numbers[0]), int(numbers[1])
                if child is self._next:
                    self._end_beside()
                    if self._serving:
                        self._serving.end(signal.SIGTERM)
                    self._serving, self._next = self._next, None
            elif child.state == "serving":
                self._has_served = True

    def _close_link(self, child: _Child) -> None:
        self._selector.unregister(child.link)
        child.link.close()

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)  # process 1 of a container has to reap orphans, too
            if not pid:
                return
            if child := self._children.pop(pid, None):
                self._handle_exit(child, os.waitstatus_to_exitcode(status))

    def _handle_exit(self, child: _Child, code: int) -> None:
        if child.link.fileno() >= 0:
            self._read_messages(child)  # it may have written some before it exited
        if child.link.fileno() >= 0:
            self._close_link(child)
        if child is self._next:
            self._next = None
            if not (child.is_discarded or self._is_ending):
                _log("error", "reload.failed", process=child.pid, exit_code=code, remedy="the old process goes on")
        elif child is self._serving:
            self._serving = None
            self._replace(child, code)
        elif child in self._beside:
            self._beside.discard(child)
            self._start_beside_at = self._pause_after(child, code)
        elif code and not child.is_discarded:
            _log("error", "process.died", process=child.pid, exit_code=code)

    def _replace(self, child: _Child, code: int) -> None:
        """Decide what follows the exit of the child that served; a negative code is the signal that killed it."""
        if self._is_ending:
            shell_code = code if code >= 0 else 128 - code  # as shells report signals
            self._exit_code = 0 if child.is_discarded else shell_code
        elif heir := next((one for one in self._beside if one.state == "serving"), None):
            self._serving = heir
            self._beside.remove(heir)
            self._start_beside_at = self._pause_after(child, code)
        elif self._next:
            self._end_beside()
            self._serving, self._next = self._next, None
        elif code == EXIT_SETTINGS or (not self._has_served and code >= 0):
            self._is_ending, self._exit_code = True, code
            self._end_beside()
        else:
            self._start_at = self._pause_after(child, code)

    def _pause_after(self, child: _Child, code: int) -> float:
        """Return when a child that died is to be replaced."""
        died_early = time.monotonic() - child.started_at < _YOUNG_SECONDS
        pause = _PAUSES[min(self._early_deaths, len(_PAUSES) - 1)] if died_early else 0.0
        self._early_deaths = self._early_deaths + 1 if died_early else 0
        _log("error", "process.died", process=child.pid, exit_code=code, replaced_after_seconds=pause)
        return time.monotonic() + pause

    def _seconds_to_wait(self) -> float | None:
        moments = [child.kill_at for child in self._children.values() if child.kill_at is not None]
        if self._serving is None and not self._is_ending:
            moments.append(self._start_at)
        if self._lacks_processes():
            moments.append(self._start_beside_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _kill_overdue(self) -> None:
        for child in self._children.values():
            if child.kill_at is not None and time.monotonic() >= child.kill_at:
                _log("error", "process.overdue", process=child.pid, remedy="it is killed")
                child.kill_at = None
                os.kill(child.pid, signal.SIGKILL)


def forbid_core_dumps() -> None:
    """Set the limit of core dumps to 0 for this process and its children: dumps hold keys, payloads and codes.

    systemd-coredump and apport, which get dumps through a pipe, obey the limit, too (setrlimit(2)).
    """
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; deploy/mailroom.service sets LimitCORE=0
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def systemd_descriptors(environ: Mapping[str, str]) -> list[int]:
    """Return the sockets that systemd passed to this process (sd_listen_fds(3))."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return []
    return list(range(_FIRST_SYSTEMD_FD, _FIRST_SYSTEMD_FD + int(count)))


def _record_signal(_number: int, _frame: object) -> None:
    """Do nothing: Python writes the signal's number to the wake-up descriptor."""


def _log(level: str, event: str, **fields: str | float) -> None:
    """Write a line as the server does: JSON, or `name=value` pairs on a terminal."""
    timestamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if sys.stderr.isatty():
        line = f"{timestamp} [{level}] {event}" + "".join(f" {name}={value}" for name, value in fields.items())
    else:
        line = json.dumps({"timestamp": timestamp, "level": level, "event": event, **fields}, separators=(",", ":"))
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(sys.stderr.fileno(), line.encode() + b"\n")
