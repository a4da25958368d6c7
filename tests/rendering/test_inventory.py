"""The inventory of mails for `check` and `preview`."""

from pathlib import Path

from mailroom.message import Priority
from mailroom.rendering.overlay import Owner
from mailroom.rendering.renderer import BUNDLED
from tests.rendering.overlays import over
from tests.rendering.samples import full, message, writer

APP, ORG = Owner("application", "app1"), Owner("organization", "org1")
FILES = {
    "locales/en.toml": '[SignIn]\nsubject = "root {code}"\n',
    "applications/app1/locales/en.toml": '[SignIn]\nsubject = "app {code}"\n'
    '[Receipt]\nsubject = "s"\npreheader = "p"\ntitle = "t"\n',
    "organizations/org1/SignIn/text.jinja": "{{ code }}",
}


def test_an_owners_templates_lie_over_everybodys(tmp_path: Path) -> None:
    author = over(tmp_path / "mine", FILES)
    assert set(author.owners) == {APP, ORG}
    assert (APP.folder, APP.payload) == ("applications/app1", {"application": {"id": "app1"}})
    everybodys, app = author.inventory({}), author.inventory(APP.payload)
    assert "Receipt" in app.kinds
    assert "Receipt" not in everybodys.kinds
    asked = message("SignIn", full("SignIn"))
    subjects = [one.ingredients(asked).translations["subject"] for one in (app, everybodys)]
    assert subjects == ["app {code}", "root {code}"]
    assert everybodys.below
    assert everybodys.below.ingredients(asked).translations["subject"] == "{code} is your {app} sign-in code"
    assert everybodys.below.below is None


def test_the_folders_are_those_whose_files_are_used(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    author = over(mine, FILES)
    both = author.inventory({**APP.payload, **ORG.payload})
    assert both.folders == (
        ("mine/organizations/org1/", mine / "organizations/org1"),
        ("mine/applications/app1/", mine / "applications/app1"),
        ("mine/", mine),
        ("", BUNDLED),
    )
    level_of = author.inventory(ORG.payload).layers.levels
    assert both.layers.levels["SignIn/text.jinja"] == level_of["SignIn/text.jinja"] + 1
    assert author.inventory({"application": {"id": "../x"}}).folders == both.folders[2:]
    assert writer().inventory(APP.payload).folders == (("", BUNDLED),)


def test_an_event_that_nobody_has_words_for_is_made_of_nothing() -> None:
    asked = message("Nonsense", {"locale": "en"}, priority=Priority.EVENT)
    made = writer().inventory({}).ingredients(asked)
    assert (made.templates, made.translations, made.direction) == ((), {}, "")
