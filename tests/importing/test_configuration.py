"""Imported settings are merged with existing ones."""

import tomllib
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailroom.config import toml
from mailroom.importing.configuration import Configuration, ExistingSettings, merge
from mailroom.importing.plan import ImportLog
from tests.importing.parts import Imported, config, plan_all, planned, row, template_row

PASSWORD = "MAILROOM_PROVIDERS__MAIN__PASSWORD"


def merged(
    made: Imported,
    present: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[Configuration, ImportLog]:
    """Merge an import with existing settings."""
    log = ImportLog()
    existing = ExistingSettings(present, variables or {})
    return merge(made.plan, existing, templates="my-templates", log=log), log


def test_without_a_settings_file_a_new_one_is_made() -> None:
    made, log = merged(planned(row("smtp")))
    assert made.new_toml is not None
    assert tomllib.loads(made.new_toml) == {
        "from": "Acme <no-reply@acme.example>",
        "reply_to": "help@acme.example",
        "templates": "my-templates",
        "providers": {
            "main": {
                "type": "smtp",
                "host": "smtp.acme.example",
                "port": 587,
                "tls": "opportunistic",
                "username": "acme",
            }
        },
    }
    assert made.new_variables == {PASSWORD: "made-up-password"}
    assert (made.block, log.left_out) == ("", [])
    assert "made-up-password" not in made.new_toml + repr(made)


def test_a_second_import_finds_its_settings_in_place() -> None:
    for document in (row("smtp"), row("postmark"), row("aws-ses"), [row("smtp"), row("mailgun"), template_row()]):
        first, _ = merged(planned(document))
        again, log = merged(planned(document), tomllib.loads(first.new_toml or ""), first.new_variables)
        assert (again.new_toml, again.block, again.new_variables, log.left_out) == (None, "", {}, [])
        assert again.settled


def test_a_second_provider_with_another_sender_has_its_own_from() -> None:
    other = {**config("mailgun"), "from": "Bulk <bulk@acme.example>"}
    made, _ = merged(plan_all([("a", row("smtp")), ("b", other)]))
    tree = tomllib.loads(made.new_toml or "")
    assert tree["providers"]["mailgun"]["from"] == "Bulk <bulk@acme.example>"
    assert "from" not in tree["providers"]["main"]


def test_an_existing_file_is_not_changed_and_gets_a_block_to_paste() -> None:
    present = {"from": "Other <o@acme.example>", "templates": "my-templates", "providers": {"x": {"type": "capture"}}}
    made, log = merged(planned(row("smtp")), present)
    assert made.new_toml is None
    pasted = tomllib.loads(made.block)
    assert pasted["providers"]["main"]["from"] == "Acme <no-reply@acme.example>"
    assert pasted["reply_to"] == "help@acme.example"
    assert "from" not in pasted
    assert {left.what for left in log.left_out} == {"reply_to", "providers.main"}


def test_secrets_are_not_added_before_their_provider_exists() -> None:
    """A variable for a provider that the file does not have would be a fault, and the server would not start."""
    made, _ = merged(planned(row("smtp")), {"providers": {"main": {"type": "capture"}}})
    assert made.new_variables == {}


def test_secrets_are_added_once_the_provider_exists() -> None:
    first, _ = merged(planned(row("smtp")), {})
    again, log = merged(planned(row("smtp")), tomllib.loads(first.block))
    assert again.new_variables == {PASSWORD: "made-up-password"}
    assert log.left_out == []


def test_an_existing_provider_with_other_values_is_reported_with_the_differences() -> None:
    main = {"type": "smtp", "host": "smtp.other.example", "port": 587, "tls": "starttls", "username": "acme"}
    made, log = merged(planned(row("smtp")), {"from": "a@b.example", "providers": {"main": main}})
    [left] = [left for left in log.left_out if left.what == "providers.main"]
    assert left.why.endswith("with other values: host, tls, from")
    assert "[providers.main]" in made.block


def test_additional_settings_of_a_provider_are_no_difference() -> None:
    first, _ = merged(planned(row("smtp")))
    tree = tomllib.loads(first.new_toml or "")
    tree["providers"]["main"]["concurrency"] = 3
    again, log = merged(planned(row("smtp")), tree, first.new_variables)
    assert (again.block, log.left_out) == ("", [])


def test_a_general_setting_with_another_value_is_not_changed() -> None:
    first, _ = merged(planned(row("smtp")))
    tree = tomllib.loads(first.new_toml or "") | {"reply_to": "me@acme.example"}
    made, log = merged(planned(row("smtp")), tree, first.new_variables)
    assert made.block == ""
    assert [(left.what, left.why) for left in log.left_out] == [("reply_to", "mailroom.toml has another value")]


def test_an_existing_secret_is_not_changed() -> None:
    first, _ = merged(planned(row("smtp")))
    tree = tomllib.loads(first.new_toml or "")
    in_toml = {**tree, "providers": {"main": {**tree["providers"]["main"], "password": "made-up-password"}}}
    for present, variables in (
        (tree, {PASSWORD: "made-up-password"}),
        (tree, {f"{PASSWORD}_FILE": "/x"}),
        (in_toml, {}),
    ):
        made, log = merged(planned(row("smtp")), present, variables)
        assert (made.new_variables, log.left_out) == ({}, [])
    made, log = merged(planned(row("smtp")), tree, {PASSWORD: "another"})
    assert made.new_variables == {}
    assert [left.what for left in log.left_out] == [PASSWORD]
    assert "made-up" not in str(log)


def test_a_secret_in_a_nested_table_has_its_own_variable() -> None:
    auth = {"type": "oauth2", "user": "a@b.example", "clientId": "i", "clientSecret": "s", "refreshToken": "r"}
    document = {**config("smtp"), "auth": auth}
    made, _ = merged(planned(document))
    assert made.new_variables == {
        "MAILROOM_PROVIDERS__MAIN__OAUTH2__CLIENT_SECRET": "s",
        "MAILROOM_PROVIDERS__MAIN__OAUTH2__REFRESH_TOKEN": "r",
    }
    tree = tomllib.loads(made.new_toml or "")
    tree["providers"]["main"]["oauth2"] |= {"client_secret": "s", "refresh_token": "r"}
    again, log = merged(planned(document), tree)
    assert (again.new_variables, again.block, log.left_out) == ({}, "", [])


def test_a_password_with_special_characters_is_noted() -> None:
    auth = {"user": "u", "pass": "a$b\\c"}
    _, log = merged(planned({**config("smtp"), "auth": auth}))
    assert any(f"{PASSWORD}_FILE" in note.text for note in log.notes)
    assert "a$b" not in str(log)


def test_an_import_of_templates_alone_needs_one_setting() -> None:
    made, log = merged(planned(template_row()))
    assert (made.new_toml, made.block, log.left_out) == (None, 'templates = "my-templates"\n', [])
    made, log = merged(planned(template_row()), {"providers": {}})
    assert (made.block, [left.what for left in log.left_out]) == ('templates = "my-templates"\n', ["templates"])


TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(values=st.dictionaries(TEXT, VALUES, max_size=5))
def test_written_toml_can_be_read_back(values: dict[str, Any]) -> None:
    assert tomllib.loads(toml.table(("providers", "a b"), values)) == {"providers": {"a b": values}}
