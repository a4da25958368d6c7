"""One message's delivery: rendered, handed to the route's providers in order; returns what is to be recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from msgspec.structs import replace

from mailroom.clock import Clock, Instant
from mailroom.courier.channel import Channel
from mailroom.courier.limiter import NEVER
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
_PATIENCE_SECONDS: Final = 1.0
"""How long after a provider's last answer a code waits for its permit while another one can be asked."""
MOST_UNCERTAIN: Final = 3
"""Hand-overs of one message that may have been successes; after them it counts as sent."""
_UNUSABLE_SECONDS: Final = 5.0
"""After how long a message is due again that found no provider in use."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Round:
    """One round of a message through the providers of its route."""

    message: Message
    attempts: tuple[Attempt, ...]
    begun: Attempt | None
    """The attempt that is recorded already."""
    remaining: list[str]
    """Providers to ask, in order."""
    rendered: dict[str, Email]
    """Provider -> the mail that it may have sent."""
    passed_over: set[str] = field(default_factory=set)
    failures: list[SendingError] = field(default_factory=list)

    def pass_over(self, name: str) -> None:
        """Ask the other providers before this one, once."""
        self.passed_over.add(name)
        self.remaining.remove(name)
        self.remaining.append(name)


@dataclass(frozen=True, slots=True)
class Delivery:
    """Takes leased messages to their end, or to their next round."""

    channels: Mapping[str, Channel]
    routes: Routes
    renderer: Renderer
    reply_to: Address | None
    clock: Clock
    jitter: Callable[[], float]
    record: Callable[[str, tuple[Attempt, ...]], Awaitable[bool]]
    """Makes durable that an attempt begins, see `Outbox.attempt`; False: do not send."""
    on_result: Callable[[str, Receipt | SendingError], None]
    """Called with the provider's name and the outcome of each attempt."""
    is_replaced: Callable[[str], bool] = lambda _: False
    """Whether a newer code goes before this message."""
    is_ending: Callable[[], bool] = lambda: False
    """Whether no attempt is to start any more: what waits for a permit is queued again, for the next process."""

    def choose(self, providers: Sequence[str]) -> str | None:
        """Return the provider to ask: the first one that is available, else the first that may be used at all."""
        now = self.clock.now()
        usable = [name for name in providers if self.channels[name].is_usable]
        return next((name for name in usable if self.channels[name].is_available(now)), usable[0] if usable else None)

    async def deliver(self, leased: Leased) -> Settlement:
        """Ask each provider of the route once at most."""
        message = leased.message
        order = self.routes.order(message.template, message.priority, leased.attempts)
        round_ = _Round(message, leased.attempts, leased.begun, list(order), dict(leased.rendered))
        try:
            while name := self.choose(round_.remaining):
                give_up_at = self._give_up_at(name, round_)
                if not await self.channels[name].limiter.acquire(message.priority, give_up_at=give_up_at):
                    name = await self._acquire_any(round_)
                    if name is None:
                        continue
                try:
                    settlement = self._end_before_attempt(message, round_.attempts) or await self._attempt(
                        name, round_, has_alternative=give_up_at is not None
                    )
                finally:
                    self.channels[name].end(message.priority)
                if settlement:
                    return settlement
        except CannotKeep:  # no provider is dialled before the attempt is recorded
            pass
        return replace(self._later(message, round_.attempts, round_.failures), rendered=round_.rendered)

    async def _acquire_any(self, round_: "_Round") -> str | None:
        """Wait for a permit of any available provider; return whose was granted, None if none is available."""
        now, priority = self.clock.now(), round_.message.priority
        names = [name for name in round_.remaining if self.channels[name].is_available(now)]
        waits = {name: asyncio.ensure_future(self.channels[name].limiter.acquire(priority)) for name in names}
        granted = None
        if not waits:
            return None
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            granted = next(name for name, wait in waits.items() if wait.done())
            return granted
        finally:
            for name, wait in waits.items():
                if not wait.cancel() and name != granted:  # several were granted at once
                    self.channels[name].limiter.release(priority)

    async def _attempt(self, name: str, round_: "_Round", *, has_alternative: bool) -> Settlement | None:
        """Ask one provider, whose permit is held; None: ask the next one. Raises CannotKeep."""
        message, channel, now = round_.message, self.channels[name], self.clock.now()
        if not channel.is_usable:  # paused meanwhile
            return None
        if not channel.begin(now) and has_alternative:
            round_.pass_over(name)
            return None
        attempt = Attempt(name, now)
        is_recorded = round_.begun is not None and round_.begun.provider == name
        if not is_recorded and not await self.record(message.id, (*round_.attempts, attempt)):
            return _queue_again(message, round_.attempts, now)
        round_.begun = None
        attempt, result = await self._try(channel, round_, attempt)
        if isinstance(result, Settlement):
            return replace(result, attempts=round_.attempts)
        return _conclude(round_, attempt, result)

    def _give_up_at(self, name: str, round_: "_Round") -> Instant | None:
        """Return when to stop waiting for a permit of this provider; None: no other one can be asked.

        A code has little time, and none for a provider that has been silent already. Other mail waits until the
        provider's breaker opens.
        """
        now = self.clock.now()
        others = (other for other in round_.remaining if other != name)
        if name in round_.passed_over or not any(self.channels[other].is_available(now) for other in others):
            return None
        return self.channels[name].progress_at + _PATIENCE_SECONDS if round_.message.is_code else NEVER

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
        self, channel: Channel, round_: "_Round", attempt: Attempt
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
        self.on_result(attempt.provider, result)
        if isinstance(result, Receipt):
            words = redact(result.words, message, email)
            identifier = result.provider_message_id
            if identifier not in words:  # by SMTP it is taken from them
                identifier = redact(identifier, message, email)
            result = Receipt(identifier[:_LONGEST_IDENTIFIER], words)
        else:
            if isinstance(result, Uncertain):
                round_.rendered[attempt.provider] = email
            words = _diagnostic(result, message, email)
        ended = replace(attempt, duration_seconds=self.clock.monotonic() - started, outcome=outcome, words=words)
        return ended, result

    def _render(self, channel: Channel, message: Message) -> Email:
        if channel.forwards:
            return unrendered(message, channel.sender)
        return self.renderer.render(
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
        if not failures:  # every provider is paused, or no attempt could be recorded
            later = min(self.clock.now() + _UNUSABLE_SECONDS, message.expires_at)
            return Settlement(message.id, State.QUEUED, attempts, due_at=later)
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


def _conclude(round_: _Round, attempt: Attempt, result: Receipt | SendingError) -> Settlement | None:
    """Return what an outcome means for the message; None: ask the next provider."""
    message = round_.message
    round_.attempts = (*round_.attempts, attempt)
    if isinstance(result, Receipt):
        return Settlement(message.id, State.SENT, round_.attempts, provider_message_id=result.provider_message_id)
    if isinstance(result, Rejected):
        return Settlement(message.id, State.FAILED, round_.attempts, reason=attempt.words)
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
    """Return what is recorded of a refusal: its code, the provider's words without secrets, and our hint."""
    code = "" if error.words.startswith(error.code) else error.code
    words = redact(f"{code} {error.words}".strip(), message, email)
    return f"{words} → {error.hint}" if error.hint else words


def _soonest(failures: list[SendingError]) -> Instant | None:
    """Return after how many seconds the first of the providers may be asked again."""
    waits = [failure.retry_after or 0.0 for failure in failures if isinstance(failure, Unavailable)]
    others = any(isinstance(failure, Uncertain) for failure in failures)
    return None if others or not waits else min(waits)
