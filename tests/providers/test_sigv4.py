"""Signature Version 4, held against AWS's published suite and against botocore."""

from datetime import UTC, datetime
from urllib.parse import quote

import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs
from hypothesis import given
from hypothesis import strategies as st

from mailroom.providers._sigv4 import Credentials, SigV4, authorization
from tests.clock import FakeClock

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
DATE = "20150830T123600Z"
FORM = {"content-type": "application/x-www-form-urlencoded"}
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("method", "target", "more", "body", "signature"),
    [
        ("GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            "GET",
            "/?Param2=value2&Param1=value1",
            {},
            b"",
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            "POST",
            "/",
            FORM,
            b"Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "get-vanilla-query-order-key-case", "post-x-www-form-urlencoded"],
)
def test_the_published_suite(method: str, target: str, more: dict[str, str], body: bytes, signature: str) -> None:
    headers = {"Host": "example.amazonaws.com", "X-Amz-Date": DATE, **more}
    signed = authorization(method, target, headers, body, KEYS, region="us-east-1", service="service")
    names = "content-type;host;x-amz-date" if more else "host;x-amz-date"
    assert signed == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


@given(
    credentials=st.builds(Credentials, WORDS, WORDS, st.one_of(st.just(""), WORDS)),
    region=st.sampled_from(["eu-central-1", "us-gov-west-1", "cn-north-1"]),
    now=st.integers(0, 4_000_000_000),
    body=st.binary(max_size=300),
    query=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=3),
)
def test_botocore_signs_byte_identically(
    credentials: Credentials, region: str, now: int, body: bytes, query: dict[str, str]
) -> None:
    written = "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in query.items())
    url = f"https://email.{region}.amazonaws.com/v2/email/outbound-emails{'?' if written else ''}{written}"
    request = httpx.Request("POST", url, headers={"Content-Type": "application/json"}, content=body)
    flow = SigV4(_At(credentials), FakeClock(now), region=region, service="ses").async_auth_flow(request)
    with pytest.raises(StopIteration):
        anext(flow).__await__().send(None)

    their_request = AWSRequest(
        "POST",
        url,
        headers={
            "Content-Type": "application/json",
            **({"X-Amz-Security-Token": credentials.session_token} if credentials.session_token else {}),
            "X-Amz-Date": request.headers["x-amz-date"],
        },
        data=body,
    )
    their_request.context["timestamp"] = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    theirs = SigV4Auth(Theirs(credentials.access_key_id, credentials.access_key_secret), "ses", region)
    to_sign = theirs.string_to_sign(their_request, theirs.canonical_request(their_request))
    theirs._inject_signature_to_request(their_request, theirs.signature(to_sign, their_request))
    assert request.headers["authorization"] == their_request.headers["Authorization"]
    assert request.headers["x-amz-date"] == their_request.context["timestamp"]


class _At:
    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def credentials(self) -> Credentials:
        return self._credentials
