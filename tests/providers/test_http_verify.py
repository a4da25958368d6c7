"""Trying a vendor's credentials without a mail: what is asked, and what its answers mean."""

from dataclasses import dataclass
from typing import Any

import pytest

from mailroom.errors import Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.providers import Verifiable, connect
from tests.http_recorder import Answer, Recorder, ca_file, json_answer
from tests.providers import (
    test_aliyun,
    test_brevo,
    test_mailgun,
    test_postmark,
    test_resend,
    test_sendgrid,
    test_ses,
)
from tests.providers.contract import surroundings
from tests.providers.http_far_end import Vendor


@dataclass(frozen=True)
class Asked:
    """What a vendor is asked, and its documented yes."""

    vendor: Vendor
    target: str
    yes: Answer
    words: str
    method: str = "GET"


VENDORS = {
    "aliyun": Asked(
        test_aliyun.VENDOR, "/", json_answer(200, {"UserStatus": 0, "DailyQuota": 2000}), "takes the key", "POST"
    ),
    "brevo": Asked(test_brevo.VENDOR, "/v3/account", json_answer(200, {"email": "a@acme.example"}), "takes the key"),
    "mailgun": Asked(
        test_mailgun.VENDOR,
        "/v3/domains/mg.acme.example",
        json_answer(200, {"domain": {"name": "mg.acme.example", "state": "active"}}),
        "sends for mg.acme.example",
    ),
    "postmark": Asked(
        test_postmark.VENDOR, "/server", json_answer(200, {"ID": 1, "Name": "Staging"}), "the server Staging"
    ),
    "resend": Asked(test_resend.VENDOR, "/domains", json_answer(200, {"data": []}), "takes the key"),
    "sendgrid": Asked(
        test_sendgrid.VENDOR, "/v3/scopes", json_answer(200, {"scopes": ["mail.send", "alerts.read"]}), "may send"
    ),
    "ses": Asked(
        test_ses.VENDOR,
        "/v2/email/account",
        json_answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": True}),
        "takes the keys",
    ),
}


async def verify(vendor: Vendor, answer: Answer, **changes: Any) -> tuple[str, Recorder]:
    """Try the credentials against this answer."""
    async with Recorder(answer) as recorder:
        given = {**vendor.options, "endpoint": recorder.url, "ca_file": ca_file(), **changes}
        provider = connect(vendor.settings.model_validate(given), surroundings())
        assert isinstance(provider, Verifiable)
        try:
            return await provider.verify(), recorder
        finally:
            await provider.aclose()


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_credentials_that_work_are_told_and_nothing_is_sent(asked: Asked) -> None:
    words, recorder = await verify(asked.vendor, asked.yes)
    assert asked.words in words
    (request,) = recorder.requests
    assert (request.method, request.target, request.body) == (asked.method, asked.target, b"")


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_credentials_that_are_refused_are_ours_to_mend(asked: Asked) -> None:
    with pytest.raises(Misconfigured) as refused:
        await verify(asked.vendor, asked.vendor.refusals[Misconfigured])
    assert not any(secret in str(refused.value) for secret in asked.vendor.secrets)


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_a_vendor_that_wants_us_to_wait_is_unavailable(asked: Asked) -> None:
    with pytest.raises(Unavailable):
        await verify(asked.vendor, asked.vendor.refusals[Unavailable])


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
@pytest.mark.parametrize(
    "answer", [Answer(500, b"<html>"), Answer(302, b"", {"Location": "/"}), Answer(404, b"nothing")]
)
async def test_what_is_no_yes_is_one_of_the_four_kinds(asked: Asked, answer: Answer) -> None:
    with pytest.raises(SendingError):
        await verify(asked.vendor, answer)


async def test_a_key_that_may_only_send_is_good_enough() -> None:
    only_sends = json_answer(401, {"name": "restricted_api_key", "message": "This API key is restricted"})
    assert "may only send" in (await verify(test_resend.VENDOR, only_sends))[0]
    denied = json_answer(403, {"message": "not authorized"}, {"x-amzn-ErrorType": "AccessDeniedException"})
    assert "not known" in (await verify(test_ses.VENDOR, denied))[0]
    for code in ("Forbidden.RAM", "NoPermission"):
        assert "not known" in (await verify(test_aliyun.VENDOR, test_aliyun.refusal(403, code)))[0]
    with pytest.raises(Uncertain, match="may only send"):
        await verify(test_mailgun.VENDOR, Answer(401, b"Forbidden"))


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
@pytest.mark.parametrize("page", [b"<html>Please log in to the hotel's network</html>", b"", b"[]", b"{}", b"null"])
async def test_a_page_of_somebody_on_the_way_is_no_yes(asked: Asked, page: bytes) -> None:
    with pytest.raises((Uncertain, Misconfigured)):
        await verify(asked.vendor, Answer(200, page))


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_nobody_listening_is_unavailable(asked: Asked) -> None:
    with pytest.raises(Unavailable, match="connect"):
        await verify(asked.vendor, asked.yes, endpoint="https://127.0.0.1:1")


async def test_a_key_that_may_not_send_is_wrong() -> None:
    with pytest.raises(Misconfigured, match=r"mail\.send"):
        await verify(test_sendgrid.VENDOR, json_answer(200, {"scopes": ["alerts.read"]}))


async def test_an_account_that_does_not_send_is_wrong() -> None:
    with pytest.raises(Misconfigured, match="unverified"):
        await verify(test_mailgun.VENDOR, json_answer(200, {"domain": {"state": "unverified"}}))
    with pytest.raises(Misconfigured, match="paused"):
        await verify(test_ses.VENDOR, json_answer(200, {"SendingEnabled": False}))
    with pytest.raises(Misconfigured, match="bills"):
        await verify(test_aliyun.VENDOR, json_answer(200, {"UserStatus": 2}))
    sandbox = json_answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": False})
    assert "verified addresses only" in (await verify(test_ses.VENDOR, sandbox))[0]


async def test_postmarks_sandbox_is_not_asked() -> None:
    words, recorder = await verify(test_postmark.VENDOR, Answer(500), sandbox=True)
    assert "test token" in words
    assert recorder.requests == []
