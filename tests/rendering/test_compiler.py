"""Compiling templates with constants does not change any mail."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mailroom.errors import RenderingError
from mailroom.lint.samples import Sample, message
from mailroom.rendering.engines import jinja_engine as compiling
from mailroom.rendering.engines.jinja_engine import BoundTemplate, Engine, Source
from tests.rendering.samples import SENDER, make_renderer

CONSTANTS = {"lang": "ko", "words": {"title": "Your <code>", "unasked": "", "absent": ""}}
"""`absent` is a text that only other kinds of mail have."""
VARIABLES: Mapping[str, Any] = {
    "lang": "ko",
    "words": {"title": "Your <code>", "unasked": "", "reason": "for Ada & Bob"},
    "code": "123456",
    "logo": None,
    "items": ["one", "<two>"],
}

FLAT = {
    "a plain one": {"html.jinja": "<p>{{ words.title }}, {{ words.reason }}: {{ code }}</p>"},
    "a frame, its block and a part": {
        "html.jinja": '{% extends "a.html.jinja" %}{% block b %}<b>{% include "p.html.jinja" %}</b>{% endblock %}',
        "a.html.jinja": "{{ lang }}[{% block b %}none{% endblock %}|{% block c %}{{ words.title }}{% endblock %}]",
        "p.html.jinja": "{{ code }}{% if logo %}!{% else %}.{% endif %}",
    },
    "two frames, the innermost block wins": {
        "html.jinja": '{% extends "a.html.jinja" %}{% block b %}{{ code }}{% endblock %}',
        "a.html.jinja": '{% extends "b.html.jinja" %}{% block b %}a{% endblock %}{% block c %}{{ lang }}{% endblock %}',
        "b.html.jinja": "({% block b %}b{% endblock %}{% block c %}{% endblock %})",
    },
    "a block within a block": {
        "html.jinja": '{% extends "a.html.jinja" %}{% block inner %}{{ code }}{% endblock %}',
        "a.html.jinja": "<{% block outer %}o{% block inner %}i{% endblock %}o{% endblock %}>",
    },
    "what stands beside the blocks of a template that extends is not printed": {
        "html.jinja": '{% extends "a.html.jinja" %} lost {{ code }}{% block b %}kept{% endblock %}',
        "a.html.jinja": "{% block b %}{% endblock %}",
    },
    "conditions that constants decide": {
        "html.jinja": (
            '{% if lang == "de" %}de{% elif words.unasked %}?{% elif lang == "ko" %}ko{{ code }}{% else %}-{% endif %}'
            "{% if words.unasked %}a{% endif %}{% if words.title %}{% if code %}c{% endif %}d{% endif %}"
        )
    },
    "conditions that the mail decides": {
        "html.jinja": "{% if logo %}a{% elif words.unasked %}b{% elif code|length > 3 %}c{% else %}d{% endif %}e"
    },
    "a text that is absent": {
        "html.jinja": (
            "[{{ words.absent }}{% if words.absent %}a{% elif words.absent is undefined %}b{% endif %}"
            "{{ words.absent|default('c') }}{{ words.absent|d('d') }}{{ words.title|default('e') }}"
            "{% if words.title is defined and not words.absent is defined %}f{% endif %}{{ words.absent|upper }}]"
        )
    },
    "what is missing": {"html.jinja": "[{{ nobody.knows.it }}{{ words.never }}{% if nobody %}!{% endif %}]"},
}

AS_THEY_ARE = {
    "a variable of its own": {"html.jinja": '{% set lang = "de" %}{{ lang }}{{ words.title }}'},
    "a variable of the part's own": {
        "html.jinja": '{% include "part.html.jinja" %}{{ code }}',
        "part.html.jinja": '{% set code = "x" %}{{ code }}',
    },
    "a loop": {"html.jinja": "{% for lang in items %}{{ lang }}{{ loop.index }}{% endfor %}{{ lang }}"},
    "a macro": {"html.jinja": "{% macro m(code) %}{{ code }}{% endmacro %}{{ m('y') }}{{ code }}"},
    "a block that asks for the one above it": {
        "html.jinja": '{% extends "a.html.jinja" %}{% block b %}{{ super() }}{{ code }}{% endblock %}',
        "a.html.jinja": "{% block b %}above{% endblock %}",
    },
    "a block printed twice": {"html.jinja": "{% block b %}{{ code }}{% endblock %}{{ self.b() }}"},
    "a frame that the mail names": {
        "html.jinja": "{% extends logo or 'a.html.jinja' %}{% block b %}{{ code }}{% endblock %}",
        "a.html.jinja": "<{% block b %}{% endblock %}>",
    },
    "text before the frame": {
        "html.jinja": 'before{% extends "a.html.jinja" %}{% block b %}{{ code }}{% endblock %}',
        "a.html.jinja": "<{% block b %}{% endblock %}>",
    },
    "a part that may be missing": {"html.jinja": '{% include "gone.html.jinja" ignore missing %}{{ code }}'},
    "a text part in HTML": {
        "html.jinja": '{% include "part.text.jinja" %}',
        "part.text.jinja": "{{ words.title }}",
    },
    "a part with blocks": {
        "html.jinja": '{% block b %}1{% endblock %}{% include "part.html.jinja" %}',
        "part.html.jinja": "{% block b %}2{% endblock %}",
    },
    "escaping switched off": {"html.jinja": "{% autoescape false %}{{ words.title }}{% endautoescape %}"},
}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge a template when the first mail is written, and wait for it."""
    monkeypatch.setattr(compiling, "_MERGE_AFTER", 1)
    monkeypatch.setattr(compiling, "submit", lambda work: work())


def is_merged(page: BoundTemplate) -> bool:
    return page._merged is not None


def engine_of(templates: Mapping[str, str]) -> Engine:
    return Engine({name: Source(text, name) for name, text in templates.items()}, {"brand": {"name": "Acme"}})


@pytest.mark.parametrize("templates", FLAT.values(), ids=FLAT.keys())
def test_a_merged_template_prints_the_same(templates: Mapping[str, str]) -> None:
    engine = engine_of(templates)
    assert engine.merge_template("html.jinja", CONSTANTS) is not None
    assert BoundTemplate(engine, "html.jinja", CONSTANTS).render(dict(VARIABLES)) == engine.render(
        "html.jinja", dict(VARIABLES)
    )


@pytest.mark.parametrize("templates", AS_THEY_ARE.values(), ids=AS_THEY_ARE.keys())
def test_a_template_with_scopes_of_its_own_is_not_merged(templates: Mapping[str, str]) -> None:
    engine = engine_of(templates)
    assert engine.merge_template("html.jinja", CONSTANTS) is None
    assert BoundTemplate(engine, "html.jinja", CONSTANTS).render(dict(VARIABLES)) == engine.render(
        "html.jinja", dict(VARIABLES)
    )


def test_a_template_that_extends_itself_is_an_error() -> None:
    engine = engine_of({"html.jinja": '{% extends "html.jinja" %}'})
    with pytest.raises(RenderingError, match=r"html\.jinja"):
        BoundTemplate(engine, "html.jinja", {}).render({})


def test_an_error_of_a_merged_template_names_the_line_of_the_original_file() -> None:
    engine = engine_of(
        {
            "html.jinja": '{% extends "a.html.jinja" %}{% block b %}{{ code }}{% endblock %}',
            "a.html.jinja": "one\ntwo\n{{ 1 // code|length }}{% block b %}{% endblock %}",
        }
    )
    page = BoundTemplate(engine, "html.jinja", {})
    assert page.render({"code": "1"}) == "one\ntwo\n11"
    with pytest.raises(RenderingError, match=r"a\.html\.jinja, line 3: divides by zero"):
        page.render({"code": ""})


def test_a_missing_template_is_an_error() -> None:
    engine = engine_of({"html.jinja": '{% include "gone.html.jinja" %}'})
    with pytest.raises(
        RenderingError, match=r"html\.jinja, line 1: extends or includes a template that does not exist"
    ):
        BoundTemplate(engine, "html.jinja", {}).render({})


def test_the_bundled_mails_are_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_renderer()
    messages = [
        message(kind, sample, language)
        for kind, languages in made.inventory({}).kinds.items()
        for language in languages
        for sample in Sample
    ]
    fast = [made.render(one, sender=SENDER, reply_to=None) for one in messages]
    rendered: set[str] = set()

    def as_written(page: BoundTemplate, variables: dict[str, Any]) -> str:
        assert is_merged(page), f"{page.name} cannot be merged"
        rendered.add(page.name)
        return page._engine.render(page.name, variables, ascii_only=page._ascii_only)

    monkeypatch.setattr(BoundTemplate, "render", as_written)
    assert fast == [made.render(one, sender=SENDER, reply_to=None) for one in messages]
    assert len(messages) >= 800
    assert len(rendered) >= 6


def test_only_frequently_rendered_templates_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_MERGE_AFTER", 3)
    page = BoundTemplate(engine_of(FLAT["a plain one"]), "html.jinja", CONSTANTS)
    merged = []
    for _ in range(4):
        page.render(dict(VARIABLES))
        merged.append(is_merged(page))
    assert merged == [False, False, True, True]


def test_a_mail_does_not_wait_for_the_merged_template(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[Callable[[], None]] = []
    monkeypatch.setattr(compiling, "submit", submitted.append)
    page = BoundTemplate(engine_of(FLAT["a plain one"]), "html.jinja", CONSTANTS)
    before = page.render(dict(VARIABLES))
    assert not is_merged(page)
    [merge] = submitted
    merge()
    assert is_merged(page)
    assert page.render(dict(VARIABLES)) == before


def test_a_template_too_deep_to_be_merged_is_rendered_unmerged() -> None:
    """Each file can be compiled, all of them together cannot."""
    begin, end = "{% if code %}" * 60, "{% endif %}" * 60
    engine = engine_of(
        {
            "html.jinja": f'{begin}{{% include "p.html.jinja" %}}{end}',
            "p.html.jinja": f"{begin}{{{{ code }}}}{end}",
        }
    )
    assert BoundTemplate(engine, "html.jinja", {}).render({"code": "123456"}) == "123456"
