"""The inventory of mails for `check` and `preview`."""

from pathlib import Path

from mailroom.message import Priority
from mailroom.rendering.overlay import Owner
from mailroom.rendering.renderer import BUNDLED
from tests.rendering.overlays import renderer_with
from tests.rendering.samples import full, make_renderer, message

APP, ORG = Owner("application", "app1"), Owner("organization", "org1")
FILES = {
    "locales/en.toml": '[SignIn]\nsubject = "root {code}"\n',
    "applications/app1/locales/en.toml": '[SignIn]\nsubject = "app {code}"\n'
    '[Receipt]\nsubject = "s"\npreheader = "p"\ntitle = "t"\n',
    "organizations/org1/SignIn/text.jinja": "{{ code }}",
}


def test_an_owners_templates_lie_over_everybodys(tmp_path: Path) -> None:
    renderer = renderer_with(tmp_path / "mine", FILES)
    assert set(renderer.owners) == {APP, ORG}
    assert (APP.folder, APP.payload) == ("applications/app1", {"application": {"id": "app1"}})
    everybodys, app = renderer.inventory({}), renderer.inventory(APP.payload)
    assert "Receipt" in app.kinds
    assert "Receipt" not in everybodys.kinds
    asked = message("SignIn", full("SignIn"))
    subjects = [one.mail_sources(asked).translations["subject"] for one in (app, everybodys)]
    assert subjects == ["app {code}", "root {code}"]
    assert everybodys.below
    assert everybodys.below.mail_sources(asked).translations["subject"] == "{code} is your {app} sign-in code"
    assert everybodys.below.below is None


def test_the_folders_are_those_whose_files_are_used(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    renderer = renderer_with(mine, FILES)
    both = renderer.inventory({**APP.payload, **ORG.payload})
    assert both.folders == (
        ("mine/organizations/org1/", mine / "organizations/org1"),
        ("mine/applications/app1/", mine / "applications/app1"),
        ("mine/", mine),
        ("", BUNDLED),
    )
    level_of = renderer.inventory(ORG.payload).layers.levels
    assert both.layers.levels["SignIn/text.jinja"] == level_of["SignIn/text.jinja"] + 1
    assert renderer.inventory({"application": {"id": "../x"}}).folders == both.folders[2:]
    assert make_renderer().inventory(APP.payload).folders == (("", BUNDLED),)


def test_an_event_that_nobody_has_words_for_is_made_of_nothing() -> None:
    asked = message("Nonsense", {"locale": "en"}, priority=Priority.EVENT)
    made = make_renderer().inventory({}).mail_sources(asked)
    assert (made.templates, made.translations, made.direction) == ((), {}, "")
