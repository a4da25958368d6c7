"""The same diagnostic of a vendor's API and of its SMTP server has the same kind and hint."""

import httpx
import pytest

from mailroom.errors import Declined, Misconfigured, Rejected, SendingError, Unavailable
from mailroom.providers.http.response import ApiResponse
from mailroom.providers.smtp.replies import refusal
from mailroom.smtpclient import Command, Reply


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
