"""Builds the server: settings → parts → ASGI app. `python server.py` serves it."""

import os
import sys

import supervisor

if __name__ == "__main__" and supervisor.is_wanted(sys.argv, os.environ):
    # The parent keeps the sockets and imports nothing more; only its child, which serves, continues below.
    sys.exit(supervisor.Supervisor().run())

import gc

if __name__ == "__main__":
    gc.disable()  # imports make no garbage

import mailroom.structlog_alone  # noqa: F401, I001 - before structlog

import argparse
import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import structlog
import uvloop
from starlette.types import Receive, Scope, Send

from handlers import application
from handlers.code_limits import CodeLimits
from handlers.health import Readiness
from handlers.lifecycle import ListenError, PortTaken, Server, Shutdown, adopt_socket, bind_socket, wait_first
from handlers.dev_only import development_banner
from mailroom import config, logs
from mailroom.config import senders, template_sources
from mailroom.lint.changed_templates import watch_templates
from mailroom.lint.rules.rendered import LintContext
from mailroom.clock import Clock, SystemClock
from mailroom.courier import Courier, Channel, RatedLimiter, Rates, Routes
from mailroom.courier.maintenance import cancel
from mailroom.errors import MailroomError, SealBroken, SettingsError
from mailroom.message import TEMPLATES
from mailroom.metrics import Metrics
from mailroom.outbox import Outbox
from mailroom.outbox.deferred import WAIT_SECONDS, UnavailableOutbox, open_with_retry
from mailroom.outbox.by_url import check_outbox, open_outbox
from mailroom.providers import Provider, ProviderSettings, ProviderContext, connect
from mailroom.rendering.renderer import TemplateRenderer
from mailroom.sealing import buffered_entropy
from mailroom.config.model import Settings
from mailroom.text import printable

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = supervisor.EXIT_SETTINGS
_GC_THRESHOLD: Final = 50_000
"""After the start everything is frozen, so collections may be rare: p99 of a request from 12 to 6 ms."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PreparedParts:
    """What is built before the outbox is open."""

    settings: Settings
    renderer: TemplateRenderer
    metrics: Metrics
    clock: Clock


@dataclass(frozen=True, slots=True)
class Parts:
    """What needs the outbox."""

    outbox: Outbox
    courier: Courier
    providers: tuple[Provider, ...]


def prepare(settings: Settings, clock: Clock) -> PreparedParts:
    """Read the templates. Raises RenderingError."""
    renderer = template_sources.build_renderer(settings)
    metrics = Metrics({*TEMPLATES, *(event.template for event in settings.webhook.events.values())})
    return PreparedParts(settings, renderer, metrics, clock)


async def build(
    prepared: PreparedParts,
    wait_seconds: float | None = WAIT_SECONDS,
    *,
    open_outbox: Callable[..., Awaitable[Outbox]] = open_outbox,
    connect: Callable[[ProviderSettings, ProviderContext], Provider] = connect,
) -> Parts:
    """Open the outbox and connect the parts. Raises OutboxError or SealBroken; `wait_seconds` is that of `open`."""
    settings, clock = prepared.settings, prepared.clock
    listen_url = settings.database_listen_url
    outbox = await open_outbox(
        settings.database_url,
        secret_keys=_secret_keys(settings),
        clock=clock,
        wait_seconds=wait_seconds,
        listen_url=listen_url.get_secret_value() if listen_url else None,
        recipient_limit=settings.limits.recipient,
        event_limit=settings.webhook.event_limit,
    )
    channels = {
        name: Channel(
            provider=connect(provider, ProviderContext(name, clock, outbox.captured, outbox.secrets)),
            limiter=RatedLimiter(provider.concurrency, Rates(clock, rate=provider.rate, quota=provider.quota)),
            sender=provider.sender or settings.sender,
            template_for=provider.template_for,
            auto_submitted=provider.auto_submitted,
            forwards=provider.forwards,
        )
        for name, provider in settings.providers.items()
    }
    courier = Courier(
        outbox=outbox,
        renderer=prepared.renderer,
        channels=channels,
        routes=Routes(settings.routes, default=senders.routes(settings)["default"], overrides=settings.overrides),
        reply_to=settings.reply_to,
        retention=settings.retention,
        clock=clock,
        metrics=prepared.metrics,
        jitter=random.random,
        supersedes=settings.supersede,
        delivers=settings.role != "web",
    )
    return Parts(outbox, courier, tuple(channel.provider for channel in channels.values()))


Build: TypeAlias = Callable[[PreparedParts, float | None], Coroutine[Any, Any, Parts]]
"""The bench replaces some of the parts."""


class Startup:
    """Opens the outbox and starts to send while the server listens. As an app it responds 503 until that is done."""

    def __init__(
        self,
        prepared: PreparedParts,
        build: Build,
        readiness: Readiness,
        wait_seconds: float | None,
        *,
        on_open: Callable[[], object],
        on_failure: Callable[[], object],
    ) -> None:
        """Begin; `on_open` is called before any mail is sent, `on_failure` if the outbox can never be opened."""
        endpoints = partial(
            application,
            settings=prepared.settings,
            renderer=prepared.renderer,
            clock=prepared.clock,
            entropy=buffered_entropy,
            metrics=prepared.metrics,
            readiness=readiness,
        )
        limits = partial(CodeLimits, prepared.settings.limits, prepared.clock, prepared.metrics)
        unopened: Any = UnavailableOutbox()
        self._app = endpoints(acceptor=unopened, outbox=unopened, limits=limits())
        self._is_failing = asyncio.Event()
        self._parts: Parts | None = None
        self._sharing: asyncio.Task[None] | None = None

        async def open_and_start() -> None:
            self._parts = parts = await open_with_retry(
                partial(build, prepared),
                wait_seconds=wait_seconds,
                clock=prepared.clock,
                in_trouble=self._is_failing.set,
            )
            on_open()
            await parts.courier.start()
            shared_limits = limits(parts.outbox.shared)
            self._sharing = asyncio.create_task(shared_limits.share(), name="limits")
            self._app = endpoints(acceptor=parts.courier, outbox=parts.outbox, limits=shared_limits)
            readiness.started = True
            gc.collect()
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)

        self._task = asyncio.create_task(open_and_start(), name="open")
        self._task.add_done_callback(lambda task: on_failure() if task.cancelled() or task.exception() else None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self._app(scope, receive, send)

    async def wait_opened_or_failing(self) -> None:
        """Return when requests can be answered, be it with 503."""
        await wait_first(asyncio.wait((self._task,)), self._is_failing.wait())

    async def finish(self) -> None:
        """Let current deliveries end, and start no more."""
        if self._parts:
            await self._parts.courier.finish()

    async def close(self, seconds_left: float) -> None:
        """Close all parts. Raises the error for which the outbox could not be opened."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self._sharing:
            await cancel((self._sharing,))
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
    """Serve until a shutdown is requested. Raises ListenError and MailroomErrors."""
    shutdown = Shutdown()
    shutdown.install_signal_handlers()
    parent = supervisor.ParentLink(environ)
    parent.watch(asyncio.get_running_loop(), shutdown.request_immediate)
    for warning in config.warnings(settings):
        log.warning("settings.warning", problem=warning)
    inherited = parent.descriptors or ([fd] if fd is not None else supervisor.systemd_descriptors(environ))
    sockets = [adopt_socket(descriptor) for descriptor in inherited]

    def listen() -> None:
        if not sockets:
            sockets.append(bind_socket(settings.host, settings.port))

    with contextlib.suppress(PortTaken):  # by a predecessor, if it also holds the outbox
        listen()
    parent.send("listening", sockets)
    prepared = prepare(settings, clock)
    if parent.replaces:  # fail before the predecessor ends
        check_outbox(settings.database_url, _secret_keys(settings))
    shutdown_seconds = settings.shutdown_timeout.total_seconds()
    parent.send(f"warm {shutdown_seconds} {settings.workers}")

    readiness = Readiness()
    wait_seconds = WAIT_SECONDS if parent.is_first else None
    startup = Startup(prepared, build, readiness, wait_seconds, on_open=listen, on_failure=shutdown.request_immediate)
    seconds_left = 0.0
    watching: asyncio.Task[None] | None = None
    try:
        # Connections wait in the socket while another process holds the outbox; if it fails, they are answered 503.
        await wait_first(startup.wait_opened_or_failing(), shutdown.requested.wait())
        if not shutdown.requested.is_set():
            listen()
            parent.send("serving", sockets)
            host, port = sockets[0].getsockname()[:2]
            log.info("server.listening", host=host, port=port, role=settings.role)
            if settings.dev:
                print(development_banner(settings, port), flush=True)  # noqa: T201 - a person reads this
            if settings.templates:
                context = LintContext(prepared.renderer, settings.sender, settings.reply_to)
                watching = asyncio.create_task(watch_templates(context, clock), name="templates")
            listener = Server(startup, readiness=readiness, metrics=prepared.metrics, clock=clock)
            seconds_left = await listener.serve_until(
                shutdown, sockets, shutdown_seconds=shutdown_seconds, finish=startup.finish
            )
    finally:
        if watching:
            watching.cancel()
            await asyncio.wait((watching,))
        await startup.close(seconds_left)
    log.info("server.ended")


def _secret_keys(settings: Settings) -> list[str]:
    return [key.get_secret_value() for key in settings.secret_key]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a shutdown is requested; return the exit code."""
    options = _options(argv)
    supervisor.forbid_core_dumps()
    lines = logs.configure(sys.stderr)
    try:
        settings = config.load(environ=os.environ, config=options.config, dev=options.dev)
        uvloop.run(serve(settings, clock=SystemClock(), fd=options.fd, environ=os.environ))
    except SettingsError as error:
        faults = "\n".join(f"  {printable(f'{fault.path}: {fault.problem}')}" for fault in error.faults)
        file = config.settings_file(os.environ, options.config).absolute()
        place = "" if file.exists() else f"\nThere is no {printable(str(file))}."
        print(f"Mailroom cannot start with these settings:\n{faults}{place}", file=sys.stderr)  # noqa: T201 - a person reads this
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
        epilog="Settings come from mailroom.toml and MAILROOM_… variables; `mailroom check` checks them. "
        "SIGHUP starts a process with the current settings, which takes over when it is ready.",
    )
    parser.add_argument("--dev", action="store_true", help="needs no settings; stores mails instead of sending them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings (MAILROOM_CONFIG, ./mailroom.toml)")
    parser.add_argument("--fd", type=int, metavar="N", help="listen on this inherited socket")
    return parser.parse_args(argv)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
