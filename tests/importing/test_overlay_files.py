"""Templates become files, byte for byte; no text of a document becomes a path outside of the folder."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.importing.overlay_files import LONGEST
from mailroom.logto import MESSAGE_TYPES
from tests.importing.parts import config, contents, planned, reasons, template_row

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@given(subject=TEXT, content=TEXT, reply_to=st.none() | TEXT, send_from=st.none() | TEXT)
def test_subject_and_content_are_imported_unchanged(
    subject: str, content: str, reply_to: str | None, send_from: str | None
) -> None:
    """Line breaks of all kinds, quotes, control characters and placeholders included."""
    details = {"subject": subject, "content": content, "replyTo": reply_to, "sendFrom": send_from}
    files = contents(planned(template_row(details=details)).files)
    assert files.pop("SignIn/logto/fr-CA.html") == content.encode()
    wanted = {"subject": subject, "reply_to": reply_to, "send_from": send_from}
    assert tomllib.loads(files.pop("SignIn/logto/fr-CA.toml").decode()) == {
        key: value for key, value in wanted.items() if value is not None
    }
    assert files == {}


@pytest.mark.parametrize(("content_type", "ending"), [(None, "html"), ("text/html", "html"), ("text/plain", "txt")])
def test_a_missing_content_type_means_html(content_type: str | None, ending: str) -> None:
    details = {"subject": "s", "content": "c"} | ({"contentType": content_type} if content_type else {})
    assert f"SignIn/logto/fr-CA.{ending}" in contents(planned(template_row(details=details)).files)


def test_mailguns_text_becomes_a_second_file() -> None:
    delivery = {"subject": "{{code}}", "html": "<b>{{code}}</b>", "text": "{{code}}", "replyTo": "Foo <foo@bar.com>"}
    made = planned({**config("mailgun"), "deliveries": {"SignIn": delivery}})
    assert contents(made.files) == {
        "SignIn/logto/default.toml": b'subject = "{{code}}"\nreply_to = "Foo <foo@bar.com>"\n',
        "SignIn/logto/default.html": b"<b>{{code}}</b>",
        "SignIn/logto/default.txt": b"{{code}}",
    }


HOSTILE = ("../SignIn", "..", "/etc", "SignIn/..", "SignIn\0", "signin", "", None, 7, ["SignIn"], {"a": 1}, "Welcome")


@pytest.mark.parametrize("kind", HOSTILE, ids=repr)
def test_only_logtos_message_types_become_folders(kind: Any) -> None:
    template = {"usageType": kind, "subject": "s", "content": "c", "contentType": "text/html"}
    for made in (
        planned(template_row(templateType=kind)),
        planned({**config("smtp"), "templates": [template]}),
        planned({**config("mailgun"), "deliveries": {str(kind): {"subject": "s", "html": "h"}}}),
    ):
        assert made.files == ()
        assert "no mail of this kind" in made.left_out[0].why


@pytest.mark.parametrize(
    "tag",
    [
        *("../../etc/passwd", "..", ".", "", "/", "en/../..", "en\\x", "en\0", "en\n", "e", "x" * 300, "de_DE"),
        *("default", None, 5, [], "en-" + "a-" * 50),
    ],
    ids=repr,
)
def test_only_language_tags_become_file_names(tag: Any) -> None:
    made = planned(template_row(languageTag=tag))
    assert made.files == ()
    assert [left.why for left in made.left_out] == ["this is no language tag"]


@given(kind=ANY_JSON, tag=ANY_JSON, details=ANY_JSON)
def test_no_row_makes_a_path_outside_of_the_folder(kind: Any, tag: Any, details: Any) -> None:
    made = planned([template_row(templateType=kind, languageTag=tag), template_row(details=details)])
    for file in made.files:
        folder, logto, name = file.path.split("/")
        assert (folder in MESSAGE_TYPES, logto) == (True, "logto")
        assert name.replace("-", "").replace(".", "", 1).isalnum()
    assert len(made.files) > 0 or len(made.left_out) == 2


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"subject": None}, "it has no subject"),
        ({"subject": ""}, "it has no subject"),
        ({"content": None}, "it has no content"),
        ({"content": 5}, "its content is no text"),
        ({"subject": ["a"]}, "its subject is no text"),
        ({"replyTo": 5}, "its replyTo is no text"),
        ({"content": "\ud800"}, "its content contains a lone surrogate"),
        ({"content": "x" * (LONGEST + 1)}, f"its content is longer than {LONGEST} characters"),
        ({"contentType": "text/markdown"}, "its content type is neither text/html nor text/plain"),
        ({"contentType": []}, "its content type is neither text/html nor text/plain"),
    ],
)
def test_an_invalid_template_is_left_out_with_its_reason(over: dict[str, Any], why: str) -> None:
    made = planned(template_row(details={"subject": "s", "content": "c", **over}))
    assert made.files == ()
    assert reasons(made) == {"template SignIn": why}
    assert made.left_out[0].remedy


def test_templates_of_the_wrong_json_type_are_left_out() -> None:
    assert planned({**config("smtp"), "templates": {"a": 1}}).left_out[0].what == "templates"
    assert planned({**config("mailgun"), "deliveries": []}).left_out[0].what == "deliveries"
    made = planned({**config("smtp"), "templates": [None, *config("smtp")["templates"]]})
    assert (len(made.left_out), len(made.files)) == (1, 18)
    assert made.left_out[0].source == "given.json: templates[0]"


def test_the_first_of_two_templates_for_one_kind_is_used_as_in_logto() -> None:
    first, second = ({"usageType": "SignIn", "subject": s, "content": s, "contentType": "text/html"} for s in "12")
    made = planned({**config("smtp"), "templates": [first, second, first]})
    assert contents(made.files)["SignIn/logto/default.html"] == b"1"
    assert reasons(made) == {
        "template SignIn (default)": "there is another one for this kind and language in given.json: templates[0]"
    }


def test_two_spellings_of_one_language_make_one_file() -> None:
    """Some file systems do not distinguish them."""
    made = planned([template_row(), template_row(languageTag="FR-ca", details={"subject": "s", "content": "c"})])
    assert {file.name for file in made.files} == {"fr-CA.toml", "fr-CA.html"}
    assert len(made.left_out) == 1


def test_the_obsolete_kind_test_is_explained() -> None:
    template = {"usageType": "Test", "subject": "s", "content": "c", "contentType": "text/plain"}
    assert "it uses Generic" in reasons(planned({**config("smtp"), "templates": [template]}))["template Test"]


def test_a_connector_without_an_invitation_template_is_noted() -> None:
    """For codes Mailroom falls back to Generic too, for invitations only Logto does."""
    assert any("no template for OrganizationInvitation" in note.text for note in planned(config("mailgun")).notes)
    assert not any("no template for" in note.text for note in planned(config("aws-ses")).notes)


def test_a_sender_of_another_domain_is_noted() -> None:
    senders = ["Acme <a@other.example>", "Acme", "{{application.name}} <a@acme.example>", "b@Acme.example"]
    rows = [
        template_row(languageTag=tag, details={"subject": "s", "content": "c", "sendFrom": sender})
        for tag, sender in zip(("de", "en", "fr", "it"), senders, strict=True)
    ]
    made = planned([config("aws-ses"), *rows])
    assert [note.source for note in made.notes] == ["given.json[1]"]
    assert "the domain other.example" in made.notes[0].text
