"""The limits on codes: what the end user is told, what is observed, and what it costs."""

import json
import re
from random import Random
from typing import Any

import pytest
import structlog.testing

from handlers.code_limits import CodeLimits, WindowCounts
from mailroom.config.model import Limits
from mailroom.errors import LimitExceeded
from mailroom.message import Message, Priority
from mailroom.metrics import Metrics
from tests.clock import START, FakeClock
from tests.handlers.serving import Answer, Running, served
from tests.outbox.contract import message

SENTENCE = re.compile(
    rb"Too many codes were requested( for this address)?\. Please try again (in a few minutes|later)\."
)


def _post(server: Running, number: int = 0, **changes: Any) -> Answer:
    fields = {"to": f"user{number}@example.com", "type": "SignIn", "payload": {"code": f"{number:06}"}, **changes}
    return server.email(json.dumps(fields).encode())


def _busiest(server: Running, limit: str) -> float:
    text = server.ask("GET", "/metrics").body.decode()
    return float(re.findall(rf'^mailroom_busiest_codes{{limit="{limit}"}} (\S+)$', text, re.MULTILINE)[0])


# What the end user reads


@pytest.mark.parametrize(("seconds", "when"), [(1, b"in a few minutes"), (600, b"in a few minutes"), (601, b"later")])
def test_a_code_beyond_its_recipients_limit_is_answered_429(server: Running, seconds: int, when: bytes) -> None:
    """With one plain sentence, and when to try again; the log has the limit, and not the address."""
    server.parts.retry_after = seconds
    with structlog.testing.capture_logs() as lines:
        answer = _post(server)
    assert (answer.status, answer.headers["retry-after"]) == (429, str(seconds))
    assert answer.body == b"Too many codes were requested for this address. Please try again " + when + b"."
    assert not server.parts.stored
    assert [(line["event"], line["status"], line["reason"]) for line in lines] == [
        ("email.refused", 429, answer.body.decode())
    ]
    assert "example.com" not in str(lines)
    assert b'mailroom_refused_total{endpoint="email",status="429"}' in server.metrics.text()


@pytest.mark.parametrize("setting", ["ip", "recipient_domain", "total"])
def test_another_limit_that_is_set_is_answered_429(setting: str) -> None:
    """Exactly the limit is accepted; in the next window as much as the last one leaves."""
    with served(limits={setting: "3/10m"}) as server:
        start = START - START % 600
        server.clock.set(start)
        answers = [_post(server, number, ip="203.0.113.7") for number in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[3].body == b"Too many codes were requested. Please try again in a few minutes."
        assert answers[3].headers["retry-after"] == "600"
        assert len(server.parts.stored) == 3
        server.clock.set(start + 600 + 150)  # three quarters of the last window still count: 2 of 3
        assert [_post(server, number, ip="203.0.113.7").status for number in (7, 8)] == [200, 429]
        server.clock.set(start + 1800)
        assert [_post(server, number, ip="203.0.113.7").status for number in range(10, 14)] == [200, 200, 200, 429]


def test_a_limit_concerns_its_own_value_only() -> None:
    """And invitations are not codes."""
    with served(limits={"ip": "1/10m"}) as server:
        assert _post(server, 1, ip="203.0.113.7").status == 200
        assert _post(server, 2, ip="203.0.113.8").status == 200
        assert _post(server, 3).status == 200
        assert _post(server, 4).status == 200
        assert _post(server, 5, ip="203.0.113.7").status == 429
        assert _post(server, 6, ip="203.0.113.7", type="OrganizationInvitation", payload={"link": "x"}).status == 200


def test_one_ipv6_network_is_one_end_user() -> None:
    """A /64 network, however it is written; an IPv4 address that is written as IPv6 is itself."""
    with served(limits={"ip": "1/10m"}) as server:
        pairs = [("2001:db8::1", "2001:DB8:0::ffff"), ("::ffff:203.0.113.7", "203.0.113.7"), ("odd:text", "odd:text")]
        for number, (one, same) in enumerate(pairs):
            assert _post(server, 2 * number, ip=one).status == 200
            assert _post(server, 2 * number + 1, ip=same).status == 429
        assert _post(server, 9, ip="2001:db8:0:1::1").status == 200
        assert _post(server, 10, ip="::ffff:203.0.113.8").status == 200


# What is observed


def test_the_busiest_values_are_in_the_metrics_without_names(server: Running) -> None:
    """Nothing is refused where no limit is set."""
    server.clock.set(START - START % 600 + 6000)
    for number in range(30):
        assert _post(server, number, ip="203.0.113.7" if number < 20 else f"203.0.113.{number}").status == 200
    assert (_busiest(server, "ip"), _busiest(server, "recipient_domain"), _busiest(server, "total")) == (20, 30, 30)
    assert b"203.0.113" not in server.metrics.text()
    assert b"example.com" not in server.metrics.text()
    server.clock.set(START - START % 600 + 6600 + 300)
    assert _busiest(server, "ip") == 10
    server.clock.set(START - START % 600 + 7200)
    assert _busiest(server, "ip") == 0


def _limits(**limits: str) -> tuple[CodeLimits, FakeClock]:
    clock = FakeClock(START - START % 600)
    return CodeLimits(Limits.model_validate(limits), clock, Metrics()), clock


def test_a_busy_value_is_reported_once_a_minute() -> None:
    """Beyond the documented number, although no limit is set."""
    limits, clock = _limits()
    with structlog.testing.capture_logs() as lines:
        for _ in range(500):
            limits.check(message(ip="203.0.113.7"))
        assert lines == []
        for seconds in (0, 10, 59, 60, 61, 119):
            clock.set(START - START % 600 + seconds)
            limits.check(message(ip="203.0.113.7"))
    assert [(line["log_level"], line["limit"], line["value"], line["codes"], line["refused"]) for line in lines] == [
        ("warning", "limits.ip", "203.0.113.7", codes, False) for codes in (501, 504)
    ]


def test_what_is_refused_is_reported_once_a_minute_too() -> None:
    """And it is not counted, so that a sender that does not stop is not shut out for ever."""
    limits, clock = _limits(ip="2/10m")
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            limits.check(message(ip="203.0.113.7"))
        for _ in range(20):
            with pytest.raises(LimitExceeded):
                limits.check(message(ip="203.0.113.7"))
    assert [(line["limit"], line["refused"]) for line in lines] == [("limits.ip", True)]
    clock.set(clock.now() + 600 + 301)
    limits.check(message(ip="203.0.113.7"))


# Bounded memory


def test_a_million_distinct_values_take_bounded_memory_and_hide_no_busy_one() -> None:
    """What occurs often is not forgotten."""
    counts, chance = WindowCounts(600), Random(1)
    for number in range(1_000_000):
        counts.add(f"{chance.getrandbits(32):08x}", 1000.0)
        if number % 1000 == 0:
            counts.add("busy", 1000.0)
        assert len(counts._current) <= 10_000
    assert 900 <= counts.count("busy", 1000.0) <= 1000
    assert counts.busiest(1000.0) <= 1000


def test_a_count_is_never_too_high() -> None:
    """However many other values there are: nobody is refused because of others."""
    counts, chance = WindowCounts(600), Random(2)
    exact: dict[str, int] = {}
    for _ in range(100_000):
        value = str(int(chance.paretovariate(0.5)))
        exact[value] = exact.get(value, 0) + 1
        assert counts.add(value, 1000.0) <= exact[value]
    assert counts.count("1", 1000.0) == exact["1"]


def test_events_and_invitations_are_no_codes() -> None:
    limits, _ = _limits(total="1/1h")
    for _ in range(3):
        limits.check(_other(Priority.INVITATION))
        limits.check(_other(Priority.EVENT))


def _other(priority: Priority) -> Message:
    return message(priority=priority)
