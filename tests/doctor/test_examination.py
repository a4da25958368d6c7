"""The examination of one provider as a whole, over a real SMTP server, echo service and name server."""

from ipaddress import ip_address
from typing import Any

import pytest

from mailroom.clock import SystemClock
from mailroom.doctor import CheckResult, Examination, ExaminationOptions, Mark, examine
from mailroom.doctor.examination import _build_sender as build_sender
from mailroom.message import Address
from mailroom.providers.capture import Settings as Capture
from mailroom.providers.http import generic
from mailroom.providers.smtp import smtp_provider
from tests.doctor.conftest import Dns
from tests.doctor.test_sender import GOOD
from tests.http_recorder import Answer, Recorder
from tests.names import SILENT
from tests.providers.contract import SecretsInMemory
from tests.smtp_server import smtp_server
from tests.wire_server import wire_server

SENDER = Address("no-reply@acme.example", "Acme")


async def examined(dns: Dns, settings: Any, **options: Any) -> dict[str, CheckResult]:
    found = await examine(
        "main",
        settings,
        [SENDER],
        resolver=dns(GOOD),
        clock=SystemClock(),
        secrets=SecretsInMemory(),
        options=ExaminationOptions(**options),
    )
    assert isinstance(found, Examination)
    assert (found.provider, found.type) == ("main", settings.type)
    return {finding.about: finding for finding in found.all_results}


async def test_all_checks_of_a_correct_relay_are_good(dns: Dns) -> None:
    """It is local, so it delivers from the address that the echo service sees."""
    async with (
        smtp_server(tls="starttls", users={"ann": "hunter22"}) as server,
        Recorder(Answer(200, b"192.0.2.9"), tls=False) as echo,
    ):
        settings = smtp_provider.Settings(
            host=server.host, port=server.port, ca_file=server.ca_file, username="ann", password="hunter22"
        )
        results = await examined(dns, settings, echo_url=echo.url, selectors=("mail",))
        assert {about: finding.mark for about, finding in results.items()} == dict.fromkeys(
            ("address", "credentials", "envelope", "MX", "SPF", "DKIM", "DMARC", "alignment", "PTR"), Mark.GOOD
        )
        assert results["credentials"].text == f"127.0.0.1:{server.port} takes the login of ann"
        assert results["envelope"].text == "the server would take a mail from no-reply@acme.example"
        assert server.mails == [], "the doctor sends nothing"
        await server.left_alone()


async def test_wrong_credentials_are_reported_with_the_servers_reply(dns: Dns) -> None:
    async with smtp_server(tls="starttls", users={"ann": "hunter22"}) as server:
        settings = smtp_provider.Settings(
            host=server.host, port=server.port, ca_file=server.ca_file, username="ann", password="wrong-one"
        )
        results = await examined(dns, settings)
        assert results["credentials"].mark is Mark.WRONG
        assert "535" in results["credentials"].text
        assert "[providers.main]" in results["credentials"].todo
        await server.left_alone()


@pytest.mark.parametrize("refusal", ["421 4.7.0 Try again later, closing connection.", "550 5.7.1 bad HELO name"])
async def test_a_refusal_of_our_helo_name_is_reported_with_the_setting(dns: Dns, refusal: str) -> None:
    """The error itself looks like an outage."""
    async with wire_server({"EHLO": refusal}) as server:
        results = await examined(dns, smtp_provider.Settings(host=server.host, port=server.port, tls="none"))
    assert results["credentials"].text == refusal
    assert "helo_name" in results["credentials"].todo


@pytest.mark.parametrize(
    ("reply", "mark"),
    [
        ("504 5.5.2 <box>: Helo command rejected: need fully-qualified hostname", Mark.WRONG),
        ("450 4.7.1 <box>: Helo command rejected: Host not found", Mark.WRONG),
        ("450 4.2.0 Greylisted", Mark.UNKNOWN),
        ("550 5.1.1 no-reply@acme.example: user unknown", Mark.UNKNOWN),
        ("550 5.7.0 Not accepted for policy reasons", Mark.WRONG),
    ],
)
async def test_helo_and_sender_are_tried_without_a_mail(dns: Dns, reply: str, mark: Mark) -> None:
    """Postfix judges HELO when it knows the recipient."""
    async with wire_server({"RCPT": reply}) as server:
        results = await examined(dns, smtp_provider.Settings(host=server.host, port=server.port, tls="none"))
        assert server.verbs[-3:] == ["MAIL", "RCPT", "QUIT"]
    envelope = results["envelope"]
    assert (results["credentials"].mark, envelope.mark, envelope.text) == (Mark.GOOD, mark, reply)
    if "Helo" in reply:
        assert envelope.todo == (
            "correct [providers.main]: set helo_name of this provider to a full host name that the DNS knows"
        )
    if "Greylisted" in reply:
        assert envelope.todo == "the recipient's server takes a mail only at its second try"
    if "policy" in reply:
        assert envelope.todo == (
            "correct [providers.main]: not about the recipient's address: correct what the reply says, then run "
            "`mailroom outbox retry`"
        )
    if "5.1.1" in reply:
        assert envelope.todo == "no-reply@acme.example takes no mail: set reply_to if readers may answer"


@pytest.mark.parametrize("tls", ["starttls", "opportunistic", "none"])
async def test_a_server_that_waits_for_tls_is_recognised(dns: Dns, tls: str) -> None:
    """It is silent, as one behind a firewall is. Nothing is logged in by the second try."""
    async with smtp_server(tls="implicit", users={"ann": "hunter22"}) as server:
        settings = smtp_provider.Settings(
            host=server.host, port=server.port, tls=tls, username="ann", password="hunter22", connect_timeout=0.5
        )
        results = await examined(dns, settings)
        assert results["credentials"] == CheckResult(
            "credentials",
            Mark.WRONG,
            f"127.0.0.1:{server.port} does not understand us: it waits for TLS from the first octet",
            'set tls = "implicit" in [providers.main]',
        )
        assert server.commands["AUTH"] == 0


async def test_a_server_that_begins_in_clear_is_recognised(dns: Dns) -> None:
    async with smtp_server(tls="starttls") as server:
        settings = smtp_provider.Settings(host=server.host, port=server.port, tls="implicit")
        results = await examined(dns, settings)
        assert "it begins in clear and offers STARTTLS" in results["credentials"].text
        assert results["credentials"].todo == 'set tls = "starttls" in [providers.main]'


async def test_an_unreachable_server_is_wrong(dns: Dns) -> None:
    results = await examined(dns, smtp_provider.Settings(host="127.0.0.1", port=1, tls="none"))
    assert results["credentials"].mark is Mark.WRONG
    assert "cannot connect" in results["credentials"].text


async def test_no_echo_service_is_used_unless_configured(dns: Dns) -> None:
    results = await examined(dns, smtp_provider.Settings(host="127.0.0.1", port=1, tls="none"))
    assert results["address"].mark is Mark.UNKNOWN
    assert "PTR" not in results


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True),
        ("10.0.0.5", True),
        ("postfix", True),
        ("relay.acme.example", True),
        ("8.8.8.8", False),
        ("smtp.elsewhere.example", False),
        ("nowhere.example", False),
        ("silent.example", False),
        ("smtp.sendgrid.net", False),
    ],
)
async def test_only_a_local_relay_delivers_from_our_public_address(dns: Dns, host: str, *, is_local: bool) -> None:
    """Other relays have addresses of their own, which the operator may name."""
    resolver = dns(
        {
            ("relay.acme.example", "A"): ["10.0.0.5"],
            ("smtp.elsewhere.example", "A"): ["8.8.8.8"],
            ("silent.example", "A"): [SILENT],
        }
    )
    settings, seen, named = smtp_provider.Settings(host=host), ip_address("192.0.2.9"), ip_address("192.0.2.10")
    assert (await build_sender(settings, SENDER, seen, resolver, ExaminationOptions())).egress == (
        (seen,) if is_local else ()
    )
    assert (await build_sender(settings, SENDER, None, resolver, ExaminationOptions())).egress == ()
    results = ExaminationOptions(egress=(named,))
    is_vendor = host == "smtp.sendgrid.net"
    assert (await build_sender(settings, SENDER, seen, resolver, results)).egress == (() if is_vendor else (named,))


async def test_a_provider_that_cannot_be_verified_gets_no_request(dns: Dns) -> None:
    """Any request to it might send a mail."""
    async with Recorder(Answer(200), tls=False) as service:
        results = await examined(dns, generic.Settings.model_validate({"url": f"{service.url}/mail"}))
        assert results["credentials"].mark is Mark.UNKNOWN
        assert results["credentials"].text == "http cannot be verified without sending"
        assert "mailroom send" in results["credentials"].todo
        assert service.connections == 0


async def test_capture_is_not_examined(dns: Dns) -> None:
    results = await examined(dns, Capture())
    assert set(results) == {"credentials"}
