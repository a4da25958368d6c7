"""An acceptor and outbox in memory that behave as the endpoints need, and real settings for them."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from mailroom.clock import Clock
from mailroom.config.model import Settings
from mailroom.errors import CannotKeep, LimitExceeded
from mailroom.message import Email, Message, Priority
from mailroom.outbox import REPEAT_SECONDS, DedupKey, Depth, Outbox, PutResult
from mailroom.outbox.captured_mails import CapturedMail
from tests.providers.contract import SecretsInMemory

AUTHORIZATION = "Bearer test-token"


def settings(**changes: Any) -> Settings:
    """Return settings for both endpoints, with these changes."""
    given: dict[str, Any] = {
        "from": "Acme <no-reply@acme.example>",
        "secret_key": "a secret key of the tests",
        "providers": {"main": {"type": "capture"}},
        "connector": {"authorization": AUTHORIZATION},
        "webhook": {"signing_keys": ["key"]},
    }
    return Settings.model_validate({**given, **changes})


class MemoryCaptured:
    """Mails in the order of their arrival."""

    def __init__(self) -> None:
        self.mails: list[tuple[CapturedMail, bytes]] = []

    async def keep(self, email: Email) -> None:
        """Keep a mail."""
        head = CapturedMail(email.id, 1_795_000_000.0, email.sender.email, email.recipient, email.subject, 0)
        self.mails.append((head, email.raw))

    async def newest(self, limit: int) -> list[CapturedMail]:
        """Return the latest mails, newest first."""
        return [head for head, _ in reversed(self.mails)][:limit]

    async def raw(self, id: str) -> bytes | None:  # noqa: A002 - the field's word
        """Return a mail as RFC 5322 text."""
        return next((raw for head, raw in self.mails if head.id == id), None)


class MemoryParts:
    """Acceptor and outbox in one: recognizes repeats and dedup keys, and refuses if `full` is set."""

    def __init__(self, clock: Clock) -> None:
        self.stored: list[Message] = []
        self.full = False
        self.silent = False
        self.holds = False
        self.retry_after = 0
        self.fault: Exception | None = None
        self.due: list[float | None] = []
        self.captured = MemoryCaptured()
        self.secrets = SecretsInMemory()
        self._clock = clock
        self._repeats: dict[bytes, tuple[float, str]] = {}
        self._once: dict[bytes, tuple[float | None, str]] = {}

    @property
    def outbox(self) -> Outbox:
        """Itself: the endpoints use no more of an outbox."""
        return cast("Outbox", self)

    async def accept(
        self,
        message: Message,
        *,
        repeat_of: bytes | None = None,
        once: Sequence[DedupKey] = (),
        due_at: float | None = None,
    ) -> PutResult:
        """Keep a message, unless it is a repeat."""
        if self.full:
            raise CannotKeep("database or disk is full")
        if self.retry_after:
            raise LimitExceeded("recipient", retry_after=self.retry_after)
        now = self._clock.now()
        earlier = self._repeats.get(repeat_of) if repeat_of is not None else None
        if earlier and now - earlier[0] < REPEAT_SECONDS:
            return PutResult(earlier[1], fresh=False)
        for claim in once:
            known = self._once.get(claim.what)
            if known and (known[0] is None or now < known[0]):
                return PutResult(known[1], fresh=False)
        if repeat_of is not None:
            self._repeats[repeat_of] = (now, message.id)
        self._once |= {claim.what: (claim.until, message.id) for claim in once}
        self.stored.append(message)
        self.due.append(due_at)
        return PutResult(message.id, fresh=True, is_held=self.holds)

    async def remember(self, once: DedupKey) -> None:
        """Note that something happened."""
        if self.full:
            raise CannotKeep("database or disk is full")
        self._once[once.what] = (once.until, "")

    async def happened(self, what: bytes) -> bool:
        """Tell whether it was noted and is not forgotten."""
        if self.silent:
            raise CannotKeep("database is locked")
        return what in self._once and (self._once[what][0] or float("inf")) > self._clock.now()

    async def languages(self, recipient: str) -> tuple[str, ...]:
        """Return the languages of the last mail to this address that had any, or raise `fault`."""
        if self.fault:
            raise self.fault
        return next((m.languages for m in reversed(self.stored) if m.recipient == recipient and m.languages), ())

    async def depth(self) -> Mapping[Priority, Depth]:
        """Return what waits."""
        if self.silent:
            raise CannotKeep("database is locked")
        codes = [message for message in self.stored if message.is_code]
        return {Priority.CODE: Depth(len(codes), codes[0].created_at if codes else None)}

    async def held(self) -> Mapping[str, int]:
        """Return what is held."""
        return {"misconfigured": 2, "the template SignIn has a fault in line 3": 1}

    async def free_bytes(self) -> int | None:
        """Return the free room."""
        return 4096
