"""One message's delivery: rendered, handed to the route's providers in order; returns what is to be recorded."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
from msgspec.structs import replace

from mailroom.clock import Clock, Instant
from mailroom.courier.channels.channel import Channel
from mailroom.courier.redaction import redact
from mailroom.courier.retry import next_round
from mailroom.courier.round import LONGEST_WAIT_SECONDS, Round, Selector
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
from mailroom.message import Address, Attempt, Email, Message, Outcome, Receipt, State, unrendered
from mailroom.outbox import (
    HELD_EXHAUSTED,
    HELD_LINK,
    HELD_MISCONFIGURED,
    HELD_REFUSED,
    HELD_RENDERING,
    SENT_UNCERTAIN,
    Leased,
    Settlement,
)
from mailroom.rendering import Renderer

_LONGEST_IDENTIFIER: Final = 200
MOST_UNCERTAIN: Final = 3
"""Hand-overs of one message that may have been successes; after them it counts as sent."""
_RECORD_AGAIN_SECONDS: Final = 1.0
"""After so long another process may have ended the lease, or sent a newer code: the outbox is asked again."""
_UNUSABLE_SECONDS: Final = 5.0
"""After how long a message is due again that found no provider in use."""
_LONGEST_WAIT_SECONDS: Final = 150.0
"""After so long without a permit a message goes back to the outbox: its lease must outlast its attempts."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Delivery:
    """Takes leased messages to their end, or to their next round."""

    selector: Selector
    routes: Routes
    renderer: Renderer
    reply_to: Address | None
    clock: Clock
    jitter: Callable[[], float]
    record: Callable[[str, tuple[Attempt, ...]], Awaitable[bool]]
    """Makes durable that an attempt begins, see `Outbox.attempt`; False: do not send."""
    on_result: Callable[[str, str, Receipt | SendingError, str], None]
    """Called with the provider, the message's id, the outcome of each attempt, and its diagnostic, secrets masked."""
    is_replaced: Callable[[str], bool] = lambda _: False
    """Whether a newer code goes before this message."""
    is_ending: Callable[[], bool] = lambda: False
    """Whether no attempt is to start any more: what waits for a permit is queued again, for the next process."""

    async def deliver(self, leased: Leased) -> Settlement:
        """Ask each provider of the route once at most."""
        message = leased.message
        order = self.routes.order(message, leased.attempts)
        round_ = Round(message, leased.attempts, leased.begun, list(order), dict(leased.rendered))
        give_up_at = self.clock.now() + LONGEST_WAIT_SECONDS
        try:
            while name := self.selector.choose(round_.remaining):
                granted = await self.selector.acquire(
                    name, round_, lambda: self._end_before_attempt(message, round_.attempts) is not None
                )
                try:
                    settlement = self._end_before_attempt(message, round_.attempts)
                    if granted and not settlement:
                        settlement = await self._attempt(granted, round_)
                finally:
                    if granted:
                        self.selector.channels[granted].end(message.id, message.priority)
                if settlement:
                    return replace(settlement, rendered=round_.rendered)
                if not granted and self.clock.now() >= give_up_at:
                    if round_.failures:
                        break
                    return _queue_again(message, round_.attempts, self.clock.now())
        except CannotKeep:  # no provider is dialled before the attempt is recorded
            pass
        return replace(self._later(round_), rendered=round_.rendered)

    async def _attempt(self, name: str, round_: Round) -> Settlement | None:
        """Ask one provider, whose permit is held; None: ask the next one. Raises CannotKeep."""
        message, channel, now = round_.message, self.selector.channels[name], self.clock.now()
        if not channel.is_usable:  # paused meanwhile
            return None
        if not channel.begin(message.id, now) and self.selector.has_alternative(name, round_):
            round_.pass_over(name)
            return None
        attempt = Attempt(name, now)
        begun = round_.begun
        is_recorded = begun is not None and begun.provider == name and now - begun.started_at < _RECORD_AGAIN_SECONDS
        if not is_recorded and not await self.record(message.id, (*round_.attempts, attempt)):
            return _queue_again(message, round_.attempts, now)
        round_.begun = None
        attempt, result = await self._try(channel, round_, attempt)
        if isinstance(result, Settlement):
            return replace(result, attempts=round_.attempts)
        return _conclude(round_, attempt, result)

    def _end_before_attempt(self, message: Message, attempts: tuple[Attempt, ...]) -> Settlement | None:
        """Return what becomes of a message whose permit came too late; None: the next attempt may start."""
        now = self.clock.now()
        if _may_have_been_sent(attempts) >= MOST_UNCERTAIN:  # the last ones were cut off by the ends of processes
            return Settlement(message.id, State.SENT, attempts, reason=SENT_UNCERTAIN)
        if now >= message.expires_at:
            return Settlement(message.id, State.EXPIRED, attempts, reason="its lifetime ended while it waited")
        if self.is_ending() or self.is_replaced(message.id):
            return _queue_again(message, attempts, now)
        return None

    async def _try(
        self, channel: Channel, round_: Round, attempt: Attempt
    ) -> tuple[Attempt, Receipt | SendingError | Settlement]:
        """Render the mail and hand it over once; a provider that may have sent it gets the same mail again."""
        message = round_.message
        try:
            email = round_.rendered.get(attempt.provider) or self._render(channel, message)
        except MissingVariable as error:
            if message.is_code:
                return attempt, Settlement(message.id, State.FAILED, (), reason=str(error))
            log.warning("mail.render_failed", id=message.id, template=message.template, problem=str(error))
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_LINK)
        except RenderingError as error:
            log.warning("mail.render_failed", id=message.id, template=message.template, problem=str(error))
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_RENDERING)
        except Exception:  # a template's fault must not lose the message
            log.exception("mail.render_failed", id=message.id, template=message.template)
            return attempt, Settlement(message.id, State.HELD, (), reason=HELD_RENDERING)
        started = self.clock.monotonic()
        result = await self._send(channel, email)
        outcome = Outcome(result.outcome) if isinstance(result, SendingError) else Outcome.ACCEPTED
        if isinstance(result, Receipt):
            diagnostic = redact(result.diagnostic, message, email)
            identifier = result.provider_message_id
            if identifier not in diagnostic:  # by SMTP it is taken from them
                identifier = redact(identifier, message, email)
            result = Receipt(identifier[:_LONGEST_IDENTIFIER], diagnostic)
        else:
            if isinstance(result, Uncertain):
                round_.rendered[attempt.provider] = email
            diagnostic = _diagnostic(result, message, email)
        self.on_result(attempt.provider, message.id, result, diagnostic)
        seconds = self.clock.monotonic() - started
        return replace(attempt, duration_seconds=seconds, outcome=outcome, diagnostic=diagnostic), result

    def _render(self, channel: Channel, message: Message) -> Email:
        sender, reply_to = self.routes.senders(message, channel.sender, self.reply_to)
        if channel.forwards:
            return unrendered(message, sender)
        return self.renderer.render(
            message,
            sender=sender,
            reply_to=reply_to,
            template_at_provider=channel.template_for(message.template),
            auto_submitted=channel.auto_submitted,
        )

    async def _send(self, channel: Channel, email: Email) -> Receipt | SendingError:
        try:
            return await channel.provider.send(email)
        except SendingError as error:
            return error
        except Exception:  # a provider's fault: nobody knows how far the mail got
            log.exception("provider.broken", id=email.id)
            return Uncertain("the provider's code failed; see the log")

    def _later(self, round_: Round) -> Settlement:
        """Decide what follows a round in which no provider took the mail."""
        message, attempts, failures = round_.message, round_.attempts, round_.failures
        if not failures:  # every provider is paused or suspended, or no attempt could be recorded
            later = min(self.clock.now() + _UNUSABLE_SECONDS, message.expires_at)
            return Settlement(message.id, State.QUEUED, attempts, due_at=later)
        if not round_.remaining and all(isinstance(failure, Misconfigured) for failure in failures):
            refused = any(isinstance(failure, Declined) for failure in failures)
            reason = HELD_REFUSED if refused else HELD_MISCONFIGURED
            return Settlement(message.id, State.HELD, attempts, reason=reason)
        rounds = self.routes.rounds(message, attempts)
        due_at = next_round(
            message.priority,
            rounds,
            now=self.clock.now(),
            retry_after=_soonest(failures),
            is_brief=any(isinstance(failure, Unavailable) and failure.exceeds_concurrency for failure in failures),
            jitter=self.jitter(),
        )
        if due_at is None:
            return Settlement(message.id, State.HELD, attempts, reason=HELD_EXHAUSTED)
        if due_at >= message.expires_at:
            return Settlement(message.id, State.EXPIRED, attempts, reason="no further try fits into its lifetime")
        return Settlement(message.id, State.QUEUED, attempts, due_at=due_at)


def _conclude(round_: Round, attempt: Attempt, result: Receipt | SendingError) -> Settlement | None:
    """Return what an outcome means for the message; None: ask the next provider."""
    message = round_.message
    round_.attempts = (*round_.attempts, attempt)
    if isinstance(result, Receipt):
        return Settlement(message.id, State.SENT, round_.attempts, provider_message_id=result.provider_message_id)
    if isinstance(result, Rejected):
        return Settlement(message.id, State.FAILED, round_.attempts, reason=attempt.diagnostic)
    if _may_have_been_sent(round_.attempts) >= MOST_UNCERTAIN:
        return Settlement(message.id, State.SENT, round_.attempts, reason=SENT_UNCERTAIN)
    round_.failures.append(result)
    round_.remaining.remove(attempt.provider)
    if isinstance(result, Uncertain) and not message.is_code:
        round_.remaining.clear()  # the same provider may recognize it: another one would surely send it twice
    return None


def _may_have_been_sent(attempts: tuple[Attempt, ...]) -> int:
    """Return how many attempts may have been successes: uncertain ones, and those without an outcome."""
    return sum(attempt.outcome in {Outcome.UNCERTAIN, None} for attempt in attempts)


def _queue_again(message: Message, attempts: tuple[Attempt, ...], now: Instant) -> Settlement:
    """Let a message wait again in its old place; the outbox ends it if it is superseded."""
    return Settlement(message.id, State.QUEUED, attempts, due_at=min(now, message.created_at))


def _diagnostic(error: SendingError, message: Message, email: Email) -> str:
    """Return what is recorded of a refusal: its code, the provider's diagnostic without secrets, and our hint."""
    is_repeated = re.search(rf"(?<!\w){re.escape(error.code)}(?!\w)", error.diagnostic)
    code = "" if is_repeated else error.code
    diagnostic = redact(f"{code} {error.diagnostic}".strip(), message, email)
    return f"{diagnostic} → {error.hint}" if error.hint else diagnostic


def _soonest(failures: list[SendingError]) -> Instant | None:
    """Return after how many seconds the first of the providers may be asked again."""
    waits = [failure.retry_after or 0.0 for failure in failures if isinstance(failure, Unavailable)]
    others = any(isinstance(failure, Uncertain) for failure in failures)
    return None if others or not waits else min(waits)
