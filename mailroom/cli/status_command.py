"""`mailroom status`: the server, what waits or is held, each provider; fails when mail is not sent."""

import asyncio
import re
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import click
import httpx

from mailroom.cli.context import CliContext, as_json, server_url
from mailroom.cli.output import iso_time, local_time, print_json, print_line, print_table, short_duration
from mailroom.clock import Instant
from mailroom.config.model import Settings
from mailroom.message import Outcome, Priority
from mailroom.outbox import AttemptSummary, Depth
from mailroom.outbox.by_url import place_of
from mailroom.outbox.shared import OpenBreaker

_WINDOW_SECONDS: Final = 300.0
_MOST_FAILURES: Final = 4
"""More in the window are a problem, if none succeeded."""
_LONGEST_WAIT_SECONDS: Final = 120.0
"""For a code."""
_DAY: Final = 86400.0
_NEWEST: Final = 10_000
"""Messages whose attempts are read; 30 ms."""
_FAILURES: Final = frozenset({Outcome.MISCONFIGURED, Outcome.UNAVAILABLE, Outcome.UNCERTAIN})
"""Of the provider, not of the recipient's address."""
_GAUGE: Final = re.compile(r'^mailroom_provider_(open|quota_left)\{provider="([^"]+)"\} (\S+)$', re.MULTILINE)


@click.command()
@click.option("--url", default=None, help="Base URL of the server.  [default: from the settings]")
@as_json
@click.pass_obj
def status(cli: CliContext, *, url: str | None, as_json: bool) -> None:
    """Show whether mail is sent: the server, what waits, what is held, and each provider. For monitoring, too.

    Exits with 1 if one of these is true:

    \b
    - no server answers (GET /readyz);
    - a code is held for an operator;
    - a code has waited for more than 2 minutes;
    - 5 or more attempts to send codes failed in the last 5 minutes, and none succeeded;
    - the same is true of all attempts.

    A mail that is refused because of its recipient's address is not counted as failed. Read are the attempts of the
    newest 10,000 messages of a day, and of older ones that are not settled. Whether a provider is skipped because it
    fails, and what its quota leaves, is read from the server's /metrics, with `metrics_token`. On PostgreSQL the
    database says why all processes skip it, and since when.
    """  # noqa: D301 - click's mark, no escape
    settings = cli.settings()
    now = time.time()
    report = asyncio.run(_read(cli, settings, url or server_url(settings), now))
    problems = list(_find_problems(report, now))
    if as_json:
        print_json(_locations(cli, settings) | _as_json(report, settings, problems, now))
    else:
        for name, place in _locations(cli, settings).items():
            print_line(f"{name}: {place}")
        _print(report, settings, problems, now)
    if problems:
        raise click.exceptions.Exit(1)


def _locations(cli: CliContext, settings: Settings) -> dict[str, str]:
    """Return which files were read."""
    file = cli.file.absolute()
    return {
        "settings": str(file) if file.exists() else f"variables; there is no {file}",
        "outbox": place_of(settings.database_url, absolute=True),
    }


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    state: str | None
    """None: it does not answer."""
    gauges: Mapping[tuple[str, str], float] | None
    """Of the providers: (name of the gauge, provider) -> value; None: unknown."""

    def is_skipped(self, provider: str) -> bool | None:
        """Whether a provider is skipped because it fails; None: unknown."""
        return None if self.gauges is None else self.gauges.get(("open", provider)) == 1

    def quota_left(self, provider: str) -> float | None:
        """Return how many mails a provider's quota leaves; None: unknown, or it has none."""
        return self.gauges.get(("quota_left", provider)) if self.gauges else None


@dataclass(frozen=True, slots=True)
class _Report:
    server: _Server
    depth: Mapping[Priority, Depth]
    held: Mapping[str, int]
    held_codes: Mapping[str, int]
    paused: Mapping[str, Instant]
    open_breakers: Mapping[str, OpenBreaker]
    """As all processes know them, on PostgreSQL."""
    code_attempts: list[AttemptSummary]
    """Of the last five minutes."""
    attempts: list[AttemptSummary]
    """Likewise, of all messages."""
    day: list[AttemptSummary]

    def last(self, provider: str, outcomes: Collection[Outcome]) -> AttemptSummary | None:
        """Return the provider's last attempt with one of these outcomes."""
        rows = [row for row in self.day if row.provider == provider and row.outcome in outcomes]
        return max(rows, key=lambda row: row.last_at, default=None)

    def oldest_seconds(self, priority: Priority, now: Instant) -> float | None:
        """Return how long the oldest message has waited; None: there is none."""
        oldest = self.depth[priority].oldest
        return None if oldest is None else round(max(0.0, now - oldest), 1)


async def _read(cli: CliContext, settings: Settings, url: str, now: Instant) -> _Report:
    querying = asyncio.create_task(_query_server(settings, url))
    async with cli.outbox(settings) as outbox:
        tried = partial(outbox.tried, accepted=now - _DAY, limit=_NEWEST)
        return _Report(
            depth=await outbox.depth(),
            held=await outbox.held(),
            held_codes=await outbox.held(priority=Priority.CODE),
            paused=await outbox.paused(),
            open_breakers=await outbox.open_breakers(),
            code_attempts=await tried(since=now - _WINDOW_SECONDS, priority=Priority.CODE),
            attempts=await tried(since=now - _WINDOW_SECONDS),
            day=await tried(since=now - _DAY),
            server=await querying,
        )


async def _query_server(settings: Settings, url: str) -> _Server:
    token = settings.metrics_token

    async def get(path: str, headers: Mapping[str, str]) -> httpx.Response | None:
        try:
            return await client.get(f"{url}{path}", headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None

    async with httpx.AsyncClient(timeout=3, trust_env=False) as client:
        authorization = {"authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        ready, metrics = await asyncio.gather(get("/readyz", {}), get("/metrics", authorization))
    state = None if ready is None else "ready" if ready.is_success else "starting or draining"
    gauges = None
    if metrics is not None and metrics.is_success:
        gauges = {(gauge, provider): float(value) for gauge, provider, value in _GAUGE.findall(metrics.text)}
    return _Server(url, state, gauges)


def _find_problems(report: _Report, now: Instant) -> Iterator[str]:
    """Yield a sentence for each reason to fail, see the command's help."""
    if report.server.state is None:
        yield f"no server answers at {report.server.url}"
    if report.held_codes:
        yield f"codes are held: {', '.join(f'{count} {reason}' for reason, count in report.held_codes.items())}"
    waited = report.oldest_seconds(Priority.CODE, now)
    if waited is not None and waited > _LONGEST_WAIT_SECONDS:
        yield f"a code has waited for {short_duration(waited)}"
    for attempts, what in ((report.code_attempts, "codes"), (report.attempts, "mail")):
        failures = sum(row.count for row in attempts if row.outcome in _FAILURES)
        if failures > _MOST_FAILURES and not any(row.outcome is Outcome.ACCEPTED for row in attempts):
            yield f"no {what} could be sent in 5 minutes, {failures} attempts failed"


def _as_json(report: _Report, settings: Settings, problems: list[str], now: Instant) -> dict[str, Any]:
    return {
        "server": report.server.state or "not reachable",
        "problems": problems,
        "waiting": {
            priority.name.lower(): {
                "messages": report.depth[priority].count,
                "oldest_seconds": report.oldest_seconds(priority, now),
            }
            for priority in Priority
        },
        "held": report.held,
        "providers": [_provider_as_json(report, name) for name in settings.providers],
    }


def _provider_as_json(report: _Report, name: str) -> dict[str, Any]:
    success, failure = report.last(name, {Outcome.ACCEPTED}), report.last(name, _FAILURES)
    breaker = report.open_breakers.get(name)
    return {
        "name": name,
        "paused_since": iso_time(report.paused.get(name)),
        "is_skipped": True if breaker else report.server.is_skipped(name),
        "skipped": breaker and {"since": iso_time(breaker.since), "reason": breaker.reason},
        "quota_left": report.server.quota_left(name),
        "last_success": success and {"started_at": iso_time(success.last_at), "diagnostic": success.diagnostic},
        "last_failure": failure
        and {"started_at": iso_time(failure.last_at), "outcome": failure.outcome, "diagnostic": failure.diagnostic},
    }


def _print(report: _Report, settings: Settings, problems: list[str], now: Instant) -> None:
    for problem in problems:
        print_line(f"Problem: {problem}", style="bold red", wrap=True)
    print_line(f"server: {report.server.state or 'not reachable'}")
    print_table(
        ("waiting", "messages", "oldest"),
        [
            (
                priority.name.lower(),
                str(report.depth[priority].count),
                short_duration(report.oldest_seconds(priority, now)),
            )
            for priority in Priority
        ],
    )
    if report.held:
        print_table(("held", "messages"), [(reason, str(count)) for reason, count in report.held.items()])
    print_table(
        ("provider", "state", "last success", "last failure"),
        [
            (
                name,
                _state(report, name),
                _describe(report.last(name, {Outcome.ACCEPTED}), now),
                _describe(report.last(name, _FAILURES), now),
            )
            for name in settings.providers
        ],
    )


def _state(report: _Report, name: str) -> str:
    if name in report.paused:
        return f"paused since {local_time(report.paused[name])}"
    if report.server.quota_left(name) == 0:
        return "its quota is used up"
    if breaker := report.open_breakers.get(name):
        return f"skipped since {local_time(breaker.since)}: {breaker.reason}"
    return {None: "not known", True: "skipped: it fails", False: "in use"}[report.server.is_skipped(name)]


def _describe(row: AttemptSummary | None, now: Instant) -> str:
    return f"{short_duration(now - row.last_at)} ago: {row.diagnostic}" if row else "none in a day"
