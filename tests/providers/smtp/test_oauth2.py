"""Access tokens: the requests, the responses of an endpoint, how long a token is used."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from pydantic import ValidationError
from structlog.testing import capture_logs

from mailroom.errors import CannotKeep, Misconfigured, SendingError, Unavailable
from mailroom.providers.http.http_settings import HttpSettings
from mailroom.providers.http.transport import Transport
from mailroom.providers.smtp.oauth2 import OAuth2, Tokens
from tests.clock import FakeClock
from tests.providers.contract import SecretsInMemory, context
from tests.token_endpoint import NEVER, TokenEndpoint, token_endpoint

KEY = rsa.generate_private_key(65537, 2048)


def pem(key: Any, password: str = "") -> str:
    """Return a private key in PEM format."""
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    written = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    assert isinstance(written, bytes)
    return written.decode()


REFRESH = {"client_id": "app", "client_secret": "the app's secret", "refresh_token": "the consent"}
ROTATED = (200, {"access_token": "t", "refresh_token": "the next consent"})
SERVICE = {"service_client": "robot@acme.iam.example", "private_key": pem(KEY)}


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def secrets() -> SecretsInMemory:
    return SecretsInMemory()


@pytest.fixture
async def tokens_of(endpoint: TokenEndpoint, clock: FakeClock, secrets: SecretsInMemory) -> AsyncIterator[Any]:
    made: list[Tokens] = []

    def make(**settings: Any) -> Tokens:
        way = {name: settings.pop(name) for name in ("local_address",) if name in settings}
        tokens = Tokens(
            OAuth2(access_url=endpoint.url, scope="https://mail.google.com/", **settings),
            username="ada@acme.example",
            transport=Transport(HttpSettings(type="oauth2", **way).egress, clock),
            context=context(clock=clock, secrets=secrets),
        )
        made.append(tokens)
        return tokens

    yield make
    for tokens in made:
        await tokens.aclose()


async def test_a_refresh_token_gives_an_access_token(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    token = await tokens_of(**REFRESH).get()
    assert token.text == "token-1"
    assert endpoint.forms == [{"grant_type": "refresh_token", **REFRESH}]
    assert "token-1" not in repr(token)


async def test_a_service_accounts_key_signs_for_the_mailbox(
    tokens_of: Any, endpoint: TokenEndpoint, clock: FakeClock
) -> None:
    await tokens_of(**SERVICE).get()
    (form,) = endpoint.forms
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, signature = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in form["assertion"].split(".")
    )
    signed = form["assertion"].rpartition(".")[0].encode()
    KEY.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    assert json.loads(head) == {"alg": "RS256", "typ": "JWT"}
    assert json.loads(claims) == {
        "iss": SERVICE["service_client"],
        "sub": "ada@acme.example",
        "scope": "https://mail.google.com/",
        "aud": endpoint.url,
        "iat": int(clock.now()),
        "exp": int(clock.now()) + 300,
    }


async def test_a_client_may_use_its_own_credentials(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    await tokens_of(client_id="app", client_secret="secret").get()
    (form,) = endpoint.forms
    assert (form["grant_type"], form["scope"]) == ("client_credentials", "https://mail.google.com/")


async def test_a_token_is_requested_from_local_address(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    await tokens_of(**REFRESH, local_address="127.0.0.2").get()
    assert endpoint.peers == ["127.0.0.2"]


async def test_concurrent_callers_share_a_request(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    tokens = tokens_of(**REFRESH)
    got = await asyncio.gather(*(tokens.get() for _ in range(10)))
    assert {token.text for token in got} == {"token-1"}
    assert len(endpoint.forms) == 1


async def test_a_cancelled_caller_does_not_cancel_the_request(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    """Its response may have the only valid refresh token."""
    endpoint.answers.append(ROTATED)
    tokens = tokens_of(**REFRESH)
    first = asyncio.create_task(tokens.get())
    await endpoint.asked.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    tokens.discard(await tokens.get())
    await tokens.get()
    assert [form["refresh_token"] for form in endpoint.forms] == ["the consent", "the next consent"]


async def test_a_request_without_an_answer_ends(
    tokens_of: Any, endpoint: TokenEndpoint, pass_time: Callable[[float], None]
) -> None:
    endpoint.answers.append(NEVER)
    tokens = tokens_of(**REFRESH)
    callers = [asyncio.create_task(tokens.get()) for _ in range(2)]
    await endpoint.asked.wait()
    pass_time(20)
    for caller in callers:
        with pytest.raises(Unavailable, match="within 20 s"):
            await caller
    assert (await tokens.get()).text == "token-2"


@pytest.mark.parametrize(
    ("lifetime", "used_for"), [(3600, 3540), ("3600", 3540), (90, 45), (None, 3540), ("soon", 3540), (-1, 3540)]
)
async def test_a_token_is_used_until_shortly_before_it_expires(
    tokens_of: Any, endpoint: TokenEndpoint, clock: FakeClock, lifetime: Any, used_for: float
) -> None:
    endpoint.lifetime = lifetime
    tokens = tokens_of(**REFRESH)
    await tokens.get()
    await clock.advance(used_for - 1)
    assert (await tokens.get()).text == "token-1"
    await clock.advance(1)
    assert (await tokens.get()).text == "token-2"


async def test_a_new_refresh_token_replaces_the_old_one(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    endpoint.answers.append((200, {"access_token": "t", "refresh_token": "the next consent"}))
    tokens = tokens_of(**REFRESH)
    tokens.discard(await tokens.get())
    await tokens.get()
    assert endpoint.forms[1]["refresh_token"] == "the next consent"


async def test_a_new_refresh_token_is_used_after_a_restart(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    endpoint.answers.append(ROTATED)
    await tokens_of(**REFRESH).get()
    await tokens_of(**REFRESH).get()
    assert [form["refresh_token"] for form in endpoint.forms] == ["the consent", "the next consent"]


async def test_a_new_refresh_token_of_another_process_is_used(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    """The one that takes over, or `mailroom doctor`."""
    ours, theirs = tokens_of(**REFRESH), tokens_of(**REFRESH)
    token = await ours.get()
    endpoint.answers.append(ROTATED)
    await theirs.get()
    ours.discard(token)
    await ours.get()
    assert [form["refresh_token"] for form in endpoint.forms] == ["the consent", "the consent", "the next consent"]


async def test_a_refresh_token_that_is_new_in_the_settings_is_used(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    endpoint.answers.append(ROTATED)
    await tokens_of(**REFRESH).get()
    await tokens_of(**{**REFRESH, "refresh_token": "a new consent"}).get()
    assert endpoint.forms[1]["refresh_token"] == "a new consent"


async def test_a_new_refresh_token_is_used_although_it_cannot_be_stored(
    tokens_of: Any, endpoint: TokenEndpoint, secrets: SecretsInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has the reason, and not the token."""

    async def refuse(*_: str) -> None:
        raise CannotKeep("the disk is full")

    for method in ("put", "get"):
        monkeypatch.setattr(secrets, method, refuse)
    endpoint.answers.append(ROTATED)
    tokens = tokens_of(**REFRESH)
    with capture_logs() as logged:
        tokens.discard(await tokens.get())
        await tokens.get()
    assert endpoint.forms[1]["refresh_token"] == "the next consent"
    assert [(line["event"], line["problem"]) for line in logged] == [
        ("oauth2.token_not_read", "the disk is full"),
        ("oauth2.token_not_stored", "the disk is full"),
    ]
    assert "the next consent" not in repr(logged)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            (400, {"error": "invalid_grant", "error_description": "Token revoked."}),
            Misconfigured,
            "invalid_grant: Token",
        ),
        ((401, {"error": "invalid_client"}), Misconfigured, "invalid_client"),
        ((403, {"error": "unauthorized_client"}), Misconfigured, "unauthorized_client"),
        ((404, b"<html>"), Misconfigured, "HTTP 404"),
        ((200, b"<html>a page, not an endpoint"), Misconfigured, "not as documented"),
        ((200, {"access_token": ""}), Misconfigured, "not as documented"),
        ((200, {"access_token": 7}), Misconfigured, "not as documented"),
        ((200, {"access_token": "line\r\nbreak"}), Misconfigured, "not as documented"),
        ((200, []), Misconfigured, "not as documented"),
        ((302, {}), Misconfigured, "HTTP 302"),
        ((400, {"error": "temporarily_unavailable"}), Unavailable, "temporarily"),
        ((429, {"error": "slow"}), Unavailable, "slow"),
        ((500, {}), Unavailable, "HTTP 500"),
        ((503, b""), Unavailable, "HTTP 503"),
    ],
)
async def test_a_response_is_classified(
    tokens_of: Any, endpoint: TokenEndpoint, answer: tuple[int, Any], kind: type[SendingError], words: str
) -> None:
    endpoint.answers.append(answer)
    tokens = tokens_of(**REFRESH)
    with pytest.raises(kind, match=words):
        await tokens.get()
    assert (await tokens.get()).text == "token-2", "the next mail tries again"


async def test_secrets_that_an_endpoint_repeats_are_not_recorded(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    endpoint.answers.append((400, {"error": "invalid_grant", "error_description": "no: the consent, the app's secret"}))
    with pytest.raises(Misconfigured) as refused:
        await tokens_of(**REFRESH).get()
    assert "the consent" not in str(refused.value)
    assert "the app's secret" not in str(refused.value)


async def test_an_unreachable_endpoint_is_unavailable(tokens_of: Any, endpoint: TokenEndpoint) -> None:
    endpoint.port = 1
    with pytest.raises(Unavailable, match="cannot connect to 127"):
        await tokens_of(**REFRESH).get()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"client_id": "app"},
        {"client_secret": "s"},
        {"refresh_token": "r"},
        {"private_key": pem(KEY)},
        {"service_client": "robot"},
        {**SERVICE, "refresh_token": "r"},
        {**SERVICE, "private_key": "not a key"},
        {**SERVICE, "private_key": pem(ec.generate_private_key(ec.SECP256R1()))},
        {**SERVICE, "private_key": pem(KEY, "locked")},
        {**REFRESH, "access_token": "t"},
        {**REFRESH, "access_url": "http://login.example/token"},
        {**REFRESH, "access_url": "https://user:password@login.example/token"},
        {**REFRESH, "access_url": "https://[/token"},
        {**REFRESH, "access_url": "token"},
        {**REFRESH, "scope": "a\nb"},
        {**REFRESH, "expires": 1},
    ],
)
def test_invalid_settings_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OAuth2(**given)


@pytest.mark.parametrize("written", [pem(KEY), pem(KEY).replace("\n", "\\n"), f"\n  {pem(KEY)}\n"])
def test_a_key_may_have_escaped_line_breaks(written: str) -> None:
    OAuth2(service_client="robot", private_key=written)


def test_a_key_may_have_a_passphrase() -> None:
    OAuth2(service_client="robot", private_key=pem(KEY, "locked"), passphrase="locked")
