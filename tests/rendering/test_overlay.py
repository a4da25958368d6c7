"""An operator's folder that overrides bundled templates."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.errors import RenderingError
from mailroom.message import Priority
from mailroom.rendering.languages.negotiation import is_tag
from mailroom.rendering.renderer import BUNDLED, TemplateRenderer
from tests.rendering.overlays import render, renderer_with, write_files
from tests.rendering.samples import SENDER, make_renderer, message, unhurried
from tests.rendering.test_logto_engine import HOSTILE, Skeleton
from tests.rendering.test_mime import mailboxes, parsed
from tests.rendering.test_sanitize import json_values

APP = {"id": "app1", "name": "Riverside Web"}
ORG = {"id": "org1", "name": "Lighthouse"}
PLAIN = make_renderer()


def test_one_word_is_changed_and_the_others_stay(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {"locales/en.toml": '[SignIn]\nsubject = "{code}: hello from {app}"\n'})
    email = render(renderer)
    assert email.subject == "314159: hello from Riverside Web"
    assert email.html == render(PLAIN).html
    assert render(renderer, "Register").raw == render(PLAIN, "Register").raw
    assert renderer.faults == ()


def test_a_common_word_changes_in_every_kind_that_says_it(tmp_path: Path) -> None:
    renderer = renderer_with(
        tmp_path, {"locales/en.toml": '[common]\nvalidity.one = "1 min."\nvalidity.other = "{minutes} min!"\n'}
    )
    for kind in ("SignIn", "Register", "Generic"):
        assert "10 min!" in render(renderer, kind).text


def test_a_new_table_is_a_new_kind_without_code(tmp_path: Path) -> None:
    words = '[Receipt]\nsubject = "Paid, {name}"\npreheader = "p"\ntitle = "Thank you"\nreason = "We got it."\n'
    renderer = renderer_with(
        tmp_path, {"locales/en.toml": words, "Receipt/html.jinja": RECEIPT, "Receipt/text.jinja": "{{ total }}"}
    )
    email = render(renderer, "Receipt", {"user": {"name": "Ada"}, "total": "9 <€>"}, priority=Priority.EVENT)
    assert email.subject == "Paid, Ada"
    assert "<b>9 &lt;&#8364;&gt;</b>" in email.html
    assert "Thank you" in email.html
    assert email.text == "9 <€>"
    german = render(renderer, "Receipt", {"locale": "de"}, priority=Priority.EVENT)
    assert german.language == "en", "a kind that there is in one language goes to all"


RECEIPT = '{% extends "layout.html.jinja" %}{% block content %}<b>{{ total }}</b>{% endblock %}'


def test_html_of_a_new_kind_without_a_text_gets_one(tmp_path: Path) -> None:
    words = '[Receipt]\nsubject = "Paid"\npreheader = "p"\ntitle = "Thank you"\n'
    renderer = renderer_with(tmp_path, {"locales/en.toml": words, "Receipt/html.jinja": RECEIPT})
    email = render(renderer, "Receipt", {"total": "9 €"}, priority=Priority.EVENT)
    assert "9 €" in email.text
    assert "<" not in email.text


def test_a_layout_is_replaced_by_name_and_can_extend_the_bundled_one(tmp_path: Path) -> None:
    layout = '{% extends "bundled/layout.html.jinja" %}{% block content %}<i>ours</i>{{ super() }}{% endblock %}'
    # A child's own block replaces the layout's: what the layout adds must stand where children call super().
    renderer = renderer_with(tmp_path, {"layout.html.jinja": "<p>Acme</p>{% block content %}{% endblock %}"})
    assert render(renderer).html.startswith("<p>Acme</p>")
    assert "314159" in render(renderer).html
    renderer = renderer_with(tmp_path, {"layout.html.jinja": layout})
    assert "314159" in render(renderer).html
    assert renderer.faults == ()


def test_a_part_is_replaced_by_name(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {"parts/code.html.jinja": "<tt>{{ code }}</tt>"})
    assert "<tt>314159</tt>" in render(renderer).html


def test_one_language_of_a_kind_looks_its_own_way(tmp_path: Path) -> None:
    files = {
        "locales/de.toml": 'direction = "ltr"\n[SignIn]\nsubject = "{code}"\npreheader = "p"\ntitle = "t"\n'
        'reason = "r"\nunasked = "u"\nvalidity = "v"\nnever_share = "n"\nunasked_title = "x"\nlink_help = "l"\n'
        'questions = "q"\nsent_by = "s"\n',
        "SignIn/de/html.jinja": "<p>deutsch {{ code }}</p>",
        "SignIn/html.jinja": "<p>all {{ code }}</p>",
    }
    renderer = renderer_with(tmp_path, files)
    assert render(renderer, locale="de").html == "<p>deutsch 314159</p>"
    assert render(renderer, locale="en").html == "<p>all 314159</p>"
    assert "deutsch" not in render(renderer, "Register", locale="de").html
    assert renderer.faults == ()


def test_an_organization_has_precedence_over_an_application(tmp_path: Path) -> None:
    renderer = renderer_with(
        tmp_path,
        {
            "locales/en.toml": '[SignIn]\nsubject = "root {code}"\n[Register]\nsubject = "root {code}"\n',
            "applications/app1/locales/en.toml": '[SignIn]\nsubject = "app {code}"\ntitle = "app"\n',
            "applications/app1/parts/code.html.jinja": "<tt>{{ code }}</tt>",
            "organizations/org1/locales/en.toml": '[SignIn]\nsubject = "org {code}"\n',
        },
    )
    other = {"id": "other"}
    assert render(renderer, application=other).subject == "root 314159"
    assert render(renderer, application=APP).subject == "app 314159"
    assert render(renderer, application=other, organization=ORG).subject == "org 314159"
    both = render(renderer, application=APP, organization=ORG)
    assert both.subject == "org 314159"
    assert "<tt>314159</tt>" in both.html
    assert ">app</h1>" in both.html
    assert render(renderer, "Register", application=APP, organization=ORG).subject == "root 314159"
    assert render(renderer, application=APP, organization=ORG).raw == both.raw


def test_words_must_be_named_after_a_language(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {"locales/english words.toml": 'direction = "ltr"\n'})
    assert [fault.problem for fault in renderer.faults] == ["its name is not a language tag (BCP 47)"]
    assert all(map(is_tag, PLAIN.inventory({}).kinds["SignIn"])), "ours are not looked at"


@pytest.mark.parametrize("owner", [None, "org1", [], {}, {"id": None}, {"id": ["org1"]}, {"id": {}}, {"id": "../x"}])
def test_an_owner_may_be_anything(tmp_path: Path, owner: object) -> None:
    renderer = renderer_with(tmp_path, {"organizations/org1/locales/en.toml": '[SignIn]\nsubject = "org {code}"\n'})
    assert (
        render(renderer, application=owner, organization=owner).raw
        == render(PLAIN, application=owner, organization=owner).raw
    )


def test_a_language_of_ones_own_may_be_partial(tmp_path: Path) -> None:
    dutch = (
        'direction = "ltr"\n[SignIn]\nsubject = "{code} is je code"\npreheader = "p"\ntitle = "Je code"\nreason = "r"\n'
        'unasked = "u"\nvalidity = "v"\nnever_share = "n"\nunasked_title = "x"\nlink_help = "l"\nquestions = "q"\n'
        'sent_by = "s"\n'
    )
    renderer = renderer_with(tmp_path, {"locales/nl.toml": dutch})
    assert renderer.faults == ()
    assert (render(renderer, locale="nl-BE").subject, render(renderer, locale="nl").language) == (
        "314159 is je code",
        "nl",
    )
    register = render(renderer, "Register", locale="nl")
    assert register.language == "en", "a kind is in one language as a whole"


def test_a_kind_that_lacks_translations_is_a_fault_and_is_not_used(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {"locales/nl.toml": 'direction = "ltr"\n[SignIn]\nsubject = "{code}"\n'})
    [fault] = renderer.faults
    assert "nl.toml" in fault.path
    assert "[SignIn] lacks preheader" in fault.problem
    assert render(renderer, locale="nl").language == "en"


FAULTY = {
    "layout.html.jinja": "{% if %}",
    "SignIn/html.jinja": "{{ x | nofilter }}",
    "locales/en.toml": '[SignIn]\nsubject = "{nobody}"\n',
    "locales/nl.toml": '[SignIn]\nsubject = "{code}"\n',
    "Generic/logto/default.toml": 'subject = ""',
    "Generic/logto/fr.html": "<p>",
    "SignIn/html.jinja2": "x",
    "applications/app1/layout.html.jinja": "{% endif %}",
}


@pytest.mark.parametrize("name", FAULTY)
def test_a_fault_names_its_file_and_the_bundled_template_is_used(tmp_path: Path, name: str) -> None:
    renderer = renderer_with(tmp_path / "mine", {name: FAULTY[name]})
    [fault] = renderer.faults
    assert fault.path.startswith(f"mine/{name}")
    assert fault.problem
    assert render(renderer, application=APP).raw == render(PLAIN, application=APP).raw


def test_a_sender_among_the_texts_is_a_fault(tmp_path: Path) -> None:
    """It has an effect in Logto's templates only. The texts are used."""
    words = '[SignIn]\ntitle = "Hello"\nsend_from = "Acme <team@acme.example>"\n'
    renderer = renderer_with(tmp_path / "mine", {"locales/en.toml": words})
    assert "Hello" in render(renderer).text
    [fault] = renderer.faults
    assert fault.path == "mine/locales/en.toml, line 3"
    assert fault.problem == (
        "send_from has no effect here: Logto's templates may set it (<kind>/logto/en.toml); for all others `from` and "
        "`reply_to` of the settings count"
    )


def test_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    (write_files(tmp_path, {"SignIn/html.jinja": ""}) / "layout.html.jinja").write_bytes(b"\xff")
    (tmp_path / "SignIn" / "html.jinja").write_text("x" * 600_000, encoding="utf-8")
    renderer = make_renderer(overlay=tmp_path)
    problems = {fault.path.rpartition("/")[2]: fault.problem for fault in renderer.faults}
    assert problems["html.jinja"].startswith("is longer than")
    assert problems["layout.html.jinja"] == "is not UTF-8 text"
    assert render(renderer).raw == render(PLAIN).raw


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    renderer = make_renderer(overlay=tmp_path / "nowhere")
    [fault] = renderer.faults
    assert fault.problem.startswith("is not a folder")
    assert render(renderer).raw == render(PLAIN).raw


def test_hidden_files_and_notes_are_nobodys(tmp_path: Path) -> None:
    renderer = renderer_with(
        tmp_path, {".git/config": "x", "README.md": "x", "..data/SignIn/html.jinja": "x", "SignIn/.x.swp": "x"}
    )
    assert renderer.faults == ()
    assert render(renderer).raw == render(PLAIN).raw


@pytest.mark.parametrize(
    "source", ["{{ code + 1 }}", "{% include 'nothing.jinja' %}", "{{ ''.__class__.__mro__ }}", "{% extends 'a' %}"]
)
def test_a_template_that_fails_in_use_is_reported_once_and_replaced(tmp_path: Path, source: str) -> None:
    renderer = renderer_with(tmp_path / "mine", {"SignIn/html.jinja": source})
    assert render(renderer).raw == render(PLAIN).raw or "__mro__" in source
    before = len(renderer.faults)
    render(renderer)
    assert len(renderer.faults) == before
    assert all(fault.path.startswith("mine/SignIn/html.jinja") for fault in renderer.faults)
    assert before or "__mro__" in source


def test_an_organizations_template_that_fails_is_replaced_by_the_operators(tmp_path: Path) -> None:
    renderer = renderer_with(
        tmp_path, {"SignIn/html.jinja": "root {{ code }}", "organizations/org1/SignIn/html.jinja": "{{ code + 1 }}"}
    )
    assert render(renderer, organization=ORG).html == "root 314159"


def test_an_event_that_nobody_has_words_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RenderingError, match=r"no translations for \[Receipt\]"):
        render(renderer_with(tmp_path, {}), "Receipt", {}, priority=Priority.EVENT)


def test_a_default_language_may_be_the_overlays(tmp_path: Path) -> None:
    words = 'direction = "ltr"\n[SignIn]\nsubject = "{code}!"\npreheader = "p"\ntitle = "t"\n'
    renderer = renderer_with(tmp_path, {"locales/nl.toml": words}, default_locale="nl")
    assert render(renderer, "SignIn", {"code": "1"}).subject == "1!"
    assert render(renderer, "Register", {"code": "1"}).language == "en"


def test_an_operators_style_sheet_is_inlined_except_rules_that_cannot_be(tmp_path: Path) -> None:
    layout = (
        "<html><head><style>p{color:red}a:hover{color:blue}@media (prefers-color-scheme:dark){p{color:#fff}}</style>"
        '<link rel="stylesheet" href="https://evil.example/x.css"></head><body><p>é</p>{% block content %}'
        "{% endblock %}</body></html>"
    )
    email = render(renderer_with(tmp_path, {"layout.html.jinja": layout}))
    assert '<p style="color: red;">' in email.html
    assert "prefers-color-scheme" in email.html
    assert "a:hover" in email.html
    assert email.html.isascii(), "the character references stay"


def test_bundled_templates_are_not_touched_by_an_overlay_without_style(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {"parts/button.html.jinja": "<a href='{{ link }}'>go</a>"})
    assert render(renderer).html == render(PLAIN).html


def test_a_link_of_a_payload_leads_nowhere_unless_it_is_a_mails(tmp_path: Path) -> None:
    source = '<a href="{{ user.site }}">x</a><a href="{{ link }}">y</a><img src="{{ user.site }}">'
    renderer = renderer_with(tmp_path, {"Welcome/html.jinja": source})
    email = render(renderer, "Welcome", {"user": {"site": "java\tscript:alert(1)"}, "link": "https://a.example/"})
    assert email.html == '<a href="#">x</a><a href="https://a.example/">y</a><img src="#">'


@pytest.mark.parametrize(
    "source",
    [
        "<p class={{ name }}>",
        '<p onclick="{{ name }}">',
        "<script>{{ name }}</script>",
        "<{{ name }}>",
        "<p {{ name }}>",
        "<!--[if mso]><p title={{ name }}><![endif]-->",
    ],
)
def test_a_value_at_a_position_that_escaping_cannot_protect_is_a_fault(tmp_path: Path, source: str) -> None:
    renderer = renderer_with(tmp_path, {"SignIn/html.jinja": source})
    assert "which is not safe" in renderer.faults[0].problem
    assert render(renderer).raw == render(PLAIN).raw


HTML = """<!doctype html><html lang="{{ x }}"><head><title>{{ x }}</title></head><body><p title='{{ x }}'>{{ x }}</p>
{{ code }}{# {{ x }} #}<a href="{{ x }}">{{ x.y }}</a><a href='{{ x }}'>{{ link }}</a><!-- {{ x }} -->
<!--[if mso]><i class="{{ x }}">{{ x }}</i><![endif]--><img src="{{ x }}" alt="{{ x }}"></body></html>"""


@pytest.fixture(scope="module")
def hostile_overlay(tmp_path_factory: pytest.TempPathFactory) -> TemplateRenderer:
    """Return a renderer whose template prints a payload's value wherever a template may."""
    files = {"SignIn/html.jinja": HTML, "SignIn/text.jinja": "{{ x }} {{ code }}"}
    renderer = renderer_with(tmp_path_factory.mktemp("hostile"), files)
    assert not renderer.faults
    return renderer


@unhurried
@given(value=st.one_of(st.sampled_from(HOSTILE), st.text(), json_values))
def test_no_payload_does_more_in_an_overlay_than_it_is_shown(hostile_overlay: TemplateRenderer, value: Any) -> None:
    payload = {"code": "314159", "x": value, "link": value}
    email = render(hostile_overlay, "SignIn", payload)
    assert email.html.startswith('<!doctype html><html lang="'), "the bundled template was not used"
    found = Skeleton(email.html)
    harmless = Skeleton(render(hostile_overlay, "SignIn", payload | {"x": "w", "link": ""}).html)
    assert found.tags == harmless.tags
    for address in found.links:
        scheme = re.match(r"[\0-\x20]*([a-z0-9+.-]*):", re.sub(r"[\t\r\n]", "", address), re.IGNORECASE)
        assert not scheme or scheme[1].lower() in {"https", "http", "mailto", "tel", "sms", "cid"}
    mail = parsed(email.raw)
    assert [found.email for found in mailboxes(email.raw, "To")] == ["ada@example.com"]
    assert mail["Subject"] == email.subject


def test_every_bundled_template_may_be_copied_into_an_overlay(tmp_path: Path) -> None:
    for file in BUNDLED.rglob("*.jinja"):
        write_files(tmp_path, {file.relative_to(BUNDLED).as_posix(): file.read_text(encoding="utf-8")})
    renderer = make_renderer(overlay=tmp_path)
    assert renderer.faults == ()
    assert render(renderer).text == render(PLAIN).text


def test_the_provider_may_have_the_words(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path, {})
    payload = {"code": "314159", "uiLocales": "fr-CA fr", "application": APP}
    email = renderer.render(message("SignIn", payload), sender=SENDER, reply_to=None, template_at_provider="d-1")
    assert email.template_at_provider == "d-1"
    assert (email.variables["code"], email.variables["locale"]) == ("314159", email.language)
    assert APP.items() <= email.variables["application"].items()
    assert "314159" in email.text, "a provider that knows no templates sends the mail itself"
    told = renderer.render(
        message("SignIn", {**payload, "locale": "fr-FR"}), sender=SENDER, reply_to=None, template_at_provider="d-1"
    )
    assert told.variables["locale"] == "fr-FR"
    receipt = message("Receipt", {"total": 9}, priority=Priority.EVENT)
    bare = renderer.render(receipt, sender=SENDER, reply_to=None, template_at_provider="d-2")
    assert (bare.subject, bare.html) == ("", "")
    assert (bare.variables["total"], bare.variables["locale"]) == (9, "en")
    assert renderer.render(message("SignIn", payload), sender=SENDER, reply_to=None).template_at_provider == ""
