"""Serialized mails, compared with the standard library's parser and generator."""

import re
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom.address import usable
from mailroom.errors import RenderingError
from mailroom.message import Address, Email
from mailroom.rendering.mime import serialize
from tests.rendering.samples import unhurried

SENDER = Address("no-reply@acme.example", "Acme")
DATE = 1_790_000_000.0


def build(**changes: Any) -> bytes:
    usual: dict[str, Any] = {
        "id": "b",
        "sender": SENDER,
        "recipient": "ada@example.com",
        "reply_to": None,
        "subject": "Hello",
        "message_id": "<1@acme.example>",
        "headers": (),
        "text": "text\n",
        "html": "<p>html</p>\n",
        "language": "en",
        "template": "SignIn",
        "raw": b"",
    }
    return serialize(Email(**(usual | changes)), DATE)


def parsed(raw: bytes) -> EmailMessage:
    mail = message_from_bytes(raw, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    assert not mail.defects
    return mail


def bodies(raw: bytes) -> list[str]:
    parts = list(parsed(raw).iter_parts())
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    assert not [part.defects for part in parts if part.defects]
    return [part.get_content().replace("\r\n", "\n") for part in parts]


def mailboxes(raw: bytes, header: str) -> list[Address]:
    """Return the mailboxes of a header as two parsers read it.

    The newer one puts a space between encoded words of a name, against RFC 2047 §6.2, so names are the older one's.
    """
    field = message_from_bytes(raw, policy=policy.compat32)[header]
    found = getaddresses([str(field)] if field else [])
    again = parsed(raw)[header]
    assert [email for _, email in found] == [address.addr_spec for address in (again.addresses if again else ())]
    return [Address(email, str(make_header(decode_header(name)))) for name, email in found]


def assert_wire(raw: bytes, *, seven_bit: bool = True) -> None:
    """Assert what `Email.raw` guarantees: CRLF alone, lines of at most 998 octets, 7bit, no NUL."""
    assert raw.endswith(b"\r\n")
    assert b"\0" not in raw
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert not seven_bit or raw.isascii()


one_line = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\x85")).map(
    lambda text: " ".join(text.split())
)
many_lines = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)
local_parts = st.from_regex(r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]{1,20}(\.[a-zA-Z0-9]{1,20}){0,2}", fullmatch=True)
addresses = local_parts.map("{}@example.com".format).filter(usable)


@unhurried
@given(
    subject=one_line,
    name=one_line.map(lambda text: text[:50].strip()),
    email=addresses,
    recipient=addresses,
    reply_to=st.none() | st.builds(Address, addresses, one_line.map(lambda text: text[:50].strip())),
    text=many_lines,
    html=many_lines.filter(bool),
)
@example("=?utf-8?q?x?= y", 'Acme, "Inc." <x@y.z>', "a@example.com", "b@example.com", None, "--=_b--\n", "--=_b\n")
@example("x" * 2000, "a@b.c, evil@x.y", "a@example.com", "b@example.com", None, "x" * 5000, "\0\x1b\n.\nFrom x\n")
@example("x " * 800 + "x", "(comment) Ätna; x" * 2, "a@example.com", "b@example.com", None, " \n\t\n", "= =\n")
@example("日本語" * 40, "日本語" * 16, "a" * 60 + "@example.com", "b@example.com", None, "日本語\n" * 90, "é")
def test_every_message_parses_back_to_the_same_values(  # noqa: PLR0917 - Hypothesis names them
    subject: str, name: str, email: str, recipient: str, reply_to: Address | None, text: str, html: str
) -> None:
    raw = build(
        sender=Address(email, name), recipient=recipient, reply_to=reply_to, subject=subject, text=text, html=html
    )
    assert_wire(raw)
    mail = parsed(raw)
    assert mail.keys() == [
        "From",
        "To",
        *(["Reply-To"] if reply_to else []),
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
    ]
    assert mail["Subject"] == subject
    assert mailboxes(raw, "From") == [Address(email, name)]
    assert mailboxes(raw, "To") == [Address(recipient)]
    assert mailboxes(raw, "Reply-To") == ([reply_to] if reply_to else [])
    ended = [body if body.endswith("\n") else body + "\n" for body in (text, html)]
    assert bodies(raw) == ended


@unhurried
@given(
    subject=one_line, name=one_line.map(lambda text: text[:8].strip()), text=many_lines, html=many_lines.filter(bool)
)
def test_the_message_equals_that_of_the_standard_library(subject: str, name: str, text: str, html: str) -> None:
    """Longer names are left out: the standard library folds them wrongly, losing quotes (gh-80222) and spaces."""
    headers = (("Content-Language", "en"), ("Auto-Submitted", "auto-generated"))
    raw = build(sender=Address("a@b.example", name), subject=subject, text=text, html=html, headers=headers)
    ours = parsed(raw)
    oracle = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))
    oracle["From"] = HeaderAddress(name, addr_spec="a@b.example")
    oracle["To"] = "ada@example.com"
    oracle["Subject"] = subject
    oracle["Date"] = "Mon, 21 Sep 2026 14:13:20 +0000"
    oracle["Message-ID"] = "<1@acme.example>"
    oracle.set_content(text)
    oracle.add_alternative(html, subtype="html")
    for header, value in headers:
        oracle[header] = value
    theirs = parsed(oracle.as_bytes())
    assert set(ours.keys()) == set(theirs.keys())
    for header in set(ours.keys()) - {"Content-Type", "From"}:
        assert ours[header] == theirs[header]
    assert mailboxes(raw, "From") == mailboxes(oracle.as_bytes(), "From")
    assert bodies(raw) == bodies(oracle.as_bytes())


@pytest.mark.parametrize("evil", ["\r\nBcc: x@evil.example", "\n", "\r", "\0", "a\r\n\r\nbody"])
@pytest.mark.parametrize(
    "place", ["subject", "message_id", "sender name", "sender", "recipient", "reply_to", "header", "header name"]
)
def test_no_header_takes_a_line_break_or_nul(place: str, evil: str) -> None:
    cases: dict[str, dict[str, Any]] = {
        "sender name": {"sender": Address("a@b.example", f"x{evil}")},
        "sender": {"sender": Address(f"a@b.example{evil}")},
        "recipient": {"recipient": f"a@b.example{evil}"},
        "reply_to": {"reply_to": Address("a@b.example", f"x{evil}")},
        "header": {"headers": (("X-Test", f"x{evil}"),)},
        "header name": {"headers": ((f"X-Test{evil}", "x"),)},
    }
    with pytest.raises(RenderingError):
        build(**cases.get(place, {place: f"x{evil}"}))


@pytest.mark.parametrize(
    "address",
    ["", "a", "a@", "@b", "a@b, c@d", "a@b c@d", "<a@b>", '"a, b"@c', "a@b;c@d", "a@b@c", "a(x)@b", '"a"b"@c',
     '"a\\"@c', "x" * 900 + "@b.c"],
)  # fmt: skip
def test_an_address_is_one_address(address: str) -> None:
    for changes in ({"recipient": address}, {"sender": Address(address, "x")}, {"reply_to": Address(address)}):
        with pytest.raises(RenderingError):
            build(**changes)


def test_a_local_part_beyond_ascii_stays_utf_8_for_smtputf8() -> None:
    raw = build(recipient="jörg@xn--mller-kva.example")
    assert "To: jörg@xn--mller-kva.example\r\n".encode() in raw
    assert_wire(raw, seven_bit=False)


@pytest.mark.parametrize("boundary", ["", 'x"', "x\r\n", "-x", "x" * 61, "é"])
def test_a_boundary_is_a_token(boundary: str) -> None:
    with pytest.raises(RenderingError):
        build(id=boundary)


def test_text_that_holds_the_boundary_cannot_end_its_part() -> None:
    text = "one\n--=_b--\n--=_b\ntwo\n"
    assert bodies(build(text=text, html=text)) == [text, text]


def test_plain_english_stays_readable_in_the_source() -> None:
    assert b"\r\n\r\nPlain text.\r\n" in build(text="Plain text.\n")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("ascii", "7bit"),
        ("Die Grüße kamen gut an.", "quoted-printable"),
        ("日本語のテキスト", "base64"),
        ("x" * 999, "quoted-printable"),
    ],
)
def test_the_transfer_encoding_is_the_shortest_that_fits(text: str, encoding: str) -> None:
    part, _ = parsed(build(text=text)).iter_parts()
    assert part["Content-Transfer-Encoding"] == encoding


def test_a_long_list_unsubscribe_is_folded_and_never_encoded() -> None:
    value = f"<https://mail.acme.example/unsubscribe/{'x' * 300}>, <mailto:leave@acme.example?subject={'y' * 90}>"
    raw = build(headers=(("List-Unsubscribe", value),))
    assert b"=?" not in raw
    assert_wire(raw)
    assert message_from_bytes(raw, policy=policy.compat32)["List-Unsubscribe"].replace("\r\n", "") == value


def test_a_header_word_longer_than_a_line_is_refused() -> None:
    with pytest.raises(RenderingError, match="longer than a line"):
        build(headers=(("X-Long", "x" * 1000),))


def test_encoded_words_keep_to_76_columns() -> None:
    raw = build(subject="Ä" * 200, sender=Address("a@b.example", "Ä" * 50), reply_to=Address("a@b.example", "Ä" * 50))
    rows = [row for row in raw.split(b"\r\n") if b"=?" in row]
    assert len(rows) > 10
    assert max(map(len, rows)) <= 76


def test_the_date_is_the_moment_in_utc() -> None:
    assert parsedate_to_datetime(parsed(build())["Date"]).timestamp() == DATE


@pytest.mark.parametrize("text", ["Your code: 314159", "日本語\n", "a\n" * 3, "x" * 2000])
def test_a_mail_without_html_is_one_part_of_plain_text(text: str) -> None:
    raw = build(text=text, html="")
    assert_wire(raw)
    mail = parsed(raw)
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().replace("\r\n", "\n") == text.removesuffix("\n") + "\n"
    assert not mail.is_multipart()
