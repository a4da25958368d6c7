"""Looks up and validates DKIM keys in the DNS (RFC 6376 §3.6)."""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailroom.doctor.dnsauth.resolver import Resolver

_SHORTEST_RSA: Final = 1024
_ADVISED_RSA: Final = 2048
_ED25519_OCTETS: Final = 32


class BadKey(Exception):
    """Receivers do not accept this key."""


@dataclass(frozen=True, slots=True)
class Key:
    """A published key."""

    domain: str
    """The `d=` that it can sign for."""
    description: str
    """`RSA, 2048 bits`."""
    advice: str = ""


def tags(text: str) -> dict[str, str]:
    """Return a tag list (RFC 6376 §3.2), names in lower case; the first of equal names counts."""
    keys: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            keys.setdefault(name.strip().lower(), value.strip())
    return keys


async def key_at(resolver: Resolver, selector: str, domain: str) -> Key | None:
    """Return the key, None if there is none. Raises BadKey, with a message for the operator, and LookupFailed."""
    name = f"{selector}._domainkey.{domain}"
    texts = await resolver.look_up(name, "TXT")
    keys = [text for text in texts if "p" in tags(text)]
    if not keys:
        if texts:
            raise BadKey(f"the TXT record at {name} is not a DKIM key")
        return None
    if len(keys) > 1:
        raise BadKey(f"there are {len(keys)} keys at {name}, and one is allowed")
    return _parse(name, domain, tags(keys[0]))


def _parse(name: str, domain: str, values: dict[str, str]) -> Key:
    if values.get("v", "DKIM1") != "DKIM1":
        raise BadKey(f"the record at {name} has v={values['v']}; it must be DKIM1")
    if not values["p"]:
        raise BadKey(f"the key at {name} is revoked (p= is empty)")
    if "h" in values and "sha256" not in values["h"].lower().replace(" ", "").split(":"):
        raise BadKey(f"the key at {name} does not allow SHA-256 (h={values['h']})")
    if not {"*", "email"} & set(values.get("s", "*").replace(" ", "").split(":")):
        raise BadKey(f"the key at {name} is not for mail (s={values['s']})")
    advice = "it is marked as a test (t=y): remove that" if "y" in values.get("t", "").split(":") else ""
    try:
        octets = base64.b64decode("".join(values["p"].split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadKey(f"the key at {name} is not base64; was it cut or quoted while it was copied?") from None
    match values.get("k", "rsa").lower():
        case "ed25519":
            if len(octets) != _ED25519_OCTETS:
                raise BadKey(f"the Ed25519 key at {name} has {len(octets)} octets instead of 32")
            return Key(domain, "Ed25519", advice or "some receivers support RSA only: sign with both")
        case "rsa":
            bits = _rsa_bits(name, octets)
            if bits < _ADVISED_RSA:
                advice = advice or f"use a key of {_ADVISED_RSA} bits when you rotate it"
            return Key(domain, f"RSA, {bits} bits", advice)
        case other:
            raise BadKey(f"the key at {name} has an unknown algorithm (k={other})")


def _rsa_bits(name: str, octets: bytes) -> int:
    try:
        key = load_der_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey(f"the key at {name} is damaged; long TXT records are easily cut at 255 characters") from None
    if not isinstance(key, RSAPublicKey):
        raise BadKey(f"the key at {name} is not an RSA key, although it has k=rsa")
    if key.key_size < _SHORTEST_RSA:
        raise BadKey(f"the RSA key at {name} has {key.key_size} bits; receivers accept none below {_SHORTEST_RSA}")
    return key.key_size
