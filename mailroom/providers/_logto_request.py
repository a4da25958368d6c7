"""Writes the request that Logto's HTTP email connector makes (npm @logto/connector-http-email 0.4), byte for byte."""

import json
from decimal import Decimal
from typing import Any, Final

from mailroom.message import Message

_SMALLEST_DECIMAL: Final = 1e-6
_LARGEST_DECIMAL: Final = 1e21
"""Between these JavaScript writes a number without an exponent (ECMA-262, Number::toString)."""


def logto_request(message: Message) -> bytes:
    """Return the body: `to`, `type`, `payload` and, if Logto told it, `ip`."""
    fields = {"to": message.recipient, "type": message.template, "payload": message.payload}
    if message.ip:
        fields["ip"] = message.ip
    return _stringify(fields).encode()


def _stringify(value: Any) -> str:
    """Return what JSON.stringify makes of it; Python's own differs in numbers alone."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_stringify(key)}:{_stringify(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_stringify(item) for item in value) + "]"
    return _number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    if not value:
        return "0"
    shortest = Decimal(repr(value)).normalize()
    if _SMALLEST_DECIMAL <= abs(value) < _LARGEST_DECIMAL:
        return f"{shortest:f}"
    mantissa, _, exponent = f"{shortest:e}".partition("e")
    return f"{mantissa}e{int(exponent):+d}"
