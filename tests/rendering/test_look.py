"""How mails look: contrast, forced dark mode and logos in a real browser; and what a mail tells of its request."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace
from pydantic import ValidationError

from mailroom.lint.rule import RenderedMail
from mailroom.lint.rules.contrast import check_contrast
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.samples import Sample
from mailroom.message import Address, Email
from mailroom.preview import with_look
from mailroom.rendering import Brand
from mailroom.rendering.colors import contrast, palette
from tests.chromium import PROGRAM, Chromium
from tests.rendering.pictures import SHAPES, WIDTHS, mail
from tests.rendering.samples import BRAND, CODE_KINDS, KINDS, SENDER, full, make_renderer, message, unhurried
from tests.rendering.test_colors import colors
from tests.rendering.test_languages import LOGTO

RENDERER = make_renderer()
SECURITY_KINDS = ("UserPermissionValidation", "MfaVerification", "BindMfa")


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    if not PROGRAM:
        pytest.skip("Chromium is not installed")
    with Chromium() as started:
        yield started


def render(
    kind: str, tag: str = "en", *, brand: Brand = BRAND, reply_to: Address | None = None, **changes: Any
) -> Email:
    made = replace(
        message(kind, full(kind) | {"locale": tag} | changes.pop("payload", {})), ip="203.0.113.7", **changes
    )
    return make_renderer(brand=brand).render(made, sender=SENDER, reply_to=reply_to)


def text_of(email: Email) -> str:
    """Return the text that a reader sees of the HTML."""
    return " ".join(unescape(re.sub(r"<style.*?</style>|<[^>]*>", " ", email.html, flags=re.DOTALL)).split())


@pytest.mark.parametrize("tag", sorted(LOGTO))
@pytest.mark.parametrize("kind", CODE_KINDS)
def test_a_code_is_in_text_and_html_of_every_kind_in_every_language(kind: str, tag: str) -> None:
    email = RENDERER.render(message(kind, full(kind) | {"locale": tag}), sender=SENDER, reply_to=None)
    assert email.language == tag
    assert "\n    314159\n" in email.text
    assert re.search(r'aria-label="3 1 4 1 5 9"[^>]*>314159<', email.html)


@pytest.mark.parametrize("color", ["#5D34F2", "#FFE600", "#0A0A14", "#FFFFFF", "#E4572E"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_text_has_contrast_in_light_and_dark(kind: str, color: str) -> None:
    url = "https://acme.example"
    brand = BRAND.model_copy(update={"color": color, "url": url, "account_url": url})
    made = LintContext(make_renderer(brand=brand), SENDER).render(kind, "en", Sample.FULL)
    assert isinstance(made, RenderedMail)
    assert not list(check_contrast(made))


@unhurried
@given(colors)
def test_texts_in_the_codes_box_have_contrast_with_every_brand_colour(color: str) -> None:
    found = palette(color)
    for text in ("#1A1A22", "#5C5C6B"):
        assert contrast(text, found.tint) >= 4.5
    for text in ("#F2F2F5", "#A9A9B8"):
        assert contrast(text, found.dark_tint) >= 4.5


LOGO_BOX = """(({x, y, width, height}) => ({x, y, width, height}))(
    [...document.images].find(image => image.offsetParent).getBoundingClientRect())"""


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS.keys())
@pytest.mark.parametrize("shape", SHAPES)
def test_a_logo_keeps_its_proportions(browser: Chromium, shape: str, width: int) -> None:
    browser.show(mail("SignIn", "en", shape), width=width)
    box = browser.evaluate(LOGO_BOX)
    natural_width, natural_height = SHAPES[shape]
    assert box["width"] / box["height"] == pytest.approx(natural_width / natural_height, rel=0.02)
    assert box["width"] <= 220
    assert box["height"] <= 40
    assert max(box["width"] / 220, box["height"] / 40) == pytest.approx(1, abs=0.01), "as large as fits"


@pytest.mark.parametrize("dark_logo", [False, True])
@pytest.mark.parametrize("look", ["light", "dark", "inverted"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_logo_is_visible_in_every_look(browser: Chromium, shape: str, look: str, dark_logo: bool) -> None:  # noqa: FBT001 - a parameter of the test
    browser.show(with_look(mail("SignIn", "en", shape, dark_logo=dark_logo), look), width=390, dark=look == "dark")
    ink, ground = ink_and_ground(browser)
    assert contrast(ink, ground) >= 7, (ink, ground)
    assert ground == ("#1d1d24" if dark_logo and look == "dark" else "#ffffff")


def test_a_logo_on_a_plain_white_ground_would_vanish_in_forced_dark_mode(browser: Chromium) -> None:
    """The preview shows what happens without the gradient."""
    html = mail("SignIn", "en", "square").replace("background:#ffffff linear-gradient(#ffffff,#ffffff)", "")
    browser.show(with_look(html, "inverted"), width=390)
    assert contrast(*ink_and_ground(browser)) < 1.5


def ink_and_ground(browser: Chromium) -> tuple[str, str]:
    """Return the logo's colour with the most contrast to its last corner, which is transparent, and the corner's."""
    pixels = ["#" + bytes(pixel).hex() for pixel in browser.pixels(browser.picture(), browser.evaluate(LOGO_BOX))]
    return max(set(pixels), key=lambda color: contrast(color, pixels[-1])), pixels[-1]


@pytest.mark.parametrize("tag", ["en", "ar"])
def test_a_phone_shows_the_card_from_edge_to_edge(browser: Chromium, tag: str) -> None:
    browser.show(mail("BindMfa", tag, "wide"), width=390)
    assert browser.evaluate("document.querySelector('.card').getBoundingClientRect().width") == 390
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert browser.evaluate("getComputedStyle(document.querySelector('h1')).font").startswith("600 22px / 28px")
    browser.show(mail("BindMfa", tag, "wide"), width=1024)
    assert browser.evaluate("document.querySelector('.card').getBoundingClientRect().width") == 480


def test_one_click_selects_the_whole_code(browser: Chromium) -> None:
    browser.show(mail("SignIn", "ar", ""), width=390)
    box = browser.evaluate("(({x, y}) => ({x, y}))(document.querySelector('[role=img]').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        where = {"x": box["x"] + 150, "y": box["y"] + 20, "button": "left", "clickCount": 1}
        browser.call("Input.dispatchMouseEvent", type=kind, **where)
    assert browser.evaluate("getSelection().toString().trim()") == "314159"


def test_digits_are_spaced_beside_arabic(browser: Chromium) -> None:
    """Blink spaces no digits that stand in a line with Arabic letters."""
    widths = []
    for tag in ("en", "ar"):
        browser.show(mail("SignIn", tag, ""), width=390)
        script = (
            "(() => { const range = document.createRange();"
            "range.selectNodeContents(document.querySelector('[role=img]'));"
            "return range.getBoundingClientRect().width })()"
        )
        widths.append(browser.evaluate(script))
    assert widths[0] == pytest.approx(widths[1], abs=1)


@pytest.mark.parametrize(("tag", "size"), [("ar", "17px"), ("fa-IR", "17px"), ("th", "17px"), ("ru", "16px")])
def test_small_scripts_are_one_size_up(tag: str, size: str) -> None:
    assert f"font:400 {size}/" in render("SignIn", tag).html


def test_a_code_mail_tells_for_whom_when_and_from_where_it_was_requested() -> None:
    email = render("SignIn")
    for said in (email.text, text_of(email)):
        assert re.search(r"Email address:? ada@example\.com", said)
        assert re.search(r"Requested:? September 21, 2026, 14:13 UTC", said)
        assert re.search(r"IP address:? 203\.0\.113\.7", said)


@pytest.mark.parametrize("row", ["recipient", "requested_at", "ip"])
def test_each_row_can_be_switched_off(row: str) -> None:
    labels = {"recipient": "Email address", "requested_at": "Requested", "ip": "IP address"}
    others = tuple(name for name in labels if name != row)
    email = render("SignIn", brand=BRAND.model_copy(update={"context": others}))
    for said in (email.text, text_of(email)):
        assert {name for name, label in labels.items() if label in said} == set(others)


def test_an_unknown_row_is_a_fault_of_the_settings() -> None:
    with pytest.raises(ValidationError, match="context"):
        Brand.model_validate({"context": ["color"]})


def test_an_invitation_tells_who_where_for_whom_and_until_when() -> None:
    email = render("OrganizationInvitation", expires_at=1_790_000_000.0 + 7 * 86400)
    for said in (email.text, text_of(email)):
        assert "Grace Höpper has invited you to join Lighthouse GmbH." in said
        assert re.search(r"Service:? Riverside Web", said)
        assert re.search(r"Invited address:? ada@example\.com", said)
        assert re.search(r"Valid until:? September 28, 2026", said)
        assert "IP address" not in said
        assert "valid for 10 minutes" not in said


def test_an_invitations_code_is_not_said_to_be_valid_for_minutes() -> None:
    email = render("OrganizationInvitation", payload={"code": "A1B2C3"})
    assert "A1B2C3" in text_of(email)
    assert "10 minutes" not in email.html


def test_the_platform_is_not_named_beside_itself() -> None:
    assert "Service" not in render("OrganizationInvitation", payload={"organization": None}).text


def test_welcome_has_a_button_by_the_brands_address() -> None:
    url = "https://acme.example/start"
    email = render("Welcome", brand=BRAND.model_copy(update={"url": url}), payload={"link": None})
    assert re.search(rf'<a class="button" href="{url}"[^>]*>Open Riverside Web</a>', email.html)
    assert f"Open Riverside Web:\n{url}\n" in email.text
    assert "button" not in re.sub(
        "<style.*</style>", "", render("Welcome", payload={"link": None}).html, flags=re.DOTALL
    )


@pytest.mark.parametrize(
    ("tag", "greeting"), [("en", "Hello Grace,"), ("ja", "Grace Höpper 様"), ("ar", "Grace Höpper")]
)
def test_a_reader_is_greeted_by_the_given_name_where_the_language_does_so(tag: str, greeting: str) -> None:
    user = {"name": "Grace Höpper", "profile": {"givenName": "Grace"}}
    assert greeting in render("Welcome", tag, payload={"user": user}).text
    assert "Grace Höpper" in render("Welcome", tag, payload={"user": user | {"profile": None}}).text


def test_czech_greets_without_a_name() -> None:
    """Its vocative cannot be made from a name."""
    text = render("Welcome", "cs", payload={"user": {"name": "Grace Höpper", "profile": {"givenName": "Grace"}}}).text
    assert "\nDobrý den,\n" in text
    assert "Grace" not in text


@pytest.mark.parametrize("kind", SECURITY_KINDS)
@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_a_security_mail_links_to_the_account(tag: str, kind: str) -> None:
    url = "https://acme.example/account"
    email = render(kind, tag, brand=BRAND.model_copy(update={"account_url": url}))
    assert f'href="{url}"' in email.html
    assert f": {url}\n" in email.text
    assert url not in render("SignIn", tag, brand=BRAND.model_copy(update={"account_url": url})).html


@pytest.mark.parametrize("kind", SECURITY_KINDS)
def test_a_security_mail_fits_an_account_without_a_password(kind: str) -> None:
    assert "password" not in render(kind).text
    assert "check your security settings" in render(kind).text


def test_support_is_the_default_reply_to() -> None:
    assert render("SignIn").reply_to == Address("help@acme.example")
    assert render("SignIn", reply_to=Address("team@acme.example")).reply_to == Address("team@acme.example")
    assert render("SignIn", brand=Brand(name="Acme")).reply_to is None


@pytest.mark.parametrize("address", ["help", "Help <help@acme.example>", "https://acme.example/help"])
def test_support_is_an_address(address: str) -> None:
    with pytest.raises(ValidationError, match="support_email"):
        Brand(support_email=address)


@pytest.mark.parametrize("name", ["url", "account_url"])
def test_the_brands_addresses_are_https(name: str) -> None:
    assert getattr(Brand.model_validate({name: "https://acme.example/a b"}), name) == "https://acme.example/a%20b"
    for address in ("http://acme.example", "javascript:alert(1)", "acme.example"):
        with pytest.raises(ValidationError, match="https address"):
            Brand.model_validate({name: address})


def test_tell_us_comes_with_an_address() -> None:
    assert "Let us know" in render("Welcome").text
    alone = render("Welcome", brand=Brand(name="Acme"))
    assert "Let us know" not in alone.text + alone.html
    assert "You can ignore this email." in alone.text
    by_reply = render("Welcome", brand=Brand(name="Acme"), reply_to=Address("team@acme.example"))
    assert "Let us know" in by_reply.text
    assert "Questions? team@acme.example" in by_reply.text


@pytest.mark.parametrize("kind", KINDS)
def test_the_footer_says_why_the_mail_came(kind: str) -> None:
    for said in (render(kind).text.partition("\n-- \n")[2], text_of(render(kind))):
        assert re.search(r"You received this email because [^.]*ada@example\.com", said)


@pytest.mark.parametrize("tag", sorted(LOGTO))
def test_the_preheader_is_padded_beyond_the_inbox_line(tag: str) -> None:
    hidden = re.findall(r"<div [^>]*display:none[^>]*>(.*?)</div>", render("SignIn", tag).html, re.DOTALL)
    assert len(hidden) == 2
    padding = unescape(hidden[1])
    assert not padding.replace("\u034f", "").replace("\u200c", "").replace("\u00a0", "").strip()
    assert padding.count("\u00a0") >= 60


def test_the_button_has_its_padding_in_outlook_too() -> None:
    assert re.search(r'<td [^>]*style="mso-padding-alt:12px 24px;', render("OrganizationInvitation").html)


def test_time_ip_and_recipient_are_variables_of_every_template(tmp_path: Any) -> None:
    (tmp_path / "SignIn" / "logto").mkdir(parents=True)
    (tmp_path / "Register").mkdir()
    said = "{{ code }} {{ recipient }} {{ requested_at }} {{ ip }}"
    (tmp_path / "SignIn" / "logto" / "de.toml").write_text('subject = "{{code}}"', encoding="utf-8")
    (tmp_path / "SignIn" / "logto" / "de.html").write_text(f"<p>{said}</p>", encoding="utf-8")
    (tmp_path / "Register" / "html.jinja").write_text(f"<p>{said}</p>", encoding="utf-8")
    (tmp_path / "locales").mkdir()
    (tmp_path / "locales" / "de.toml").write_text('[Register]\nsubject = "{ip} {requested_at}"', encoding="utf-8")
    renderer = make_renderer(overlay=tmp_path)
    for kind in ("SignIn", "Register"):
        made = replace(message(kind, {"code": "314159", "locale": "de"}), ip="2001:db8::7")
        email = renderer.render(made, sender=SENDER, reply_to=None)
        assert "<p>314159 ada@example.com 21. September 2026, 14:13 UTC 2001:db8::7</p>" in email.html
    assert email.subject == "2001:db8::7 21. September 2026, 14:13 UTC"


@pytest.mark.parametrize("kind", ["SignIn", "Register"])
@pytest.mark.parametrize("said", ["hacked? https://evil.example/x", "call +1 555 0100", "203.0.113.7:443"])
def test_other_text_than_an_ip_address_is_not_shown(tmp_path: Any, kind: str, said: str) -> None:
    """Behind some proxies callers choose what Logto takes for their address; Logto templates show the payload's."""
    (tmp_path / "SignIn" / "logto").mkdir(parents=True)
    (tmp_path / "SignIn" / "logto" / "en.toml").write_text('subject = "{{code}}"', encoding="utf-8")
    (tmp_path / "SignIn" / "logto" / "en.html").write_text("<p>{{ code }} {{ ip }} {{ userIp }}</p>", encoding="utf-8")
    made = replace(message(kind, {"code": "314159", "locale": "en", "ip": said, "userIp": said}), ip=said)
    email = make_renderer(overlay=tmp_path).render(made, sender=SENDER, reply_to=None)
    assert said not in email.html + email.text
    assert "314159" in email.html


def test_a_language_of_the_operator_may_lack_the_newer_texts(tmp_path: Any) -> None:
    (tmp_path / "locales").mkdir()
    (tmp_path / "locales" / "nl.toml").write_text(
        'direction = "ltr"\n[SignIn]\nsubject = "{code}"\npreheader = "x"\ntitle = "Code"\nreason = "Voer in."\n'
        'unasked = "x"\nunasked_title = "x"\nlink_help = "x"\nquestions = "x"\nsent_by = "Van {platform}."\n'
        'never_share = "x"\nvalidity.one = "{minutes}"\nvalidity.other = "{minutes} minuten"\n',
        encoding="utf-8",
    )
    renderer = make_renderer(overlay=tmp_path)
    assert not renderer.faults
    email = renderer.render(message("SignIn", full("SignIn") | {"locale": "nl"}), sender=SENDER, reply_to=None)
    assert email.language == "nl"
    assert "Van Riverside Web." in email.text
    assert "2026" not in email.text
