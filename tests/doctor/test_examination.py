"""The examination of one provider as a whole, over a real SMTP server, echo service and name server."""

from ipaddress import ip_address
from typing import Any

import pytest

from mailroom.clock import SystemClock
from mailroom.doctor import CheckResult, Examination, ExaminationOptions, Mark, examine
from mailroom.doctor.examination import _build_sender as who_delivers
from mailroom.message import Address
from mailroom.providers.capture import Settings as Capture
from mailroom.providers.http import generic
from mailroom.providers.smtp import smtp_provider
from tests.doctor.conftest import World
from tests.doctor.test_sender import GOOD
from tests.http_recorder import Answer, Recorder
from tests.names import SILENT
from tests.smtp_server import smtp_server
from tests.wire_server import wire_server

SENDER = Address("no-reply@acme.example", "Acme")


async def examined(world: World, settings: Any, **wishes: Any) -> dict[str, CheckResult]:
    found = await examine(
        "main", settings, SENDER, resolver=world(GOOD), clock=SystemClock(), options=ExaminationOptions(**wishes)
    )
    assert isinstance(found, Examination)
    assert (found.provider, found.type) == ("main", settings.type)
    return {finding.about: finding for finding in found.results}


async def test_a_sound_relay_is_good_in_everything(world: World) -> None:
    """It stands in this house, so that it delivers from the address that the echo service sees."""
    async with (
        smtp_server(tls="starttls", users={"ann": "hunter22"}) as server,
        Recorder(Answer(200, b"192.0.2.9"), tls=False) as echo,
    ):
        settings = smtp_provider.Settings(
            host=server.host, port=server.port, ca_file=server.ca_file, username="ann", password="hunter22"
        )
        told = await examined(world, settings, echo_url=echo.url, selectors=("mail",))
        assert {about: finding.mark for about, finding in told.items()} == dict.fromkeys(
            ("address", "credentials", "MX", "SPF", "DKIM", "DMARC", "alignment", "PTR"), Mark.GOOD
        )
        assert told["credentials"].text == f"127.0.0.1:{server.port} takes the login of ann"
        assert server.mails == [], "the doctor sends nothing"
        await server.left_alone()


async def test_wrong_credentials_are_told_in_the_servers_words(world: World) -> None:
    async with smtp_server(tls="starttls", users={"ann": "hunter22"}) as server:
        settings = smtp_provider.Settings(
            host=server.host, port=server.port, ca_file=server.ca_file, username="ann", password="wrong-one"
        )
        told = await examined(world, settings)
        assert told["credentials"].mark is Mark.WRONG
        assert "535" in told["credentials"].text
        assert "[providers.main]" in told["credentials"].todo
        await server.left_alone()


@pytest.mark.parametrize("refusal", ["421 4.7.0 Try again later, closing connection.", "550 5.7.1 bad HELO name"])
async def test_a_server_that_does_not_like_our_name_is_told_as_that(world: World, refusal: str) -> None:
    """It looks like an outage."""
    async with wire_server({"EHLO": refusal}) as server:
        told = await examined(world, smtp_provider.Settings(host=server.host, port=server.port, tls="none"))
    assert told["credentials"].text == refusal
    assert "helo_name" in told["credentials"].todo


async def test_a_server_that_is_not_there_is_wrong(world: World) -> None:
    told = await examined(world, smtp_provider.Settings(host="127.0.0.1", port=1, tls="none"))
    assert told["credentials"].mark is Mark.WRONG
    assert "cannot connect" in told["credentials"].text


async def test_nothing_is_called_without_asking(world: World) -> None:
    told = await examined(world, smtp_provider.Settings(host="127.0.0.1", port=1, tls="none"))
    assert told["address"].mark is Mark.UNKNOWN
    assert "PTR" not in told


@pytest.mark.parametrize(
    ("host", "is_near"),
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
async def test_only_a_relay_of_this_house_delivers_from_the_address_that_others_see(
    world: World, host: str, *, is_near: bool
) -> None:
    """Elsewhere it has addresses of its own, which the operator may name."""
    resolver = world(
        {
            ("relay.acme.example", "A"): ["10.0.0.5"],
            ("smtp.elsewhere.example", "A"): ["8.8.8.8"],
            ("silent.example", "A"): [SILENT],
        }
    )
    settings, seen, named = smtp_provider.Settings(host=host), ip_address("192.0.2.9"), ip_address("192.0.2.10")
    assert (await who_delivers(settings, SENDER, seen, resolver, ExaminationOptions())).egress == (
        (seen,) if is_near else ()
    )
    assert (await who_delivers(settings, SENDER, None, resolver, ExaminationOptions())).egress == ()
    told = ExaminationOptions(egress=(named,))
    is_vendor = host == "smtp.sendgrid.net"
    assert (await who_delivers(settings, SENDER, seen, resolver, told)).egress == (() if is_vendor else (named,))


async def test_a_service_that_cannot_be_asked_gets_nothing(world: World) -> None:
    """Whatever is posted to it may become a mail."""
    async with Recorder(Answer(200), tls=False) as service:
        told = await examined(world, generic.Settings.model_validate({"url": f"{service.url}/mail"}))
        assert told["credentials"].mark is Mark.UNKNOWN
        assert told["credentials"].text == "http cannot be verified without sending"
        assert "mailroom send" in told["credentials"].todo
        assert service.connections == 0


async def test_a_catcher_has_nothing_to_examine(world: World) -> None:
    told = await examined(world, Capture())
    assert set(told) == {"credentials"}
