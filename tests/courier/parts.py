"""A provider with a script, a renderer of one line, and messages to send."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

from mailroom.clock import Instant
from mailroom.errors import SendingError
from mailroom.message import Address, Email, Message, Priority, Receipt, new_id

SENDER = Address("no-reply@acme.example", "Acme")
Answer: TypeAlias = Receipt | SendingError | Callable[[Email], Receipt]

_entropy = count(1)


def message(
    template: str = "SignIn",
    priority: Priority = Priority.CODE,
    *,
    now: Instant = 0.0,
    lifetime: float = 570.0,
    recipient: str = "ada@example.com",
    code: str = "314159",
) -> Message:
    """Return a new message; codes by default."""
    return Message(
        id=new_id(now, next(_entropy).to_bytes(10, "big")),
        template=template,
        priority=priority,
        recipient=recipient,
        payload={"code": code} if priority is Priority.CODE else {"user": {"name": "Ada"}},
        created_at=now,
        expires_at=now + lifetime,
    )


class PlainRenderer:
    """Renders just enough of a mail."""

    def __init__(self) -> None:
        self.fault: Exception | None = None

    def render(
        self,
        message: Message,
        *,
        sender: Address,
        reply_to: Address | None,
        template_at_provider: str = "",
        auto_submitted: bool = True,
    ) -> Email:
        """Render the mail, or raise `fault`."""
        if self.fault:
            raise self.fault
        text = f"Your code: {message.payload.get('code')}"
        return Email(
            id=message.id,
            message_id=f"<{message.id}@acme.example>",
            sender=sender,
            recipient=message.recipient,
            reply_to=reply_to,
            subject=text,
            html=text,
            text=text,
            headers=(("Auto-Submitted", "auto-generated"),) if auto_submitted else (),
            language="en",
            template=message.template,
            raw=text.encode(),
            template_at_provider=template_at_provider,
        )


@dataclass
class ScriptedProvider:
    """Answers as the script says, then always yes."""

    script: list[Answer] = field(default_factory=list)
    sent: asyncio.Queue[Email] = field(default_factory=asyncio.Queue)
    """Every mail that was handed over, whatever the answer."""
    answering: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared: mails hang on the wire."""
    on_the_wire: int = 0
    most_on_the_wire: int = 0

    def __post_init__(self) -> None:
        self.answering.set()

    async def send(self, email: Email) -> Receipt:
        """Take the mail, or not."""
        answer = self.script.pop(0) if self.script else Receipt("yes")
        self.on_the_wire += 1
        self.most_on_the_wire = max(self.most_on_the_wire, self.on_the_wire)
        self.sent.put_nowait(email)
        try:
            await self.answering.wait()
        finally:
            self.on_the_wire -= 1
        if isinstance(answer, SendingError):
            raise answer
        return answer(email) if callable(answer) else answer

    async def aclose(self) -> None:
        """Nothing is open."""
