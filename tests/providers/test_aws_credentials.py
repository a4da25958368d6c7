"""Which credentials of a host's are used, for how long, and the mails that are signed with them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mailroom.errors import SendingError, Unavailable
from mailroom.providers import connect
from mailroom.providers._aws_credentials import ASK_AGAIN_SECONDS, RENEW_BEFORE_SECONDS, Fixed, Lent, from_host
from mailroom.providers._aws_metadata import Container, Instance, WebIdentity
from mailroom.providers._http_settings import HttpSettings
from mailroom.providers._sigv4 import Credentials
from mailroom.providers.ses import Settings
from tests.clock import FakeClock
from tests.http_recorder import Answer, Recorder, json_answer
from tests.mails import email
from tests.providers.contract import surroundings

REGION = "eu-central-1"
EVERYTHING = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere/token",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mailroom",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1",
}
"""The environment of a host that lends in every way."""
SETTINGS = HttpSettings(type="ses")
LENT = {
    "AccessKeyId": "ASIATESTTESTTESTTEST",
    "SecretAccessKey": "SecretOfTheTests/0123456789+abcdefghijkl",
    "Token": "SessionTokenOfTheTests//0123==",
    "Expiration": "2026-11-18T17:06:40Z",
}


def lent(**changes: Any) -> Answer:
    return json_answer(200, {**LENT, **changes})


class _Lender:
    """Lends for an hour, unless told otherwise."""

    def __init__(self, clock: FakeClock) -> None:
        self.asked = 0
        self.clock = clock
        self.seconds = 3600.0
        self.refusal: SendingError | None = None
        self.gate: asyncio.Event | None = None

    async def fetch(self) -> Credentials:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        return Credentials(f"key-{self.asked}", "secret", "token", self.clock.now() + self.seconds)

    async def aclose(self) -> None:
        pass


class TestLent:
    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def lender(self, clock: FakeClock) -> _Lender:
        return _Lender(clock)

    @pytest.fixture
    def source(self, lender: _Lender, clock: FakeClock) -> Lent:
        return Lent(lender, clock)

    async def test_credentials_are_kept_and_renewed_before_they_expire(
        self, source: Lent, lender: _Lender, clock: FakeClock
    ) -> None:
        assert (await source.credentials()).access_key_id == "key-1"
        await clock.advance(3600 - RENEW_BEFORE_SECONDS - 1)
        assert (await source.credentials()).access_key_id == "key-1"
        await clock.advance(1)
        assert (await source.credentials()).access_key_id == "key-2"
        assert lender.asked == 2

    async def test_many_mails_at_once_ask_once(self, source: Lent, lender: _Lender) -> None:
        lender.gate = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(source.credentials()) for _ in range(20)]
            await asyncio.sleep(0)
            lender.gate.set()
        assert {task.result().access_key_id for task in asking} == {"key-1"}
        assert lender.asked == 1

    async def test_whoever_gives_up_leaves_the_asking_to_the_next(self, source: Lent, lender: _Lender) -> None:
        lender.gate = asyncio.Event()
        first = asyncio.create_task(source.credentials())
        await asyncio.sleep(0)
        second = asyncio.create_task(source.credentials())
        first.cancel()
        lender.gate.set()
        assert (await second).access_key_id == "key-2"

    async def test_a_lender_out_of_order_is_borne_until_they_expire(
        self, source: Lent, lender: _Lender, clock: FakeClock
    ) -> None:
        await source.credentials()
        lender.refusal = Unavailable("down")
        await clock.advance(3600 - RENEW_BEFORE_SECONDS)
        for _ in range(3):
            assert (await source.credentials()).access_key_id == "key-1"
        assert lender.asked == 2
        await clock.advance(RENEW_BEFORE_SECONDS)
        with pytest.raises(Unavailable):
            await source.credentials()

    async def test_expired_ones_are_used_when_there_are_no_others(
        self, source: Lent, lender: _Lender, clock: FakeClock
    ) -> None:
        """EC2 lends them on purpose while its own renewal is out of order, and AWS takes them."""
        lender.seconds = -100
        assert (await source.credentials()).access_key_id == "key-1"
        await clock.advance(ASK_AGAIN_SECONDS - 1)
        assert (await source.credentials()).access_key_id == "key-1"
        await clock.advance(1)
        assert (await source.credentials()).access_key_id == "key-2"

    async def test_what_aws_calls_expired_is_forgotten(self, source: Lent) -> None:
        await source.credentials()
        assert source.forget()
        assert (await source.credentials()).access_key_id == "key-2"


class TestFromHost:
    """The AWS SDKs' order."""

    @pytest.mark.parametrize(
        ("without", "kind"),
        [
            (("AWS_SECRET_ACCESS_KEY",), WebIdentity),
            (("AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"), Container),
            (("AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"), Instance),
        ],
    )
    async def test_who_lends(self, without: tuple[str, ...], kind: type) -> None:
        environment = {name: value for name, value in EVERYTHING.items() if name not in without}
        source = from_host(environment, SETTINGS, FakeClock(), region=REGION)
        assert isinstance(source, Lent)
        assert isinstance(source._lender, kind)
        await source.aclose()

    async def test_keys_in_the_environment_come_first(self) -> None:
        source = from_host(EVERYTHING, SETTINGS, FakeClock(), region=REGION)
        assert isinstance(source, Fixed)
        assert await source.credentials() == Credentials("AKIATESTTESTTESTTEST", "secret", "token")
        assert not source.forget()


class TestSendingWithWhatTheHostLends:
    @pytest.fixture
    async def host(self) -> AsyncIterator[Recorder]:
        """Stand in for the container's endpoint and for SES."""
        async with Recorder(lent(), tls=False) as recorder:
            yield recorder

    @pytest.fixture
    def settings(self, host: Recorder, monkeypatch: pytest.MonkeyPatch) -> Settings:
        for name in EVERYTHING:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
        return Settings.model_validate({"region": REGION, "credentials": "host", "endpoint": host.url})

    async def test_mails_are_signed_with_it_and_it_is_asked_once(self, host: Recorder, settings: Settings) -> None:
        accepted = json_answer(200, {"MessageId": "1"})
        host.answers = [lent(), accepted, accepted]
        provider = connect(settings, surroundings(clock=FakeClock()))
        await provider.send(email())
        await provider.send(email())
        await provider.aclose()
        assert [request.target for request in host.requests] == ["/creds"] + 2 * ["/v2/email/outbound-emails"]
        assert f"Credential={LENT['AccessKeyId']}/20261118/" in host.requests[1].header("authorization")
        assert host.requests[1].header("x-amz-security-token") == LENT["Token"]

    async def test_credentials_that_aws_calls_expired_are_asked_for_again(
        self, host: Recorder, settings: Settings
    ) -> None:
        expired = json_answer(
            403, {"message": f"expired: {LENT['Token']}"}, {"x-amzn-ErrorType": "ExpiredTokenException"}
        )
        host.answers = [lent(), expired, lent(AccessKeyId="ASIANEWNEWNEWNEWNEWN"), json_answer(200, {"MessageId": "1"})]
        provider = connect(settings, surroundings(clock=FakeClock()))
        with pytest.raises(Unavailable, match="•••") as refused:
            await provider.send(email())
        assert LENT["Token"] not in refused.value.words
        await provider.send(email())
        await provider.aclose()
        assert "Credential=ASIANEW" in host.requests[-1].header("authorization")

    async def test_without_credentials_nothing_was_sent(self, host: Recorder, settings: Settings) -> None:
        host.reset_after = True
        provider = connect(settings, surroundings())
        with pytest.raises(Unavailable, match="does not answer"):
            await provider.send(email())
        await provider.aclose()
        assert {request.target for request in host.requests} == {"/creds"}  # a GET is repeated once
