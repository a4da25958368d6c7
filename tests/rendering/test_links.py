"""Sanitizing a payload's link: a URL, a text to copy, or nothing."""

import re
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.rendering.links import DANGEROUS_SCHEMES, LONGEST_LINK, Link, address, is_given, link, logo
from tests.rendering.samples import unhurried
from tests.rendering.test_sanitize import json_values


@pytest.mark.parametrize(
    "given_link",
    [
        "https://app.example.com/invitations/abc?x=1&y=2",
        "https://app.example.com",
        "https://app.example.com:8443/#/join",
        "HTTPS://APP.example.com/",
        "https://xn--mller-kva.example/",
        "https://[2001:db8::1]/join",
        "https://my_team.app.example/join",
        "http://localhost:3000/join",
        "http://intranet.example/join?t=1",
        "https://app.example.com/join?t=" + "x" * 4000,
    ],
)
def test_a_sound_link_is_kept_as_it_is(given_link: str) -> None:
    assert link(given_link) == Link(href=given_link)


@pytest.mark.parametrize(
    ("given_link", "href"),
    [
        ("https://app.example.com/a b?q={x}|y", "https://app.example.com/a%20b?q=%7Bx%7D%7Cy"),
        (" https://app.example.com/join\r\n", "https://app.example.com/join"),
        ("\u00a0https://app.example.com/join\u2028", "https://app.example.com/join"),
        ("https://app.example.com/jo\r\n\tin", "https://app.example.com/join"),
        ("https://app.example.com/grüße?an=Åsa", "https://app.example.com/gr%C3%BC%C3%9Fe?an=%C3%85sa"),
        ("https://bücher.example/join", "https://xn--bcher-kva.example/join"),
        ("https://i❤.example/join", "https://xn--i-7iq.example/join"),
        ("https://BÜCHER.example:8443", "https://xn--bcher-kva.example:8443"),
        ("https://app.example.com:/join", "https://app.example.com/join"),
        ("https://app.example.com\\join\\7", "https://app.example.com/join/7"),
        ("https://bank.example\\@evil.example/", "https://bank.example/@evil.example/"),
        ('https://app.example.com/"onmouseover="x', "https://app.example.com/%22onmouseover=%22x"),
        ("https://app.example.com/<script>`^", "https://app.example.com/%3Cscript%3E%60%5E"),
        ("https://app.example.com/\x1b\ud83d", "https://app.example.com/%1B%EF%BF%BD"),
        ("https://app.example.com/100%", "https://app.example.com/100%"),
        ("https://app.example.com?t=1 2", "https://app.example.com?t=1%202"),
    ],
)
def test_a_link_is_repaired_as_browsers_do(given_link: str, href: str) -> None:
    assert link(given_link) == Link(href=href)


@pytest.mark.parametrize(
    ("given_link", "text"),
    [
        ("app.example.com/join?t=1", "app.example.com/join?t=1"),
        ("acme://join?t=1", "acme://join?t=1"),
        ("Ask Ada\r\nfor the key", "Ask Ada for the key"),
        ("//evil.example/", "//evil.example/"),
        ("https:app.example", "https:app.example"),
        ("https:///app.example", "https:///app.example"),
        ("https://", "https://"),
        ("https://bank.example@evil.example/", "https://bank.example@evil.example/"),
        ("https://bank.example:pw@evil.example/", "https://bank.example:pw@evil.example/"),
        ("https://evil.example\u202e/", "https://evil.example /"),
        ("https://evil\uff0fexample/", "https://evil\uff0fexample/"),
        ("https://a.example:port/", "https://a.example:port/"),
        (4711, "4711"),
        (47.5, "47.5"),
        pytest.param("https://a.example/" + "é" * 7000, "https://a.example/" + "é" * 7000, id="too long when encoded"),
    ],
)
def test_an_invalid_url_is_shown_as_text_to_copy(given_link: Any, text: str) -> None:
    assert link(given_link) == Link(text=text)


@pytest.mark.parametrize(
    "given_link",
    [
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        "java\nscript:alert(1)",
        " \x01javascript:alert(1)",
        "java\u200bscript\u00ad:alert(1)",
        "data:text/html,<script>",
        "vbscript:x",
        "view-source:https://a.example",
        "https://a.example/" + "x" * LONGEST_LINK,
        pytest.param(10**5000, id="huge"),
        True,
        ["https://a.example/"],
        {"href": "https://a.example/"},
    ],
)
def test_dangerous_long_and_non_text_links_are_not_shown(given_link: Any) -> None:
    assert is_given(given_link)
    assert link(given_link, ["acme"]) == Link()


@pytest.mark.parametrize("nothing", [None, "", " \r\n", {}, [], False])
def test_nothing_is_no_link(nothing: Any) -> None:
    assert not is_given(nothing)
    assert link(nothing) == Link()


def test_an_applications_own_scheme_is_a_link_where_it_is_allowed() -> None:
    assert link("Acme://join?a={1} 2", ["acme"]) == Link(href="Acme://join?a=%7B1%7D%202")
    assert link("acme:", ["acme"]) == Link(text="acme:")
    for scheme in DANGEROUS_SCHEMES:
        assert link(f"{scheme}:alert(1)", [scheme]) == Link()


@unhurried
@given(json_values | st.text().map("https://a.example/{}".format) | st.text().map("https://{}".format))
def test_no_value_makes_a_link_that_leaves_its_attribute_or_its_host(value: Any) -> None:
    found = address(value)
    assert not found or re.fullmatch(r"https?://[A-Za-z0-9._:\[\]-]+([/?#][!-~]*)?", found, re.IGNORECASE)
    assert not set(found) & set('<>"\\^`{|} \n')


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\#?%")))
def test_a_normalized_path_has_the_same_meaning(path: str) -> None:
    found = address(f"https://a.example/x{path}x")
    assert unquote(urlsplit(found).path) == f"/x{path}x"


@pytest.mark.parametrize(
    "address",
    [
        "https://cdn.example.com/logo.png",
        "https://cdn.example.com/LOGO.JPEG?v=2",
        "https://cdn.example.com/a.b/logo.gif#x",
        "https://avatars.example.com/u/84981374?s=400",
    ],
)
def test_a_logo_is_a_picture_that_mail_clients_show(address: str) -> None:
    assert logo(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "data:image/png;base64,AAAA",
        "https://cdn.example.com/logo.svg",
        "https://cdn.example.com/logo.webp?x=.png",
        "http://cdn.example.com/logo.png",
        "http://localhost/logo.png",
        "javascript:x.png",
        None,
        {"url": "https://cdn.example.com/logo.png"},
    ],
)
def test_no_other_picture_is_a_logo(address: Any) -> None:
    assert logo(address) == ""
