"""Builds the request that Logto's HTTP email connector makes (npm @logto/connector-http-email 0.4), byte for byte."""

import json
from typing import Any

from mailroom.logto import format_number
from mailroom.message import Message


def logto_request(message: Message) -> bytes:
    """Return the body: `to`, `type`, `payload` and, if Logto sent one, `ip`."""
    fields = {"to": message.recipient, "type": message.template, "payload": message.payload}
    if message.ip:
        fields["ip"] = message.ip
    return _stringify(fields).encode()


def _stringify(value: Any) -> str:
    """Return a value as JSON.stringify does; Python's `json` differs in numbers only."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_stringify(key)}:{_stringify(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_stringify(item) for item in value) + "]"
    return format_number(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
