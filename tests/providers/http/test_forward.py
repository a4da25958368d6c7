"""Forwarded messages: byte for byte what Logto's HTTP email connector would have sent."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.errors import Misconfigured
from mailroom.message import Message, Priority, unrendered
from mailroom.providers import connect
from mailroom.providers.http.generic import Settings, logto_request
from tests.e2e import node
from tests.e2e.harness import unless
from tests.http_recorder import Answer, Recorder
from tests.mails import ID, SENDER, email
from tests.providers.contract import context

CAPTURES = sorted((Path(__file__).parents[2] / "logto-wire" / "email").glob("*.http"))


def body_of(capture: Path) -> bytes:
    """Return the captured bytes after the head."""
    return capture.read_bytes().partition(b"\r\n\r\n")[2]


def message_of(body: bytes) -> Message:
    """Return the message that `POST /email` makes of a request."""
    asked: dict[str, Any] = msgspec.json.decode(body)
    return Message(
        id=ID,
        template=asked["type"],
        priority=Priority.CODE,
        recipient=asked["to"],
        payload=asked["payload"],
        created_at=1_795_262_400.0,
        expires_at=1_795_263_000.0,
        ip=asked.get("ip"),
    )


@pytest.mark.parametrize("capture", CAPTURES, ids=lambda path: path.stem)
def test_what_logto_sent_is_passed_on_byte_for_byte(capture: Path) -> None:
    body = body_of(capture)
    assert logto_request(message_of(body)) == body


async def test_the_forwarded_request_is_unchanged() -> None:
    """With the operator's headers and our id, and without any text of ours."""
    body = body_of(CAPTURES[-1])
    async with Recorder(Answer(200, b""), tls=False) as recorder:
        settings = Settings.model_validate(
            {"url": f"{recorder.url}/logto/email", "headers": {"Authorization": "Bearer test-token"}, "forward": True}
        )
        assert settings.forwards
        provider = connect(settings, context())
        receipt = await provider.send(unrendered(message_of(body), SENDER))
        await provider.aclose()
    [request] = recorder.requests
    assert receipt.diagnostic
    assert request.body == body
    assert (request.target, request.header("authorization")) == ("/logto/email", "Bearer test-token")
    assert (request.header("content-type"), request.header("idempotency-key")) == ("application/json", ID)


async def test_a_mail_without_its_message_is_refused() -> None:
    """The service expects Logto's request, not a rendered mail."""
    provider = connect(Settings.model_validate({"url": "https://127.0.0.1:9/", "forward": True}), context())
    with pytest.raises(Misconfigured, match="forwards"):
        await provider.send(email())
    await provider.aclose()


ODD: dict[str, Any] = {
    "code": '01"\\/\b\f\n\r\t\x00\x1f\x7f\u2028\u2029é🎉<>&',
    "10": "a key that JavaScript puts first",
    "numbers": [0, -1, 1.5, 0.1, 1e21, 1.5e21, -1e300, 1e-7, 1.25e-7, 0.000001, 123456789012345680000, 5e-324, 2**53],
    "others": [None, True, False, [], {}, "", {"": {"__proto__": 1}}],
}


@unless(node.missing())
async def test_unusual_payloads_are_written_as_by_logtos_connector() -> None:
    """Npm's connector sends it, we read and forward it: the same bytes."""
    mail = {"to": "Ada+Tag@Example.com", "type": "OrganizationInvitation", "payload": ODD, "ip": ""}
    async with Recorder(Answer(200, b""), tls=False) as recorder, node.connector() as logto:
        assert (await logto.send(recorder.url, "Bearer test-token", mail)).ok
        [request] = recorder.requests
    assert logto_request(message_of(request.body)) == request.body


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON))
def test_nothing_of_a_payload_is_lost(payload: dict[str, Any]) -> None:
    body = msgspec.json.encode({"to": "ada@example.com", "type": "SignIn", "payload": payload})
    forwarded = logto_request(message_of(body))
    assert json.loads(forwarded, parse_int=float) == json.loads(body, parse_int=float)
