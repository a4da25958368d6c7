"""All templates as they are at one time: the bundled ones, the operator's over them, those of single owners on top."""

from collections.abc import Mapping
from typing import Any

from mailroom.errors import Fault, RenderingError
from mailroom.message import Payload
from mailroom.rendering.inventory import Owner
from mailroom.rendering.overlay import Layer, Overlay
from mailroom.rendering.stack import Kit, Stack


class Edition:
    """Knows which stacks a payload's mail may be written with. Never changes, but for what it has yet to join."""

    def __init__(self, base: Stack, overlay: Overlay | None, kit: Kit) -> None:
        """Lay the overlay over the bundled templates. Raises RenderingError for a default language without words."""
        self._kit = kit
        self.overlay = overlay
        self.faults: list[Fault] = list(overlay.faults) if overlay else []
        self.base = base
        self.root = self._laid(overlay.root, self.base) if overlay else self.base
        if not self.root.speaks(kit.default_locale):
            known = ", ".join(self.root.tags)
            raise RenderingError(f"default_locale: there are no words in {kit.default_locale!r}; there are {known}")
        self._usual = (self.base,) if self.root is self.base else (self.root, self.base)
        self._applications = self._owned(overlay.applications) if overlay else {}
        self._organizations = self._owned(overlay.organizations) if overlay else {}
        self._pairs: dict[tuple[str, str], Stack] = {}

    def stacks(self, payload: Payload) -> tuple[Stack, ...]:
        """Return the stacks for a mail, the best first; each stands in where the one before it fails."""
        if self._applications or self._organizations:
            found = self._of_owners(_id(payload.get("application")), _id(payload.get("organization")))
            if found is not self.root:
                return (found, *self._usual)
        return self._usual

    @property
    def owners(self) -> tuple[Owner, ...]:
        """Who has templates of their own."""
        applications = (Owner("application", name) for name in self._applications)
        return (*applications, *(Owner("organization", name) for name in self._organizations))

    def owners_of(self, payload: Payload) -> tuple[Owner, ...]:
        """Return whose templates a mail is written with, beside everybody's; the one that goes first first."""
        named = [Owner(what, _id(payload.get(what))) for what in ("organization", "application")]
        return tuple(owner for owner in named if owner in self.owners)

    def _of_owners(self, application: str, organization: str) -> Stack:
        below = self._applications.get(application)
        top = self._organizations.get(organization)
        if not below or not top:
            return top or below or self.root
        if pair := self._pairs.get((application, organization)):
            return pair
        assert self.overlay  # else there were no owners
        # Its faults have been told: both layers were laid over the root.
        pair = self._pairs[application, organization] = Stack(
            self.overlay.organizations[organization], self._kit, below
        )
        return pair

    def _owned(self, layers: Mapping[str, Layer]) -> dict[str, Stack]:
        return {owner: self._laid(layer, self.root) for owner, layer in layers.items()}

    def _laid(self, layer: Layer, below: Stack) -> Stack:
        try:
            stack = Stack(layer, self._kit, below)
        except RenderingError as error:
            place, _, problem = str(error).partition(": ")
            self.faults.append(Fault(place, problem))
            return below
        self.faults += stack.faults
        return stack


def _id(owner: Any) -> str:
    """Return the id of an application or organization as Logto tells it; empty: there is none."""
    found = owner.get("id") if isinstance(owner, Mapping) else None
    return found if isinstance(found, str) else ""
