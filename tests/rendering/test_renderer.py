"""Rendered mails: every kind, captured requests, hostile payloads."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from email import message_from_bytes, policy
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree
from typing import Any, ClassVar, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mailroom.errors import MissingVariable, RenderingError
from mailroom.message import Address, Email, Priority, unrendered
from mailroom.rendering import Brand
from mailroom.rendering.engines.jinja_engine import LONGEST_PART
from mailroom.rendering.links import LONGEST_LINK, is_given
from mailroom.rendering.renderer import BUNDLED
from tests.rendering.overlays import renderer_with
from tests.rendering.samples import BRAND, CAPTURES, CODE_KINDS, KINDS, SENDER, captured, full, make_renderer, message
from tests.rendering.test_mime import assert_wire, bodies, parsed
from tests.rendering.test_sanitize import json_values

RENDERER = make_renderer()


def render(template: str, payload: Any, **changes: Any) -> Email:
    return RENDERER.render(message(template, payload, **changes), sender=SENDER, reply_to=None)


class Page(HTMLParser):
    """Everything in a page that could run or lead somewhere."""

    void: ClassVar[frozenset[str]] = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is not nested"

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def links(self) -> list[str]:
        return [attributes["href"] or "" for attributes in self.all("a")]


def page(email: Email) -> Page:
    found = Page(email.html)
    assert not found.open
    return found


def assert_sound(email: Email) -> None:
    """Assert what holds for every mail, whatever its payload."""
    assert_wire(email.raw)
    mail = message_from_bytes(email.raw, policy=policy.default)
    assert not mail.defects
    assert mail.keys() == [
        "From",
        "To",
        "Reply-To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Language",
        "Auto-Submitted",
        "X-Auto-Response-Suppress",
        "X-Entity-Ref-ID",
        "Content-Type",
    ]
    assert [str(address) for address in mail["From"].addresses] == ["Acme <no-reply@acme.example>"]
    assert [address.addr_spec for address in mail["To"].addresses] == [email.recipient]
    assert mail["Subject"] == email.subject
    assert email.subject
    without_isolates = re.sub("\u2068([^\u2068\u2069]+)\u2069", r"\1", email.subject)  # ours, around names
    assert not re.search("[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", without_isolates)
    assert bodies(email.raw) == [email.text, email.html], "each ends with a line break of its own"
    found = page(email)
    assert {tag for tag, _ in found.tags} <= TAGS
    for link in found.links:
        assert re.match(r"https?://[A-Za-z0-9\[]|mailto:help@acme\.example\Z", link)
    for image in found.all("img"):
        assert (image["src"] or "").startswith("https://")
        assert image["alt"] is not None
    assert not {name for _, attributes in found.tags for name in attributes if name.startswith("on")}


TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "div",
    "table",
    "tr",
    "td",
    "p",
    "h1",
    "img",
    "strong",
    "br",
    "a",
}


@pytest.mark.parametrize("file", CAPTURES, ids=lambda file: file.stem)
def test_every_request_that_a_real_logto_sent_becomes_a_mail(file: Path) -> None:
    subject = captured(file)
    if subject.payload.get("link") == "javascript:alert(1)":
        with pytest.raises(MissingVariable, match="cannot be shown"):
            RENDERER.render(subject, sender=SENDER, reply_to=None)
        return
    email = RENDERER.render(subject, sender=SENDER, reply_to=None)
    assert_sound(email)
    code = subject.payload.get("code")
    if code:
        assert code in email.subject
        assert code in email.text
        assert email.html.count(code) == 1
    if subject.template == "OrganizationInvitation":
        link = subject.payload.get("link", "")
        assert re.findall("^[a-z]+:.*", email.text, re.MULTILINE) == [link] * link.startswith("https:")


def test_there_are_captured_requests() -> None:
    assert len(CAPTURES) >= 34


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_words_and_looks_of_its_own(kind: str) -> None:
    email = render(kind, full(kind))
    assert_sound(email)
    found = page(email)
    assert email.subject != render("Generic", full("Generic")).subject or kind == "Generic"
    assert len(email.subject) <= 60
    assert len(email.html) < 8000
    assert len("".join(re.findall("<style>(.*?)</style>", email.html, re.DOTALL))) < 8192
    [hidden] = re.findall(r'<div style="display:none[^>]*>(.*?)</div>', email.html)
    assert 40 <= len(hidden) <= 130
    for table in found.all("table"):
        assert table["role"] == "presentation"
    [root] = found.all("html")
    assert (root["lang"], root["dir"]) == ("en", "ltr")
    assert not re.search("flex|grid|var\\(|position|@import|<script|None|undefined|[{}]{2}", email.html)
    assert not re.search("None|[{}<>]", email.text)
    for link in set(found.links) - {"mailto:help@acme.example"}:
        assert link in email.text
        assert link in found.text, "the address is visible below the button"
    assert "help@acme.example" in email.text
    assert BRAND.company in email.text
    assert BRAND.company in found.text


@pytest.mark.parametrize("kind", CODE_KINDS)
def test_a_code_mail_states_reason_validity_and_what_to_do_if_unrequested(kind: str) -> None:
    email = render(kind, full(kind))
    for said in (email.text, page(email).text):
        assert "Enter this code" in said
        assert "valid for 10 minutes" in said
        assert "share it with anyone" in said
        assert "ask for this?" in said
    assert email.subject.startswith("314159 is your Riverside Web ")
    assert email.subject.endswith(" code")


@pytest.mark.parametrize("kind", KINDS)
def test_a_mail_says_whether_it_is_a_code(kind: str) -> None:
    """Providers get less time for one, also when they are sent the message itself."""
    code = kind in CODE_KINDS
    assert render(kind, full(kind)).is_code == code
    assert unrendered(message(kind, full(kind)), SENDER).is_code == code


def test_the_code_is_one_run_from_left_to_right() -> None:
    html = render("SignIn", full("SignIn")).html
    assert re.search(r'<div [^>]*dir="ltr"[^>]*monospace[^>]*user-select:all[^>]*>314159</div>', html)


@pytest.mark.parametrize(
    ("lifetime", "said"), [(60, "1 minute."), (150, "2 minutes."), (3600, "60 minutes."), (30, "1 minute.")]
)
def test_the_validity_is_that_of_the_settings(lifetime: int, said: str) -> None:
    renderer = make_renderer(code_lifetime=timedelta(seconds=lifetime))
    assert f"valid for {said}" in renderer.render(message("SignIn", {"code": "1"}), sender=SENDER, reply_to=None).text


def test_the_same_message_gives_the_same_bytes_in_every_thread() -> None:
    subject = message("SignIn", full("SignIn"))
    with ThreadPoolExecutor(8) as pool:
        mails = list(pool.map(lambda _: make_renderer().render(subject, sender=SENDER, reply_to=None), range(32)))
    assert {mail.raw for mail in mails} == {RENDERER.render(subject, sender=SENDER, reply_to=None).raw}


def test_an_email_has_its_envelope_beside_its_bytes() -> None:
    subject = message("SignIn", full("SignIn"), recipient="Jörg@Müller.example")
    email = RENDERER.render(subject, sender=SENDER, reply_to=Address("help@acme.example", "Help"))
    assert email.recipient == "Jörg@xn--mller-kva.example"
    assert (email.id, email.message_id) == (subject.id, f"<{subject.id}@acme.example>")
    assert (email.template, email.language, email.sender) == ("SignIn", "en", SENDER)
    assert dict(email.headers) == {
        "Content-Language": "en",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "OOF, AutoReply",
        "X-Entity-Ref-ID": subject.id,
    }
    assert b"\r\nReply-To: Help <help@acme.example>\r\n" in email.raw


def test_an_address_cannot_add_markup_or_headers(tmp_path: Path) -> None:
    """Nearly any character may be in a quoted local part."""
    evil = '"<b>{code}</b>&,\\"@evil.example"@acme.example'
    subject = message("SignIn", full("SignIn"), recipient=evil)
    words = "[SignIn]\nsubject = 'For {recipient}: {code}'\ntitle = 'Hello {recipient}'\n"
    renderer = renderer_with(tmp_path, {"locales/en.toml": words})
    email = renderer.render(subject, sender=SENDER, reply_to=None)
    assert email.recipient == evil
    assert f"Hello {evil}" in page(email).text
    assert "<b>" not in email.html
    assert email.subject == f"For {evil}: 314159"
    assert parsed(email.raw)["To"].addresses[0].addr_spec == evil
    assert_wire(email.raw)


def test_headers_of_automatic_mail_are_left_out_for_a_provider_that_must_not_send_them() -> None:
    """Zendesk and Jira suspend mail that has them."""
    email = RENDERER.render(message("SignIn", full("SignIn")), sender=SENDER, reply_to=None, auto_submitted=False)
    assert dict(email.headers).keys() == {"Content-Language", "X-Entity-Ref-ID"}
    assert b"uto" not in email.raw.partition(b"\r\n\r\n")[0]


@pytest.mark.parametrize("kind", CODE_KINDS)
def test_the_last_line_binds_a_code_to_the_domain_of_the_settings(kind: str) -> None:
    """Apple Mail offers the code on this domain's pages only (WICG, origin-bound one-time codes)."""
    renderer = make_renderer(brand=Brand(**{**BRAND.model_dump(), "code_domain": "Login.Acme.example"}))
    email = renderer.render(message(kind, full(kind)), sender=SENDER, reply_to=None)
    assert email.text == f"{render(kind, full(kind)).text}\n@login.acme.example #{full(kind)['code']}\n"
    assert bodies(email.raw) == [email.text, email.html]
    assert "@login" not in email.html


@pytest.mark.parametrize(("kind", "code"), [("Welcome", None), ("OrganizationInvitation", None), ("SignIn", "12 34")])
def test_a_mail_without_a_code_of_one_word_has_no_such_line(kind: str, code: str | None) -> None:
    renderer = make_renderer(brand=Brand(name="Acme", code_domain="acme.example"))
    payload = {**full(kind), **({"code": code} if code else {})}
    assert "@acme.example #" not in renderer.render(message(kind, payload), sender=SENDER, reply_to=None).text


@pytest.mark.parametrize(
    "domain", ["https://acme.example", "acme.example/", "acme.example:443", "a b", "@acme.example"]
)
def test_a_code_domain_is_a_domain_name(domain: str) -> None:
    with pytest.raises(ValidationError, match="write a domain"):
        Brand(code_domain=domain)


@pytest.mark.parametrize("kind", CODE_KINDS)
@pytest.mark.parametrize("code", [None, "", "\n", [], {}, True])
def test_a_code_mail_without_its_code_is_refused_without_a_value_in_the_text(kind: str, code: Any) -> None:
    with pytest.raises(MissingVariable, match=f"^{kind}: the payload has no code"):
        render(kind, full(kind) | {"code": code})


def test_an_unknown_type_is_rendered_as_generic() -> None:
    email = render("FutureThing", {"code": "271828"})
    assert email.subject == "271828 is your Acme verification code"
    assert email.template == "FutureThing"


def test_an_event_without_words_is_the_operators_fault() -> None:
    subject = message("Goodbye", {}, priority=Priority.EVENT)
    with pytest.raises(RenderingError, match=r"en\.toml has no translations for \[Goodbye\]"):
        RENDERER.render(subject, sender=SENDER, reply_to=None)


@pytest.mark.parametrize("link", [None, "", " \n", {}])
def test_an_invitation_without_a_link_tells_how_to_get_in(link: Any) -> None:
    email = render("OrganizationInvitation", full("OrganizationInvitation") | {"link": link})
    assert_sound(email)
    assert page(email).links == ["mailto:help@acme.example"]
    assert "Sign in to Riverside Web with ada@example.com to view the invitation." in email.text


INVITATION_LINKS: Final = [
    ("https://app.example.com/a b?q={x}|y", "https://app.example.com/a%20b?q=%7Bx%7D%7Cy"),
    ("http://intranet.example/join?t=1\r\n", "http://intranet.example/join?t=1"),
    ("https://bücher.example/beitreten?x=ä&y='", "https://xn--bcher-kva.example/beitreten?x=%C3%A4&y='"),
    ("https://my_team.app.example/join", "https://my_team.app.example/join"),
    ("https://app.example.com/join?t=" + "x" * 5000, "https://app.example.com/join?t=" + "x" * 5000),
]


@pytest.mark.parametrize("tag", ["de", "ar"])
@pytest.mark.parametrize(("link", "href"), INVITATION_LINKS, ids=[link[:40] for link, _ in INVITATION_LINKS])
def test_an_invitation_has_its_link_in_both_parts_and_on_its_button(tag: str, link: str, href: str) -> None:
    email = render("OrganizationInvitation", full("OrganizationInvitation") | {"link": link, "locale": tag})
    assert email.language == tag
    assert f"\n{href}\n" in email.text
    assert page(email).links == [href, href, "mailto:help@acme.example"]
    assert href in page(email).text


@pytest.mark.parametrize("tag", ["de", "ar"])
@pytest.mark.parametrize("link", ["acme://join?t=<1>&u=2", "app.example.com/join", "https://a@evil.example/", 4711])
def test_an_invitations_invalid_url_is_shown_as_text_to_copy(tag: str, link: Any) -> None:
    email = render("OrganizationInvitation", full("OrganizationInvitation") | {"link": link, "locale": tag})
    assert f"\n{link}\n" in email.text
    assert str(link) in page(email).text
    assert page(email).links == ["mailto:help@acme.example"]


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "data:text/html,x", {"href": "x"}, True, "https://a/" + "x" * 9000]
)
@pytest.mark.parametrize("template_at_provider", ["", "d-1"])
def test_an_invitation_whose_link_cannot_be_shown_is_not_rendered(link: Any, template_at_provider: str) -> None:
    """Neither here nor by a template at the provider, which would receive it unsanitized."""
    invitation = message("OrganizationInvitation", full("OrganizationInvitation") | {"link": link})
    with pytest.raises(MissingVariable, match="the link cannot be shown"):
        RENDERER.render(invitation, sender=SENDER, reply_to=None, template_at_provider=template_at_provider)


def test_an_applications_own_scheme_is_a_link_where_the_settings_allow_it() -> None:
    renderer = make_renderer(link_schemes=["acme"])
    invitation = message("OrganizationInvitation", full("OrganizationInvitation") | {"link": "acme://join?t={1}"})
    email = renderer.render(invitation, sender=SENDER, reply_to=None)
    assert page(email).links[:2] == ["acme://join?t=%7B1%7D"] * 2
    told = renderer.render(invitation, sender=SENDER, reply_to=None, template_at_provider="d-1")
    assert told.variables["link"] == "acme://join?t=%7B1%7D"


def test_an_invitation_shows_a_code_that_its_caller_put_in() -> None:
    email = render("OrganizationInvitation", full("OrganizationInvitation") | {"code": "A1B2C3"})
    assert "A1B2C3" in email.text
    assert "A1B2C3" in page(email).text


def test_an_inviter_is_named_in_the_body_alone() -> None:
    email = render("OrganizationInvitation", full("OrganizationInvitation"))
    assert "Grace Höpper has invited you to join Lighthouse GmbH." in email.text
    assert "Grace" not in email.raw.decode().partition("\r\n\r\n")[0]
    assert "grace@example.com" not in email.text


def test_organization_and_inviter_may_be_plain_strings() -> None:
    email = render("OrganizationInvitation", {"organization": "Night Shift", "inviter": "Grace"})
    assert email.subject == "You are invited to join Night Shift"
    assert "Grace has invited you to join Night Shift." in email.text


@pytest.mark.parametrize(
    ("payload", "brand", "app"),
    [
        ({"organization": {"name": "O"}, "application": {"name": "A"}}, "B", "O"),
        ({"organization": {"name": None}, "application": {"name": "A", "displayName": "D"}}, "B", "D"),
        ({"application": {"name": "A", "displayName": None}}, "B", "A"),
        ({"application": {"id": "demo-app", "name": "Live Preview"}}, "B", "B"),
        ({"application": {"id": ["x"], "name": 7}, "organization": 7}, "B", "B"),
        ({}, "B", "B"),
        ({}, "", "Acme"),
    ],
)
def test_the_name_is_the_organizations_the_applications_or_the_brands(payload: Any, brand: str, app: str) -> None:
    renderer = make_renderer(brand=Brand(name=brand))
    email = renderer.render(message("SignIn", payload | {"code": "1"}), sender=SENDER, reply_to=None)
    assert email.subject == f"1 is your {app} sign-in code"


def test_without_any_name_it_is_the_senders_domain() -> None:
    email = make_renderer(brand=Brand()).render(
        message("SignIn", {"code": "1"}), sender=Address("no-reply@acme.example"), reply_to=None
    )
    assert email.subject == "1 is your acme.example sign-in code"


def test_an_organizations_mail_says_who_vouches_for_it() -> None:
    """Anybody may name an organization after a bank; only the operator chooses the platform's name."""
    email = render("SignIn", full("SignIn") | {"organization": {"name": "Big Bank"}})
    assert "requested for ada@example.com at Riverside Web." in email.text
    assert "requested for ada@example.com at Riverside Web." in page(email).text


def logo(name: str, *, dark: bool = False) -> dict[str, Any]:
    urls = {"logoUrl": f"https://cdn.example.com/{name}.png"}
    return {
        "name": name,
        "branding": urls | ({"darkLogoUrl": f"https://cdn.example.com/{name}-dark.png"} if dark else {}),
    }


@pytest.mark.parametrize(
    ("payload", "pictures"),
    [
        ({"organization": logo("o", dark=True), "application": logo("a")}, {"o.png": "o", "o-dark.png": "o"}),
        ({"organization": {"name": "o", "branding": {}}, "application": logo("a")}, {"a.png": "a"}),
        ({"organization": {"name": "o", "branding": {"logoUrl": "data:image/png;base64,A"}}}, {"brand.png": "Acme"}),
        ({"organization": {"name": "o", "branding": "x"}, "application": None}, {"brand.png": "Acme"}),
    ],
)
def test_the_logo_is_the_organizations_the_applications_or_the_brands(payload: Any, pictures: dict[str, str]) -> None:
    renderer = make_renderer(brand=BRAND.model_copy(update={"logo_url": "https://cdn.example.com/brand.png"}))
    email = renderer.render(message("SignIn", payload | {"code": "1"}), sender=SENDER, reply_to=None)
    assert_sound(email)
    found = {str(image["src"]).rpartition("/")[2]: image["alt"] for image in page(email).all("img")}
    assert found == pictures


@pytest.mark.parametrize("address", ["http://a.example/x.png", "https://a.example/x.svg", "logo.png"])
def test_a_brand_with_a_logo_that_nobody_would_see_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="PNG, JPEG or GIF"):
        Brand(logo_url=address)


def test_without_a_logo_the_name_is_shown() -> None:
    found = page(render("SignIn", full("SignIn")))
    assert not found.all("img")
    assert found.text.count("Riverside Web") == 3


HOSTILE = {
    "markup": "</td></tr></table><script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": '" onmouseover="alert(1)" x=\'',
    "header": "x\r\nBcc: evil@evil.example\r\n\r\nbody",
    "recipients": "a@b.example, evil@evil.example",
    "template": "{{ 7*7 }}{% include 'x' %}${7*7}{code}%s",
    "bidi": "\u202egnp.exe\u202c\u2066",
    "long": "n" * 10_000,
    "controls": "\0\x01\x1b[31m\x7f\x85\u2028",
    "surrogate": "\ud800\udc00 \udfff",
    "boundary": "\n--=_01935a5e-8f3c-7d2a-9c41-5b0e6f7a8d90--\n",
    "encoded": "=?utf-8?q?evil?= <x@y.example>",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_stays_text_everywhere(kind: str, evil: str) -> None:
    person = {"name": evil, "username": evil, "primaryEmail": evil}
    thing = {"id": evil, "name": evil, "displayName": evil, "branding": {"logoUrl": evil, "darkLogoUrl": evil}}
    payload = {
        "locale": evil,
        "uiLocales": evil,
        "application": thing,
        "organization": thing,
        "user": person,
        "inviter": person,
        "link": f"https://a.example/{evil}",
        evil: evil,
    }
    payload |= {"code": "314159"} if kind in CODE_KINDS else {}
    if kind == "OrganizationInvitation" and len(evil) > LONGEST_LINK:
        with pytest.raises(MissingVariable):
            render(kind, payload)
        return
    email = render(kind, payload)
    assert_sound(email)
    assert "49" not in email.subject
    assert len(email.subject) < 200
    assert page(email).text.count("\u202e") == 0


payloads = st.dictionaries(
    st.sampled_from(["code", "link", "locale", "uiLocales", "application", "organization", "user", "inviter", "words",
                     "brand", "logo", "lang", "dir", "range", "self", "loop", "app"]) | st.text(max_size=5),
    json_values
    | st.dictionaries(
        st.sampled_from(["id", "name", "displayName", "username", "branding"]),
        json_values | st.fixed_dictionaries({"logoUrl": json_values, "darkLogoUrl": json_values}),
    ),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([*KINDS, "Unknown"]), payloads)
def test_no_payload_breaks_a_mail(kind: str, payload: Any) -> None:
    """No JSON value adds a header, a recipient, a tag or a link that is not https."""
    try:
        email = render(kind, payload)
    except MissingVariable:
        assert kind != "Welcome"
        assert kind != "OrganizationInvitation" or is_given(payload["link"])
    else:
        assert_sound(email)


def test_a_payload_of_300_kilobytes_makes_a_small_mail() -> None:
    payload: dict[str, Any] = {"organization": {"name": "x" * 300_000}, "data": ["y" * 100] * 3000, "code": "314159"}
    assert len(json.dumps(payload)) > 600_000
    email = render("SignIn", payload)
    assert len(email.raw) < 10_000


@pytest.mark.parametrize("kind", KINDS)
def test_nulls_and_missing_objects_are_harmless(kind: str) -> None:
    empty = {"code": "314159"} if kind in CODE_KINDS else {}
    nothing = dict.fromkeys(["application", "organization", "user", "inviter", "link", "locale", "uiLocales"])
    hollow = {"user": {"name": None, "username": None}, "inviter": {"name": None}, "organization": {"name": None}}
    for payload in (empty, empty | nothing, empty | hollow):
        email = render(kind, payload)
        assert_sound(email)
        assert "None" not in email.text + email.html + email.subject


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    """Return a folder of templates to change."""
    return copytree(BUNDLED, tmp_path / "mails")


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


def test_a_right_to_left_language_mirrors_the_page_but_not_the_code(mails: Path) -> None:
    change(mails / "locales" / "en.toml", '"ltr"', '"rtl"')
    email = make_renderer(templates=mails).render(message("SignIn", full("SignIn")), sender=SENDER, reply_to=None)
    found = page(email)
    assert found.all("html")[0]["dir"] == found.all("table")[0]["dir"] == "rtl"
    assert 'align="left"' not in email.html
    assert re.search(r'dir="ltr"[^>]*>314159<', email.html)
    assert "\u2068Riverside Web\u2069" in email.text, "a name runs in its own direction"
    assert email.subject == "314159 is your \u2068Riverside Web\u2069 sign-in code"


def test_a_mail_is_in_the_readers_language_if_it_has_translations(mails: Path) -> None:
    german = mails / "locales" / "de.toml"
    german.write_bytes((mails / "locales" / "en.toml").read_bytes())
    change(german, "is your {app} sign-in code", "ist dein Anmeldecode für {app}")
    renderer = make_renderer(templates=mails)
    payload = full("SignIn") | {"locale": "en", "uiLocales": "xx de-AT"}
    email = renderer.render(message("SignIn", payload), sender=SENDER, reply_to=None)
    assert email.subject == "314159 ist dein Anmeldecode für Riverside Web"
    assert email.language == "de"
    assert dict(email.headers)["Content-Language"] == "de"
    assert '<html lang="de"' in email.html


def test_a_kind_with_a_folder_looks_its_own_way(mails: Path) -> None:
    (mails / "SignIn").mkdir()
    (mails / "SignIn" / "text.jinja").write_text("{{ code }} for {{ user.name }}{{ user.none }}", encoding="utf-8")
    email = make_renderer(templates=mails).render(message("SignIn", full("SignIn")), sender=SENDER, reply_to=None)
    assert email.text == "314159 for Grace Höpper"
    assert "Enter this code" in email.html, "the other part is still Generic's"


def test_a_kind_that_only_has_words_works_for_an_event(mails: Path) -> None:
    words = '\n[Goodbye]\nsubject = "Goodbye"\npreheader = "x"\ntitle = "Goodbye"\nreason = "Bye."\n'
    with (mails / "locales" / "en.toml").open("a", encoding="utf-8") as file:
        file.write(words)
    (mails / "Goodbye").mkdir()
    for part in ("html", "text"):
        (mails / "Goodbye" / f"{part}.jinja").write_text("{{ words.reason }}", encoding="utf-8")
    subject = message("Goodbye", {}, priority=Priority.EVENT)
    assert make_renderer(templates=mails).render(subject, sender=SENDER, reply_to=None).text == "Bye."


@pytest.mark.parametrize(
    ("file", "before", "after", "complaint"),
    [
        ("layout.html.jinja", "{% endif %}", "", r"layout\.html\.jinja, line \d+: "),
        ("locales/en.toml", "{app} sign-in", "{ap} sign-in", r"en\.toml, line \d+: ap is not a placeholder"),
        ("locales/en.toml", 'title = "Your sign-in code"\n', "", r"en\.toml: \[SignIn\] lacks title"),
    ],
)
def test_faults_are_found_when_the_renderer_is_created(
    mails: Path, file: str, before: str, after: str, complaint: str
) -> None:
    change(mails / file, before, after)
    with pytest.raises(RenderingError, match=complaint):
        make_renderer(templates=mails)


def test_a_folder_without_generic_is_refused(mails: Path) -> None:
    (mails / "Generic" / "text.jinja").unlink()
    with pytest.raises(RenderingError, match=r"Generic/text\.jinja is missing"):
        make_renderer(templates=mails)


def test_a_default_language_without_words_is_refused() -> None:
    with pytest.raises(RenderingError, match="default_locale: 'sk' has no translations; available: ar"):
        make_renderer(default_locale="sk")


def test_a_template_that_fails_tells_its_line_and_no_value(mails: Path) -> None:
    change(mails / "Generic" / "html.jinja", "{{ words.reason }}", "{{ code + 1 }}")
    with pytest.raises(RenderingError) as caught:
        make_renderer(templates=mails).render(message("SignIn", {"code": "314159"}), sender=SENDER, reply_to=None)
    assert str(caught.value) == (
        "Generic/html.jinja, line 4: applies a filter, a test or an operator to a value of another type, perhaps null: "
        "{{ code + 1 }}"
    )


def test_a_rendered_text_is_bounded(mails: Path) -> None:
    change(mails / "Generic" / "html.jinja", "{{ words.reason }}", "{% for x in data %}{{ x }}{% endfor %}")
    with pytest.raises(RenderingError, match=str(LONGEST_PART)):
        make_renderer(templates=mails).render(
            message("SignIn", {"code": "1", "data": ["x" * 500] * 600}), sender=SENDER, reply_to=None
        )
