"""Encodes messages as database rows and decodes them; the same for every engine."""

from typing import Any, Final, TypeVar

import msgspec

from mailroom.address import identity
from mailroom.clock import Instant
from mailroom.errors import SealBroken
from mailroom.message import Attempt, Email, Message, Priority, State
from mailroom.outbox import Lease, Leased, Record
from mailroom.outbox.captured_mails import CapturedMail
from mailroom.sealing import Seal

_QUEUED, _SENDING = State.QUEUED.value, State.SENDING.value
_RENDERED: Final = msgspec.json.Decoder(dict[str, Email])

COLUMNS: Final = (
    "id, state, template, priority, languages, created_at, expires_at, due_at, owner, attempts,"
    " recipient_key, repeat_key, supersede_key, sealed, record, route"
)
"""The columns of `row_of`."""
MESSAGE_COLUMNS: Final = (
    "id, attempts, rendered, template, priority, languages, created_at, expires_at, sealed, record, route"
)
"""The columns that `leased_of` takes."""
RECORD_COLUMNS: Final = (
    "id, state, template, priority, created_at, expires_at, settled_at, due_at, attempts, reason,"
    " provider_message_id, languages, record"
)
"""The columns that `record_of` takes."""


def recipient_key(seal: Seal, address: str) -> bytes:
    """Return the keyed hash of a mailbox. Raises ValueError when it is no address."""
    return seal.key_of("recipient", identity(address).encode())


def row_of(
    message: Message,
    *,
    seal: Seal,
    recipient_key: bytes,
    repeat_key: bytes | None,
    supersede_key: bytes | None,
    lease: Lease | None,
    due_at: Instant | None = None,
    owner: str,
    route: str = "",
) -> tuple[object, ...]:
    """Return a new message's row, see `COLUMNS`.

    Raises ValueError when the payload cannot be encoded in UTF-8.
    """
    return (
        message.id,
        _SENDING if lease else _QUEUED,
        message.template,
        int(message.priority),
        msgspec.json.encode(message.languages).decode(),
        message.created_at,
        message.expires_at,
        message.created_at + lease.seconds if lease else min(due_at or message.created_at, message.expires_at),
        owner if lease else None,
        attempts_text((Attempt(lease.provider, message.created_at),) if lease else ()),
        recipient_key,
        repeat_key,
        supersede_key,
        seal.seal_json(message.id, "sealed", {"payload": message.payload, "ip": message.ip}),
        seal.seal_json(message.id, "record", {"recipient": message.recipient, "payload": message.harmless()}),
        route,
    )


def leased_of(row: tuple[Any, ...], seal: Seal) -> Leased:
    """Return an unsettled message from its row, see `MESSAGE_COLUMNS`. Raises SealBroken."""
    id_, attempts, rendered, template, priority, languages, created_at, expires_at, sealed, record, route = row
    if sealed is None:
        raise SealBroken(f"sealed of {id_} is missing: another program changed the database")
    secret = seal.open_json(id_, "sealed", sealed)
    message = Message(
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
    mails = _RENDERED.decode(seal.open(id_, "rendered", rendered)) if rendered else {}
    return Leased(message, attempts_of(attempts), rendered=mails, route=route)


def record_of(row: tuple[Any, ...], seal: Seal) -> Record:
    """Return a message's record from its row, see `RECORD_COLUMNS`.

    What cannot be decrypted or decoded is left empty: one bad row must not hide the others of a page.
    """
    (id_, state, template, priority, created_at, expires_at, settled_at, due_at, attempts, reason,
     provider_message_id, languages, record) = row  # fmt: skip
    try:
        opened = seal.open_json(id_, "record", record)
    except SealBroken:
        opened = {"recipient": "", "payload": {}}
    try:
        decoded_attempts = attempts_of(attempts)
    except SealBroken:
        decoded_attempts = ()
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
        attempts=decoded_attempts,
        reason=reason,
        provider_message_id=provider_message_id,
        languages=languages_of_text(languages),
        payload=opened["payload"],
    )


def captured_row(email: Email, seal: Seal, now: Instant) -> tuple[object, ...]:
    """Return a captured mail's row: id, when it was captured, octets, sealed head, sealed text."""
    sender = f"{email.sender.name} <{email.sender.email}>" if email.sender.name else email.sender.email
    head = {"sender": sender, "recipient": email.recipient, "subject": email.subject}
    sealed = seal.seal_json(email.id, "head", head), seal.seal(email.id, "raw", email.raw)
    return (email.id, now, len(email.raw), *sealed)


def captured_of(row: tuple[Any, ...], seal: Seal) -> CapturedMail:
    """Return a captured mail without its text from the first four columns of `captured_row`. Raises SealBroken."""
    id_, captured_at, size, head = row
    return CapturedMail(id=id_, captured_at=captured_at, size=size, **seal.open_json(id_, "head", head))


def attempts_text(attempts: tuple[Attempt, ...]) -> str:
    """Return attempts as JSON. Raises ValueError when a diagnostic cannot be encoded in UTF-8."""
    return msgspec.json.encode(attempts).decode()


_ATTEMPTS: Final = msgspec.json.Decoder(tuple[Attempt, ...])
_LANGUAGES: Final = msgspec.json.Decoder(tuple[str, ...])


def attempts_of(text: str) -> tuple[Attempt, ...]:
    """Return attempts from their JSON. Raises SealBroken when it is not what `attempts_text` wrote."""
    return _decode(_ATTEMPTS, text)


def languages_of_text(text: str) -> tuple[str, ...]:
    """Return languages from their JSON. Raises SealBroken."""
    return _decode(_LANGUAGES, text)


Value = TypeVar("Value")


def _decode(decoder: "msgspec.json.Decoder[Value]", text: str) -> Value:
    try:
        return decoder.decode(text)
    except msgspec.MsgspecError:
        raise SealBroken("a row is not as it was written: another program changed the database") from None
