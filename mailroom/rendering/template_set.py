"""The templates as they were last read: the bundled ones, the operator's above them, those of single owners on top."""

from mailroom.errors import Fault, RenderingError
from mailroom.message import Payload, id_in
from mailroom.rendering.languages.negotiation import choose
from mailroom.rendering.layers import Layers, TemplateParts
from mailroom.rendering.overlay import Layer, Overlay, Owner, to_fault


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
        self.owners: tuple[Owner, ...] = tuple(sorted(overlay.owners, key=lambda one: one.folder)) if overlay else ()
        """The applications and organizations that have templates of their own."""
        self._by_owners: dict[tuple[Owner, ...], Layers] = {
            (owner,): self._add_layer(layer, self.root) for owner, layer in (overlay.owners if overlay else {}).items()
        }

    def candidates(self, payload: Payload) -> tuple[Layers, ...]:
        """Return the layers to render a mail with, the preferred first; the next is used if one fails."""
        owners = self.owners_of(payload)
        if not owners:
            return self._default
        layers = self._by_owners.get(owners) or self._merge_owners(*owners)
        return self._default if layers is self.root else (layers, *self._default)

    def owners_of(self, payload: Payload) -> tuple[Owner, ...]:
        """Return the owners whose templates apply to a mail, the organization first."""
        if not self.owners:
            return ()
        named = [Owner(what, id_in(payload, what)) for what in ("organization", "application")]
        return tuple(owner for owner in named if (owner,) in self._by_owners)

    def _merge_owners(self, organization: Owner, application: Owner) -> Layers:
        """Put an organization's layer above an application's; their faults are already reported."""
        assert self.overlay  # owners exist only in an overlay
        below = self._by_owners[application,]
        layers = Layers(self.overlay.owners[organization], self._parts, below)
        self._by_owners[organization, application] = layers
        return layers

    def _add_layer(self, layer: Layer, below: Layers) -> Layers:
        try:
            layers = Layers(layer, self._parts, below)
        except RenderingError as error:
            self.faults.append(to_fault(error))
            return below
        self.faults += layers.faults
        return layers
