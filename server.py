"""The machine on one screen: settings → parts → app; `python server.py` serves it."""

import os
import sys

import supervisor

if __name__ == "__main__" and supervisor.is_wanted(sys.argv, os.environ):
    # This process keeps the socket and imports nothing more; its child, which serves, gets beyond this line.
    sys.exit(supervisor.Supervisor().run())

import gc

if __name__ == "__main__":
    gc.disable()  # while everything is imported: nothing of it is garbage

import mailroom.structlog_alone  # noqa: F401, I001 - before structlog

import argparse
import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
import uvloop
from starlette.types import ASGIApp

from handlers import Endpoints, routes
from handlers.health import Readiness
from handlers.lifecycle import (
    ListenError,
    Shutdown,
    SwappableApp,
    Server,
    PortTaken,
    adopt_socket,
    bind_socket,
    wait_first,
    inherited_sockets,
)
from handlers.dev_only import LoopbackOnly, development_banner
from mailroom import core_dumps, logs
from mailroom import config
from mailroom.config import template_sources
from mailroom.lint.changed_templates import watch_templates
from mailroom.lint.rules.rendered import LintContext
from mailroom.clock import Clock, SystemClock
from mailroom.courier import Acceptor, Courier, Channel, PriorityLimiter, Routes
from mailroom.errors import MailroomError, SealBroken, SettingsError
from mailroom.message import TEMPLATES
from mailroom.metrics import Metrics
from mailroom.outbox import Outbox
from mailroom.outbox.sqlite.database import check
from mailroom.outbox.deferred import UnavailableOutbox, open_with_retry
from mailroom.outbox.sqlite.engine import WAIT_SECONDS, SqliteOutbox
from mailroom.providers import Provider, ProviderSettings, ProviderContext, connect
from mailroom.rendering.renderer import TemplateRenderer
from mailroom.config.model import Settings
from mailroom.text import printable

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = supervisor.EXIT_SETTINGS
_GC_THRESHOLD: Final = 50_000
"""With everything frozen after the start collections may be rare: p99 of a request from 12 to 6 ms."""

Connect: TypeAlias = Callable[[ProviderSettings, ProviderContext], Provider]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Warm:
    """What can be made before the outbox is open."""

    settings: Settings
    writer: TemplateRenderer
    metrics: Metrics
    clock: Clock


@dataclass(frozen=True, slots=True)
class Parts:
    """What needs the outbox."""

    outbox: Outbox
    courier: Courier
    providers: tuple[Provider, ...]


def warm(settings: Settings, clock: Clock) -> Warm:
    """Read the templates. Raises RenderingError."""
    writer = template_sources.build_renderer(settings)
    metrics = Metrics({*TEMPLATES, *(event.template for event in settings.webhook.events.values())})
    return Warm(settings, writer, metrics, clock)


async def build(
    made: Warm,
    wait_seconds: float | None = WAIT_SECONDS,
    *,
    kept_in: type[SqliteOutbox] = SqliteOutbox,
    connect: Connect = connect,
) -> Parts:
    """Open the outbox and connect the parts. Raises OutboxError or SealBroken; `wait_seconds` is that of `open`."""
    settings, clock = made.settings, made.clock
    outbox = await kept_in.open(
        settings.database_path, secret_keys=_secret_keys(settings), clock=clock, wait_seconds=wait_seconds
    )
    channels = {
        name: Channel(
            provider=connect(provider, ProviderContext(name, clock, outbox.captured)),
            limiter=PriorityLimiter(provider.concurrency),
            sender=provider.sender or settings.sender,
            template_for=provider.template_for,
            forwards=provider.forwards,
        )
        for name, provider in settings.providers.items()
    }
    courier = Courier(
        outbox=outbox,
        renderer=made.writer,
        channels=channels,
        routes=Routes(settings.routes, default=settings.routes.get("default", tuple(settings.providers))),
        reply_to=settings.reply_to,
        retention=settings.retention,
        clock=clock,
        metrics=made.metrics,
        jitter=random.random,
        supersedes=settings.supersede,
        delivers=settings.role != "web",
    )
    return Parts(outbox, courier, tuple(channel.provider for channel in channels.values()))


Build: TypeAlias = Callable[[Warm, float | None], Coroutine[Any, Any, Parts]]
"""How the parts are made; the bench exchanges some of them."""


def application(made: Warm, acceptor: Acceptor, outbox: Outbox, *, standing: Readiness) -> ASGIApp:
    """Return the doors as one app."""
    # Without the layers of `Starlette` around them, which cost a tenth of a request.
    app = Endpoints(
        routes(
            settings=made.settings,
            acceptor=acceptor,
            outbox=outbox,
            clock=made.clock,
            entropy=os.urandom,
            metrics=made.metrics,
            standing=standing,
        )
    )
    return LoopbackOnly(app) if made.settings.dev else app


class Opening:
    """Opens the outbox and starts to send, beside the listener, whose app answers 503 until that is done."""

    def __init__(
        self,
        made: Warm,
        build: Build,
        standing: Readiness,
        wait_seconds: float | None,
        *,
        listen: Callable[[], object],
        failed: Callable[[], object],
    ) -> None:
        """Begin; `listen` is called before any mail is sent, `failed` if it can never succeed."""
        unopened: Any = UnavailableOutbox()
        self.app = SwappableApp(application(made, unopened, unopened, standing=standing))
        self._trouble = asyncio.Event()
        self._parts: Parts | None = None

        async def open_and_start() -> None:
            parts = await open_with_retry(
                partial(build, made), wait_seconds=wait_seconds, clock=made.clock, in_trouble=self._trouble.set
            )
            self._parts = parts
            listen()
            await parts.courier.start()
            self.app.app = application(made, parts.courier, parts.outbox, standing=standing)
            standing.started = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)

        self._task = asyncio.create_task(open_and_start(), name="open")
        self._task.add_done_callback(lambda task: failed() if task.cancelled() or task.exception() else None)

    async def ended_or_in_trouble(self) -> None:
        """Return when there is something to answer."""
        await wait_first(asyncio.wait((self._task,)), self._trouble.wait())

    async def finish(self) -> None:
        """Let deliveries under way end, and start no more."""
        if self._parts:
            await self._parts.courier.finish()

    async def close(self, seconds_left: float) -> None:
        """End everything. Raises what kept it from opening."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self._parts:
            await self._parts.courier.drain(seconds_left)
            await self._parts.outbox.close()  # the next process waits for it
            for provider in self._parts.providers:
                await provider.aclose()
        if not self._task.cancelled():
            self._task.result()


async def serve(
    settings: Settings, *, clock: Clock, fd: int | None, environ: Mapping[str, str], build: Build = build
) -> None:
    """Run until told to end. Raises CannotListen and MailroomErrors."""
    ending = Shutdown()
    ending.listen()
    parent = supervisor.Parent(environ)
    parent.watch(asyncio.get_running_loop(), ending.hurry)
    for warning in config.warnings(settings):
        log.warning("settings.doubtful", problem=warning)
    sockets = [adopt_socket(descriptor) for descriptor in parent.descriptors] or inherited_sockets(fd, environ)
    with contextlib.suppress(PortTaken):  # by a predecessor, if it holds the outbox, too
        _listen(sockets, settings)
    parent.tell("listening", sockets)
    made = warm(settings, clock)
    if parent.replaces:  # better now than when the predecessor has gone
        check(settings.database_path, _secret_keys(settings))
    parent.tell(f"warm {settings.shutdown_timeout.total_seconds()}")

    standing = Readiness()
    wait_seconds = WAIT_SECONDS if parent.is_first else None
    listen = partial(_listen, sockets, settings)
    opening = Opening(made, build, standing, wait_seconds, listen=listen, failed=ending.hurry)
    seconds_left = 0.0
    watching: asyncio.Task[None] | None = None
    try:
        # Connections wait in the socket while another process holds the outbox; in other trouble they are answered 503.
        await wait_first(opening.ended_or_in_trouble(), ending.asked.wait())
        if not ending.asked.is_set():
            listen()
            parent.tell("serving", sockets)
            host, port = sockets[0].getsockname()[:2]
            log.info("server.listening", host=host, port=port, role=settings.role)
            if settings.dev:
                print(development_banner(settings, port), flush=True)  # noqa: T201 - a person reads this
            if settings.templates:
                desk = LintContext(made.writer, settings.sender, settings.reply_to)
                watching = asyncio.create_task(watch_templates(desk, clock), name="templates")
            listener = Server(opening.app, standing=standing, metrics=made.metrics, clock=clock)
            seconds_left = await listener.serve_until(
                ending, sockets, shutdown_seconds=settings.shutdown_timeout.total_seconds(), finish=opening.finish
            )
    finally:
        if watching:
            watching.cancel()
            await asyncio.wait((watching,))
        await opening.close(seconds_left)
    log.info("server.ended")


def _listen(sockets: list[socket.socket], settings: Settings) -> None:
    """Have a socket to listen on: one of our own unless there is one. Raises CannotListen."""
    if not sockets:
        sockets.append(bind_socket(settings.host, settings.port))


def _secret_keys(settings: Settings) -> list[str]:
    return [key.get_secret_value() for key in settings.secret_key]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit code."""
    options = _options(argv)
    core_dumps.forbid()
    lines = logs.configure(sys.stderr)
    try:
        settings = config.load(environ=os.environ, config=options.config, dev=options.dev)
        uvloop.run(serve(settings, clock=SystemClock(), fd=options.fd, environ=os.environ))
    except SettingsError as error:
        faults = "\n".join(f"  {printable(f'{fault.path}: {fault.problem}')}" for fault in error.faults)
        print(f"Mailroom cannot start with these settings:\n{faults}", file=sys.stderr)  # noqa: T201 - a person reads this
        return EXIT_SETTINGS
    except (MailroomError, ListenError) as error:
        print(f"Mailroom cannot start: {printable(str(error))}", file=sys.stderr)  # noqa: T201 - likewise
        return EXIT_SETTINGS if isinstance(error, SealBroken) else EXIT_FAILED
    finally:
        lines.drain()
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="Serve Mailroom: the endpoint of Logto's HTTP email connector and webhooks.",
        allow_abbrev=False,  # the parent looks for --dev
        epilog="Settings come from mailroom.toml and MAILROOM_… variables; `mailroom check` looks them through. "
        "SIGHUP starts a process with the settings of then, which takes over when it is ready.",
    )
    parser.add_argument("--dev", action="store_true", help="needs no settings; keeps mails instead of sending them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings (MAILROOM_CONFIG, ./mailroom.toml)")
    parser.add_argument("--fd", type=int, metavar="N", help="listen on this inherited socket")
    return parser.parse_args(argv)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
