"""The fast path of `mailroom.address` gives the same results as email-validator."""

import string

import pytest
from email_validator import EmailNotValidError
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom import address

_ATEXT = string.ascii_letters + string.digits + "!#$%&'*+-/=?^_`{|}~"
_NEAR = st.text(alphabet=_ATEXT + '.@"<> \n\r\0[]()\\é', min_size=1, max_size=20)
_DOMAIN = st.text(alphabet=string.ascii_letters + string.digits + "-.x", min_size=1, max_size=20)


def _long_way(text: str) -> tuple[str, str, str] | None:
    try:
        valid = address._validate(text)
    except EmailNotValidError:
        return None
    ascii_form = valid.ascii_email or f"{valid.local_part}@{valid.ascii_domain}"
    return f"{valid.local_part.casefold()}@{valid.ascii_domain}", ascii_form, valid.normalized


@given(local=_NEAR, domain=_DOMAIN)
@example(local="İnfo", domain="Straße.example")
@example(local="INFO", domain="Acme.example")
@example(local="a", domain="xn--nxasmq6b.example")
@example(local="a", domain="ab--c.example")
@example(local="a", domain="a" * 63 + ".example")
@example(local="a", domain="a" * 64 + ".example")
@example(local="a" * 242, domain="acme.example")
@example(local="a" * 241, domain="acme.example")
@example(local="a", domain="acme.example\n")
def test_addresses_that_email_validator_accepts_give_its_results(local: str, domain: str) -> None:
    text = f"{local}@{domain}"
    expected = _long_way(text)
    assert expected or not address._match_simple(text)
    if expected:
        assert (address.identity(text), address.ascii_form(text), address.mailbox(text).email) == expected


@pytest.mark.parametrize("text", ["ada@example.com", "Ada.Lovelace+tag@Mail.Example.COM", "o'brien@a-b.example"])
def test_ordinary_addresses_are_simple(text: str) -> None:
    assert address._match_simple(text)


@pytest.mark.parametrize("domain", ["corp.local", "localhost", "acme.test", "acme.invalid"])
def test_special_use_domains_are_usable(domain: str) -> None:
    assert address.usable(f"ada@{domain}")
    assert _long_way(f"ada@{domain}")


@pytest.mark.parametrize("text", ["", "@", "ada", "a@b\r\nBcc: c@d", "a\0@b.example", "a@b..example", "@c.example"])
def test_an_invalid_address_is_not_usable(text: str) -> None:
    assert not address.usable(text)
