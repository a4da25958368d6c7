"""In development only this machine is let in."""

from collections.abc import Iterator

import pytest

from tests.handlers.serving import Client, Running, served

BODY = b'{"to": "ada@example.com"}'


@pytest.fixture(scope="module")
def dev() -> Iterator[Running]:
    with served(dev=True) as server:
        yield server


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "127.0.0.1",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:8000",
        "LOCALHOST",
        "host.docker.internal:8000",
    ],
)
def test_any_authorization_is_accepted_from_this_machine(dev: Running, host: str) -> None:
    assert dev.ask("POST", "/email", body=BODY, host=host).status == 200
    assert dev.ask("POST", "/email", body=BODY, host=host, authorization="anything").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "192.168.0.2:8000", "[::2]"]
)
@pytest.mark.parametrize("path", ["/email", "/webhook", "/livez", "/console/captured", "/"])
def test_a_foreign_host_is_refused_everywhere(dev: Running, path: str, host: str) -> None:
    assert dev.ask("POST" if path in ("/email", "/webhook") else "GET", path, body=BODY, host=host).status == 403


@pytest.mark.parametrize("name", ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip"])
def test_a_forwarded_request_is_refused(dev: Running, name: str) -> None:
    assert dev.ask("POST", "/email", body=BODY, **{name: "127.0.0.1"}).status == 403


def test_another_sites_page_cannot_post(dev: Running) -> None:
    assert dev.ask("POST", "/email", body=BODY, sec_fetch_site="cross-site").status == 403
    assert dev.ask("GET", "/console/captured", sec_fetch_site="cross-site").status == 200


def test_two_host_headers_are_refused(dev: Running) -> None:
    with Client(dev.port) as client:
        client.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert client.answer().status in (400, 403)


def test_the_first_page_links_to_the_mails(dev: Running) -> None:
    answer = dev.ask("GET", "/")
    assert answer.status == 200
    assert b'href="/console/captured"' in answer.body


def test_in_production_there_is_no_first_page(server: Running) -> None:
    assert server.ask("GET", "/").status == 404
