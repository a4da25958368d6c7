"""ACS3-HMAC-SHA256, held against Alibaba Cloud's published example and its SDK."""

from hashlib import sha256

import httpx
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from mailroom.providers.aliyun.acs3 import Acs3, authorization
from tests.clock import FakeClock

ID, SECRET = "LTAI5tTestAccessKeyId0", "SecretOfTheTests0123456789abcd"
WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_the_published_example() -> None:
    """The page's "fixed parameters" (v3-request-structure-and-signature)."""
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": sha256(b"").hexdigest(),
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }
    target = "/?RegionId=cn-shanghai&ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"
    assert authorization("POST", target, headers, "YourAccessKeyId", "YourAccessKeySecret") == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,"
        "SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


@given(
    headers=st.dictionaries(st.from_regex(r"x-acs-[a-z]{1,12}", fullmatch=True), WORDS, max_size=6),
    query=st.dictionaries(st.from_regex(r"[A-Za-z0-9.]{1,12}", fullmatch=True), st.text(max_size=30), max_size=4),
    body=st.binary(max_size=200),
    secret=WORDS,
)
def test_the_sdk_signs_byte_identically(
    headers: dict[str, str], query: dict[str, str], body: bytes, secret: str
) -> None:
    """Parameters have plain names: the SDK does not encode those in the query, the page says to."""
    payload = sha256(body).hexdigest()
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", query
    request.headers = {"host": "dm.aliyuncs.com", "x-acs-content-sha256": payload, **headers}
    theirs = Utils.get_authorization(request, "ACS3-HMAC-SHA256", payload, ID, secret)
    target = httpx.URL("https://dm.aliyuncs.com/", params=query).raw_path.decode() if query else "/"
    assert authorization("POST", target, request.headers, ID, secret) == theirs


async def test_every_request_has_a_date_and_a_nonce_of_its_own() -> None:
    nonces = iter(("first", "second"))
    auth = Acs3(ID, SecretStr(SECRET), FakeClock(), nonce=lambda: next(nonces))
    seen = []
    for _ in range(2):
        request = httpx.Request("POST", "https://dm.aliyuncs.com/", content=b"Subject=Code")
        await anext(auth.async_auth_flow(request))
        seen.append(request.headers)
    assert [headers["x-acs-signature-nonce"] for headers in seen] == ["first", "second"]
    assert seen[0]["x-acs-date"] == "2026-11-18T11:06:40Z"
    assert seen[0]["authorization"] != seen[1]["authorization"]
    assert "user-agent" not in seen[0]["authorization"]


async def test_nonces_do_not_repeat() -> None:
    auth = Acs3(ID, SecretStr(SECRET), FakeClock())
    seen = set()
    for _ in range(1000):
        request = httpx.Request("POST", "https://dm.aliyuncs.com/")
        await anext(auth.async_auth_flow(request))
        seen.add(request.headers["x-acs-signature-nonce"])
    assert len(seen) == 1000
