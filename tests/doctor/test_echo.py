"""The public address, requested from an echo service on loopback."""

import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mailroom.clock import SystemClock
from mailroom.doctor.check_results import Mark
from mailroom.doctor.echo import _EchoEgress, describe_egress, seen_address
from mailroom.providers.egress import Egress, parse_proxy
from mailroom.providers.http.http_settings import HttpSettings
from tests.http_recorder import Answer, Recorder, ca_file
from tests.smtp_server import authority


def settings(**given: Any) -> HttpSettings:
    return HttpSettings(type="acme", **given)


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"203.0.113.9\n", "203.0.113.9"),
        (b"2001:db8::9", "2001:db8::9"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b'{"ip": "203.0.113.9", "country": "XX"}', "203.0.113.9"),
        (b'"203.0.113.9"', "203.0.113.9"),
        (b"h=echo.example\nip=203.0.113.9\nts=1\n", "203.0.113.9"),
    ],
)
async def test_the_response_may_be_text_or_json(body: bytes, address: str) -> None:
    async with Recorder(Answer(200, body), tls=False) as echo:
        finding, seen = await seen_address(settings(), f"{echo.url}/ip", SystemClock())
        assert (finding.mark, str(seen)) == (Mark.GOOD, address)
        assert address in finding.text
        (request,) = echo.requests
        assert (request.method, request.target) == ("GET", "/ip")


async def test_the_request_leaves_from_the_providers_local_address() -> None:
    async with Recorder(Answer(200, b"203.0.113.9"), tls=False) as echo:
        finding, _ = await seen_address(settings(local_address="127.0.0.2"), echo.url, SystemClock())
        assert echo.requests[0].peer[0] == "127.0.0.2"
        assert "from local_address 127.0.0.2" in finding.text


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>hello</html>"),
        Answer(500, b"203.0.113.9"),
        Answer(200, b'{"ip": 7}'),
        Answer(200, b"999.1.1.1"),
    ],
)
async def test_a_response_without_an_address_has_no_result(answer: Answer) -> None:
    async with Recorder(answer, tls=False) as echo:
        finding, seen = await seen_address(settings(), echo.url, SystemClock())
        assert (finding.mark, seen) == (Mark.UNKNOWN, None)


async def test_without_echo_url_there_is_no_request() -> None:
    finding, seen = await seen_address(settings(), None, SystemClock())
    assert (finding.mark, seen) == (Mark.UNKNOWN, None)
    assert "echo_url" in finding.todo


async def test_an_unreachable_proxy_is_wrong() -> None:
    """Mails could not be sent either."""
    way = settings(proxy="http://user:hunter22@127.0.0.1:1")
    finding, seen = await seen_address(way, "http://echo.example/ip", SystemClock())
    assert (finding.mark, seen) == (Mark.WRONG, None)
    assert "through the proxy 127.0.0.1:1" in finding.text
    assert "hunter22" not in finding.text


def test_the_egress_is_described_without_the_proxys_password() -> None:
    egress = Egress(ip_address("192.0.2.4"), parse_proxy(SecretStr("socks5://user:hunter22@proxy.example")))
    assert describe_egress(egress) == "through the proxy proxy.example:1080, from local_address 192.0.2.4"


async def test_the_providers_authorities_are_trusted() -> None:
    """Those of a proxy that reads TLS, for example."""
    async with Recorder(Answer(200, b"203.0.113.9"), tls=True) as echo:
        finding, _ = await seen_address(settings(), echo.url, SystemClock())
        assert finding.mark is Mark.WRONG, "it is not the system's"
        assert "the certificate of localhost" in finding.text
        finding, seen = await seen_address(settings(ca_file=ca_file()), echo.url, SystemClock())
        assert (finding.mark, str(seen)) == (Mark.GOOD, "203.0.113.9")


def test_the_systems_authorities_are_trusted_as_well() -> None:
    """The service has another certificate than a relay of one's own."""
    with authority().cert_pem.tempfile() as own:
        context = _EchoEgress(ca_file=Path(own)).tls_context()
    assert context.cert_store_stats()["x509_ca"] == ssl.create_default_context().cert_store_stats()["x509_ca"] + 1
