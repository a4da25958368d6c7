"""Seals what is kept: payloads and addresses by AES-GCM, what must only be recognized again as a keyed hash.

`secret_key` wraps a random data key that lies in the database; the data key does the work. So `secret_key` can be
exchanged without touching a row.
"""

import hmac
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mailroom.errors import SealBroken

Entropy = Callable[[int], bytes]
"""Returns so many random octets, as `os.urandom` does."""

_KEY: Final = 32
_NONCE: Final = 12
_SALT: Final = 16
_HASH: Final = 16
"""Octets of a keyed hash that are kept: 2⁻⁶⁴ for a collision among four billion."""


class Seal:
    """Seals values of a row's column, and hashes what is to be recognized; a few microseconds each, thread-safe."""

    def __init__(self, data_key: bytes, *, entropy: Entropy = os.urandom) -> None:
        self._cipher = AESGCM(_derived(data_key, b"mailroom seal 1"))
        self._hash_key = _derived(data_key, b"mailroom hash 1")
        self._entropy = entropy

    def seal(self, id: str, column: str, plaintext: bytes) -> bytes:  # noqa: A002 - the field's word
        """Encrypt a value so that it opens only in this row and column."""
        nonce = self._entropy(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plaintext, _place(id, column))

    def open(self, id: str, column: str, sealed: bytes) -> bytes:  # noqa: A002 - the field's word
        """Decrypt a value. Raises SealBroken."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], _place(id, column))
        except (InvalidTag, ValueError):
            raise SealBroken(
                f"{column} of {id} does not open: the database was changed by another hand or put together from parts"
            ) from None

    def seal_json(self, id: str, column: str, value: Any) -> bytes:  # noqa: A002 - the field's word
        """Encrypt a value as JSON. Raises ValueError when it holds what JSON in UTF-8 cannot (a lone surrogate)."""
        try:
            encoded = msgspec.json.encode(value)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            # The cause would show the text that could not be encoded.
            raise ValueError(f"{column} of {id} cannot be written as JSON: {type(error).__name__}") from None
        return self.seal(id, column, encoded)

    def open_json(self, id: str, column: str, sealed: bytes) -> Any:  # noqa: A002 - the field's word
        """Decrypt JSON. Raises SealBroken."""
        return msgspec.json.decode(self.open(id, column, sealed))

    def key_of(self, kind: str, what: bytes) -> bytes:
        """Return the keyed hash (HMAC-SHA-256, 16 octets) by which something is recognized among its kind."""
        return hmac.digest(self._hash_key, kind.encode() + b"\0" + what, "sha256")[:_HASH]


def new_data_key(entropy: Entropy = os.urandom) -> bytes:
    """Return a random data key."""
    return entropy(_KEY)


def wrap(data_key: bytes, secret_key: str, entropy: Entropy = os.urandom) -> bytes:
    """Encrypt the data key with the operator's secret, which is expected to be random (`mailroom keygen`)."""
    salt, nonce = entropy(_SALT), entropy(_NONCE)
    return salt + nonce + AESGCM(_wrapping(secret_key, salt)).encrypt(nonce, data_key, b"mailroom data key")


def unwrap(wrapped: bytes, secret_keys: Sequence[str]) -> tuple[bytes, bool]:
    """Return the data key, and whether it is wrapped by the first of these secrets already.

    Raises SealBroken when none of them fits.
    """
    salt, nonce, sealed = wrapped[:_SALT], wrapped[_SALT : _SALT + _NONCE], wrapped[_SALT + _NONCE :]
    for place, secret_key in enumerate(secret_keys):
        try:
            return AESGCM(_wrapping(secret_key, salt)).decrypt(nonce, sealed, b"mailroom data key"), place == 0
        except (InvalidTag, ValueError):
            continue
    raise SealBroken(
        "secret_key does not fit this outbox: put back the one that it was last served with (a new one goes before it, "
        'as in secret_key = ["new", "old"]), or move the outbox away to begin with an empty one'
    )


def _wrapping(secret_key: str, salt: bytes) -> bytes:
    return HKDF(SHA256(), _KEY, salt, b"mailroom wrap 1").derive(secret_key.encode())


def _derived(data_key: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), _KEY, None, purpose).derive(data_key)


def _place(id: str, column: str) -> bytes:  # noqa: A002 - the field's word
    return f"{id}\0{column}".encode()
