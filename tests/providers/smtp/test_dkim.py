"""DKIM: dkimpy, which shares no code with our signer, verifies our signatures, and refuses changed mails."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import ValidationError

from mailroom.providers.smtp.smtp_provider import Settings, connect
from mailroom.providers.smtp.smtp_settings import Dkim
from tests.mails import email
from tests.providers.contract import context
from tests.smtp_server import smtp_server
from tests.smtpclient.test_dkim_signer import is_signed

RSA = rsa.generate_private_key(65537, 2048)
ED25519 = ed25519.Ed25519PrivateKey.generate()
RAW = email(subject="Ваш код 🎉 " + "long " * 40, text="Привет", html="<p>Привет</p>").raw


def pem(key: Any) -> str:
    """Return a key in PEM format."""
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert isinstance(written, bytes)
    return written.decode()


def settings(key: Any) -> dict[str, Any]:
    return {"domain": "acme.example", "selector": "mail2026", "private_key": pem(key)}


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
async def test_the_provider_signs_what_it_sends(key: Any) -> None:
    """With its own headers, and before dots are doubled."""
    mail = email(text=".\r\n..\r\nthe end")
    async with smtp_server() as server:
        given = Settings(host=server.host, port=server.port, tls="none", dkim=settings(key), headers={"X-Env": "prod"})
        provider = connect(given, context())
        await provider.send(mail)
        await provider.aclose()
        (arrived,) = server.mails
        assert b"X-Env: prod\r\n" in arrived.content
        assert is_signed(arrived.content, key)


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
def test_invalid_settings_are_refused(fault: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as told:
        Dkim(**settings(RSA) | fault)
    assert "PRIVATE KEY" not in "".join(str(error["msg"]) for error in told.value.errors())
    assert pem(RSA) not in repr(Dkim(**settings(RSA)))
