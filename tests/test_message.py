"""What of a payload may be seen."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mailroom.logto import PAYLOAD_FIELDS
from mailroom.message import MASK, Message, Priority

CAPTURES: Final = sorted((Path(__file__).parent / "logto-wire" / "email").glob("*.json"))
_OPEN: Final = ("customData", "identities", "rawData")
"""Objects whose keys are somebody else's."""


def _message(payload: dict[str, Any]) -> Message:
    return Message("id", "OrganizationInvitation", Priority.INVITATION, "ada@example.com", payload, 0.0, 600.0)


def test_keys_that_are_not_logtos_are_masked() -> None:
    """An invitation's payload is any JSON of the caller's."""
    payload = {
        "link": "https://app.example/i?t=1",
        "swordfish": "x",
        "481516": {"code": "315"},
        "application": {"name": "Harbor", "https://app.example/i?token=1": 7, "customData": {"pin 4711": None}},
    }
    message = _message(payload)
    kept = {
        "link": MASK,
        MASK: MASK,
        "application": {"name": "Harbor", MASK: MASK, "customData": {MASK: MASK}},
    }
    assert message.harmless() == kept
    assert {"481516", "https://app.example/i?token=1", "pin 4711"} <= message.secrets()


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_the_keys_of_a_real_logto_are_not_masked(file: Path) -> None:
    def keys(value: Any) -> set[str]:
        if not isinstance(value, dict):
            return set()
        return set(value).union(*(keys(inner) for key, inner in value.items() if key not in _OPEN))

    captured = json.loads(file.read_text(encoding="utf-8"))
    assert keys(captured["payload"]) <= PAYLOAD_FIELDS
