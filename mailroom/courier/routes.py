"""Which provider a message is handed to, and to which one next: pure functions of the settings and its attempts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailroom.message import Attempt, Outcome, Priority


@dataclass(frozen=True, slots=True)
class Routes:
    """The providers in order, by template."""

    by_template: Mapping[str, tuple[str, ...]]
    default: tuple[str, ...]

    def providers(self, template: str) -> tuple[str, ...]:
        """Return the providers for this template in the order of the settings."""
        return self.by_template.get(template, self.default)

    def order(self, template: str, priority: Priority, attempts: Sequence[Attempt]) -> tuple[str, ...]:
        """Return the providers in the order in which the next round tries them.

        After an attempt that may have been a success (uncertain, or cut off by the end of its process) a code goes
        to another provider first, for it is worth more than a duplicate; other mail goes to the same provider,
        which may recognize it by its idempotency key.
        """
        providers = self.providers(template)
        if not attempts or attempts[-1].outcome not in {Outcome.UNCERTAIN, None}:
            return providers
        last = attempts[-1].provider
        if last not in providers:
            return providers
        others = tuple(name for name in providers if name != last)
        return (*others, last) if priority is Priority.CODE else (last, *others)

    def rounds(self, template: str, attempts: Sequence[Attempt]) -> int:
        """Return how many rounds through the providers these attempts make, begun ones included."""
        return -(-len(attempts) // len(self.providers(template)))
