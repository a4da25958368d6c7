"""Documents are recognized by their shape."""

import pytest

from mailroom.errors import ImportingError
from mailroom.importing.recognize import LARGEST, decode
from tests.importing.parts import config, contents, planned, reasons, row, template_row


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{", "is not JSON (line 1, column 2)"),
        (b"", "is not JSON"),
        (b'{"a": NaN}', "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "is not JSON"),
        (b'"\xff"', "is not UTF-8"),
        (b" " * (LARGEST + 1), "larger than 10 MiB"),
    ],
    ids=["cut off", "empty", "NaN", "deep", "long number", "latin-1", "huge"],
)
def test_an_invalid_document_is_reported(raw: bytes, problem: str) -> None:
    with pytest.raises(ImportingError) as error:
        decode(raw, "given.json")
    assert problem in str(error.value)
    assert str(error.value).startswith("given.json is ")


def test_a_byte_order_mark_is_accepted() -> None:
    assert decode(b'\xef\xbb\xbf{"a": 1}', "given.json") == {"a": 1}


def test_items_of_a_list_are_recognized_one_by_one() -> None:
    """`GET /api/connectors` returns social and SMS connectors too, which are skipped."""
    social = {"connectorId": "google-universal", "type": "Social", "config": {"clientSecret": "x"}}
    made = planned([social, row("smtp"), template_row()])
    assert [provider.source for provider in made.providers] == ["given.json[1]"]
    assert "SignIn/logto/fr-CA.html" in contents(made.files)
    assert made.left_out == []


def test_the_body_of_a_management_api_request_can_be_imported() -> None:
    made = planned({"templates": [template_row(), template_row(languageTag="de")]})
    assert {file.name for file in made.files} == {"fr-CA.toml", "fr-CA.html", "de.toml", "de.html"}


def test_sendgrid_and_mailjunky_are_distinguished_by_the_api_key() -> None:
    undecided = {**config("sendgrid-email"), "apiKey": "what-is-this"}
    made = planned(undecided)
    assert len(made.files) == 18
    assert made.providers == ()
    assert "look alike" in reasons(made)["provider settings"]
    assert planned(undecided, assume="mailjunky").providers[0].settings["type"] == "mailjunky"
    assert planned(config("mailjunky"), assume=None).providers[0].settings["type"] == "mailjunky"


@pytest.mark.parametrize(
    "document",
    [
        *(None, 1, "text", {}, {"templates": []}, [[]]),
        {"connectorId": 5, "config": {}},
        {"connectorId": "acme-mail", "type": "Email"},
    ],
    ids=str,
)
def test_other_documents_are_left_out(document: object) -> None:
    made = planned(document)
    assert (made.files, made.providers, len(made.left_out)) == ((), (), 1)


def test_a_row_whose_configuration_is_no_object_is_left_out() -> None:
    assert "no JSON object" in reasons(planned({**row("smtp"), "config": [1]}))["config"]


def test_logtos_email_service_and_the_http_connector_have_nothing_to_import() -> None:
    built_in = planned({"connectorId": "logto-email", "type": "Email", "config": {"appSecret": "geheim"}})
    assert "no templates" in reasons(built_in)["Logto's built-in email service"]
    for http in ({"endpoint": "https://x.example", "authorization": "Bearer y"}, {"connectorId": "http-email"}):
        made = planned(http)
        assert (made.left_out, len(made.notes)) == ([], 1)
