"""Verifying a vendor's credentials without a mail: the requests, and how the responses are read."""

from dataclasses import dataclass
from typing import Any

import pytest

from mailroom.errors import Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.providers import Verifiable, connect, types
from tests.http_recorder import Answer, Recorder, ca_file, json_answer
from tests.providers import (
    test_brevo,
    test_mailgun,
    test_mailjet,
    test_mailjunky,
    test_postmark,
    test_resend,
    test_sendgrid,
    test_smtp2go,
)
from tests.providers.aliyun import test_direct_mail
from tests.providers.contract import context
from tests.providers.http_service import Vendor
from tests.providers.ses import test_ses_provider


@dataclass(frozen=True)
class Asked:
    """The request to a vendor, and its documented success."""

    vendor: Vendor
    target: str
    yes: Answer
    words: str
    method: str = "GET"
    body: bytes = b""


VENDORS = {
    "aliyun": Asked(
        test_direct_mail.VENDOR, "/", json_answer(200, {"UserStatus": 0, "DailyQuota": 2000}), "takes the key", "POST"
    ),
    "brevo": Asked(test_brevo.VENDOR, "/v3/account", json_answer(200, {"email": "a@acme.example"}), "takes the key"),
    "mailgun": Asked(
        test_mailgun.VENDOR,
        "/v3/domains/mg.acme.example",
        json_answer(200, {"domain": {"name": "mg.acme.example", "state": "active"}}),
        "sends for mg.acme.example",
    ),
    "mailjet": Asked(
        test_mailjet.VENDOR,
        "/v3/REST/sender?Status=Active&Limit=1",
        json_answer(200, {"Count": 1, "Data": [{"Email": "*@acme.example", "Status": "Active"}], "Total": 1}),
        "takes the keys",
    ),
    "mailjunky": Asked(
        test_mailjunky.VENDOR,
        "/api/v1/contacts?limit=1&tag=mailroom-doctor",
        json_answer(200, {"data": [], "pagination": {"page": 1, "limit": 1, "total": 0}}),
        "takes the key",
    ),
    "postmark": Asked(
        test_postmark.VENDOR, "/server", json_answer(200, {"ID": 1, "Name": "Staging"}), "the server Staging"
    ),
    "resend": Asked(test_resend.VENDOR, "/domains", json_answer(200, {"data": []}), "takes the key"),
    "sendgrid": Asked(
        test_sendgrid.VENDOR, "/v3/scopes", json_answer(200, {"scopes": ["mail.send", "alerts.read"]}), "may send"
    ),
    "ses": Asked(
        test_ses_provider.VENDOR,
        "/v2/email/account",
        json_answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": True}),
        "takes the keys",
    ),
    "smtp2go": Asked(
        test_smtp2go.VENDOR,
        "/v3/api_keys/permissions",
        json_answer(200, {"request_id": test_smtp2go.REQUEST, "data": ["/stats/email_cycle", "/email/send"]}),
        "may send",
        "POST",
        b"{}",
    ),
}


def test_every_type_but_capture_and_http_is_verifiable() -> None:
    """SMTP is tested in smtp/test_verify.py."""
    assert set(VENDORS) | {"capture", "http", "smtp"} == set(types())


async def verify(vendor: Vendor, answer: Answer, **changes: Any) -> tuple[str, Recorder]:
    """Verify the credentials against this response."""
    async with Recorder(answer) as recorder:
        given = {**vendor.options, "endpoint": recorder.url, "ca_file": ca_file(), **changes}
        provider = connect(vendor.settings.model_validate(given), context())
        assert isinstance(provider, Verifiable)
        try:
            return await provider.verify(), recorder
        finally:
            await provider.aclose()


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_working_credentials_are_reported_and_nothing_is_sent(asked: Asked) -> None:
    words, recorder = await verify(asked.vendor, asked.yes)
    assert asked.words in words
    (request,) = recorder.requests
    assert (request.method, request.target, request.body) == (asked.method, asked.target, asked.body)


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_credentials_that_are_refused_are_misconfigured(asked: Asked) -> None:
    with pytest.raises(Misconfigured) as refused:
        await verify(asked.vendor, asked.vendor.refusals[Misconfigured])
    assert not any(secret in str(refused.value) for secret in asked.vendor.secrets)


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_a_rate_limit_is_unavailable(asked: Asked) -> None:
    with pytest.raises(Unavailable):
        await verify(asked.vendor, asked.vendor.refusals[Unavailable])


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
@pytest.mark.parametrize(
    "answer", [Answer(500, b"<html>"), Answer(302, b"", {"Location": "/"}), Answer(404, b"nothing")]
)
async def test_any_other_response_is_one_of_the_four_kinds(asked: Asked, answer: Answer) -> None:
    with pytest.raises(SendingError):
        await verify(asked.vendor, answer)


async def test_a_key_that_may_only_send_is_accepted() -> None:
    only_sends = json_answer(401, {"name": "restricted_api_key", "message": "This API key is restricted"})
    assert "may only send" in (await verify(test_resend.VENDOR, only_sends))[0]
    denied = json_answer(403, {"message": "not authorized"}, {"x-amzn-ErrorType": "AccessDeniedException"})
    assert "not known" in (await verify(test_ses_provider.VENDOR, denied))[0]
    for code in ("Forbidden.RAM", "NoPermission"):
        assert "not known" in (await verify(test_direct_mail.VENDOR, test_direct_mail.refusal(403, code)))[0]
    with pytest.raises(Uncertain, match="may only send"):
        await verify(test_mailgun.VENDOR, Answer(401, b"Forbidden"))
    with pytest.raises(Uncertain, match="may not list contacts"):
        await verify(test_mailjunky.VENDOR, json_answer(403, {"message": "Forbidden"}))


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
@pytest.mark.parametrize("page", [b"<html>Please log in to the hotel's network</html>", b"", b"[]", b"{}", b"null"])
async def test_an_html_page_of_a_proxy_is_no_success(asked: Asked, page: bytes) -> None:
    with pytest.raises((Uncertain, Misconfigured)):
        await verify(asked.vendor, Answer(200, page))


@pytest.mark.parametrize("asked", VENDORS.values(), ids=list(VENDORS))
async def test_a_refused_connection_is_unavailable(asked: Asked) -> None:
    with pytest.raises(Unavailable, match="connect"):
        await verify(asked.vendor, asked.yes, endpoint="https://127.0.0.1:1")


async def test_a_key_that_may_not_send_is_wrong() -> None:
    with pytest.raises(Misconfigured, match=r"mail\.send"):
        await verify(test_sendgrid.VENDOR, json_answer(200, {"scopes": ["alerts.read"]}))
    for allowed in ("[]", '["/stats/*"]', '["/email/search", null, {}]'):
        with pytest.raises(Misconfigured, match="/email/send"):
            await verify(test_smtp2go.VENDOR, Answer(200, f'{{"data": {allowed}}}'.encode()))


@pytest.mark.parametrize("pattern", ["/email/*", "*"])
async def test_a_permission_may_be_a_pattern(pattern: str) -> None:
    assert "may send" in (await verify(test_smtp2go.VENDOR, json_answer(200, {"data": ["/sms/send", pattern]})))[0]


async def test_a_refusal_with_status_200_is_a_refusal() -> None:
    with pytest.raises(Misconfigured, match="went wrong"):
        await verify(test_smtp2go.VENDOR, test_smtp2go.refusal(200, "API_EXCEPTION"))
    with pytest.raises(Uncertain):
        await verify(test_smtp2go.VENDOR, test_smtp2go.VENDOR.accepted)


async def test_keys_without_a_validated_sender_are_reported() -> None:
    """It is no error: a metasender of the account applies to all its keys."""
    nobody = json_answer(200, {"Count": 0, "Data": [], "Total": 0})
    assert "no validated sender" in (await verify(test_mailjet.VENDOR, nobody))[0]


async def test_an_account_that_does_not_send_is_wrong() -> None:
    with pytest.raises(Misconfigured, match="unverified"):
        await verify(test_mailgun.VENDOR, json_answer(200, {"domain": {"state": "unverified"}}))
    with pytest.raises(Misconfigured, match="paused"):
        await verify(test_ses_provider.VENDOR, json_answer(200, {"SendingEnabled": False}))
    with pytest.raises(Misconfigured, match="bills"):
        await verify(test_direct_mail.VENDOR, json_answer(200, {"UserStatus": 2}))
    sandbox = json_answer(200, {"SendingEnabled": True, "ProductionAccessEnabled": False})
    assert "verified addresses only" in (await verify(test_ses_provider.VENDOR, sandbox))[0]


async def test_postmarks_sandbox_needs_no_request() -> None:
    words, recorder = await verify(test_postmark.VENDOR, Answer(500), sandbox=True)
    assert "test token" in words
    assert recorder.requests == []
