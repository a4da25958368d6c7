"""How a message is written as a row, and read back."""

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from mailroom.address import identity
from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Attempt, Message, Priority, State
from mailroom.outbox import Lease, Record
from mailroom.sealing import Seal

_ATTEMPTS: Final = msgspec.json.Decoder(tuple[Attempt, ...])
_LANGUAGES: Final = msgspec.json.Decoder(tuple[str, ...])

COLUMNS: Final = (
    "id, state, template, priority, languages, created_at, expires_at, due_at, owner, attempts,"
    " recipient_key, repeat_key, sealed, record"
)
"""What `row_of` gives."""
MESSAGE_COLUMNS: Final = "id, template, priority, languages, created_at, expires_at, sealed, record"
"""What `message_of` takes."""
RECORD_COLUMNS: Final = (
    "id, state, template, priority, created_at, expires_at, settled_at, due_at, attempts, reason,"
    " provider_message_id, languages, record"
)
"""What `record_of` takes."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Turns addresses and bodies into the keyed hashes by which rows are found."""

    seal: Seal

    def recipient(self, address: str) -> bytes:
        """Return the key of a mailbox. Raises ValueError when it is no address."""
        return self.seal.key_of("recipient", identity(address).encode())

    def repeat(self, body: bytes) -> bytes:
        """Return the key of a request's body."""
        return self.seal.key_of("repeat", body)

    def once(self, what: bytes) -> bytes:
        """Return the key of something that may happen once."""
        return self.seal.key_of("once", what)


class InsertRequest(msgspec.Struct, frozen=True, eq=False):
    """A `put`, written and ready to be inserted."""

    row: tuple[object, ...]
    id: str
    now: Instant
    repeat_key: bytes | None
    once: tuple[tuple[bytes, Instant | None], ...]
    """What must not have happened before, and until when it is remembered."""


def row_of(
    message: Message, *, keys: Keys, repeat_key: bytes | None, lease: Lease | None, owner: str
) -> tuple[object, ...]:
    """Return a new message's row, see `COLUMNS`.

    Raises ValueError when the recipient is no address, or the payload cannot be written in UTF-8.
    """
    seal = keys.seal
    return (
        message.id,
        State.SENDING.value if lease else State.QUEUED.value,
        message.template,
        int(message.priority),
        msgspec.json.encode(message.languages).decode(),
        message.created_at,
        message.expires_at,
        message.created_at + lease.seconds if lease else min(message.created_at, message.expires_at),
        owner if lease else None,
        attempts_text((Attempt(lease.provider, message.created_at),) if lease else ()),
        keys.recipient(message.recipient),
        repeat_key,
        seal.seal_json(message.id, "sealed", {"payload": message.payload, "ip": message.ip}),
        seal.seal_json(message.id, "record", {"recipient": message.recipient, "payload": message.harmless()}),
    )


def message_of(row: tuple[Any, ...], seal: Seal) -> Message:
    """Return an unsettled message from its row, see `MESSAGE_COLUMNS`. Raises SealBroken."""
    id_, template, priority, languages, created_at, expires_at, sealed, record = row
    if sealed is None:
        raise SealBroken(f"sealed of {id_} is missing: the database was changed by another hand")
    secret = seal.open_json(id_, "sealed", sealed)
    return Message(
        id=id_,
        template=template,
        priority=Priority(priority),
        recipient=seal.open_json(id_, "record", record)["recipient"],
        payload=secret["payload"],
        created_at=created_at,
        expires_at=expires_at,
        ip=secret["ip"],
        languages=languages_of_text(languages),
    )


def record_of(row: tuple[Any, ...], seal: Seal) -> Record:
    """Return a message's record from its row, see `RECORD_COLUMNS`.

    What does not open is left empty: it must not hide the others of a page.
    """
    (id_, state, template, priority, created_at, expires_at, settled_at, due_at, attempts, reason,
     provider_message_id, languages, record) = row  # fmt: skip
    try:
        opened = seal.open_json(id_, "record", record)
    except SealBroken:
        opened = {"recipient": "", "payload": {}}
    try:
        tried = attempts_of(attempts)
    except SealBroken:
        tried = ()
    return Record(
        id=id_,
        state=State(state),
        template=template,
        priority=Priority(priority),
        recipient=opened["recipient"],
        created_at=created_at,
        expires_at=expires_at,
        settled_at=settled_at,
        due_at=None if state == State.HELD else due_at,
        attempts=tried,
        reason=reason,
        provider_message_id=provider_message_id,
        languages=languages_of_text(languages),
        payload=opened["payload"],
    )


def attempts_text(attempts: tuple[Attempt, ...]) -> str:
    """Return attempts as they are kept. Raises ValueError when their words cannot be written in UTF-8."""
    return msgspec.json.encode(attempts).decode()


def attempts_of(text: str) -> tuple[Attempt, ...]:
    """Return attempts as they were. Raises SealBroken when somebody wrote something else there."""
    return _decoded(_ATTEMPTS, text)


def languages_of_text(text: str) -> tuple[str, ...]:
    """Return languages as they were. Raises SealBroken likewise."""
    return _decoded(_LANGUAGES, text)


Value = TypeVar("Value")


def _decoded(decoder: "msgspec.json.Decoder[Value]", text: str) -> Value:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError:
        raise SealBroken("a row is not as it was written: the database was changed by another hand") from None
