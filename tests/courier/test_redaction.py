"""What is left of a provider's words."""

import re
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Callable
from email.header import Header, decode_header, make_header
from html import escape, unescape
from json import dumps
from quopri import decodestring, encodestring
from typing import Final
from urllib.parse import quote, unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailroom.courier.redaction import _find_spans, _may_show, _needles, redact
from mailroom.message import MASK, Address, Message, Priority, unrendered


def _message(**payload: object) -> Message:
    return Message(
        id="0199a000-0000-7000-8000-000000000000",
        template="SignIn",
        priority=Priority.CODE,
        recipient="Ada+tag@Example.com",
        payload=payload,
        created_at=0.0,
        expires_at=600.0,
    )


def test_codes_links_and_addresses_are_masked() -> None:
    """Postfix names the recipient, content filters quote the subject, gateways echo the body."""
    message = _message(code="314159", link="https://app.example.com/i?token=s3cr3t&x=1")
    words = (
        '550 5.7.1 <ada+tag@example.com>: "314159 is your code" looks like spam, see '
        "https://app.example.com/i?token=s3cr3t&amp;x=1 or "
        "https%3A%2F%2Fapp.example.com%2Fi%3Ftoken%3Ds3cr3t%26x%3D1"
    )
    assert redact(words, message) == f'550 5.7.1 <{MASK}>: "{MASK} is your code" looks like spam, see {MASK} or {MASK}'


def test_letters_beyond_ascii_are_masked_however_they_are_written() -> None:
    """Gateways answer in JSON and with the URL that they were asked for."""
    message = _message(user={"name": "Мария"}, token="Schlüssel")
    words = "550 \\u041c\\u0430\\u0440\\u0438\\u044f, %D0%9C%D0%B0%D1%80%D0%B8%D1%8F, Schl%C3%BCssel, Мария"
    assert redact(words, message) == f"550 {MASK}, {MASK}, {MASK}, {MASK}"


@pytest.mark.parametrize(
    "words",
    [
        "450 4.2.1 to Harbor: try again",
        "550 5.7.1 no such user, even a nasty one: an Na value",
        "554 31 415 messages were refused today, 9 of them by us",
        "250 2.0.0 Ok: queued as 4F2D91C0A8",
        "250 2.0.0 OK 1732612345 d9443c01a7336-1fd9b3bd7c5si12345.67 - gsmtp",
        "0107019a1b2c3d4e-12345678-1234-1234-1234-1234567890ab-000000",
        "Queued. Thank you. <20261126.1a2B3c4D@mg.acme.example>",
    ],
)
def test_the_providers_own_words_stay(words: str) -> None:
    """A short value would garble them, and names of products are no secrets."""
    payload = {"user": {"name": "to", "username": "Nana"}, "application": {"name": "Harbor"}}
    assert redact(words, _message(code="550123", **payload)) == words


def test_words_are_one_bounded_printable_line() -> None:
    """They go into logs and onto a terminal."""
    assert redact("a\r\n\x1b[31mb\x00c\u202ed", _message()) == "a [31mb c d"
    assert len(redact("x" * 100_000, _message())) == 500


@given(st.text(min_size=4, max_size=50), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    """Whatever it is made of."""
    visible = " ".join("".join(char if char.isprintable() else " " for char in secret).split())
    result = redact(f"{before}{secret}{after}", _message(code=secret))
    assert len(visible) < 4 or visible in MASK or visible not in result or visible in f"{before} {after}"


def _spaced(text: str) -> str:
    return " ".join(text)


def _folded(text: str) -> str:
    encoded = b64encode(text.encode()).decode()
    return "\r\n ".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))


def _encoded_word(text: str) -> str:
    return Header(text, "utf-8").encode()


def _encoded_words_q(text: str) -> str:
    halves = (text[: len(text) // 2], text[len(text) // 2 :])
    return " ".join(f"=?utf-8?Q?{''.join(f'={octet:02X}' for octet in half.encode())}?=" for half in halves)


SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "as it is": str,
    "spaced": _spaced,
    "hyphens": "-".join,
    "dots": ".".join,
    "in two": lambda text: f"{text[: len(text) // 2]} - {text[len(text) // 2 :]}",
    "cells": lambda text: "".join(f"<td class='x'>{escape(char)}</td>\n" for char in text),
    "HTML": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "URL": lambda text: "".join(f"%{octet:02x}" for octet in text.encode()),
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "JSON": lambda text: "".join(f"\\u{ord(char):04x}" for char in text),
    "JSON in JSON": lambda text: dumps(dumps(text)),
    "quoted-printable": lambda text: "".join(f"={octet:02X}" for octet in text.encode()),
    "quoted-printable, as mail has it": lambda text: encodestring(text.encode()).decode(),
    "base64": lambda text: b64encode(text.encode()).decode(),
    "base64 for URLs": lambda text: urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64, folded": lambda text: _folded(f"{text} is your code. " * 5),
    "base64, spaced": lambda text: b64encode(_spaced(text).encode()).decode(),
    "base64 of a URL": lambda text: b64encode("".join(f"%{ord(char):02x}" for char in text).encode()).decode(),
    "encoded word, B or Q": lambda text: _encoded_word(f"Код: {text}"),
    "two encoded words, Q": _encoded_words_q,
}


def _readings(text: str) -> set[str]:
    """Return what somebody could read in a text: by other means than those under test."""
    squeezed = re.sub(r"\s", "", text)
    readings = {
        text,
        unescape(text),
        unquote(text),
        unquote(unquote(text)),
        decodestring(text.encode()).decode("utf-8", "replace"),
    }
    readings.add(text.encode("latin-1", "replace").decode("unicode_escape", "replace"))
    readings.add(str(make_header(decode_header(text))))
    for run in re.findall(r"[A-Za-z0-9+/_-]{4,}", squeezed):
        for at in range(4):
            part = run[at:].replace("-", "+").replace("_", "/")
            octets = b64decode(part[: len(part) - len(part) % 4])
            readings |= {octets.decode("utf-8", "replace"), unquote(octets.decode("utf-8", "replace"))}
    return {re.sub(r"<[^>]*>|[\W_]", "", reading).casefold() for reading in readings}


CODES: Final = st.text("0123456789", min_size=4, max_size=8) | st.text(
    "ABCDEFGHJKLMNPQRSTUVWXYZ23456789", min_size=8, max_size=10
)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@given(code=CODES, before=st.text("abc XY.", max_size=7), after=st.text("abc XY.", max_size=7))
@settings(deadline=None, max_examples=60)
def test_no_form_of_a_code_survives(spelling: Callable[[str], str], code: str, before: str, after: str) -> None:
    """Base64 begins anywhere in its groups of four: what stands before is encoded with it."""
    assume(code not in "550571")  # else the reply's own digits show it, and are masked
    words = f"550 5.7.1 refused: {spelling(f'{before}{code}{after}')} - end"
    left = redact(words, _message(code=code))
    for reading in _readings(left):
        assert code.casefold() not in reading, left
    assert left.startswith("550 5.7.1 refused:")
    assert left.endswith("- end")


@given(
    st.text("04815162 -.Ab=<&%?/:+é\u00b7M", max_size=40),
    st.sampled_from(["481516", "0481", "AbAb0481", "Ab é", "https://a.b/48151?6=Ab", "··é·", "4-8-1-5"]),
)
@settings(deadline=None)
def test_the_quick_look_overlooks_nothing(words: str, secret: str) -> None:
    line = " ".join(words.split())
    needles = list(_needles(secret))
    assert _may_show(line, [secret]) or not _find_spans(line, needles, is_cut=False)


LINKS: Final = st.builds(
    "https://app.example.com/{}?token={}&x=1".format,
    st.text("abcdefghij", min_size=1, max_size=8),
    st.text("ABCDEFGHJKLMNPQRSTUVWXYZ23456789-_~", min_size=12, max_size=30).filter(
        lambda text: any(map(str.isdigit, text))
    ),
)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
@given(link=LINKS)
@settings(deadline=None, max_examples=25)
def test_no_form_of_a_link_survives_and_neither_does_its_token(spelling: Callable[[str], str], link: str) -> None:
    """Content filters name what they block: without the scheme, or the query alone."""
    token = re.sub(r"[\W_]", "", link.partition("token=")[2].removesuffix("&x=1")).casefold()
    for part in (link, link.removeprefix("https://"), link.partition("?")[2]):
        left = redact(f"550 {spelling(part)}", _message(link=link))
        for reading in _readings(left):
            assert token not in reading, left


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_no_form_of_the_subject_survives(spelling: Callable[[str], str]) -> None:
    message = _message(code="314159")
    email = replace(unrendered(message, Address("no-reply@acme.example")), subject="Order 66 is executed")
    left = redact(f"550 {spelling(email.subject)}", message, email)
    assert not any("order66isexecuted" in reading for reading in _readings(left)), left


def test_keys_of_the_payload_are_masked_unless_they_are_plain_words() -> None:
    """Anybody who invites may choose them."""
    message = _message(department="sales", **{"https://app.example.com/i?t=12345678": {"481-516": True}})
    words = "550 this department may not: t=12345678 and 481516"
    assert redact(words, message) == f"550 this department may not: {MASK} and {MASK}"


def test_a_code_that_was_cut_off_is_masked_as_far_as_it_goes() -> None:
    """Providers' words are bounded, and five digits of six are as good as all."""
    assert redact("550 the subject was: 31415…", _message(code="314159")) == f"550 the subject was: {MASK}…"


@pytest.mark.parametrize(
    "words", ["=?utf-8?B?====?=", "=?x-no-such?Q?=ZZ?=", "\\ud800", "&#x110000;", "%ff", "=?utf-8?B?A?="]
)
def test_what_is_encoded_badly_does_no_harm(words: str) -> None:
    assert redact(f"{words} 314159", _message(code="314159")).endswith(MASK)


def test_long_words_are_searched_in_a_moment() -> None:
    """A provider may say anything: nothing in the search is quadratic."""
    message = _message(code="314159", link="https://a.example/i?t=12345678")
    for text in ("3 1 4 1 5 ", "%33", "TWFu", "=?utf-8?Q?a?= ", "<a ", "&#51;"):
        assert redact(text * 4000, message)
