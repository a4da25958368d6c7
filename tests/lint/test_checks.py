"""Each of the 22 rules: one change in a copy of the bundled templates is found by that rule alone."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from msgspec.structs import replace

from mailroom.lint import CHECKS
from mailroom.lint.rules.rendered import LintContext
from mailroom.lint.runner import check
from mailroom.message import Address, Email, Message
from mailroom.rendering.renderer import TemplateRenderer
from tests.lint.conftest import Copy
from tests.rendering.samples import SENDER, make_renderer

LAYOUT: Final = "layout.html.jinja"
CODE: Final = "parts/code.html.jinja"
BUTTON: Final = "parts/button.html.jinja"
END: Final = "</body>"
MUTED: Final = 'class="foot muted" style="padding:20px 32px 0;color:#5c5c6b'

SPOILT: Final[list[tuple[int, str, str, str]]] = [
    (1, "Generic/html.jinja", "{{ words.reason }}", "{{ user.name|length + organization.name.x|length }}"),
    (2, CODE, "{{ code }}", ""),
    (2, "Generic/text.jinja", "{{ code }}", ""),
    (2, "OrganizationInvitation/text.jinja", "{{ link }}", ""),
    (3, LAYOUT, "{{ words.unasked }}", "{{ words.unaskt }}"),
    (3, LAYOUT, "{{ words.unasked }}", "{{ wrods.unasked }}"),
    (3, LAYOUT, "{{ words.unasked }}", "{{ words.unasked }} {{ brand.nmae }}"),
    (3, LAYOUT, "{{ words.unasked }}", "{{ words.unasked }} {{ application.nmae }}"),
    (3, LAYOUT, "{{ words.unasked }}", "{{ words.unasked }} {{ '{{user.name}}' }}"),
    (3, "locales/en.toml", 'title = "Your sign-in code"', 'title = "Your {{app}} code"'),
    (4, LAYOUT, "{{ words.unasked }}", "{{ words.unasked }} {{ (application.name or '')|safe }}"),
    (4, LAYOUT, "<body ", '<body data-name="{{ (application.name or "")|safe }}" '),
    (4, LAYOUT, '<td class="frame"', '<td background="{{ application.branding.logoUrl }}" class="frame"'),
    (4, LAYOUT, "margin:0;padding:0;", "margin:0;padding:0;x:'{{ application.name or 1 }}';"),
    (5, "locales/en.toml", 'subject = "You are invited to join {organization}"', 'subject = ""'),
    (5, "locales/en.toml", "is your {app} sign-in code", "is the code with which you sign in to {app} as you like it"),
    (6, LAYOUT, END, '<a class="link" href="https://acme.example/help" style="color:#000000">Help</a>' + END),
    (6, "layout.text.jinja", "{{ words.questions }} {{ contact }}", ""),
    (7, LAYOUT, '<html lang="{{ lang }}" dir="{{ dir }}">', '<html dir="{{ dir }}">'),
    (7, LAYOUT, '<html lang="{{ lang }}" dir="{{ dir }}">', '<html lang="{{ lang }}">'),
    (7, LAYOUT, "<title>{{ words.title }}</title>", "<title></title>"),
    (8, LAYOUT, '<table role="presentation" width="480"', '<table width="480"'),
    (9, LAYOUT, ' src="{{ logo.url }}" alt="{{ logo.name }}"', ' src="{{ logo.url }}"'),
    (9, LAYOUT, 'src="{{ logo.url }}"', 'src="/logo.png"'),
    (9, LAYOUT, 'src="{{ logo.url }}"', 'src="http://acme.example/logo.png"'),
    (10, LAYOUT, 'src="{{ logo.url }}"', 'src="https://acme.example/logo.svg"'),
    (10, LAYOUT, 'src="{{ logo.url }}"', 'src="https://acme.example/logo.webp?v=1"'),
    (10, LAYOUT, 'src="{{ logo.url }}"', 'src="data:image/png;base64,AAAA"'),
    (10, LAYOUT, END, '<svg width="1" height="1"></svg>' + END),
    (11, BUTTON, '">{{ link or brand.url }}</a>', '">https://evil.example/</a>'),
    (11, LAYOUT, END, '<a class="link" href="http://acme.example/" style="color:#000000">A</a>' + END),
    (11, LAYOUT, END, '<a class="link" href="" style="color:#000000">Acme</a>' + END),
    (12, LAYOUT, END, "<script>x=1</script>" + END),
    (12, LAYOUT, END, '<iframe src="https://acme.example/"></iframe>' + END),
    (12, LAYOUT, END, '<form action="https://acme.example/"></form>' + END),
    (12, LAYOUT, "<style>", "<style>\n@import url(https://fonts.example/a.css);"),
    (12, LAYOUT, "<style>", "<style>\n@font-face{font-family:x;src:url(https://fonts.example/a.woff)}"),
    (12, LAYOUT, "<style>", '<link rel="stylesheet" href="https://fonts.example/a.css">\n<style>'),
    (12, LAYOUT, "<h1 ", '<h1 onclick="x()" '),
    (13, LAYOUT, '<h1 class="title ink" style="', '<h1 class="title ink" style="position:relative;'),
    (13, LAYOUT, "<style>", "<style>\n.ink{display:flex}"),
    (13, LAYOUT, "<style>", "<style>\n:root{--gap:4px}"),
    (13, LAYOUT, "<style>", "<style>\nh1{text-align:right}"),
    (14, LAYOUT, "<style>", "<style>" + "/* a */\n" * 1100),
    (15, LAYOUT, END, "<!-- " + "x" * 95_000 + " -->" + END),
    (16, LAYOUT, MUTED, MUTED.replace("#5c5c6b", "#8c8c9b")),
    (16, LAYOUT, ".muted{color:#a9a9b8!important}", ".muted{color:#55555f!important}"),
    (16, LAYOUT, ".ink{color:#f2f2f5!important}\n", ""),
    (17, LAYOUT, '<div style="display:none;max-height:0;overflow:hidden;mso-hide:all">{{ words.preheader }}</div>', ""),
    (17, "locales/en.toml", 'preheader = "Enter it to sign in. {validity}"', 'preheader = "Enter it."'),
    (18, CODE, "{{ code }}", "{% for digit in code %}<span>{{ digit }}</span>{% endfor %}"),
    (18, "Generic/text.jinja", "{{ code }}", "{{ code|list|join(' ') }}"),
    (21, LAYOUT, '<tr><td class="frame"', '<tr>\u00d7<td class="frame"'),
    (21, "Generic/html.jinja", "{{ words.reason }}</p>", "{{ words.reason }}</b></p>"),
    (21, LAYOUT, "{{ words.unasked }}", "<div>{{ words.unasked }}"),
    (22, "locales/en.toml", "Enter this code to sign in to {app}.", "Enter this code to sign in."),
]  # fmt: skip


def kinds_of(file: str) -> tuple[str, ...]:
    return ("OrganizationInvitation",) if file.startswith(("Org", BUTTON)) else ("SignIn", "OrganizationInvitation")


ELSEWHERE: Final = (2, 14, 15, 17, 18)
"""Checks of missing parts or of the whole mail; they name the kind's own file."""
PLACED: Final = [
    row
    for row in SPOILT
    if row[0] not in ELSEWHERE
    and row[1] != "layout.text.jinja"  # reported for the HTML's line, which the text lacks
    and "!important" not in row[2]  # reported for the unreadable text
    and not row[3].startswith("<div>{{")  # reported where the cell ends
    and "body" not in row[3][:6]  # the value ends the tag, and with it the line
    and "x:'" not in row[3]
]
"""Rows whose finding is near the change."""


@pytest.mark.parametrize("row", SPOILT, ids=lambda row: "-".join(map(str, row))[:60])
def test_each_defect_is_found_by_its_own_check_only_and_the_place_is_named(
    copy: Copy, row: tuple[int, str, str, str]
) -> None:
    """File, and the line within three of the defect: hostile values add line breaks."""
    number, file, old, new = row
    copy.replace(file, old, new)
    found = copy.check(kinds_of(file))
    assert {finding.check for finding in found} == {number}, found
    assert all(finding.remedy and finding.problem for finding in found)
    if row not in PLACED:
        return
    assert any(finding.file == file for finding in found), found
    if new:
        defect_line = (copy.folder / file).read_text(encoding="utf-8").partition(new)[0].count("\n") + 1
        near = [finding for finding in found if finding.file == file and finding.line is not None]
        assert any(abs((finding.line or 0) - defect_line) <= 3 for finding in near), (defect_line, near)


@pytest.mark.parametrize("schemes", [(), ("acme",)])
def test_links_may_have_an_applications_own_scheme_where_the_settings_allow_it(
    copy: Copy, schemes: tuple[str, ...]
) -> None:
    copy.replace(LAYOUT, END, '<a class="link" href="acme://open" style="color:#5c5c6b">Acme</a>' + END)
    context = LintContext(make_renderer(templates=copy.folder, link_schemes=schemes), SENDER)
    found = check(context, kinds=["SignIn"], languages=["en"])
    assert (11 in {finding.check for finding in found}) is not bool(schemes)


class Mangling(TemplateRenderer):
    """Renders mails that no template can produce."""

    mangle: Callable[[Email], Email]

    def render(self, message: Message, **options: Any) -> Email:
        return self.mangle(super().render(message, **options))


def raw(old: bytes, new: bytes) -> Callable[[Email], Email]:
    def mangle(email: Email) -> Email:
        assert old in email.raw
        return replace(email, raw=email.raw.replace(old, new, 1))

    return mangle


def headers(*more: tuple[str, str]) -> Callable[[Email], Email]:
    return lambda email: replace(email, headers=(*email.headers, *more))


def from_elsewhere(email: Email) -> Email:
    moved = email.raw.replace(b"Acme <no-reply@acme.example>", b"x@other.example")
    return replace(email, sender=Address("x@other.example"), raw=moved)


ONE_CLICK: Final = (
    ("List-Unsubscribe", "<https://acme.example/u>"),
    ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"),
)

MANGLED: Final[list[tuple[int, Callable[[Email], Email]]]] = [
    (19, raw(b"From: Acme <", b"From: Acme, Inc <")),
    (19, raw(b"To: ada@example.com", b"To: ada@example.com, eve@evil.example")),
    (19, raw(b"To: ada@example.com", b"To: ada@example.com\r\nTo: eve@evil.example")),
    (19, raw(b"Subject: ", b"Subject: Re: ")),
    (19, raw(b"\r\n\r\n--", b"\r\n\r\n" + b"x" * 999 + b"\r\n--")),
    (19, raw(b"Subject: ", "X-Größe: ä\r\nSubject: ".encode())),
    (19, raw(b"Your sign-in code", b"Your sign-out code")),
    (20, from_elsewhere),
    (20, headers(*ONE_CLICK)),
    (20, headers(("Precedence", "bulk"))),
    (20, lambda email: replace(email, headers=tuple(one for one in email.headers if one[0] != "Auto-Submitted"))),
]  # fmt: skip


@pytest.mark.parametrize(("number", "mangle"), MANGLED)
def test_a_message_that_says_something_else_is_caught(number: int, mangle: Callable[[Email], Email]) -> None:
    renderer = writer_of(Mangling)
    renderer.mangle = mangle
    found = check(LintContext(renderer, SENDER), kinds=["SignIn"], languages=["en"])
    assert {finding.check for finding in found} == {number}, found


def test_an_event_mail_may_be_unsubscribed_from_with_one_click_only() -> None:
    renderer = writer_of(Mangling)
    renderer.mangle = headers(("List-Unsubscribe", "<https://acme.example/u>"))
    [found] = check(LintContext(renderer, SENDER), kinds=["Welcome"], languages=["en"])
    assert (found.check, found.problem) == (20, "List-Unsubscribe lacks one-click")
    renderer.mangle = headers(*ONE_CLICK)
    assert not check(LintContext(renderer, SENDER), kinds=["Welcome"], languages=["en"])


def test_a_provider_may_send_from_a_domain_of_its_own() -> None:
    renderer = writer_of(Mangling)
    renderer.mangle = from_elsewhere
    context = LintContext(renderer, SENDER, domains=frozenset({"other.example"}))
    assert not check(context, kinds=["SignIn"], languages=["en"])


def writer_of(kind: type[Mangling]) -> Any:
    made = make_renderer()
    made.__class__ = kind
    return made


def test_every_check_is_tried() -> None:
    tried = {number for number, *_ in [*SPOILT, *MANGLED]}
    assert tried == set(CHECKS)


def test_a_fault_in_the_layout_is_reported_once(copy: Copy) -> None:
    copy.replace(LAYOUT, '<table role="presentation" width="480"', '<table width="480"')
    [found] = copy.check(("SignIn", "Register"), ("en", "de", "ar"))
    assert found.kinds == ("SignIn", "Register")
    assert set(found.languages) == {"en", "de", "ar"}
    assert set(found.samples) == {"full", "minimal", "null"}
    line = (copy.folder / LAYOUT).read_text(encoding="utf-8").splitlines()[(found.line or 0) - 1]
    assert 'width="480"' in line
