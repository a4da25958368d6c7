"""Reads private keys as operators have them."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def private_key_in(pem: str, passphrase: str | None = None) -> PrivateKeyTypes:
    """Return the key in a PEM text; backslash and n, as variables hold them, are a line break. Raises ValueError."""
    text = pem.replace("\\n", "\n").strip() + "\n"
    try:
        return load_pem_private_key(text.encode(), passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("this is no private key in PEM format, or it is encrypted") from None
