"""Every address that Logto accepts, on the wire: compared with Logto's pattern and the standard library's parser."""

import json
import re
import string
import subprocess
from email.headerregistry import Address as HeaderAddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom import address
from mailroom.rendering import mime
from mailroom.smtpclient import Mail
from tests.e2e import node
from tests.e2e.harness import unless
from tests.mails import email

_SPACE = "\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
"""`\\s` in JavaScript (ECMA-262 §22.2.2.9); Python's differs."""
LOGTO = re.compile(rf"[^{_SPACE}]+@[^{_SPACE}]+\.[^{_SPACE}]+")
"""`emailRegEx = /^\\S+@\\S+\\.\\S+$/`, lib/regex.js of npm's @logto/core-kit 2.13.0."""

_DOMAIN_CHARACTERS = string.ascii_letters + string.digits + "_-"
_labels = st.text(_DOMAIN_CHARACTERS, min_size=1, max_size=12).filter(lambda label: label.strip("-") == label)
_domains = st.lists(_labels, min_size=2, max_size=4).map(".".join)
_locals = st.text(string.ascii_letters + string.digits + string.punctuation + "éß日❤", min_size=1, max_size=20)
_near = st.text(
    string.ascii_letters + string.punctuation + "é日❤ \r\n\0\x7f\x85\u00a0\u200b\u202e\u2028\ud800", max_size=20
)


@unless(node.missing())
def test_the_pattern_takes_what_javascripts_takes() -> None:
    """For each UTF-16 code unit."""
    script = r"""
        const pattern = /^\S+@\S+\.\S+$/;
        const units = [...Array(65536).keys()];
        console.log(JSON.stringify(units.filter((unit) => pattern.test(`a${String.fromCharCode(unit)}@b.c`))));
    """
    done = subprocess.run(["node", "-e", script], capture_output=True, check=True)
    assert json.loads(done.stdout) == [unit for unit in range(65536) if LOGTO.fullmatch(f"a{chr(unit)}@b.c")]


@given(local=_locals, domain=_domains)
@example("a..b", "docomo.example")
@example("a.", "docomo.example")
@example(".a", "docomo.example")
@example('"a..b"', "docomo.example")
@example('"a b', "x.example")
@example("a@b", "x.example")
@example("a,b", "x.example")
@example('\\"', "x.example")
@example("a", "my_host.example")
@example("a", "ab--c.example")
@example("a", "xn--i-7iq.example")
def test_what_logto_accepts_is_accepted(local: str, domain: str) -> None:
    """For any printable local part and any domain name."""
    text = f"{local}@{domain}"
    if LOGTO.fullmatch(text):
        assert address.usable(text)


@given(st.from_regex(LOGTO, fullmatch=True) | st.builds("{}@{}".format, _near, _near | _domains))
@example("a@b..example")
@example("a@[192.0.2.1]")
@example("a@-b.example")
@example("a@b.example>")
@example("a\0@b.example")
@example("a\u202e@b.example")
@example("a@" + "b" * 64 + ".example")
def test_an_address_is_valid_on_the_wire_or_refused(text: str) -> None:
    """Refused are only control and format characters, hosts that are no domain names, and what is too long."""
    if not address.usable(text):
        local, _, domain = text.rpartition("@")
        labels = domain.removesuffix(".").split(".")
        is_name = all(re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", label) for label in labels)
        assert not (LOGTO.fullmatch(text) and local.isprintable() and is_name and len(text.encode()) <= 200)
        return
    written = address.ascii_form(text)
    assert address.ascii_form(written) == written
    assert address.identity(written) == address.identity(text)
    assert written.isprintable()
    assert " " not in written
    assert Mail("no-reply@acme.example", written, b"").recipient == written
    header = mime.serialize(email(written), 0.0).decode().split("\r\n")[1]
    assert header == f"To: {written}"
    if written.isascii():
        parsed = HeaderAddress(addr_spec=written)
        assert f"{parsed.username.casefold()}@{parsed.domain}" == address.identity(text)


@pytest.mark.parametrize(
    ("typed", "written", "identity"),
    [
        ("a..b@docomo.example", '"a..b"@docomo.example', "a..b@docomo.example"),
        ('"A..B"@docomo.example', '"A..B"@docomo.example', "a..b@docomo.example"),
        ("a.@docomo.example", '"a."@docomo.example', "a.@docomo.example"),
        ('"ada"@acme.example', "ada@acme.example", "ada@acme.example"),
        ('a"b\\c@acme.example', '"a\\"b\\\\c"@acme.example', 'a"b\\c@acme.example'),
        ("a@b@acme.example", '"a@b"@acme.example', "a@b@acme.example"),
        ("ada@My_Mail.example", "ada@my_mail.example", "ada@my_mail.example"),
        ("ada@i❤.example", "ada@xn--i-7iq.example", "ada@xn--i-7iq.example"),
        ("ada@i\u2764\ufe0f.example", "ada@xn--i-7iq.example", "ada@xn--i-7iq.example"),
        ("ada@xn--i-7iq.example", "ada@xn--i-7iq.example", "ada@xn--i-7iq.example"),
        ("ada@acme.example.", "ada@acme.example", "ada@acme.example"),
        ("é..b@acme.example", '"é..b"@acme.example', "é..b@acme.example"),
    ],
)
def test_how_an_address_is_written(typed: str, written: str, identity: str) -> None:
    assert LOGTO.fullmatch(typed)
    assert address.ascii_form(typed) == written
    assert address.identity(typed) == identity


@pytest.mark.parametrize("text", ["Acme a..b@acme.example", "a@x.example,b@x.example", "Acme <a,b@x.example>"])
def test_a_sender_is_not_quoted(text: str) -> None:
    """In settings such texts are mistakes."""
    with pytest.raises(ValueError, match=r"address|character|@"):
        address.mailbox(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('"Acme \\"The\\" Shop" <a@acme.example>', 'Acme "The" Shop'),
        ('"Acme, Inc." <a@acme.example>', "Acme, Inc."),
        ('"C:\\\\Acme" <a@acme.example>', "C:\\Acme"),
        ('Acme "The" Shop <a@acme.example>', 'Acme "The" Shop'),
        ("<a@acme.example>", ""),
    ],
)
def test_a_quoted_display_name_is_unquoted(text: str, name: str) -> None:
    """RFC 5322 §3.2.4."""
    assert address.mailbox(text).name == name
