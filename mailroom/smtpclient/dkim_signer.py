"""Signs mails by DKIM (RFC 6376, RFC 8463), for relays that do not.

    signer = DkimSigner(load_pem_private_key(pem, None), domain="acme.example", selector="mail2026")
    signed = signer.sign(content)

By `cryptography`: 0.6 ms of CPU a mail with RSA of 2048 bits, 0.1 ms with Ed25519, where dkimpy's own arithmetic
takes 9 ms. dkimpy verifies in the tests.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_SHORTEST_RSA: Final = 1024
"""Bits; RFC 8301 §3.2: verifiers take nothing shorter, and 2048 is advised."""

_OVERSIGNED: Final = (
    *("From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID"),
    *("MIME-Version", "Content-Type", "Content-Transfer-Encoding", "List-Unsubscribe", "List-Unsubscribe-Post"),
)
"""Signed once more than they are there, so that nobody adds another (RFC 6376 §8.15)."""
_SIGNED: Final = ("Sender", "Auto-Submitted", "Feedback-ID", "List-ID")
"""Signed where they are there."""

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)\r\n")
_LINE: Final = 70


class DkimSigner:
    """Signs, relaxed/relaxed; equal mails get equal signatures."""

    def __init__(self, key: PrivateKeyTypes, *, domain: str, selector: str) -> None:
        """Take a key whose public part is in the DNS at `<selector>._domainkey.<domain>`. Raises ValueError."""
        if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
            raise ValueError("DKIM signs with RSA or Ed25519")  # noqa: TRY004  # as for a short key
        if isinstance(key, RSAPrivateKey) and key.key_size < _SHORTEST_RSA:
            raise ValueError(f"an RSA key of {key.key_size} bits is too short; take 2048")
        self._key = key
        algorithm = "rsa" if isinstance(key, RSAPrivateKey) else "ed25519"
        self._tags = f"v=1; a={algorithm}-sha256; c=relaxed/relaxed; d={domain}; s={selector};"

    def sign(self, content: bytes) -> bytes:
        """Return a mail, its lines ended by CRLF, with a signature on top."""
        head, _, body = content.partition(b"\r\n\r\n")
        fields = [(name, _relaxed(name, value)) for name, value in _FIELD.findall(head + b"\r\n")]
        names, lines = _chosen(fields)
        body_hash = base64.b64encode(hashlib.sha256(_relaxed_body(body)).digest()).decode()
        listed = _folded(":".join(names), at=":")
        value = f" {self._tags}\r\n h={listed};\r\n bh={body_hash};\r\n b=".encode()
        signature = self._signature(b"".join(lines) + _relaxed(b"DKIM-Signature", value).removesuffix(b"\r\n"))
        return b"DKIM-Signature:%b%b\r\n%b" % (value, _folded(base64.b64encode(signature).decode()).encode(), content)

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(data, PKCS1v15(), hashes.SHA256())
        return self._key.sign(hashlib.sha256(data).digest())  # RFC 8463 §3


def _chosen(fields: list[tuple[bytes, bytes]]) -> tuple[list[str], list[bytes]]:
    """Return the names to list and the lines to sign; of equal names the last comes first (RFC 6376 §5.4.2)."""
    names: list[str] = []
    lines: list[bytes] = []
    for wanted in (*_OVERSIGNED, *_SIGNED):
        found = [line for name, line in reversed(fields) if name.lower() == wanted.lower().encode()]
        names += [wanted] * (len(found) + (wanted in _OVERSIGNED))
        lines += found
    return names, lines


def _relaxed(name: bytes, value: bytes) -> bytes:
    """RFC 6376 §3.4.2."""
    return b"%b:%b\r\n" % (name.lower(), _squeezed(value.replace(b"\r\n", b"")).strip(b" "))


def _relaxed_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"  # as it will be sent
    lines = _squeezed(body).replace(b" \r\n", b"\r\n").rstrip(b"\r\n")
    return lines + b"\r\n" if lines else b""


def _squeezed(text: bytes) -> bytes:
    """Return it with one blank for several; ten times as fast as a regular expression."""
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


def _folded(text: str, *, at: str = "") -> str:
    return "\r\n ".join(_cut(text, at))


def _cut(text: str, at: str) -> Iterator[str]:
    while len(text) > _LINE:
        end = text.rindex(at, 0, _LINE) + 1 if at else _LINE
        yield text[:end]
        text = text[end:]
    yield text
