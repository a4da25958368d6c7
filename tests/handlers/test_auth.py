"""Which caller the trusted proxies vouch for."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from handlers.auth import AllowedNetworks, Authorization
from mailroom.config.model import Connector
from tests.handlers.parts import AUTHORIZATION
from tests.handlers.serving import served

PROXY = "10.0.0.1"
LOGTO = "203.0.113.9"
STRANGER = "198.51.100.1"


def _caller(peer: str | None, *forwarded: str, **connector: Any) -> str | None:
    scope = {
        "client": None if peer is None else (peer, 1234),
        "headers": [(b"x-forwarded-for", text.encode("latin-1")) for text in forwarded],
    }
    caller = AllowedNetworks(Connector.model_validate(connector)).caller(scope)
    return None if caller is None else str(caller)


def test_without_proxies_the_peer_is_the_caller_whatever_the_headers_say() -> None:
    assert _caller(STRANGER, LOGTO) == STRANGER


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        (PROXY, [LOGTO], LOGTO),
        (PROXY, [f"{STRANGER}, {LOGTO}"], LOGTO),
        (PROXY, [STRANGER, LOGTO], LOGTO),
        (PROXY, [f"{LOGTO}, {STRANGER}, 10.0.0.2"], STRANGER),
        (f"::ffff:{PROXY}", [f"::ffff:{LOGTO}"], LOGTO),
        (PROXY, [f"{LOGTO}:4711"], LOGTO),
        (PROXY, ["[2001:db8::1]:4711"], "2001:db8::1"),
        (PROXY, ["2001:db8::1"], "2001:db8::1"),
        (PROXY, [], PROXY),
        (PROXY, ["10.0.0.3"], "10.0.0.3"),
        (PROXY, ["2001:db8::1%" + "x" * 1000], "2001:db8::1"),
        (PROXY, [f"{LOGTO}, unknown"], None),
        (PROXY, [f"{LOGTO}, "], None),
        (STRANGER, [LOGTO], STRANGER),
        (None, [LOGTO], None),
    ],
)
def test_trusted_proxies_are_skipped_from_the_right(peer: str, forwarded: list[str], caller: str | None) -> None:
    assert _caller(peer, *forwarded, trusted_proxies=["10.0.0.0/8"]) == caller


@pytest.mark.parametrize(
    ("forwarded", "hops", "caller"),
    [
        ([LOGTO], 1, LOGTO),
        ([f"{STRANGER}, {LOGTO}"], 1, LOGTO),
        ([f"{LOGTO}, {PROXY}"], 2, LOGTO),
        ([LOGTO], 2, None),
        ([], 1, None),
    ],
)
def test_trusted_hops_are_counted_from_the_right(forwarded: list[str], hops: int, caller: str | None) -> None:
    assert _caller(PROXY, *forwarded, trusted_hops=hops) == caller


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=255), max_size=60), max_size=4))
def test_a_forged_forwarded_header_does_not_pass_the_allowed_networks(texts: list[str]) -> None:
    caller = _caller(STRANGER, *texts, trusted_proxies=["10.0.0.0/8"])
    assert caller == STRANGER


@given(st.lists(st.text(alphabet=st.characters(max_codepoint=255), max_size=60), max_size=4))
def test_any_forwarded_text_is_an_address_or_none(texts: list[str]) -> None:
    for trust in ({"trusted_hops": 2}, {"trusted_proxies": ["0.0.0.0/0"]}):
        caller = _caller(PROXY, *texts, **trust)
        assert caller is None or str(ipaddress.ip_address(caller)) == caller


@pytest.mark.parametrize("header", ["Bearer test-token ", "  Bearer test-token", "\tBearer test-token\t "])
def test_blanks_around_the_authorization_do_not_count(header: str) -> None:
    """Neither where it is received, nor where it was typed into the settings."""
    accepted = Connector.model_validate({"authorization": "\n Bearer test-token "}).authorization
    Authorization(accepted).check({"headers": [(b"authorization", header.encode())]})
    with served() as server:
        assert server.email(b'{"to": "ada@example.com"}', authorization=header).status == 200


REFUSED = {
    "wrong authorization": ("POST", "/email", {"authorization": "Bearer wrong"}, LOGTO),
    "wrong network": ("POST", "/email", {"authorization": AUTHORIZATION}, STRANGER),
    "bad signature": ("POST", "/webhook", {"logto-signature-sha-256": "0" * 64}, STRANGER),
    "no metrics token": ("GET", "/metrics", {}, STRANGER),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_logs_the_caller_that_the_trusted_proxy_reports(name: str) -> None:
    method, path, headers, caller = REFUSED[name]
    connector = {"authorization": AUTHORIZATION, "allowed_ips": [LOGTO], "trusted_proxies": ["127.0.0.0/8"]}
    with served(connector=connector, metrics_token="t0ken") as server, capture_logs() as logged:
        for forwarded in (f"{LOGTO}, {caller}", f"{LOGTO}, \x9b2J" + "x" * 1000):
            server.ask(method, path, body=b"{}", **{**headers, "x-forwarded-for": forwarded})
        assert [line["caller"] for line in logged if line["event"].endswith(".refused")] == [caller, "unknown"]


def test_only_the_allowed_networks_may_post() -> None:
    body = b'{"to": "ada@example.com"}'
    connector = {"authorization": AUTHORIZATION, "allowed_ips": ["203.0.113.0/24"], "trusted_proxies": ["127.0.0.0/8"]}
    with served(connector=connector) as server:
        assert server.email(body, x_forwarded_for="203.0.113.5").status == 200
        refused = server.email(body, x_forwarded_for="203.0.114.5")
        assert (refused.status, refused.body) == (401, b"The mail server does not accept requests from this address.")
        assert server.email(body).status == 401
        assert len(server.parts.stored) == 1
