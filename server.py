"""The machine on one screen: settings → parts → app; `python server.py` serves it."""

import gc

if __name__ == "__main__":
    gc.disable()  # while everything is imported: nothing of it is garbage

import mailroom.structlog_alone  # noqa: F401, I001 - before structlog

import argparse
import asyncio
import os
import random
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import structlog
import uvloop
from starlette.types import ASGIApp

from handlers import Doors, routes
from handlers.health import Standing
from handlers.listening import CannotListen, Ending, Listener, bound, inherited
from handlers.loopback import OnlyLoopback
from mailroom import core_dumps, loading, logs, templates
from mailroom.checking.changed import watch_templates
from mailroom.checking.making import Desk
from mailroom.clock import Clock, SystemClock
from mailroom.courier import Courier, Exit, Lane, Routes
from mailroom.errors import MailroomError, SettingsError
from mailroom.metrics import KINDS, Metrics
from mailroom.outbox import Outbox
from mailroom.outbox.sqlite import SqliteOutbox
from mailroom.providers import Provider, ProviderSettings, Surroundings, connect
from mailroom.rendering.writer import TemplateWriter
from mailroom.settings import Settings

EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
_GC_THRESHOLD: Final = 50_000
"""With everything frozen after the start collections may be rare: p99 of a request from 12 to 6 ms."""

Connect: TypeAlias = Callable[[ProviderSettings, Surroundings], Provider]
T = TypeVar("T")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Parts:
    """What a running server is made of."""

    outbox: Outbox
    courier: Courier
    providers: tuple[Provider, ...]
    metrics: Metrics
    writer: TemplateWriter


async def build(
    settings: Settings, clock: Clock, *, kept_in: type[SqliteOutbox] = SqliteOutbox, connect: Connect = connect
) -> Parts:
    """Open the outbox and connect the parts. Raises OutboxError, SealBroken or RenderingError."""
    metrics = Metrics({*KINDS, *(event.template for event in settings.webhook.events.values())})
    writer = templates.writer(settings)
    outbox = await kept_in.open(
        settings.database_path, secret_keys=[key.get_secret_value() for key in settings.secret_key], clock=clock
    )
    exits = {
        name: Exit(
            provider=connect(provider, Surroundings(name, clock, outbox.captured)),
            lane=Lane(provider.concurrency),
            sender=provider.sender or settings.sender,
            timeout_seconds=provider.timeout,
            template_for=provider.template_for,
            forwards=provider.forwards,
        )
        for name, provider in settings.providers.items()
    }
    courier = Courier(
        outbox=outbox,
        writer=writer,
        exits=exits,
        routes=Routes(settings.routes, default=settings.routes.get("default", tuple(settings.providers))),
        reply_to=settings.reply_to,
        retention=settings.retention,
        clock=clock,
        metrics=metrics,
        jitter=random.random,
        delivers=settings.role != "web",
    )
    return Parts(outbox, courier, tuple(exit_.provider for exit_ in exits.values()), metrics, writer)


Build: TypeAlias = Callable[[Settings, Clock], Coroutine[Any, Any, Parts]]
"""How the parts are made; the bench exchanges some of them."""


def application(settings: Settings, parts: Parts, *, standing: Standing, clock: Clock) -> ASGIApp:
    """Return the doors as one app."""
    # Without the layers of `Starlette` around them, which cost a tenth of a request.
    app = Doors(
        routes(
            settings=settings,
            acceptor=parts.courier,
            outbox=parts.outbox,
            clock=clock,
            entropy=os.urandom,
            metrics=parts.metrics,
            standing=standing,
        )
    )
    return OnlyLoopback(app) if settings.dev else app


async def serve(
    settings: Settings, *, clock: Clock, fd: int | None, environ: Mapping[str, str], build: Build = build
) -> None:
    """Run until told to end. Raises CannotListen and MailroomErrors before it listens."""
    ending = Ending()
    ending.listen()
    for warning in loading.warnings(settings):
        log.warning("settings.doubtful", problem=warning)
    # Connections may be waiting in an inherited socket; one of our own is bound once a predecessor has let go.
    sockets = inherited(fd, environ)
    parts = await _unless(ending.asked, build(settings, clock))
    if parts is None:
        return
    seconds_left = 0.0
    watching: asyncio.Task[None] | None = None
    try:
        sockets = sockets or [bound(settings.host, settings.port)]
        standing = Standing()
        app = application(settings, parts, standing=standing, clock=clock)
        await parts.courier.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        _greet(settings, *sockets[0].getsockname()[:2])
        if settings.templates:
            desk = Desk(parts.writer, settings.sender, settings.reply_to)
            watching = asyncio.create_task(watch_templates(desk, clock), name="templates")
        seconds_left = await Listener(app, standing=standing, metrics=parts.metrics, clock=clock).serve_until(
            ending, sockets, shutdown_seconds=settings.shutdown_timeout.total_seconds()
        )
    finally:
        if watching:
            watching.cancel()
            await asyncio.wait((watching,))
        await parts.courier.drain(seconds_left)
        for provider in parts.providers:
            await provider.aclose()
        await parts.outbox.close()
    log.info("server.ended")


async def _unless(asked: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the work's result; None: the end was asked for first, and the work was cancelled."""
    working = asyncio.create_task(work)
    asking = asyncio.create_task(asked.wait())
    await asyncio.wait((working, asking), return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait((working,))
    return None


def _greet(settings: Settings, host: str, port: int) -> None:
    log.info("server.listening", host=host, port=port, role=settings.role)
    if not settings.dev:
        return
    base = f"http://localhost:{port}"
    webhook = f"{base}/webhook" if settings.webhook.signing_keys else "off until MAILROOM_WEBHOOK__SIGNING_KEYS is set"
    print(  # noqa: T201 - a person reads this
        f"""
  Mailroom, in development: it keeps every mail instead of sending it, and answers this machine only.

    Logto's HTTP email connector   {base}/email   (any Authorization)
    Logto's webhook                {webhook}
    the mails                      {base}/console/captured

  Try it:
    curl {base}/email -d '{{"to": "ada@example.com", "type": "SignIn", "payload": {{"code": "123456"}}}}'
""",
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to end; return the exit code."""
    options = _options(argv)
    core_dumps.forbid()
    lines = logs.configure(sys.stderr)
    try:
        settings = loading.load(environ=os.environ, config=options.config, dev=options.dev)
        uvloop.run(serve(settings, clock=SystemClock(), fd=options.fd, environ=os.environ))
    except SettingsError as error:
        faults = "\n".join(f"  {logs.printable(f'{fault.path}: {fault.problem}')}" for fault in error.faults)
        print(f"Mailroom cannot start with these settings:\n{faults}", file=sys.stderr)  # noqa: T201 - a person reads this
        return EXIT_SETTINGS
    except (MailroomError, CannotListen) as error:
        print(f"Mailroom cannot start: {logs.printable(str(error))}", file=sys.stderr)  # noqa: T201 - likewise
        return EXIT_FAILED
    finally:
        lines.drain()
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="server.py",
        description="Serve Mailroom: the endpoint of Logto's HTTP email connector and webhooks.",
        epilog="Settings come from mailroom.toml and MAILROOM_… variables; `mailroom check` looks them through.",
    )
    parser.add_argument("--dev", action="store_true", help="needs no settings; keeps mails instead of sending them")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the settings (MAILROOM_CONFIG, ./mailroom.toml)")
    parser.add_argument("--fd", type=int, metavar="N", help="listen on this inherited socket")
    return parser.parse_args(argv)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
