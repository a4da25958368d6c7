"""Makes `schema-<version>.db`: an outbox of today's schema with messages in every state, for later versions to open.

`python -m tests.outbox.make_database` writes it. A file that is committed stays as it is: it was written by the version
of its time. When the schema changes, make the new version's file with this and extend `test_old_schemas.py`.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mailroom.message import Address, Attempt, Email, Message, Outcome, Priority, State
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    DedupKey,
    Lease,
    Settlement,
)
from mailroom.outbox.sqlite.database import SCHEMA
from mailroom.outbox.sqlite.engine import SqliteOutbox
from tests.clock import START, FakeClock

SECRET: Final = "the secret key of the committed databases"
DAY: Final = 86400.0
BODY: Final = b'{"to":"ada@example.com","type":"SignIn","payload":{"code":"314159"}}'
"""The request body of the queued code."""
WEBHOOK: Final = b"webhook: an event"
WELCOME: Final = b"welcome: a user"
CODE: Final = {"code": "314159", "application": {"id": "app1", "name": "Acme"}, "locale": "fr"}
RAW: Final = b"Subject: 314159\r\n\r\nYour code is 314159.\r\n"

SETTLED: Final = {
    "sent": Settlement(
        "", State.SENT, (Attempt("main", START, 0.2, Outcome.ACCEPTED, "250 ok"),), None, "", "<1@main>"
    ),
    "failed": Settlement(
        "", State.FAILED, (Attempt("main", START, 0.2, Outcome.REJECTED, "550 no such user"),), None, "550 no such user"
    ),
    "retried": Settlement(
        "", State.QUEUED, (Attempt("main", START, 0.2, Outcome.UNAVAILABLE, "451 later"),), START + 30
    ),
    "held for misconfiguration": Settlement(
        "", State.HELD, (Attempt("main", START, 0.2, Outcome.MISCONFIGURED, "535 no"),), None, HELD_MISCONFIGURED
    ),
    "held, tries used up": Settlement(
        "", State.HELD, (Attempt("main", START, 9.0, Outcome.UNCERTAIN),), None, HELD_EXHAUSTED
    ),
    "held, refused": Settlement(
        "", State.HELD, (Attempt("main", START, 0.2, Outcome.REJECTED, "554 spam"),), None, HELD_REFUSED
    ),
    "held for its link": Settlement("", State.HELD, (), None, HELD_LINK),
    "held for its template": Settlement("", State.HELD, (), None, HELD_RENDERING),
    # Nothing brings messages to these states yet; what reads them is there.
    **{
        state.value: Settlement("", state, (Attempt("main", START, 0.2, Outcome.ACCEPTED),))
        for state in (State.DELIVERED, State.BOUNCED, State.COMPLAINED, State.SUPERSEDED, State.SUPPRESSED)
    },
    "cancelled": Settlement("", State.CANCELLED, (), None, "an operator cancelled it"),
}
"""Settlements by name; the name is also the recipient of the message."""


def address(name: str) -> str:
    """Return the recipient of the message of this name."""
    return f"{name.replace(', ', '-').replace(' ', '-')}@example.com"


async def fill(outbox: SqliteOutbox) -> None:
    """Put a message for each state, as a server would that is killed afterwards."""
    ids = count(1)

    def message(name: str, template: str = "SignIn", lifetime: float = 30 * 365 * DAY) -> Message:
        priority = {"SignIn": Priority.CODE, "Welcome": Priority.EVENT}.get(template, Priority.INVITATION)
        payload = CODE if priority is Priority.CODE else {"link": "https://acme.example/accept?token=s3cr3t"}
        return Message(
            id=f"01a1ee56-5e00-7000-8000-{next(ids):012d}",
            template=template,
            priority=priority,
            recipient=address(name),
            payload=payload,
            created_at=START,
            expires_at=START + lifetime,
            ip="203.0.113.9",
            languages=("fr-CA", "fr"),
        )

    lease = Lease("main", 300)
    await outbox.put(message("queued"), repeat_of=BODY)
    await outbox.put(message("sending"), lease=lease)
    await outbox.put(message("invited", "OrganizationInvitation"))
    await outbox.put(message("welcomed", "Welcome"), once=[DedupKey(WEBHOOK, START + 7 * DAY), DedupKey(WELCOME)])
    await outbox.put(message("expired", lifetime=10.0))
    assert await outbox.expire(now=START + 11, limit=9)
    for name, settlement in SETTLED.items():
        one = message(name)
        await outbox.put(one, lease=lease)
        assert (await outbox.settle(replace(settlement, id=one.id))).is_recorded
    sender = Address("no-reply@acme.example", "Acme")
    await outbox.captured.keep(
        Email(
            id="01a1ee56-5e00-7000-8000-000000000001",
            message_id="<queued@acme.example>",
            sender=sender,
            recipient=address("captured"),
            reply_to=None,
            subject="314159 is your code",
            html="",
            text="",
            headers=(),
            language="fr",
            template="SignIn",
            raw=RAW,
        )
    )
    await outbox.secrets.put("main token", "the next consent")
    await outbox.index(limit=5)


def entropy() -> Callable[[int], bytes]:
    """Return random octets that are the same each time, but never twice the same."""
    numbers = count(1)
    return lambda octets: next(numbers).to_bytes(octets, "big")


async def make(target: Path) -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mailroom.db"
        outbox = await SqliteOutbox.open(path, secret_keys=[SECRET], clock=FakeClock(), entropy=entropy())
        await fill(outbox)
        await outbox.close()
        shutil.copy(path, target)


if __name__ == "__main__":
    newest = max(int(step.stem.removeprefix("sqlite-")) for step in SCHEMA.glob("sqlite-*.sql"))
    asyncio.run(make(Path(__file__).parent / f"schema-{newest}.db"))
