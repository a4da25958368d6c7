"""One message's journey: written, handed to the route's providers in order, and what is to be recorded of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from mailroom.clock import Clock, Instant
from mailroom.courier.limiter import PriorityLimiter
from mailroom.courier.redaction import redact
from mailroom.courier.retry import next_round
from mailroom.courier.routes import Routes
from mailroom.errors import (
    CannotKeep,
    Declined,
    Misconfigured,
    MissingVariable,
    Rejected,
    RenderingError,
    SendingError,
    Unavailable,
    Uncertain,
)
from mailroom.message import Address, Attempt, Email, Message, Outcome, Receipt, State, unwritten
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    Leased,
    Settlement,
)
from mailroom.providers import Provider
from mailroom.rendering import Renderer

_LONGEST_IDENTIFIER: Final = 200

log = structlog.get_logger()


@dataclass(frozen=True)
class Channel:
    """A provider with what the courier must know of it."""

    provider: Provider
    lane: PriorityLimiter
    sender: Address
    template_for: Callable[[str], str] = lambda _: ""
    """Kind of mail -> the provider's own template for it; empty: the mail has its own words."""
    forwards: bool = False
    """Whether it passes messages on as they came, so that nothing is to be written."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """Takes leased messages to their end, or to their next try."""

    channels: Mapping[str, Channel]
    routes: Routes
    writer: Renderer
    reply_to: Address | None
    clock: Clock
    jitter: Callable[[], float]
    record: Callable[[str, tuple[Attempt, ...]], Awaitable[bool]]
    """Makes durable that another attempt begins (`Outbox.attempt`); False: the lease was lost."""
    count: Callable[[str, Outcome], None]
    """Told the outcome of each attempt by provider."""
    is_ending: Callable[[], bool] = lambda: False
    """Whether no attempt is to start any more: what waits for its turn is queued again, for the next process."""

    async def deliver(self, leased: Leased) -> Settlement | None:
        """Try the route's providers once around; None: the lease was lost on the way.

        The last attempt of `leased` has been recorded already, so its provider goes first.
        """
        message, attempts = leased.message, leased.attempts
        order = self.routes.order(message.template, message.priority, attempts[:-1])
        begun = attempts[-1].provider
        failures: list[SendingError] = []
        for name in (begun, *(name for name in order if name != begun)):
            channel = self.channels[name]
            async with channel.lane.turn(message.priority):
                now = self.clock.now()
                started = attempts if failures else attempts[:-1]  # the begun one never started
                if settlement := self._unstarted(message, started, now):
                    return settlement
                attempt = Attempt(name, now)
                if failures:
                    try:
                        if not await self.record(message.id, (*attempts, attempt)):
                            return None
                    except CannotKeep:
                        break  # nothing is dialled that is not recorded
                    attempts = (*attempts, attempt)
                attempt, result = await self._try(channel, message, attempt)
            attempts = (*attempts[:-1], attempt)
            if isinstance(result, Receipt):
                return Settlement(message.id, State.SENT, attempts, provider_message_id=result.provider_message_id)
            if isinstance(result, Settlement):
                return replace(result, attempts=attempts[:-1])
            failures.append(result)
            if isinstance(result, Rejected):
                return Settlement(message.id, State.FAILED, attempts, reason=attempt.words)
            if isinstance(result, Uncertain) and not message.is_code:
                break  # the same provider may recognize it: another one would surely send it twice
        return self._later(message, attempts, failures)

    def _unstarted(self, message: Message, attempts: tuple[Attempt, ...], now: Instant) -> Settlement | None:
        """Return what becomes of a message whose turn came too late; None: the next attempt may start."""
        if now >= message.expires_at:
            return Settlement(message.id, State.EXPIRED, attempts, reason="its lifetime ended while it waited")
        if self.is_ending():  # among what waits it keeps its place
            return Settlement(message.id, State.QUEUED, attempts, due_at=min(now, message.created_at))
        return None

    async def _try(
        self, channel: Channel, message: Message, attempt: Attempt
    ) -> tuple[Attempt, Receipt | SendingError | Settlement]:
        """Write the mail and hand it over once."""
        try:
            email = self._written(channel, message)
        except MissingVariable as error:
            if message.is_code:
                return attempt, Settlement(message.id, State.FAILED, (), reason=str(error))
            log.warning("mail.unwritten", id=message.id, template=message.template, problem=str(error))
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_LINK)
        except RenderingError as error:
            log.warning("mail.unwritten", id=message.id, template=message.template, problem=str(error))
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_RENDERING)
        except Exception:  # a template's fault must not lose the message
            log.exception("mail.unwritten", id=message.id, template=message.template)
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_RENDERING)
        started = self.clock.monotonic()
        result = await self._send(channel, email)
        outcome = Outcome(result.outcome) if isinstance(result, SendingError) else Outcome.ACCEPTED
        self.count(attempt.provider, outcome)
        if isinstance(result, Receipt):
            words = redact(result.words, message, email)
            identifier = result.provider_message_id
            if identifier not in words:  # by SMTP it is taken from them
                identifier = redact(identifier, message, email)
            result = Receipt(identifier[:_LONGEST_IDENTIFIER], words)
        else:
            words = _diagnostic(result, message, email)
        ended = replace(attempt, duration_seconds=self.clock.monotonic() - started, outcome=outcome, words=words)
        return ended, result

    def _written(self, channel: Channel, message: Message) -> Email:
        if channel.forwards:
            return unwritten(message, channel.sender)
        return self.writer.render(
            message,
            sender=channel.sender,
            reply_to=self.reply_to,
            template_at_provider=channel.template_for(message.template),
        )

    async def _send(self, channel: Channel, email: Email) -> Receipt | SendingError:
        try:
            return await channel.provider.send(email)
        except SendingError as error:
            return error
        except Exception:  # a provider's fault: nobody knows how far the mail got
            log.exception("provider.broken", id=email.id)
            return Uncertain("the provider's code failed; see the log")

    def _later(self, message: Message, attempts: tuple[Attempt, ...], failures: list[SendingError]) -> Settlement:
        """Decide what follows a round in which no provider took the mail."""
        if all(isinstance(failure, Misconfigured) for failure in failures):
            refused = any(isinstance(failure, Declined) for failure in failures)
            reason = HELD_REFUSED if refused else HELD_MISCONFIGURED
            return Settlement(message.id, State.HELD, attempts, reason=reason)
        rounds = self.routes.rounds(message.template, attempts)
        due_at = next_round(
            message.priority,
            rounds,
            now=self.clock.now(),
            retry_after=_soonest(failures),
            jitter=self.jitter(),
        )
        if due_at is None:
            return Settlement(message.id, State.HELD, attempts, reason=HELD_EXHAUSTED)
        if due_at >= message.expires_at:
            return Settlement(message.id, State.EXPIRED, attempts, reason="no further try fits into its lifetime")
        return Settlement(message.id, State.QUEUED, attempts, due_at=due_at)


def _diagnostic(error: SendingError, message: Message, email: Email) -> str:
    """Return what is recorded of a refusal: its code, the provider's words without secrets, and our hint."""
    code = "" if error.words.startswith(error.code) else error.code
    words = redact(f"{code} {error.words}".strip(), message, email)
    return f"{words} → {error.hint}" if error.hint else words


def _soonest(failures: list[SendingError]) -> Instant | None:
    """Return after how many seconds the first of the providers may be asked again."""
    waits = [failure.retry_after or 0.0 for failure in failures if isinstance(failure, Unavailable)]
    others = any(isinstance(failure, Uncertain) for failure in failures)
    return None if others or not waits else min(waits)
