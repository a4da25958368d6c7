"""The table `secrets`, the same for every engine: sealed texts by name. What is known of a person has a hashed name."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from mailroom.sealing import Seal


class SealedSecrets(ABC):
    """See `mailroom.sealing.EntityStore`."""

    def __init__(self, seal: Seal) -> None:
        self._seal = seal

    async def get(self, name: str) -> str | None:
        """Return a secret; None: none is stored. Raises OutboxError, SealBroken."""
        return (await self._opened([name])).get(name)

    async def put(self, name: str, secret: str) -> None:
        """Store a secret in place of the last one; durable when this returns. Raises OutboxError."""
        await self._replace(name, self._seal.seal(name, "secret", secret.encode()))

    async def get_entities(self, kind: str, ids: Sequence[str]) -> list[str | None]:
        """Return what is stored of each. Raises OutboxError, SealBroken."""
        names = [self._entity_name(kind, id_) for id_ in ids]
        opened = await self._opened(names)
        return [opened.get(name) for name in names]

    async def put_entity(self, kind: str, id: str, text: str) -> None:  # noqa: A002 - the usual word
        """Store a text in place of the last one; durable when this returns. Raises OutboxError."""
        await self.put(self._entity_name(kind, id), text)

    @abstractmethod
    async def _select(self, names: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        """Return name and sealed text of those that are stored."""

    @abstractmethod
    async def _replace(self, name: str, sealed: bytes) -> None:
        """Store a sealed text; durable when this returns."""

    async def _opened(self, names: Sequence[str]) -> dict[str, str]:
        rows = await self._select(names)
        return {name: self._seal.open(name, "secret", sealed).decode() for name, sealed in rows}

    def _entity_name(self, kind: str, id_: str) -> str:
        return f"directory {kind} {self._seal.key_of(f'directory {kind}', id_.encode()).hex()}"
