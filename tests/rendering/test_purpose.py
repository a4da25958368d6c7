"""A mail shows its code or link, even if an operator's template does not."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mailroom.errors import Fault
from mailroom.message import Address
from mailroom.rendering.content import Content
from mailroom.rendering.purpose import shows_code, shows_link
from tests.rendering.overlays import render, renderer_with
from tests.rendering.samples import SENDER, full, make_renderer, message

PLAIN = make_renderer()
LINK = "https://app.example.com/join?a=1&b='2'"


def _draft(html: str = "", text: str = "") -> Content:
    return Content("subject", html, text, "en", Address("a@b.example"), None)


@pytest.mark.parametrize(
    "draft",
    [
        _draft(text="Your code: 314159."),
        _draft(text="Your code: 3 1 4 - 1 5 9."),
        _draft("<p>314159</p>", "Nothing."),
        _draft("<!-- 314159 --><style>.a{color:#314159}</style><p title='314159'>Code: 314159</p>"),
        _draft("<img alt='314159' src='https://app.example/1.png'>"),
        _draft("<td>3</td>\n<td>1</td><td>4</td><td>1</td><td>5</td><td>9</td>", "Nothing."),
        _draft("<p>&#51;14159</p>"),
        _draft("<a href='https://app.example/?code=314159'>Sign in</a>"),
        _draft("<p>314<wbr>159</p>"),
    ],
)
def test_a_code_is_found_however_the_template_shows_it(draft: Content) -> None:
    assert shows_code(draft, "314159")


@pytest.mark.parametrize(
    "draft",
    [
        _draft("<p>Hello</p>", "Your code: 314159"),
        _draft("<p style='color:#314159'>Hello</p>", "Hello"),
        _draft("<!-- <p>314159</p> --><style>.a{color:#314159}</style><title>314159</title>"),
        _draft("<script>314159</script>"),
        _draft("<p>3141</p>", "59"),
    ],
)
def test_a_code_that_nobody_sees_is_not_shown(draft: Content) -> None:
    assert not shows_code(draft, "314159")


def test_a_code_of_letters_may_be_shown_in_capitals() -> None:
    assert shows_code(_draft(text="A1B2C3"), "a1b2c3")
    assert shows_code(_draft(text="***"), "***")
    assert not shows_code(_draft(text="*"), "***")


def test_a_link_is_found_in_the_part_that_most_readers_see() -> None:
    shown = [
        _draft("<a href='https://app.example.com/join?a=1&amp;b=&#39;2&#39;'>Join</a>"),
        _draft("<!-- mso --><a href=\"https://app.example.com/join?a=1&amp;b='2'\">Join</a>"),
        _draft("<p>https://app.example.com/join?a=1&amp;b=&#x27;2&#x27;</p>"),
        _draft("<a href=https://t.example/?to=https%3A%2F%2Fapp.example.com%2Fjoin%3Fa%3D1%26b%3D%272%27>Join</a>"),
        _draft(text=LINK),
    ]
    for draft in shown:
        assert shows_link(draft, LINK), draft.html
    for draft in (_draft("<p>Join us</p>", LINK), _draft(f'<!-- <a href="{LINK}"> --><a href="#">Join</a>', LINK)):
        assert not shows_link(draft, LINK)


BESIDE = {"SignIn/logto/en.toml": 'subject = "Welcome back"\n'}
FORGETFUL: dict[str, Mapping[str, str]] = {
    "an overlay": {"SignIn/html.jinja": "<p>Hello {{ name }}</p>"},
    "an overlay's text": {"SignIn/html.jinja": "<p>Hello</p>", "SignIn/text.jinja": "Hello"},
    "a layout": {"layout.html.jinja": "<p>{{ words.title }}</p>", "layout.text.jinja": "{{ words.title }}"},
    "a part": {"parts/code.html.jinja": "", "SignIn/text.jinja": "Hello"},
    "a template of Logto's": {**BESIDE, "SignIn/logto/en.html": "<p>Hello</p>"},
    "a plain one": {**BESIDE, "SignIn/logto/en.txt": "Hello {{ user.name }}"},
    "a typing error": {**BESIDE, "SignIn/logto/en.html": "<p>{{ cod }}</p>"},
    "a style": {**BESIDE, "SignIn/logto/en.html": '<p style="width:{{code}}px">Hello</p>'},
}


@pytest.mark.parametrize("files", FORGETFUL.values(), ids=FORGETFUL)
def test_the_bundled_template_is_used_if_the_operators_lacks_the_code(tmp_path: Path, files: Mapping[str, str]) -> None:
    reported: list[Fault] = []
    email = render(renderer_with(tmp_path / "mine", files, on_fault=reported.append))
    assert email.raw == render(PLAIN).raw
    assert "314159" in email.text
    [fault] = reported
    assert fault.path.startswith("mine/")
    assert "does not show its code" in fault.problem


def test_the_next_lower_layer_is_used_first(tmp_path: Path) -> None:
    files = {"applications/app1/SignIn/html.jinja": "<p>Hello</p>", "SignIn/html.jinja": "<b>{{ code }}</b>"}
    renderer = renderer_with(tmp_path / "mine", files)
    payload = full("SignIn") | {"application": {"id": "app1", "name": "One"}}
    assert render(renderer, payload=payload).html == "<b>314159</b>"
    assert [fault.path for fault in renderer.faults] == ["mine/applications/app1/SignIn/html.jinja"]


def test_a_code_in_the_html_is_enough(tmp_path: Path) -> None:
    """`mailroom check` says that the text lacks it."""
    renderer = renderer_with(tmp_path, {"SignIn/html.jinja": "<p>{{ code }}</p>", "SignIn/text.jinja": "Hello"})
    assert (render(renderer).html, render(renderer).text) == ("<p>314159</p>", "Hello")
    assert renderer.faults == ()


INVITATION = "OrganizationInvitation"
LINKLESS: dict[str, Mapping[str, str]] = {
    "an overlay": {f"{INVITATION}/html.jinja": "<p>{{ words.reason }}</p>"},
    "a button": {"parts/button.html.jinja": "<a href='https://app.example.com/'>{{ words.button }}</a>"},
    "a template of Logto's": {
        f"{INVITATION}/logto/default.toml": 'subject = "Join"\n',
        f"{INVITATION}/logto/default.html": "<p>Join {{ organization.name }}</p>",
    },
}


@pytest.mark.parametrize("files", LINKLESS.values(), ids=LINKLESS)
def test_the_bundled_template_is_used_if_the_operators_lacks_an_invitations_link(
    tmp_path: Path, files: Mapping[str, str]
) -> None:
    renderer = renderer_with(tmp_path / "mine", files)
    email = render(renderer, INVITATION)
    assert f'href="{full(INVITATION)["link"]}"' in email.html
    assert ["does not show its link," in fault.problem for fault in renderer.faults] == [True]


@pytest.mark.parametrize("schemes", [(), ("acme",)])
def test_a_template_of_logtos_shows_an_applications_own_scheme_where_it_is_allowed(
    tmp_path: Path, schemes: tuple[str, ...]
) -> None:
    """Otherwise its button would have no target; the bundled template shows the address as text."""
    files = {
        f"{INVITATION}/logto/default.toml": 'subject = "Join"\n',
        f"{INVITATION}/logto/default.html": '<a href="{{link}}">Join</a>',
    }
    renderer = renderer_with(tmp_path, files, link_schemes=schemes)
    email = render(renderer, INVITATION, link="acme://join?t={1}")
    if not schemes:
        assert "acme://join?t={1}" in email.html
        assert "\nacme://join?t={1}\n" in email.text
        assert "link_text" in renderer.faults[0].problem
    else:
        assert email.html == '<a href="acme://join?t=%7B1%7D">Join</a>'


def test_an_invitation_without_a_link_keeps_the_operators_template(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, LINKLESS["an overlay"])
    assert render(renderer, INVITATION, link=None).html.startswith("<p>")
    assert renderer.faults == ()


def test_a_template_at_the_provider_is_not_judged(tmp_path: Path) -> None:
    """The content comes from the provider's template; the mail is complete even if the provider ignores it."""
    renderer = renderer_with(tmp_path, FORGETFUL["an overlay"])
    asked = message("SignIn", full("SignIn"))
    email = renderer.render(asked, sender=SENDER, reply_to=None, template_at_provider="d-1")
    assert email.template_at_provider == "d-1"
    assert email.variables["code"] == "314159"
    assert "314159" in email.text
