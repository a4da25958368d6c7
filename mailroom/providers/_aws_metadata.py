"""Asks an AWS host's endpoints for credentials: the container's, the instance's, and STS for a web identity."""

import asyncio
import re
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import httpx
import msgspec

from mailroom.clock import Clock, Instant
from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers._http_settings import HttpSettings
from mailroom.providers._http_transport import Transport
from mailroom.providers._sigv4 import Credentials

PATIENCE_SECONDS: Final = 5.0
"""For all that is asked to get credentials once: the endpoints are on the same machine or in the same region."""
INSTANCE: Final = "http://169.254.169.254"
INSTANCE_6: Final = "http://[fd00:ec2::254]"
CONTAINER: Final = "http://169.254.170.2"
_TRUSTED: Final = frozenset({"localhost", "169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""Where the container's token may go without encryption, beside loopback: ECS, EKS Pod Identity."""
_TOKEN: Final = re.compile(r"[!-~]{1,16384}")
_ROLE: Final = re.compile(r"[\w+=,.@-]{1,128}")
_RATE_LIMITED: Final = 429
_FIRST_SERVER_ERROR: Final = 500


class _Asker:
    """Makes requests to one endpoint; every failure is Misconfigured or Unavailable, for no mail was handed over."""

    def __init__(self, name: str, settings: HttpSettings, clock: Clock) -> None:
        self._name = name
        self._client = httpx.AsyncClient(
            transport=Transport(settings.egress, clock),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113  # `ask` bounds it
        )

    async def ask(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None) -> str:
        """Return the body of a 200."""
        try:
            request = httpx.Request(method, url, headers={"User-Agent": "Mailroom", **headers}, content=content)
            async with asyncio.timeout(PATIENCE_SECONDS):
                response = await self._client.send(request)
        except Misconfigured as error:
            raise Misconfigured(f"{self._name}: {error.words}") from None
        except (SendingError, httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            raise Unavailable(f"no credentials: {self._name} does not answer") from None
        status = response.status_code
        if status == httpx.codes.OK:
            return response.text
        code = re.search(r"<Code>(\w{1,60})</Code>", response.text)
        words = f"no credentials: {self._name} answers {code[1] if code else f'HTTP {status}'}"
        if status == _RATE_LIMITED or status >= _FIRST_SERVER_ERROR or (code and code[1] == "IDPCommunicationError"):
            raise Unavailable(words)
        raise Misconfigured(words)

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.aclose()


class Container:
    """ECS, and EKS Pod Identity (docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html)."""

    def __init__(self, environment: Mapping[str, str], clock: Clock, *, host: str = CONTAINER) -> None:
        relative = environment.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "")
        self._url = f"{host}{relative}" if relative else environment.get("AWS_CONTAINER_CREDENTIALS_FULL_URI", "")
        self._token = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        self._token_file = environment.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "")
        self._asker = _Asker("the container's endpoint", _direct(), clock)

    async def fetch(self) -> Credentials:
        """Ask the endpoint; the token's file is read each time, for it is renewed too."""
        if not _may_be_told(self._url):
            raise Misconfigured("AWS_CONTAINER_CREDENTIALS_FULL_URI is neither https nor an address of this host")
        token = _read(self._token_file) if self._token_file else self._token
        if token and not _TOKEN.fullmatch(token):
            raise Misconfigured("the container's authorization token is no token")
        body = await self._asker.ask("GET", self._url, {"Authorization": token} if token else {})
        return _from_json(body, "the container's endpoint")

    async def aclose(self) -> None:
        """Close its connections."""
        await self._asker.aclose()


class Instance:
    """EC2, by IMDSv2 alone (docs.aws.amazon.com/sdkref/latest/guide/feature-imds-credentials.html)."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._disabled = environment.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true"
        by_ipv6 = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "").lower() == "ipv6"
        usual = INSTANCE_6 if by_ipv6 else INSTANCE
        self._host = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/") or usual
        self._asker = _Asker(
            "the instance's metadata service (from within a container it needs a hop limit of 2)", _direct(), clock
        )

    async def fetch(self) -> Credentials:
        """Ask for a session, the role's name, and its credentials."""
        if self._disabled:
            raise Misconfigured("this host gives no credentials: AWS_EC2_METADATA_DISABLED is set")
        session = await self._asker.ask(
            "PUT", f"{self._host}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
        )
        if not _TOKEN.fullmatch(session):
            raise Unavailable("no credentials: the instance's metadata service is none of AWS's")
        headers = {"X-aws-ec2-metadata-token": session}
        roles = f"{self._host}/latest/meta-data/iam/security-credentials/"
        role = (await self._asker.ask("GET", roles, headers)).partition("\n")[0].strip()
        if not _ROLE.fullmatch(role):
            raise Misconfigured("no credentials: the instance has no role")
        return _from_json(await self._asker.ask("GET", f"{roles}{role}", headers), "the instance's metadata service")

    async def aclose(self) -> None:
        """Close its connections."""
        await self._asker.aclose()


class WebIdentity:
    """EKS, and whoever else writes an OIDC token to a file: STS AssumeRoleWithWebIdentity, in the region's STS."""

    def __init__(self, environment: Mapping[str, str], settings: HttpSettings, clock: Clock, *, region: str) -> None:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        self._url = (environment.get("AWS_ENDPOINT_URL_STS", "") or f"https://sts.{region}.{suffix}").rstrip("/")
        self._file = environment["AWS_WEB_IDENTITY_TOKEN_FILE"]
        self._fields = {
            "Action": "AssumeRoleWithWebIdentity",
            "Version": "2011-06-15",
            "RoleArn": environment["AWS_ROLE_ARN"],
            "RoleSessionName": environment.get("AWS_ROLE_SESSION_NAME", "") or "mailroom",
        }
        self._asker = _Asker("AWS STS", settings, clock)

    async def fetch(self) -> Credentials:
        """Ask STS; the token's file is read each time, for it is renewed too. The request needs no signature."""
        form = urlencode({**self._fields, "WebIdentityToken": _read(self._file)}).encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/xml"}
        body = await self._asker.ask("POST", f"{self._url}/", headers, form)
        # Four texts that hold no markup: no reason to let a stranger feed an XML parser.
        found = {
            key: match[1].strip() if (match := re.search(f"<{key}>([^<&]*)</{key}>", body)) else ""
            for key in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        }
        return _checked(
            found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"], found["Expiration"], "AWS STS"
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self._asker.aclose()


def _direct() -> HttpSettings:
    """Return how the host's own endpoints are reached: not through a proxy, and at once or not at all."""
    return HttpSettings(type="ses", connect_timeout=2)


def _may_be_told(url: str) -> bool:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    if parts.scheme == "https":
        return bool(parts.host)
    if parts.scheme != "http":
        return False
    try:
        return parts.host in _TRUSTED or ip_address(parts.host).is_loopback
    except ValueError:
        return False


def _read(file: str) -> str:
    try:
        return Path(file).read_text("ascii").strip()
    except (OSError, ValueError):
        raise Misconfigured(f"no credentials: the token's file {file} cannot be read") from None


def _from_json(body: str, name: str) -> Credentials:
    try:
        found = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError):
        found = {}
    return _checked(
        found.get("AccessKeyId"), found.get("SecretAccessKey"), found.get("Token", ""), found.get("Expiration"), name
    )


def _checked(key: object, secret: object, token: object, expiration: object, name: str) -> Credentials:
    texts = [text for text in (key, secret) if isinstance(text, str) and _TOKEN.fullmatch(text)]
    if len(texts) == 2 and isinstance(token, str) and (not token or _TOKEN.fullmatch(token)):  # noqa: PLR2004  # both
        return Credentials(texts[0], texts[1], token, _moment(expiration))
    raise Unavailable(f"no credentials: {name} answers, but not with credentials")


def _moment(expiration: object) -> Instant:
    """Return when they expire; those that say it in no way that is understood are asked for again every minute."""
    try:
        return datetime.fromisoformat(expiration).timestamp() if isinstance(expiration, str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
