"""DKIM keys: which ones receivers accept."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailroom.doctor.dnsauth.dkim_keys import BadKey, Key, key_at, tags
from tests.doctor.conftest import Dns
from tests.names import txt

NAME = "s1._domainkey.acme.example"


def rsa_key(bits: int) -> str:
    """Return a public key as `p=` has it."""
    public = rsa.generate_private_key(65537, bits).public_key()
    return base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


RSA_2048 = rsa_key(2048)
RSA_1024 = rsa_key(1024)
ED25519 = base64.b64encode(
    Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
).decode()
EC = base64.b64encode(
    ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
).decode()


async def read(dns: Dns, *records: str) -> Key | None:
    return await key_at(dns({(NAME, "TXT"): [txt(record) for record in records]}), "s1", "acme.example")


@pytest.mark.parametrize(
    ("record", "words", "advice"),
    [
        (f"v=DKIM1; k=rsa; p={RSA_2048}", "RSA, 2048 bits", ""),
        (f"p={RSA_2048}", "RSA, 2048 bits", ""),
        (f"v=DKIM1;h=sha1 : sha256;s=*;p={RSA_2048[:100]} {RSA_2048[100:]};", "RSA, 2048 bits", ""),
        (f"v=DKIM1; p={RSA_1024}", "RSA, 1024 bits", "2048 bits"),
        (f"v=DKIM1; t=y; p={RSA_2048}", "RSA, 2048 bits", "a test"),
        pytest.param(f"v=DKIM1; k=ed25519; p={ED25519}", "Ed25519", "RSA", id="ed25519"),  # workers make other keys
    ],
)
async def test_a_valid_key_is_described(dns: Dns, record: str, words: str, advice: str) -> None:
    key = await read(dns, record)
    assert key is not None
    assert (key.domain, key.description) == ("acme.example", words)
    assert advice in key.advice
    assert bool(advice) is bool(key.advice)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (["v=DKIM1; p="], "revoked"),
        ([f"v=DKIM2; p={RSA_2048}"], "must be DKIM1"),
        ([f"v=DKIM1; p={RSA_2048[:200]}"], "cut at 255"),
        (["v=DKIM1; p=%%%"], "not base64"),
        ([f"v=DKIM1; h=sha1; p={RSA_2048}"], "SHA-256"),
        ([f"v=DKIM1; s=tlsrpt; p={RSA_2048}"], "not for mail"),
        ([f"v=DKIM1; k=dsa; p={RSA_2048}"], "unknown algorithm"),
        ([f"v=DKIM1; k=rsa; p={EC}"], "not an RSA key"),
        ([f"v=DKIM1; k=ed25519; p={RSA_2048}"], "octets instead of 32"),
        ([f"v=DKIM1; p={RSA_2048}", f"v=DKIM1; p={RSA_1024}"], "2 keys"),
        (["hello"], "not a DKIM key"),
    ],
)
async def test_a_key_that_receivers_reject_raises(dns: Dns, records: list[str], words: str) -> None:
    with pytest.raises(BadKey, match=words):
        await read(dns, *records)


async def test_a_missing_record_is_no_key(dns: Dns) -> None:
    assert await read(dns) is None


async def test_a_short_rsa_key_is_refused(dns: Dns) -> None:
    """RFC 8301 §3.2; of 1023 bits, as libraries do not make shorter ones any more."""
    number = (1 << 1022) + 1
    public = rsa.RSAPublicNumbers(65537, number).public_key()
    short = base64.b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
    with pytest.raises(BadKey, match="1023 bits"):
        await read(dns, f"v=DKIM1; p={short}")


def test_the_first_of_equal_tags_is_used() -> None:
    assert tags(" v = DKIM1 ; p=a=; ; p=b; flag") == {"v": "DKIM1", "p": "a="}
