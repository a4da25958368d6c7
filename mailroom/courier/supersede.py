"""Which codes replace which: of several unsent ones for the same sign-in the newest is sent first.

Logto makes the older code invalid when it sends a newer one. Its requests do not identify the session, so codes belong
together that have the same recipient, template, application and ip; without an ip the same user.
"""

from collections import defaultdict

from mailroom.message import Message, id_in


def supersede_key(message: Message) -> bytes | None:
    """Return what codes have in common that replace each other; None: this message replaces none."""
    if not message.is_code:
        return None
    session = message.ip or id_in(message.payload, "user")
    if not session:
        return None
    application = id_in(message.payload, "application")
    return f"{message.recipient.casefold()}\0{message.template}\0{application}\0{session}".encode()


class Replacements:
    """Which of the messages in memory a newer one replaces."""

    def __init__(self) -> None:
        self._ids: defaultdict[bytes, list[str]] = defaultdict(list)
        self._keys: dict[str, bytes] = {}
        self._replaced: set[str] = set()

    def add(self, key: bytes | None, id: str) -> None:  # noqa: A002 - the field's word
        """Register a message that is in memory from now on."""
        if key:
            self._keys[id] = key
            self._ids[key].append(id)

    def replace(self, key: bytes | None, id: str) -> None:  # noqa: A002 - likewise
        """Register a new message, in memory or not: it replaces the others with its key."""
        if key and key in self._ids:
            self._replaced.update(other for other in self._ids[key] if other != id)

    def is_replaced(self, id: str) -> bool:  # noqa: A002 - likewise
        """Whether a newer message replaces this one."""
        return id in self._replaced

    def remove(self, id: str) -> None:  # noqa: A002 - likewise
        """Forget a message that is not in memory any more."""
        if key := self._keys.pop(id, None):
            self._ids[key].remove(id)
            self._replaced.discard(id)
            if not self._ids[key]:
                del self._ids[key]
