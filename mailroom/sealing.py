"""Encrypts stored payloads and addresses (AES-GCM), and hashes what only has to be recognized again (HMAC-SHA-256).

    seal = Seal(data_key)
    sealed = seal.seal_json(message.id, "payload", payload)
    payload = seal.open_json(message.id, "payload", sealed)

The keys for both are derived from a random data key, which is stored in the database, wrapped by `secret_key`. So
`secret_key` can be replaced without rewriting a row.
"""

import os
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Final, Protocol

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailroom.errors import SealBroken

Entropy = Callable[[int], bytes]
"""Returns this number of random octets, as `os.urandom` does."""

_KEY: Final = 32
_NONCE: Final = 12
_SALT: Final = 16
_HASH: Final = 16
"""Octets of a stored hash: the probability of a collision among four billion is 2⁻⁶⁴."""


_BLOCK: Final = 4096


class BufferedEntropy:
    """Returns random octets, as `os.urandom` does, from blocks that were read in advance. Thread-safe.

    `os.urandom` releases the interpreter's lock, for which the request then waits: 5 % of bench row a.
    """

    def __init__(self) -> None:
        self._block = BytesIO()
        os.register_at_fork(after_in_child=self._forget)  # two processes must not share a nonce

    def __call__(self, count: int) -> bytes:
        """Return so many octets; none of them is returned twice."""
        octets = self._block.read(count)  # one operation for other threads
        if len(octets) < count:
            block = BytesIO(os.urandom(max(count, _BLOCK)))
            octets = block.read(count)
            self._block = block
        return octets

    def _forget(self) -> None:
        self._block = BytesIO()


buffered_entropy: Final = BufferedEntropy()
"""For ids and nonces."""


class SecretStore(Protocol):
    """Stores secrets that a provider gets while it runs, encrypted; they survive a restart."""

    async def get(self, name: str) -> str | None:
        """Return a secret; None: none is stored. Raises OutboxError, SealBroken."""

    async def put(self, name: str, secret: str) -> None:
        """Store a secret in place of the last one of this name; durable when this returns. Raises OutboxError."""


class EntityStore(SecretStore, Protocol):
    """Stores also what is known of users and organizations, by keyed hashes of their ids."""

    async def get_entities(self, kind: str, ids: Sequence[str]) -> list[str | None]:
        """Return what is stored of each, in this order; None: nothing is. Raises OutboxError, SealBroken."""

    async def put_entity(self, kind: str, id: str, text: str) -> None:  # noqa: A002 - the usual word
        """Store a text in place of the last one of this entity; durable when this returns. Raises OutboxError."""


class Seal:
    """Encrypts the value of a row's column, and hashes values; a few microseconds each. Thread-safe."""

    def __init__(self, data_key: bytes, *, entropy: Entropy = os.urandom) -> None:
        self._cipher = AESGCM(_derive(data_key, b"mailroom seal 1"))
        self._hmac = HMAC(_derive(data_key, b"mailroom hash 1"), SHA256())
        self._entropy = entropy

    def seal(self, id: str, column: str, plaintext: bytes) -> bytes:  # noqa: A002 - the usual word
        """Encrypt a value so that it can be decrypted only as this column of this row."""
        nonce = self._entropy(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plaintext, _associated_data(id, column))

    def open(self, id: str, column: str, sealed: bytes) -> bytes:  # noqa: A002 - the usual word
        """Decrypt a value. Raises SealBroken."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _associated_data(id, column))
        except (InvalidTag, ValueError):
            raise SealBroken(
                f"{column} of {id} cannot be decrypted: another program changed the database, or mixed two copies"
            ) from None

    def seal_json(self, id: str, column: str, value: Any) -> bytes:  # noqa: A002 - the usual word
        """Encrypt a value as JSON. Raises ValueError if JSON in UTF-8 cannot hold it (a lone surrogate)."""
        try:
            encoded = msgspec.json.encode(value)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            # The text of the cause would show the value.
            raise ValueError(f"{column} of {id} cannot be written as JSON: {type(error).__name__}") from None
        return self.seal(id, column, encoded)

    def open_json(self, id: str, column: str, sealed: bytes) -> Any:  # noqa: A002 - the usual word
        """Decrypt JSON. Raises SealBroken."""
        return msgspec.json.decode(self.open(id, column, sealed))

    def key_of(self, kind: str, value: bytes) -> bytes:
        """Return the keyed hash (HMAC-SHA-256, 16 octets) of a value of this kind."""
        hmac = self._hmac.copy()  # takes a quarter of the time of the standard library's hmac.digest
        hmac.update(kind.encode() + b"\0" + value)
        return hmac.finalize()[:_HASH]


def new_data_key(entropy: Entropy = os.urandom) -> bytes:
    """Return a random data key."""
    return entropy(_KEY)


def wrap(data_key: bytes, secret_key: str, entropy: Entropy = os.urandom) -> bytes:
    """Encrypt the data key with the operator's secret, which has to be random (`mailroom keygen`)."""
    salt, nonce = entropy(_SALT), entropy(_NONCE)
    return (
        salt
        + nonce
        + AESGCM(_derive(secret_key.encode(), b"mailroom wrap 1", salt)).encrypt(nonce, data_key, b"mailroom data key")
    )


def unwrap(wrapped: bytes, secret_keys: Sequence[str]) -> tuple[bytes, bool]:
    """Return the data key, and whether the first of these secrets wraps it. Raises SealBroken if none does."""
    salt, nonce, sealed = wrapped[:_SALT], wrapped[_SALT : _SALT + _NONCE], wrapped[_SALT + _NONCE :]
    for position, secret_key in enumerate(secret_keys):
        try:
            return AESGCM(_derive(secret_key.encode(), b"mailroom wrap 1", salt)).decrypt(
                nonce, sealed, b"mailroom data key"
            ), position == 0
        except (InvalidTag, ValueError):
            continue
    raise SealBroken(
        "secret_key does not match this outbox: put back the one that was used last (a new one goes before it, "
        'as in secret_key = ["new", "old"]), or move the outbox away to start with an empty one'
    )


def _derive(secret: bytes, purpose: bytes, salt: bytes | None = None) -> bytes:
    """Derive a key (HKDF, RFC 5869)."""
    return HKDF(SHA256(), _KEY, salt, purpose).derive(secret)


def _associated_data(id: str, column: str) -> bytes:  # noqa: A002 - the usual word
    return f"{id}\0{column}".encode()
