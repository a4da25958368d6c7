"""Imported Logto templates."""

import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from time import thread_time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailroom.errors import MissingVariable, RenderingError
from mailroom.message import Address
from mailroom.rendering.engines.logto_engine import HtmlTemplate
from tests.rendering.overlays import render, renderer_with
from tests.rendering.samples import SENDER, full, make_renderer, unhurried
from tests.rendering.test_mime import mailboxes, parsed
from tests.rendering.test_sanitize import json_values

PLAIN = make_renderer()
SUBJECT = 'subject = "Code {{code}} for {{application.name}}"\n'
CONTENT = '<p>Hi {{user.name}}, <b>{{ code }}</b> <a href="{{link}}">join</a> {{nobody.name}}</p>'
GENERIC = {"Generic/logto/default.toml": SUBJECT, "Generic/logto/default.html": CONTENT}


def logto(kind: str = "SignIn", tag: str = "default", more: str = "", content: str = CONTENT) -> dict[str, str]:
    """Return the two files of one template."""
    return {f"{kind}/logto/{tag}.toml": SUBJECT + more, f"{kind}/logto/{tag}.html": content}


def test_an_imported_template_is_filled_and_its_text_part_taken_from_it(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, logto())
    email = render(renderer, user={"name": "<b>Ada"}, link="https://a.example/?a=1&b=2")
    assert renderer.faults == ()
    assert email.subject == "Code 314159 for Riverside Web"
    assert email.html == (
        '<p>Hi &lt;b&gt;Ada, <b>314159</b> <a href="https://a.example/?a=1&amp;b=2">join</a> {{nobody.name}}</p>'
    )
    assert email.text == "Hi <b>Ada, 314159 join <https://a.example/?a=1&b=2> {{nobody.name}}\n"


def test_plain_text_is_one_part_without_escaping(tmp_path: Path) -> None:
    files = {
        "SignIn/logto/default.toml": SUBJECT + 'content_type = "text/plain"',
        "SignIn/logto/default.txt": "<{{code}}>",
    }
    email = render(renderer_with(tmp_path, files))
    assert (email.html, email.text) == ("", "<314159>")
    mail = parsed(email.raw)
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content() == "<314159>\r\n"


def test_a_missing_content_type_means_html_and_text_beside_it_is_the_text_part(tmp_path: Path) -> None:
    email = render(renderer_with(tmp_path, {**logto(), "SignIn/logto/default.txt": "plain {{code}}"}))
    assert email.text == "plain 314159"
    assert "<b>314159</b>" in email.html


def test_raw_keys_are_not_escaped_and_all_others_are(tmp_path: Path) -> None:
    renderer = renderer_with(
        tmp_path, logto(more='raw = ["user.name"]', content="{{user.name}}{{application.name}}{{code}}")
    )
    assert render(renderer, user={"name": "<b>"}, application={"name": "<i>"}).html == "<b>&lt;i&gt;314159"


def test_a_value_after_a_raw_one_is_escaped_for_its_own_position(tmp_path: Path) -> None:
    content = '{{user.name}}<p onclick="{{application.name}}">{{code}}</p>'
    renderer = renderer_with(tmp_path, logto(more='raw = ["user.name"]', content=content))
    email = render(renderer, user={"name": "<b>"}, application={"name": "alert(1)"})
    assert email.html == '<b><p onclick="">314159</p>'


@pytest.mark.parametrize(
    ("languages", "chosen"),
    [
        ({"locale": "fr-CA"}, "fr"),
        ({"uiLocales": "es de", "locale": "fr"}, "de"),
        ({"locale": "es"}, "default"),
        ({}, "default"),
        ({"locale": "zh-Hant"}, "zh-TW"),
    ],
)
def test_the_language_is_chosen_as_for_our_own_words(tmp_path: Path, languages: dict[str, str], chosen: str) -> None:
    files: dict[str, str] = {}
    for tag in ("fr", "de", "zh-TW", "default"):
        files |= logto(tag=tag, content=f"{tag} {{{{code}}}}")
    renderer = renderer_with(tmp_path, files)
    email = render(renderer, "SignIn", {"code": "1", **languages})
    assert email.html == f"{chosen} 1"
    assert email.language == ("en" if chosen == "default" else chosen)


def test_the_default_language_has_precedence_over_the_default_template(tmp_path: Path) -> None:
    files = {**logto(content="default {{code}}"), **logto(tag="en", content="english {{code}}")}
    assert render(renderer_with(tmp_path, files), "SignIn", {"code": "1", "locale": "es"}).html == "english 1"


def test_a_code_without_a_template_gets_that_of_generic_as_logto_has_it(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, GENERIC)
    assert render(renderer, "BindMfa").subject == "Code 314159 for Riverside Web"
    assert render(renderer, "Whatever", full("SignIn")).subject == "Code 314159 for Riverside Web"
    for kind in ("OrganizationInvitation", "Welcome"):
        assert render(renderer, kind).raw == render(PLAIN, kind).raw, "not mails of codes"


def test_a_kind_that_the_operator_has_in_jinja_is_not_generics(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {**GENERIC, "SignIn/html.jinja": "own {{ code }}"})
    assert render(renderer).html == "own 314159"


def test_a_logto_template_has_precedence_within_a_folder_only(tmp_path: Path) -> None:
    files = {
        **logto(content="logto {{code}}"),
        "SignIn/html.jinja": "jinja {{ code }}",
        "organizations/org1/SignIn/html.jinja": "org {{ code }}",
    }
    renderer = renderer_with(tmp_path, files)
    assert render(renderer).html == "logto 314159"
    assert render(renderer, organization={"id": "org1"}).html == "org 314159"


def test_an_imported_template_of_an_event_is_rendered(tmp_path: Path) -> None:
    assert (
        render(renderer_with(tmp_path, logto("Welcome", content="Hi {{user.name}}")), "Welcome").html
        == "Hi Grace Höpper"
    )


def test_a_code_without_its_code_is_missing_here_too(tmp_path: Path) -> None:
    with pytest.raises(MissingVariable):
        render(renderer_with(tmp_path, logto()), "SignIn", {})


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ("", "subject is missing"),
        ("subject = 1", "subject is not a string"),
        (SUBJECT + 'sendFrom = "x"', "sendFrom is unknown"),
        (SUBJECT + 'raw = "code"', "raw is not a list"),
        (SUBJECT + 'content_type = "text/markdown"', "content_type must be"),
        (SUBJECT + 'content_type = "text/plain"', "default.txt is missing"),
        ("subject", "Expected"),
    ],
)
def test_a_fault_in_a_logto_templates_settings_is_reported(tmp_path: Path, settings: str, complaint: str) -> None:
    renderer = renderer_with(tmp_path, {"SignIn/logto/default.toml": settings, "SignIn/logto/default.html": "x"})
    assert complaint in renderer.faults[0].problem
    assert render(renderer).raw == render(PLAIN).raw


def test_a_name_that_is_no_language_is_a_fault(tmp_path: Path) -> None:
    assert "neither a language tag" in renderer_with(tmp_path, logto(tag="english_words")).faults[0].problem


@pytest.mark.parametrize(
    ("send_from", "sender"),
    [
        ("Team <team@acme.example>", Address("team@acme.example", "Team")),
        ("team@ACME.example", Address("team@acme.example")),
        ("team@mail.acme.example", Address("team@mail.acme.example")),
        ("{{application.name}} <team@acme.example>", Address("team@acme.example", "Riverside Web")),
        ("Acme.io <team@acme.example>", Address("team@acme.example", "Acme.io")),
        ("Acme, {{application.name}}", Address(SENDER.email, "Acme, Riverside Web")),
        ("team@evil.example", SENDER),
        ("team@sub.acme.example", SENDER),
        ("{{user.mail}}", SENDER),
        ("a@acme.example, b@acme.example", SENDER),
        ("Team <team@acme.example> x", SENDER),
        (
            "A\r\nBcc: x@evil.example <team@acme.example>",
            Address("team@acme.example", "A Bcc: x@\u2060evil.\u2060example"),
        ),
    ],
)
def test_send_from_is_the_whole_from_within_our_domains(tmp_path: Path, send_from: str, sender: Address) -> None:
    escaped = send_from.replace("\r", "\\r").replace("\n", "\\n")
    renderer = renderer_with(
        tmp_path, logto(more=f'send_from = "{escaped}"'), sender_domains=["acme.example", "Mail.acme.example"]
    )
    email = render(renderer, user={"mail": "x@evil.example"})
    assert email.sender == sender or email.sender.name.replace("\u2060", "") == sender.name.replace("\u2060", "")
    assert email.sender.email == sender.email
    assert [found.email for found in mailboxes(email.raw, "From")] == [sender.email]
    assert parsed(email.raw).keys().count("From") == 1
    assert not parsed(email.raw)["Bcc"]
    assert bool(renderer.faults) == (sender == SENDER)


def test_reply_to_is_honoured_and_else_the_general_one(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, logto(more='reply_to = "{{user.mail}}"'))
    general = Address("help@acme.example")
    assert render(renderer, reply_to=general, user={"mail": "Ada <ada@b.example>"}).reply_to == Address(
        "ada@b.example", "Ada"
    )
    assert not renderer.faults
    assert render(renderer, reply_to=general, user={"mail": "a@b.example, c@d.example"}).reply_to == general
    assert "reply_to is not a mailbox" in renderer.faults[0].problem


def test_a_subject_that_comes_out_empty_is_the_names(tmp_path: Path) -> None:
    files = {**logto(), "SignIn/logto/default.toml": 'subject = "{{user.nobody}}"'}
    assert render(renderer_with(tmp_path, files)).subject == "Riverside Web"


def test_style_is_put_inline(tmp_path: Path) -> None:
    html = "<html><head><style>.c{color:red}</style></head><body><p class='c'>{{code}}</p></body></html>"
    assert '<p class="c" style="color: red;">314159</p>' in render(renderer_with(tmp_path, logto(content=html))).html


ODD = "{#outlook {% if %} {{user-name}} {{#if code}} {{{code}}} {{ code {{unknown.root}} %} #}"


def test_other_template_syntax_is_left_unchanged(tmp_path: Path) -> None:
    email = render(renderer_with(tmp_path, logto(content=ODD)))
    assert email.html == ODD.replace("{{{code}}}", "{314159}")


PLACES = """<!doctype html><html><head><title>{{x}}</title><style>p{color:{{x}};background:url({{x}})}</style></head>
<body><p style="color:{{x}}" title='{{x}}' class={{x}} lang="{{x}}">{{x}}</p>
<!-- {{x}} --><!--[if mso]><b id={{x}}>{{x}}</b>
<![endif]--><a href="{{x}}">a</a><a href='{{x}}{{x}}'>b</a><a href={{x}}>c</a><img src="{{x}}" alt="{{x}}">
<p onclick="{{x}}" {{x}}="y" {{x}}>d</p><script>{{x}}</script><{{x}}>e
<textarea>{{x}}</textarea> a < b {{x}}</body></html>"""


class Skeleton(HTMLParser):
    """The tags and attributes' names of a page, and what its links lead to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]


HOSTILE = [
    '"><script>alert(1)</script>', "' onmouseover='x", "x onmouseover=alert(1)", "javascript:alert(1)",
    "</style><script>",
    "JaVaScRiPt\t:alert(1)", "java\nscript:alert(1)", "-->", "<![endif]-->", "`x`", "&quot;", "&#106;avascript:x",
    "{{x}}",
    "data:text/html,<script>", "\0javascript:x", "\x01javascript:x", "vbscript:x", "img src=x onerror=y",
    ");}*{color:red",
    "https://a.example/?a=b&c=\"d'e", "//evil.example", "expression(alert(1))", "</textarea><script>",
    "</title><script>",
]  # fmt: skip


@given(st.one_of(st.sampled_from(HOSTILE), st.text(), st.lists(st.sampled_from(HOSTILE)).map("".join)))
@example(":")
def test_no_value_adds_a_tag_an_attribute_or_a_script_at_any_position(value: str) -> None:
    made = HtmlTemplate(PLACES, frozenset()).fill({"x": value})
    harmless = Skeleton(MARKUP.fill({"x": "w"}))
    found = Skeleton(made)
    assert len(found.tags) == len(harmless.tags)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in harmless.tags]
    names = [name for _, attributes in found.tags for name in attributes]
    assert set(names) <= {name for _, attributes in harmless.tags for name in attributes}
    for address in found.links:
        # A scheme begins with a letter (URL Standard, "scheme start state"): ":" is a relative address.
        scheme = re.match(r"[\0-\x20]*([a-z][a-z0-9+.-]*):", re.sub(r"[\t\r\n]", "", address), re.IGNORECASE)
        assert not scheme or scheme[1].lower() in {"https", "http", "mailto", "tel", "sms", "cid", "data"}
        assert not re.match(r"[\0-\x20]*data:(?!image/)", address, re.IGNORECASE)
    style = re.search("<style>(.*?)</style>", made, re.DOTALL)
    assert style
    assert len(re.findall("[{}]", style[1])) == 2 * style[1].count("{")


MARKUP = HtmlTemplate(PLACES, frozenset())


def test_placeholders_that_are_never_filled_are_reported(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, logto(content='<p onclick="{{code}}">{{code}}</p>'))
    assert "{{code}} stays empty" in renderer.faults[0].problem
    assert render(renderer).html == '<p onclick="">314159</p>'


@unhurried
@given(payload=st.dictionaries(st.sampled_from(["user", "application", "organization", "link", "x"]), json_values))
def test_no_payload_breaks_an_imported_mail(payload: dict[str, Any]) -> None:
    email = render(EVERYTHING, "SignIn", {**payload, "code": "314159"})
    mail = parsed(email.raw)
    assert sorted(mail.keys()) == sorted(set(mail.keys())), "no header twice"
    assert set(mail.keys()) <= HEADERS
    assert [found.email for found in mailboxes(email.raw, "From")] == [email.sender.email]
    assert email.sender.email.endswith("@acme.example")
    assert [found.email for found in mailboxes(email.raw, "To")] == ["ada@example.com"]
    assert len(mailboxes(email.raw, "Reply-To")) == bool(email.reply_to)
    assert mail["Subject"] == email.subject
    assert not re.search("[\0-\x1f\x7f-\x9f]", email.subject)
    assert email.html.count("<script") == 1, "the template's own"


def test_the_bundled_template_is_used_for_a_payload_nested_too_deeply(tmp_path: Path) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    renderer = renderer_with(tmp_path, logto(content="{{x}}"))
    assert render(renderer, "SignIn", {"code": "1", "x": deep}).html == render(PLAIN, "SignIn", {"code": "1"}).html
    assert "nested too deeply" in renderer.faults[0].problem


def test_a_payload_makes_no_mail_slow() -> None:
    """Thirty values of the longest kind, made of what the link pattern looks for: quadratic it took seconds."""
    source = "<p>{{x}}</p>" * 30
    for piece in ("=", "=a", '="', "= ", ":=", "=a:", "&", "<", "[](", "href="):
        value = piece * (8000 // len(piece))
        start = thread_time()
        with suppress(RenderingError):  # escaped, some are too long
            HtmlTemplate(source, frozenset()).fill({"x": value})
        assert thread_time() - start < 1, piece


HEADERS = {
    "From", "To", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Language", "Auto-Submitted",
    "X-Auto-Response-Suppress", "X-Entity-Ref-ID", "Content-Type",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def everything(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write a template in which every header contains a value of the payload."""
    global EVERYTHING  # noqa: PLW0603 - Hypothesis and function-scoped fixtures do not mix
    more = 'send_from = "{{user.name}} <{{user.name}}@acme.example>"\nreply_to = "{{user.mail}}"'
    files = logto(more=more, content=PLACES.replace("{{x}}", "{{user.name}}") + "<p>{{code}}</p>")
    files["SignIn/logto/default.toml"] = files["SignIn/logto/default.toml"].replace("for", "{{user.name}} for {{x}}")
    EVERYTHING = renderer_with(tmp_path_factory.mktemp("everything"), files)


EVERYTHING = PLAIN
