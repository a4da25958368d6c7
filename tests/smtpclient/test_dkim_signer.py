"""DKIM: dkimpy, which shares no code with our signer, verifies our signatures, and refuses changed mails."""

import base64
from collections.abc import Callable
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from mailroom.smtpclient import DkimSigner
from tests.mails import email

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
RAW = email(subject="Ваш код 🎉 " + "long " * 40, text="Привет", html="<p>Привет</p>").raw


def signer_of(key: Any) -> DkimSigner:
    return DkimSigner(key, domain="acme.example", selector="mail2026")


def dns(key: Any) -> Callable[..., bytes]:
    """Return a DNS look-up that has this key's record only."""
    if isinstance(key, rsa.RSAPrivateKey):
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        kind = b"rsa"
    else:
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        kind = b"ed25519"

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"mail2026._domainkey.acme.example."
        return b"v=DKIM1; k=%b; p=%b" % (kind, base64.b64encode(public))

    return look_up


def is_signed(raw: bytes, key: Any) -> bool:
    return bool(dkim.verify(raw, dnsfunc=dns(key)))


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
class TestSigned:
    """Both kinds of keys."""

    def test_a_signed_mail_verifies(self, key: Any) -> None:
        signed = signer_of(key).sign(RAW)
        assert signed.endswith(RAW)
        assert is_signed(signed, key)
        assert max(len(line) for line in signed.split(b"\r\n")) <= 998

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"Subject:", b"Subject: Pay now\r\nX-Old:"),
            (b"From:", b"From: Eve <eve@evil.example>\r\nFrom:"),
            (b"\r\n\r\n", b"\r\nReply-To: eve@evil.example\r\n\r\n"),
            (b"\r\n\r\n", b"\r\nSubject: another\r\n\r\n"),
            (b"\r\n\r\n", b"\r\nCc: eve@evil.example\r\n\r\n"),
            (b"\r\n\r\n", b"\r\nList-Unsubscribe: <https://evil.example>\r\n\r\n"),
            (b"\r\n\r\n", b"\r\n\r\nAn ad.\r\n"),
        ],
    )
    def test_a_changed_or_added_field_breaks_the_signature(self, key: Any, old: bytes, new: bytes) -> None:
        signed = signer_of(key).sign(RAW)
        assert old in signed
        assert not is_signed(signed.replace(old, new, 1), key)

    def test_changed_blanks_do_not_break_the_signature(self, key: Any) -> None:
        """Relaxed canonicalization ignores them."""
        signed = signer_of(key).sign(RAW)
        relayed = b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n" + signed
        assert is_signed(relayed.replace(b"Subject: ", b"SUBJECT:   ", 1) + b"\r\n\r\n", key)

    def test_the_same_mail_gets_the_same_signature(self, key: Any) -> None:
        signer = signer_of(key)
        assert signer.sign(RAW) == signer.sign(RAW)


_WORDS = st.text(st.sampled_from("abc \t.=:;"), max_size=90)


@given(
    fields=st.lists(
        st.tuples(st.sampled_from(["From", "subject", "To", "X-A", "Received", "List-ID", "DATE"]), _WORDS), max_size=8
    ),
    lines=st.lists(_WORDS, max_size=8),
    ends=st.booleans(),
)
def test_any_mail_verifies(fields: list[tuple[str, str]], lines: list[str], *, ends: bool) -> None:
    """Repeated, empty and folded fields; blanks and empty lines anywhere in the body."""
    folded = ((name, value.replace("a ", "a\r\n ") if value.strip() else "x") for name, value in fields)
    head = "".join(f"{name}: {value}\r\n" for name, value in folded)
    body = "\r\n".join(lines) + ("\r\n" if ends else "")
    raw = f"From: Ada <ada@acme.example>\r\n{head}\r\n{body}".encode()
    signed = signer_of(ED25519).sign(raw)
    assert is_signed(signed if ends or not lines else signed + b"\r\n", ED25519)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 1024)])
def test_a_key_that_verifiers_refuse_is_refused(key: Any) -> None:
    """RFC 8301 §3.2 takes RSA from 1024 bits on."""
    if isinstance(key, rsa.RSAPrivateKey):
        signer_of(key)
    else:
        with pytest.raises(ValueError, match="RSA or Ed25519"):
            signer_of(key)
