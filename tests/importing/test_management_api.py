"""Connectors and templates are fetched through the Management API."""

from collections.abc import Iterator

import httpx
import pytest

from mailroom.errors import ImportingError
from mailroom.importing.management_api import fetch, resource_of
from mailroom.importing.recognize import LARGEST
from tests.importing.logto_double import APP_ID, APP_SECRET, Logto, listening


@pytest.fixture
def logto() -> Iterator[Logto]:
    with listening() as running:
        yield running


def test_connectors_and_templates_are_returned_with_their_urls(logto: Logto) -> None:
    found = fetch(f"{logto.url}/", app_id=APP_ID, app_secret=APP_SECRET)
    assert found == [
        (f"{logto.url}/api/connectors", logto.connectors),
        (f"{logto.url}/api/email-templates", logto.templates),
    ]
    assert logto.requests == ["POST /oidc/token", "GET /api/connectors", "GET /api/email-templates"]


def test_an_older_logto_has_no_templates(logto: Logto) -> None:
    logto.templates = None
    assert fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET)[1][1] == []


def test_the_resource_can_be_overridden(logto: Logto) -> None:
    logto.resource = "https://auth.acme.example/api"
    assert fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET, resource="https://auth.acme.example/api")
    with pytest.raises(ImportingError, match="invalid_target; check --resource"):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET)


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        ("https://auth.acme.example", "https://default.logto.app/api"),
        ("http://localhost:3001", "https://default.logto.app/api"),
        ("https://foo.logto.app", "https://foo.logto.app/api"),
        ("https://foo.logto.app.evil.example", "https://default.logto.app/api"),
    ],
)
def test_the_resource_is_derived_from_the_url(url: str, resource: str) -> None:
    assert resource_of(url) == resource


def test_a_wrong_secret_is_reported_and_not_shown(logto: Logto) -> None:
    with pytest.raises(ImportingError, match="401 invalid_client; check --app-id and the secret") as error:
        fetch(logto.url, app_id=APP_ID, app_secret="geheim")
    assert "geheim" not in str(error.value)
    assert logto.requests == ["POST /oidc/token", "GET /api/.well-known/endpoints/default"]


def test_a_role_without_permission_is_reported(logto: Logto) -> None:
    logto.scope = ""
    with pytest.raises(ImportingError, match=r"403 auth\.forbidden; give the application a role"):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"<html>", "is not JSON"),
        (b"[]", "is this Logto"),
        (b'{"access_token": 5}', "is this Logto"),
        (b'{"access_token": "a\\nb"}', "is this Logto"),
        (b" " * (LARGEST + 1), "more than 10 MiB"),
    ],
    ids=["a page", "a list", "a number", "a header", "huge"],
)
def test_a_server_that_is_not_logto_is_reported(logto: Logto, raw: bytes, problem: str) -> None:
    logto.raw = raw
    with pytest.raises(ImportingError, match=problem):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET)


def test_a_response_without_a_list_is_reported(logto: Logto) -> None:
    logto.connectors = {"message": "hi"}
    with pytest.raises(ImportingError, match="does not answer with a list"):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET)


def test_an_unreachable_logto_is_reported(logto: Logto) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ImportingError, match="no Logto answers at http"):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET, transport=httpx.MockTransport(refuse))


def test_redirects_are_not_followed(logto: Logto) -> None:
    asked = []

    def redirect(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(302, headers={"location": "https://evil.example/"})

    with pytest.raises(ImportingError, match="302"):
        fetch(logto.url, app_id=APP_ID, app_secret=APP_SECRET, transport=httpx.MockTransport(redirect))
    assert asked == ["127.0.0.1"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "logto.acme.example",
        "ftp://x",
        "https://",
        "http://[::1",
        "https://a b",
        "https://u:p@x.example",
        "https://x/?a",
    ],
)
def test_an_invalid_url_is_refused(url: str) -> None:
    """One with credentials too: the report prints the URL."""

    def asked(request: httpx.Request) -> httpx.Response:
        pytest.fail(f"asked {request.url}")

    with pytest.raises(ImportingError):
        fetch(url, app_id="a", app_secret="b", transport=httpx.MockTransport(asked))


@pytest.mark.parametrize("path", ["/api", "/api/connectors", "/console/get-started", "/oidc", "/sign-in"])
def test_an_address_with_a_page_of_logtos_is_refused_with_the_right_one(path: str) -> None:
    with pytest.raises(ImportingError) as error:
        fetch(f"https://logto.acme.example{path}", app_id=APP_ID, app_secret=APP_SECRET)
    assert str(error.value) == f"write Logto's address without {path}: https://logto.acme.example"


def test_the_admin_consoles_address_is_recognised(logto: Logto) -> None:
    """Its tokens are for other applications; it names the right address."""
    logto.core = "http://logto.acme.example:3001/"
    with pytest.raises(ImportingError) as error:
        fetch(logto.url, app_id="an-application-of-the-other", app_secret=APP_SECRET)
    assert str(error.value) == (
        f"{logto.url} is the admin console's address, which does not know your application; "
        "write http://logto.acme.example:3001"
    )


def test_the_cloud_console_is_recognised() -> None:
    with pytest.raises(ImportingError) as error:
        fetch("https://cloud.logto.io/", app_id=APP_ID, app_secret=APP_SECRET)
    assert str(error.value) == "cloud.logto.io is Logto Cloud's console; write https://<tenant>.logto.app"


def test_another_server_is_told_from_logto(logto: Logto) -> None:
    with pytest.raises(ImportingError) as error:
        fetch(f"{logto.url}/elsewhere", app_id=APP_ID, app_secret=APP_SECRET)
    assert str(error.value) == (
        f"{logto.url}/elsewhere has no /oidc/token, so it is not Logto's address; write the address at which your "
        "users sign in, Logto's ENDPOINT (port 3001 unless it was changed)"
    )
