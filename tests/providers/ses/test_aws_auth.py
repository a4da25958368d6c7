"""The sources of SES's keys, each with a server on loopback; no real metadata address is contacted."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers import connect
from mailroom.providers.ses.ses_provider import Settings
from tests.http_recorder import Answer, Recorder, json_answer
from tests.mails import email
from tests.providers.contract import context
from tests.providers.moto_server import moto_server

REGION = "eu-central-1"
ACCEPTED = json_answer(200, {"MessageId": "1"})
ROLE = "arn:aws:iam::123456789012:role/mailroom"
STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Audience>mailroom</Audience><Credentials>
<SessionToken>{Token}</SessionToken><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<Expiration>{Expiration}</Expiration><AccessKeyId>{AccessKeyId}</AccessKeyId>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


def keys(minutes: float = 360, **changes: str) -> dict[str, str]:
    """Return an AWS host's temporary credentials, valid for so many minutes."""
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    return {
        "Code": "Success",
        "AccessKeyId": "ASIATESTTESTTESTTEST",
        "SecretAccessKey": "SecretOfTheTests/0123456789+abcdefghijkl",
        "Token": "SessionTokenOfTheTests//0123==",
        "Expiration": f"{expires:%Y-%m-%dT%H:%M:%SZ}",
        **changes,
    }


@pytest.fixture
async def host() -> AsyncIterator[Recorder]:
    """Replace the host's endpoints and SES."""
    async with Recorder(ACCEPTED, tls=False) as recorder:
        yield recorder


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, host: Recorder) -> None:
    """Remove AWS's variables; the instance's metadata service is the test's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", host.url)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


async def send(host: Recorder, number: int = 1, **changes: Any) -> None:
    """Send so many mails, signed with the host's credentials."""
    settings = {"region": REGION, "credentials": "host", "endpoint": host.url, **changes}
    provider = connect(Settings.model_validate(settings), context())
    try:
        for _ in range(number):
            await provider.send(email())
    finally:
        await provider.aclose()


def targets(host: Recorder) -> list[tuple[str, str]]:
    return [(request.method, request.target) for request in host.requests]


MAIL = ("POST", "/v2/email/outbound-emails")


async def test_keys_from_the_settings(host: Recorder) -> None:
    await send(
        host,
        credentials="keys",
        access_key_id="AKIATESTTESTTESTTEST",
        access_key_secret="SecretOfTheTests",
        session_token="SessionToken",
    )
    [mail] = host.requests
    assert mail.header("authorization").startswith("AWS4-HMAC-SHA256 Credential=AKIATESTTESTTESTTEST/")
    assert f"/{REGION}/ses/aws4_request" in mail.header("authorization")
    assert mail.header("x-amz-security-token") == "SessionToken"


async def test_keys_from_the_environment(host: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT00000")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    await send(host)
    assert targets(host) == [MAIL]
    assert "Credential=AKIAENVIRONMENT00000/" in host.requests[0].header("authorization")


async def test_keys_from_a_profile(host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[mails]\naws_access_key_id = AKIAPROFILE000000000\naws_secret_access_key = s\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    await send(host, profile="mails")
    assert "Credential=AKIAPROFILE000000000/" in host.requests[0].header("authorization")
    with pytest.raises(Misconfigured, match=r"no credentials.*other"):
        await send(host, profile="other")


async def test_a_process_is_run_only_if_the_profile_names_it(
    host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Keys in the user's home folder are not used either, unless a profile is named."""
    script = tmp_path / "lends.py"
    script.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        'print(\'{"Version": 1, "AccessKeyId": "ASIAPROCESS000000000", "SecretAccessKey": "s"}\')\n'
    )
    process = f"credential_process = {sys.executable} {script}\n"
    (tmp_path / "config").write_text(f"[default]\n{process}[profile mails]\n{process}")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    host.answer = Answer(404, b"")
    with pytest.raises(SendingError):
        await send(host)
    assert not (tmp_path / "ran").exists()
    host.answer = ACCEPTED
    await send(host, profile="mails")
    assert "Credential=ASIAPROCESS000000000/" in host.requests[-1].header("authorization")
    monkeypatch.setenv("AWS_PROFILE", "mails")
    await send(host)
    assert targets(host)[-1] == MAIL


async def test_keys_from_the_containers_endpoint(
    host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ECS, and EKS Pod Identity, whose token is a file."""
    (tmp_path / "token").write_text("token-of-the-pod")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    host.answers = [json_answer(200, keys())]
    await send(host, 2)
    assert targets(host) == [("GET", "/creds"), MAIL, MAIL]
    assert host.requests[0].header("authorization") == "token-of-the-pod"
    assert host.requests[1].header("x-amz-security-token") == keys()["Token"]


async def test_the_containers_token_is_not_sent_to_another_host(
    host: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://credentials.example/creds")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token")
    with pytest.raises(Misconfigured, match="no credentials"):
        await send(host)


async def test_keys_from_the_instances_metadata_by_imdsv2(host: Recorder) -> None:
    role = "/latest/meta-data/iam/security-credentials/"
    host.answers = [Answer(200, b"AQAEsession=="), Answer(200, b"mailroom-role"), json_answer(200, keys())]
    await send(host)
    assert targets(host) == [("PUT", "/latest/api/token"), ("GET", role), ("GET", f"{role}mailroom-role"), MAIL]
    assert host.requests[2].header("x-aws-ec2-metadata-token") == "AQAEsession=="


async def test_imdsv1_is_not_used(host: Recorder) -> None:
    """A forged request may use it."""
    host.answer = Answer(403, b"")
    with pytest.raises(SendingError, match="no credentials"):
        await send(host)
    assert set(targets(host)) == {("PUT", "/latest/api/token")}


async def test_a_web_identity(host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """EKS: the request goes to the region's own STS, without a signature."""
    _be_in_a_cluster(host, monkeypatch, tmp_path)
    host.answers = [Answer(200, STS.format(**keys()).encode(), {"Content-Type": "text/xml"})]
    await send(host)
    assert targets(host) == [("POST", "/"), MAIL]
    form = dict(host.requests[0].form)
    assert (form["Action"], form["RoleArn"]) == ("AssumeRoleWithWebIdentity", ROLE)
    assert form["WebIdentityToken"] == "eyJ.of.tests"
    assert "authorization" not in dict(host.requests[0].headers)


@pytest.mark.parametrize(
    ("code", "kind"), [("InvalidIdentityToken", Misconfigured), ("IDPCommunicationError", Unavailable)]
)
async def test_an_error_of_sts_shows_its_code_only(
    host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, kind: type[SendingError]
) -> None:
    _be_in_a_cluster(host, monkeypatch, tmp_path)
    xml = f"<ErrorResponse><Error><Code>{code}</Code><Message>eyJ.of.tests</Message></Error></ErrorResponse>"
    host.answer = Answer(400, xml.encode(), {"Content-Type": "text/xml"})
    with pytest.raises(kind, match=code) as refused:
        await send(host)
    assert "eyJ" not in refused.value.diagnostic


async def test_concurrent_mails_share_one_request_for_credentials(
    host: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop is not blocked while the endpoint does not respond: the recorder runs on it."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
    host.answers = [json_answer(200, keys())]
    settings = {"region": REGION, "credentials": "host", "endpoint": host.url}
    provider = connect(Settings.model_validate(settings), context())
    await asyncio.gather(*(provider.send(email()) for _ in range(20)))
    await provider.aclose()
    assert targets(host).count(("GET", "/creds")) == 1


async def test_credentials_that_expire_soon_are_renewed(host: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
    host.answers = [json_answer(200, keys(minutes=12)), json_answer(200, keys(AccessKeyId="ASIANEWNEWNEWNEWNEWN"))]
    await send(host, 2)
    assert targets(host) == [("GET", "/creds"), ("GET", "/creds"), MAIL, MAIL]
    assert "Credential=ASIANEW" in host.requests[-1].header("authorization")


async def test_credentials_that_aws_refuses_as_expired_are_requested_again(
    host: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
    lent, renewed = keys(), keys(AccessKeyId="ASIANEWNEWNEWNEWNEWN")
    expired = json_answer(403, {"message": f"expired: {lent['Token']}"}, {"x-amzn-ErrorType": "ExpiredTokenException"})
    host.answers = [json_answer(200, lent), expired, json_answer(200, renewed), ACCEPTED]
    settings = {"region": REGION, "credentials": "host", "endpoint": host.url}
    provider = connect(Settings.model_validate(settings), context())
    with pytest.raises(Unavailable, match="•••") as refused:
        await provider.send(email())
    assert lent["Token"] not in refused.value.diagnostic
    await provider.send(email())
    await provider.aclose()
    assert "Credential=ASIANEW" in host.requests[-1].header("authorization")


async def test_without_credentials_nothing_is_sent(host: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{host.url}/creds")
    host.reset_after = True
    with pytest.raises(Unavailable, match="does not answer"):
        await send(host)
    assert set(targets(host)) == {("GET", "/creds")}


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Return the address of a moto server without authentication."""
    with moto_server(unauthenticated=1_000_000) as url:
        yield url


class TestAgainstMoto:
    async def test_the_instances_metadata(self, moto: str, host: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", moto)
        await send(host)
        assert host.requests[0].header("x-amz-security-token")

    async def test_a_web_identity(
        self, moto: str, host: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        _be_in_a_cluster(host, monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto)
        await send(host)
        assert "Credential=ASIA" in host.requests[0].header("authorization")


def _be_in_a_cluster(host: Recorder, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    (folder / "token").write_text("eyJ.of.tests")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", host.url)
