"""What an AWS host's endpoints lend: each on loopback, and moto's. No metadata address is ever dialled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._aws_metadata import CONTAINER, PATIENCE_SECONDS, Container, Instance, WebIdentity
from mailroom.providers._http_settings import HttpSettings
from mailroom.providers._sigv4 import Credentials
from tests.clock import START, FakeClock
from tests.http_recorder import Answer, Recorder, json_answer
from tests.providers.moto_server import moto_server

REGION = "eu-central-1"
LENT = {
    "Code": "Success",
    "AccessKeyId": "ASIATESTTESTTESTTEST",
    "SecretAccessKey": "SecretOfTheTests/0123456789+abcdefghijkl",
    "Token": "SessionTokenOfTheTests//0123==",
    "Expiration": "2026-11-18T17:06:40Z",
}
EXPIRES = START + 6 * 3600
SETTINGS = HttpSettings(type="ses")
STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Audience>mailroom</Audience><Credentials>
<SessionToken>{Token}</SessionToken><SecretAccessKey>{SecretAccessKey}</SecretAccessKey>
<Expiration>{Expiration}</Expiration><AccessKeyId>{AccessKeyId}</AccessKeyId>
</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


LENDS = json_answer(200, LENT)


def assert_lent(credentials: Credentials) -> None:
    assert credentials == Credentials(LENT["AccessKeyId"], LENT["SecretAccessKey"], LENT["Token"], EXPIRES)


@pytest.fixture
async def host() -> AsyncIterator[Recorder]:
    """Stand in for an endpoint of an AWS host."""
    async with Recorder(LENDS, tls=False) as recorder:
        yield recorder


class TestContainer:
    async def test_ecs_is_asked_at_its_own_address(self, host: Recorder) -> None:
        container = Container(
            {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"}, FakeClock(), host=host.url
        )
        assert_lent(await container.fetch())
        await container.aclose()
        [request] = host.requests
        assert (request.method, request.target) == ("GET", "/v2/credentials/1")
        assert CONTAINER == "http://169.254.170.2"

    async def test_the_token_goes_along(self, host: Recorder) -> None:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{host.url}/creds",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "Basic-of-the-tests",
        }
        container = Container(environment, FakeClock())
        assert_lent(await container.fetch())
        await container.aclose()
        assert host.requests[0].header("authorization") == "Basic-of-the-tests"

    async def test_a_tokens_file_is_read_each_time(self, host: Recorder, tmp_path: Path) -> None:
        """EKS Pod Identity renews it."""
        file = tmp_path / "token"
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{host.url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(file),
        }
        container = Container(environment, FakeClock())
        for token in ("first", "second"):
            file.write_text(f"{token}\n")
            await container.fetch()
        file.unlink()
        with pytest.raises(Misconfigured, match="cannot be read"):
            await container.fetch()
        await container.aclose()
        assert [request.header("authorization") for request in host.requests] == ["first", "second"]

    @pytest.mark.parametrize(
        "url",
        [
            "http://169.254.169.254/creds",
            "http://credentials.example/creds",
            "http://127.0.0.1.evil.example/creds",
            "ftp://127.0.0.1/creds",
            "http://[::ffff/creds",
            "/creds",
        ],
    )
    async def test_a_stranger_is_not_told_the_token(self, url: str) -> None:
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token"}
        container = Container(environment, FakeClock())
        with pytest.raises(Misconfigured, match="FULL_URI"):
            await container.fetch()
        await container.aclose()

    async def test_a_token_with_a_line_break_is_refused(self, host: Recorder) -> None:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": host.url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "a\r\nX-Evil: b",
        }
        container = Container(environment, FakeClock())
        with pytest.raises(Misconfigured, match="token"):
            await container.fetch()
        await container.aclose()
        assert not host.requests


class TestInstance:
    async def test_a_session_the_role_and_its_credentials_are_asked_for(self, host: Recorder) -> None:
        host.answers = [Answer(200, b"AQAEsession=="), Answer(200, b"mailroom-role\n"), LENDS]
        instance = Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{host.url}/"}, FakeClock())
        assert_lent(await instance.fetch())
        await instance.aclose()
        path = "/latest/meta-data/iam/security-credentials/"
        assert [(request.method, request.target) for request in host.requests] == [
            ("PUT", "/latest/api/token"),
            ("GET", path),
            ("GET", f"{path}mailroom-role"),
        ]
        assert host.requests[0].header("x-aws-ec2-metadata-token-ttl-seconds") == "60"
        assert {request.header("x-aws-ec2-metadata-token") for request in host.requests[1:]} == {"AQAEsession=="}
        assert host.connections == 1

    @pytest.mark.parametrize(("mode", "url"), [("", "http://169.254.169.254"), ("IPv6", "http://[fd00:ec2::254]")])
    def test_its_address_is_link_local(self, mode: str, url: str) -> None:
        assert Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE": mode}, FakeClock())._host == url

    async def test_without_a_session_nothing_is_asked(self, host: Recorder) -> None:
        """IMDSv1, which any forged request reaches, is not fallen back to."""
        host.answer = Answer(403, b"")
        instance = Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT": host.url}, FakeClock())
        with pytest.raises(Misconfigured, match="403"):
            await instance.fetch()
        await instance.aclose()
        assert len(host.requests) == 1

    @pytest.mark.parametrize("role", [b"", b"../../user-data", b"<html>", b"a b"])
    async def test_an_instance_without_a_role_is_ours_to_mend(self, host: Recorder, role: bytes) -> None:
        host.answers = [Answer(200, b"session"), Answer(200, role)]
        instance = Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT": host.url}, FakeClock())
        with pytest.raises(Misconfigured, match="no role"):
            await instance.fetch()
        await instance.aclose()

    async def test_a_disabled_service_is_not_asked(self, host: Recorder) -> None:
        environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_EC2_METADATA_SERVICE_ENDPOINT": host.url}
        instance = Instance(environment, FakeClock())
        with pytest.raises(Misconfigured, match="AWS_EC2_METADATA_DISABLED"):
            await instance.fetch()
        await instance.aclose()
        assert not host.requests

    async def test_silence_does_not_cost_the_mail_its_time(
        self, host: Recorder, pass_time: Callable[[float], None]
    ) -> None:
        """In a container with a hop limit of 1 the answer never arrives."""
        host.deaf = True
        instance = Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT": host.url}, FakeClock())
        fetching = asyncio.create_task(instance.fetch())
        await host.waiting.wait()
        pass_time(PATIENCE_SECONDS)
        with pytest.raises(Unavailable, match="hop limit"):
            await fetching
        await instance.aclose()


class TestWebIdentity:
    @pytest.fixture
    def environment(self, host: Recorder, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "token").write_text("eyJ.of.tests\n")
        return {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mailroom",
            "AWS_ENDPOINT_URL_STS": host.url,
        }

    async def test_sts_is_asked_without_a_signature(self, host: Recorder, environment: dict[str, str]) -> None:
        host.answer = Answer(200, STS.format(**LENT).encode(), {"Content-Type": "text/xml"})
        identity = WebIdentity(environment, SETTINGS, FakeClock(), region=REGION)
        assert_lent(await identity.fetch())
        await identity.aclose()
        [request] = host.requests
        assert (request.method, request.target) == ("POST", "/")
        assert dict(request.form) == {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": "arn:aws:iam::123456789012:role/mailroom",
            "RoleSessionName": "mailroom",
            "WebIdentityToken": "eyJ.of.tests",
        }
        assert "authorization" not in dict(request.headers)

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (400, "InvalidIdentityToken", Misconfigured),
            (400, "ExpiredTokenException", Misconfigured),
            (403, "AccessDenied", Misconfigured),
            (400, "IDPCommunicationError", Unavailable),
            (500, "InternalFailure", Unavailable),
        ],
    )
    async def test_a_refusal_names_its_code_alone(
        self, host: Recorder, environment: dict[str, str], status: int, code: str, kind: type[SendingError]
    ) -> None:
        xml = f"<ErrorResponse><Error><Code>{code}</Code><Message>eyJ.of.tests</Message></Error></ErrorResponse>"
        host.answer = Answer(status, xml.encode())
        identity = WebIdentity(environment, SETTINGS, FakeClock(), region=REGION)
        with pytest.raises(kind, match=code) as refused:
            await identity.fetch()
        await identity.aclose()
        assert "eyJ" not in refused.value.words

    @pytest.mark.parametrize(
        ("region", "url"),
        [
            ("eu-central-1", "https://sts.eu-central-1.amazonaws.com"),
            ("cn-north-1", "https://sts.cn-north-1.amazonaws.com.cn"),
        ],
    )
    def test_the_regions_own_sts_is_asked(self, environment: dict[str, str], region: str, url: str) -> None:
        del environment["AWS_ENDPOINT_URL_STS"]
        assert WebIdentity(environment, SETTINGS, FakeClock(), region=region)._url == url


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b""),
        Answer(200, b"[]"),
        Answer(200, b"\xff"),
        Answer(200, b"[" * 60_000),
        Answer(500, b"{}"),
        Answer(429, b"{}"),
        Answer(raw=b"SSH-2.0-OpenSSH\r\n"),
        json_answer(200, {**LENT, "SecretAccessKey": "a\r\nb"}),
        json_answer(200, {**LENT, "Token": 7}),
        json_answer(200, {"Code": "Failed"}),
    ],
)
async def test_an_endpoint_that_answers_nonsense_is_unavailable(host: Recorder, answer: Answer) -> None:
    host.answer = answer
    container = Container({"AWS_CONTAINER_CREDENTIALS_FULL_URI": host.url}, FakeClock())
    with pytest.raises(Unavailable):
        await container.fetch()
    await container.aclose()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Give the address of an AWS that authenticates nobody."""
    with moto_server(unauthenticated=1_000_000) as url:
        yield url


class TestAgainstMoto:
    async def test_the_instances_metadata(self, moto: str) -> None:
        instance = Instance({"AWS_EC2_METADATA_SERVICE_ENDPOINT": moto}, FakeClock())
        credentials = await instance.fetch()
        await instance.aclose()
        assert credentials.access_key_id
        assert credentials.session_token
        assert credentials.expires_at > 0

    async def test_a_web_identity(self, moto: str, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("eyJ.of.tests")
        environment = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/mailroom",
            "AWS_ENDPOINT_URL_STS": moto,
        }
        identity = WebIdentity(environment, SETTINGS, FakeClock(), region=REGION)
        credentials = await identity.fetch()
        await identity.aclose()
        assert credentials.access_key_id.startswith("ASIA")
        assert credentials.session_token
        assert credentials.expires_at > 0
