"""How parts of a mail are written into vendors' fields."""

from email.header import decode_header, make_header
from email.headerregistry import HeaderRegistry
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import SecretStr

from mailroom.errors import Misconfigured
from mailroom.message import Address, Email
from mailroom.providers.http.http_provider import ApiRequest, HttpProvider
from mailroom.providers.http.mail_fields import basic, header_map, header_pairs, mailbox_text
from mailroom.providers.resend import Resend, Settings
from tests.http_recorder import Answer, Recorder, ca_file
from tests.mails import email
from tests.providers.contract import context


@pytest.mark.parametrize(
    ("mailbox", "text"),
    [
        (Address("a@acme.example"), "a@acme.example"),
        (Address("a@acme.example", "Acme"), "Acme <a@acme.example>"),
        (Address("a@acme.example", "Acme, Inc."), '"Acme, Inc." <a@acme.example>'),
        (Address("a@acme.example", 'The "Best" \\ One'), '"The \\"Best\\" \\\\ One" <a@acme.example>'),
        (Address("a@acme.example", "アクメ"), "アクメ <a@acme.example>"),
        (Address("a@bücher.example", "Bücher"), "Bücher <a@xn--bcher-kva.example>"),
        (Address("a@acme.example", "Acme\r\nBcc: eve@evil.example"), '"AcmeBcc: eve@evil.example" <a@acme.example>'),
    ],
)
def test_a_mailbox_is_quoted_where_it_must_be(mailbox: Address, text: str) -> None:
    assert mailbox_text(mailbox) == text


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=50))
def test_the_standard_library_reads_the_same_name(name: str) -> None:
    """Of every name that settings allow: no blanks around, none doubled, no quotes at its ends."""
    name = " ".join(name.split()).strip('"')
    if not name:
        return
    header: Any = HeaderRegistry()("From", mailbox_text(Address("a@acme.example", name)))
    [read] = header.addresses
    assert (read.display_name, read.addr_spec) == (name, "a@acme.example")


def test_headers_keep_their_order_and_may_be_repeated() -> None:
    headers = (("X-One", "1"), ("X-Two", "2"), ("X-One", "3"))
    assert header_pairs(replace(email(), headers=headers)) == list(headers)


def test_repeated_headers_cannot_be_an_object() -> None:
    with pytest.raises(Misconfigured, match="twice"):
        header_map(replace(email(), headers=(("X-One", "1"), ("x-one", "2"))))


def test_text_beyond_ascii_is_an_encoded_word_on_one_line() -> None:
    [(_, value)] = header_pairs(replace(email(), headers=(("X-Long", "Grüße " * 60),)))
    assert value.isascii()
    assert "\n" not in value
    assert str(make_header(decode_header(value))).split() == ["Grüße"] * 60


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\0b"),
        ("X A", "a"),
        ("X:A", "a"),
        ("", "a"),
        ("Ü", "a"),
        ("X\n", "a"),
    ],
)
def test_a_header_that_would_break_the_mail_is_refused(name: str, value: str) -> None:
    with pytest.raises(Misconfigured):
        header_pairs(replace(email(), headers=((name, value),)))


def test_a_login_is_written_in_base64() -> None:
    assert basic("Aladdin", SecretStr("open sesame")) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


@pytest.mark.parametrize("header", ["line\nbreak-s3cr3t", "ключ-s3cr3t", "\0s3cr3t"])
async def test_what_cannot_be_written_in_http_is_misconfigured(header: str) -> None:
    """A generic provider's headers are free text; what is wrong with one is not shown."""

    class Free(Resend):
        def build_request(self, email: Email) -> ApiRequest:
            return ApiRequest("/", b"{}", headers={"X-Free": header})

    async with Recorder(Answer()) as recorder:
        settings = Settings.model_validate({"api_key": "re_0123456789", "endpoint": recorder.url, "ca_file": ca_file()})
        provider = Free(settings, context())
        with pytest.raises(Misconfigured) as refused:
            await provider.send(email())
        await provider.aclose()
        assert "s3cr3t" not in f"{refused.value!r}"
        assert not recorder.requests


def test_a_provider_consists_of_build_request_and_parse_response() -> None:
    with pytest.raises(TypeError, match="abstract"):
        HttpProvider(Settings(api_key=SecretStr("re_0123456789")), context(), host="https://api.acme.example")  # type: ignore[abstract]  # the point
