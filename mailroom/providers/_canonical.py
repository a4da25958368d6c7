"""The text of a request that AWS and Alibaba Cloud sign: theirs are the same but for names."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, quote

_SIGNED: Final = ("content-type", "host")


def headers_to_sign(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the headers that a signature is to cover: the vendor's own, and no others that a proxy may change."""
    return {name: value for name, value in headers.items() if name in _SIGNED or name.startswith(prefix)}


def canonical_request(method: str, target: str, headers: Mapping[str, str], body_hash: str) -> tuple[str, str]:
    """Return the canonical request, and the names of the headers in it.

    `target` is the path with its query. The path is taken as it is: it holds nothing that would have to be encoded.
    """
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    names = sorted(lower)
    signed = ";".join(names)
    path, _, query = target.partition("?")
    pairs = [(quote(key, safe="~"), quote(value, safe="~")) for key, value in parse_qsl(query, keep_blank_values=True)]
    lines = (
        method,
        path or "/",
        "&".join(f"{key}={value}" for key, value in sorted(pairs)),
        *(f"{name}:{lower[name]}" for name in names),
        "",
        signed,
        body_hash,
    )
    return "\n".join(lines), signed
