"""DKIM: dkimpy, which shares nothing with our signer, verifies what we sign, and notices what was changed."""

import base64
from collections.abc import Callable
from typing import Any

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mailroom.providers._smtp_settings import Dkim
from mailroom.providers.smtp import Settings, connect
from tests.mails import email
from tests.providers.contract import surroundings
from tests.smtp_server import smtp_server

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
RAW = email(subject="Ваш код 🎉 " + "long " * 40, text="Привет", html="<p>Привет</p>").raw


def pem(key: Any) -> str:
    """Return a key as an operator has it."""
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert isinstance(written, bytes)
    return written.decode()


def settings(key: Any) -> dict[str, Any]:
    return {"domain": "acme.example", "selector": "mail2026", "private_key": pem(key)}


def dns(key: Any) -> Callable[..., bytes]:
    """Return a look-up that knows this key's record and no other."""
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


def good(raw: bytes, key: Any) -> bool:
    return bool(dkim.verify(raw, dnsfunc=dns(key)))


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
class TestSigned:
    """Both kinds of keys."""

    def test_a_signed_mail_verifies(self, key: Any) -> None:
        signed = Dkim(**settings(key)).signer().sign(RAW)
        assert signed.endswith(RAW)
        assert good(signed, key)
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
    def test_what_was_changed_or_added_is_noticed(self, key: Any, old: bytes, new: bytes) -> None:
        signed = Dkim(**settings(key)).signer().sign(RAW)
        assert old in signed
        assert not good(signed.replace(old, new, 1), key)

    def test_what_relays_do_to_blanks_is_not(self, key: Any) -> None:
        """Relaxed canonicalization is for them."""
        signed = Dkim(**settings(key)).signer().sign(RAW)
        relayed = b"Received: from a by b; Sat, 21 Nov 2026 12:00:00 +0000\r\n" + signed
        assert good(relayed.replace(b"Subject: ", b"SUBJECT:   ", 1) + b"\r\n\r\n", key)

    def test_the_same_mail_gets_the_same_signature(self, key: Any) -> None:
        signer = Dkim(**settings(key)).signer()
        assert signer.sign(RAW) == signer.sign(RAW)

    async def test_the_provider_signs_what_it_sends(self, key: Any) -> None:
        """With its own headers, and before dots are doubled."""
        mail = email(text=".\r\n..\r\nthe end")
        async with smtp_server() as server:
            given = Settings(
                host=server.host, port=server.port, tls="none", dkim=settings(key), headers={"X-Env": "prod"}
            )
            provider = connect(given, surroundings())
            await provider.send(mail)
            await provider.aclose()
            (arrived,) = server.mails
            assert b"X-Env: prod\r\n" in arrived.content
            assert good(arrived.content, key)


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
    signed = Dkim(**settings(ED25519)).signer().sign(raw)
    assert good(signed if ends or not lines else signed + b"\r\n", ED25519)


@pytest.mark.parametrize(
    "fault",
    [
        {"private_key": "not a key"},
        {"private_key": pem(rsa.generate_private_key(65537, 1024)).replace("MII", "MIJ")},
        {"private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
        {"domain": "acme.example; s=evil"},
        {"domain": ""},
        {"selector": "a b"},
        {"selector": "a\r\nb"},
    ],
)
def test_a_fault_is_a_fault(fault: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as told:
        Dkim(**settings(RSA) | fault)
    assert "PRIVATE KEY" not in "".join(str(error["msg"]) for error in told.value.errors())
    assert pem(RSA) not in repr(Dkim(**settings(RSA)))
