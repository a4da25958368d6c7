"""Which provider a message is handed to, and to which one next: pure functions of the settings and its attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailroom.config.overrides import Override, first_match, senders
from mailroom.message import Address, Attempt, Message, Outcome


@dataclass(frozen=True, slots=True)
class Routes:
    """The providers in order, by template; the first override that matches a message comes before that."""

    by_template: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...]
    overrides: tuple[Override, ...] = ()

    def providers(self, message: Message) -> tuple[str, ...]:
        """Return the providers for this message in the order of the settings."""
        override = first_match(self.overrides, message)
        return (override and override.providers) or self.by_template.get(message.template, self.default)

    def all(self) -> set[tuple[str, ...]]:
        """Return every order of providers that messages can have."""
        return {self.default, *self.by_template.values(), *(one.providers for one in self.overrides if one.providers)}

    def name(self, message: Message) -> str:
        """Return what the outbox stores of a message's route, so that a claim can select by it, see `route_name`."""
        return self.route_name(self.providers(message))

    def route_name(self, providers: tuple[str, ...]) -> str:
        """Return the name of an order of providers; the default's is empty."""
        return "" if providers == self.default else ",".join(providers)

    def senders(self, message: Message, sender: Address, reply_to: Address | None) -> tuple[Address, Address | None]:
        """Return From and Reply-To of a message; `sender` and `reply_to` are for messages without an override."""
        return senders(self.overrides, message, sender, reply_to)

    def order(self, message: Message, attempts: Sequence[Attempt]) -> tuple[str, ...]:
        """Return the providers in the order in which the next round tries them.

        After an attempt that may have been a success (uncertain, or cut off by the end of its process) a code goes
        to another provider first, for it is worth more than a duplicate; other mail goes to the same provider,
        which may recognize it by its idempotency key.
        """
        providers = self.providers(message)
        if not attempts or attempts[-1].outcome not in {Outcome.UNCERTAIN, None}:
            return providers
        last = attempts[-1].provider
        if last not in providers:
            return providers
        others = tuple(name for name in providers if name != last)
        return (*others, last) if message.is_code else (last, *others)

    def rounds(self, message: Message, attempts: Sequence[Attempt]) -> int:
        """Return how many rounds through the providers these attempts make, begun ones included."""
        return -(-len(attempts) // len(self.providers(message)))
