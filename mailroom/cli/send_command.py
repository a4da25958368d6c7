"""`mailroom send`: sends a test mail through the running server, as Logto does."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import click
import httpx

from mailroom.cli.context import CliContext, as_json, server_url
from mailroom.cli.output import local_time, print_json, print_line, record_as_json
from mailroom.config.model import Settings
from mailroom.config.sources import did_you_mean
from mailroom.logto import CONSOLE_TEST_CODE, GENERIC, INVITATION
from mailroom.message import TEMPLATES, Payload, State
from mailroom.outbox import Record

_POLL_SECONDS: Final = 0.2
_SENT: Final = frozenset({State.SENT, State.DELIVERED})


@click.command()
@click.argument("address")
@click.option("--template", default=GENERIC, show_default=True, help="The message's type, as Logto names it.")
@click.option("--locale", default=None, help="The reader's language, as a tag: fr-CA.")
@click.option("--application", metavar="ID", help="The id of the application that the mail is for.")
@click.option("--organization", metavar="ID", help="The id of the organization that the mail is for.")
@click.option("--url", default=None, help="Base URL of the server.  [default: from the settings]")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=15.0,
    show_default=True,
    help="Seconds to wait until the mail is sent.",
)
@as_json
@click.pass_obj
def send(
    cli: CliContext,
    *,
    address: str,
    template: str,
    locale: str | None,
    application: str | None,
    organization: str | None,
    url: str | None,
    wait: float,
    as_json: bool,
) -> None:
    """Send a test mail to ADDRESS through the running server, with the code 000000 as Logto's console does.

    Prints the message's id, each failed attempt as soon as it is known, and the state in the end; exits with 1 unless
    the mail was sent.
    """
    settings = cli.settings()
    server = url or server_url(settings)
    owners = {"application": application, "organization": organization}
    payload: dict[str, Any] = {"link": f"{server}/"} if template == INVITATION else {"code": CONSOLE_TEST_CODE}
    payload |= {"locale": locale} if locale else {}
    payload |= {owner: {"id": owner_id} for owner, owner_id in owners.items() if owner_id}
    _check_template(settings, template, payload)
    id_ = asyncio.run(_post(settings, server, {"to": address, "type": template, "payload": payload}))
    if not as_json:
        print_line(f"accepted as {id_}")
    record = asyncio.run(_wait_for_outcome(cli, settings, id_, wait, report=not as_json))
    if as_json:
        print_json({"id": id_, "record": record_as_json(record) if record else None})
    elif record is not None:
        print_line(f"{record.state}{_explain(record)}")
    if record is not None and record.state in _SENT:
        return
    if record is not None and _has_ended(record):
        raise click.ClickException(f"not sent; details: mailroom outbox show {id_}")
    raise click.ClickException(f"not sent within {wait:g} s; check again with: mailroom outbox show {id_}")


def _check_template(settings: Settings, template: str, payload: Payload) -> None:
    """Refuse a name without a template: the server would send Generic instead."""
    if template in TEMPLATES:
        return
    from mailroom.config.template_sources import build_renderer  # noqa: PLC0415 - slow, and for other templates only

    kinds = list(build_renderer(settings).inventory(payload).kinds)
    if template not in kinds:
        suggestion = did_you_mean(template, kinds)
        raise click.BadParameter(f"there is no template {template!r}; there are: {', '.join(kinds)}{suggestion}")


async def _post(settings: Settings, url: str, request: Mapping[str, Any]) -> str:
    """Post as Logto's connector does; return the message's id."""
    accepted = settings.connector.authorization
    headers = {"authorization": accepted[0].get_secret_value()} if accepted else {}
    try:
        async with httpx.AsyncClient(timeout=30, headers=headers, trust_env=False) as client:
            response = await client.post(f"{url}/email", json=request)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise click.ClickException(
            f"No server answers at {url} ({error}); start it, or set its address with --url."
        ) from error
    if response.status_code != httpx.codes.OK:
        raise click.ClickException(f"The server answered {response.status_code}: {response.text[:500]}")
    try:
        return str(response.json()["id"])
    except (ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"What answers at {url} is not Mailroom.") from error


async def _wait_for_outcome(
    cli: CliContext, settings: Settings, id_: str, wait: float, *, report: bool
) -> Record | None:
    """Return the message's record once it is settled or held, or as it stands when the time is up.

    With `report` print each failed attempt after which the message waits for the next.
    """
    deadline = time.monotonic() + wait
    reported = 0
    async with cli.outbox(settings) as outbox:
        while True:
            record = await outbox.get(id_)
            if record is not None and report and record.state is State.QUEUED:
                for attempt in record.attempts[reported:]:
                    print_line(f"{attempt.provider}: {attempt.outcome}, {attempt.diagnostic}")
                if len(record.attempts) > reported and record.due_at is not None:
                    print_line(f"queued; the next attempt is at {local_time(record.due_at)}")
                reported = len(record.attempts)
            if (record is not None and _has_ended(record)) or time.monotonic() >= deadline:
                return record
            await asyncio.sleep(_POLL_SECONDS)


def _has_ended(record: Record) -> bool:
    return record.state.settled or record.state is State.HELD


def _explain(record: Record) -> str:
    last = record.attempts[-1] if record.attempts else None
    diagnostic = f" by {last.provider}: {last.diagnostic}" if last else ""
    return f"{diagnostic} ({record.reason})" if record.reason else diagnostic
