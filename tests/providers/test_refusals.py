"""The same fault has the same kind and hint, whether a vendor's API or its SMTP server says it."""

import json
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers import module_of
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.smtp.replies import refusal
from mailroom.smtpclient import Command, Reply
from tests.providers.contract import context


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Message contains a virus.", Declined),
        ("something that nobody documented", Declined),
        ("no such user here", Rejected),
        ("Daily message quota exceeded.", Unavailable),
        ("User `arn:aws:iam::1:user/x' is not authorized to perform `ses:SendRawEmail'", Misconfigured),
        ("Your SMTP account is not yet activated", Misconfigured),
    ],
)
def test_the_diagnostic_decides(text: str, kind: type[SendingError]) -> None:
    answer = ApiResponse(400, httpx.Headers(), b"", now=0)
    by_api, by_smtp = answer.error(Declined, text), refusal(Command.CONTENT, Reply(550, (text,)))
    assert type(by_api) is type(by_smtp) is kind
    assert by_api.hint == by_smtp.hint


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, as a vendor's API and its SMTP server say it."""

    vendor: str
    name: str
    status: int
    body: dict[str, Any]
    command: Command
    reply: str
    kind: type[SendingError]


SETTINGS: Final[dict[str, dict[str, str]]] = {
    "ses": {"region": "eu-west-1", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "access_key_secret": "s" * 40},
    "mailgun": {"domain": "mg.acme.example", "api_key": "k" * 32},
    "sendgrid": {"api_key": "SG." + "k" * 32},
    "postmark": {"server_token": "00000000-0000-0000-0000-000000000000"},
    "brevo": {"api_key": "k" * 32},
    "resend": {"api_key": "re_" + "k" * 32},
    "aliyun": {"access_key_id": "LTAI5tExample", "access_key_secret": "s" * 30},
}
_IDENTITIES: Final = "The following identities failed the check in region EU-WEST-1: no-reply@acme.example"
_PENDING: Final = "While your account is pending approval, all recipient addresses must share the same domain"

FAULTS: Final = [
    Fault(
        "ses",
        "unverified sender",
        400,
        {"__type": "MessageRejected", "message": f"Email address is not verified. {_IDENTITIES}"},
        Command.CONTENT,
        f"554 Message rejected: Email address is not verified. {_IDENTITIES}",
        Misconfigured,
    ),
    Fault(
        "ses",
        "IAM policy",
        403,
        {"__type": "AccessDeniedException", "message": "User `x' is not authorized to perform `ses:SendEmail'"},
        Command.CONTENT,
        "554 Access denied: User `x' is not authorized to perform `ses:SendRawEmail'",
        Misconfigured,
    ),
    Fault(
        "ses",
        "day's quota",
        429,
        {"__type": "TooManyRequestsException", "message": "Daily message quota exceeded."},
        Command.MAIL,
        "454 Throttling failure: Daily message quota exceeded.",
        Unavailable,
    ),
    Fault(
        "ses",
        "quota, as a limit",
        400,
        {"__type": "LimitExceededException", "message": "Daily message quota exceeded."},
        Command.MAIL,
        "454 Throttling failure: Daily message quota exceeded.",
        Unavailable,
    ),
    Fault(
        "ses",
        "rate",
        429,
        {"__type": "TooManyRequestsException", "message": "Maximum sending rate exceeded."},
        Command.MAIL,
        "454 Throttling failure: Maximum sending rate exceeded.",
        Unavailable,
    ),
    Fault(
        "ses",
        "paused",
        400,
        {"__type": "SendingPausedException", "message": "Sending paused for this account."},
        Command.CONTENT,
        "554 Message rejected: Sending suspended for this account.",
        Misconfigured,
    ),
    Fault(
        "ses",
        "size",
        413,
        {"__type": "RequestEntityTooLargeException", "message": "Message is too long"},
        Command.CONTENT,
        "552 Message is too long.",
        Declined,
    ),
    Fault(
        "mailgun",
        "unverified domain",
        403,
        {"message": "Domain mg.acme.example is not allowed to send: The domain is unverified"},
        Command.CONTENT,
        "550 Domain mg.acme.example is not allowed to send: The domain is unverified",
        Misconfigured,
    ),
    Fault(
        "mailgun",
        "sandbox",
        403,
        {"message": "Domain sandbox1.mailgun.org is not allowed to send: Sandbox subdomains are for tests"},
        Command.CONTENT,
        "550 Domain sandbox1.mailgun.org is not allowed to send: Sandbox subdomains are for tests",
        Misconfigured,
    ),
    Fault(
        "mailgun",
        "recipient",
        400,
        {"message": "'to' parameter is not a valid address. please check documentation"},
        Command.RCPT,
        "550 'to' parameter is not a valid address. please check documentation",
        Rejected,
    ),
    Fault(
        "sendgrid",
        "unverified sender",
        403,
        {"errors": [{"message": "It does not match a verified Sender Identity.", "field": "from"}]},
        Command.CONTENT,
        "550 It does not match a verified Sender Identity.",
        Misconfigured,
    ),
    Fault(
        "sendgrid",
        "credit",
        401,
        {"errors": [{"message": "Maximum credits exceeded", "field": None}]},
        Command.AUTH,
        "451 Authentication failed: Maximum credits exceeded",
        Misconfigured,
    ),
    Fault(
        "postmark",
        "unverified sender",
        422,
        {"ErrorCode": 400, "Message": "The 'From' address you supplied is not a Sender Signature."},
        Command.CONTENT,
        "550 The 'From' address you supplied is not a Sender Signature.",
        Misconfigured,
    ),
    Fault(
        "postmark",
        "inactive recipient",
        422,
        {"ErrorCode": 406, "Message": "You tried to send to recipients that have been marked as inactive."},
        Command.CONTENT,
        "550 You tried to send to recipients that have been marked as inactive.",
        Rejected,
    ),
    Fault(
        "postmark",
        "pending account",
        422,
        {"ErrorCode": 412, "Message": _PENDING},
        Command.CONTENT,
        f"550 {_PENDING}",
        Misconfigured,
    ),
    Fault(
        "brevo",
        "account",
        403,
        {"code": "permission_denied", "message": "Your SMTP account is not yet activated"},
        Command.RCPT,
        "502 5.7.0 Your SMTP account is not yet activated",
        Misconfigured,
    ),
    Fault(
        "brevo",
        "our IP address",
        401,
        {
            "code": "unauthorized",
            "message": "You are using an unrecognised IP address",
        },
        Command.AUTH,
        "525 5.7.1 Unauthorized IP address",
        Misconfigured,
    ),
    Fault(
        "resend",
        "unverified domain",
        403,
        {"name": "validation_error", "message": "The acme.example domain is not verified. Please, add it"},
        Command.CONTENT,
        "550 The acme.example domain is not verified. Please, add it",
        Misconfigured,
    ),
    Fault(
        "resend",
        "day's quota",
        429,
        {"name": "daily_quota_exceeded", "message": "You have reached your daily email sending quota."},
        Command.CONTENT,
        "450 You have reached your daily email sending quota.",
        Unavailable,
    ),
    Fault(
        "resend",
        "rate",
        429,
        {"name": "rate_limit_exceeded", "message": "Too many requests. 2 requests per second."},
        Command.CONTENT,
        "450 Too many requests. 2 requests per second.",
        Unavailable,
    ),
    Fault(
        "aliyun",
        "rate",
        400,
        {"Code": "InvalidSendMail.Spam", "Message": "too frequently sending"},
        Command.CONTENT,
        "554 Reject by behaviour spamANTISPAM_BAT[1, a1]: too frequently sending",
        Unavailable,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.vendor}: {fault.name}" for fault in FAULTS])
def test_an_api_and_its_vendors_smtp_server_agree(fault: Fault) -> None:
    module = module_of(fault.vendor)
    provider: Any = module.connect(module.Settings.model_validate(SETTINGS[fault.vendor]), context())
    with pytest.raises(SendingError) as caught:
        provider.parse_response(ApiResponse(fault.status, httpx.Headers(), json.dumps(fault.body).encode(), now=0))
    by_api, by_smtp = caught.value, refusal(fault.command, Reply(int(fault.reply[:3]), (fault.reply[4:],)))
    assert type(by_api) is type(by_smtp) is fault.kind
    assert by_api.hint == by_smtp.hint
    assert by_api.hint or fault.kind is Rejected
    if isinstance(by_api, Unavailable) and isinstance(by_smtp, Unavailable):
        assert by_api.is_throttled is by_smtp.is_throttled
        assert by_api.retry_after == by_smtp.retry_after
