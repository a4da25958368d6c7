"""The templates as they were last read: the bundled ones, the operator's above them, those of single owners on top."""

from collections.abc import Mapping
from typing import Any

from mailroom.errors import Fault, RenderingError
from mailroom.message import Payload
from mailroom.rendering.inventory import Owner
from mailroom.rendering.languages.negotiation import choose
from mailroom.rendering.layers import Layers, TemplateParts
from mailroom.rendering.overlay import Layer, Overlay, to_fault


class TemplateSet:
    """Selects the layers for a payload. Immutable, except that combinations of two owners are built on demand."""

    def __init__(self, base: Layers, overlay: Overlay | None, parts: TemplateParts) -> None:
        """Put the overlay above the bundled templates. Raises RenderingError for an unknown default locale."""
        self._parts = parts
        self.overlay = overlay
        self.faults: list[Fault] = list(overlay.faults) if overlay else []
        self.base = base
        self.root = self._add_layer(overlay.root, self.base) if overlay else self.base
        languages = tuple(self.root.locales)
        if not choose((parts.default_locale,), languages, ""):
            known = ", ".join(languages)
            raise RenderingError(f"default_locale: {parts.default_locale!r} has no translations; available: {known}")
        self._default = (self.base,) if self.root is self.base else (self.root, self.base)
        self._applications = self._add_owners(overlay.applications) if overlay else {}
        self._organizations = self._add_owners(overlay.organizations) if overlay else {}
        self._pairs: dict[tuple[str, str], Layers] = {}

    def candidates(self, payload: Payload) -> tuple[Layers, ...]:
        """Return the layers to render a mail with, the preferred first; the next is used if one fails."""
        if self._applications or self._organizations:
            layers = self._owner_layers(_id(payload.get("application")), _id(payload.get("organization")))
            if layers is not self.root:
                return (layers, *self._default)
        return self._default

    @property
    def owners(self) -> tuple[Owner, ...]:
        """The applications and organizations that have templates of their own."""
        applications = (Owner("application", name) for name in self._applications)
        return (*applications, *(Owner("organization", name) for name in self._organizations))

    def owners_of(self, payload: Payload) -> tuple[Owner, ...]:
        """Return the owners whose templates apply to a mail, the organization first."""
        named = [Owner(what, _id(payload.get(what))) for what in ("organization", "application")]
        return tuple(owner for owner in named if owner in self.owners)

    def _owner_layers(self, application: str, organization: str) -> Layers:
        below = self._applications.get(application)
        top = self._organizations.get(organization)
        if not below or not top:
            return top or below or self.root
        if pair := self._pairs.get((application, organization)):
            return pair
        assert self.overlay  # owners exist only in an overlay
        # Its faults were reported when each of the two layers was added to the root.
        pair = self._pairs[application, organization] = Layers(
            self.overlay.organizations[organization], self._parts, below
        )
        return pair

    def _add_owners(self, layers: Mapping[str, Layer]) -> dict[str, Layers]:
        return {owner: self._add_layer(layer, self.root) for owner, layer in layers.items()}

    def _add_layer(self, layer: Layer, below: Layers) -> Layers:
        try:
            layers = Layers(layer, self._parts, below)
        except RenderingError as error:
            self.faults.append(to_fault(error))
            return below
        self.faults += layers.faults
        return layers


def _id(owner: Any) -> str:
    """Return the id of a payload's application or organization; empty if there is none."""
    owner_id = owner.get("id") if isinstance(owner, Mapping) else None
    return owner_id if isinstance(owner_id, str) else ""
