"""Requests OAuth2 access tokens (RFC 6749), stores them, and renews them before they expire.

    tokens = Tokens(settings.oauth2, username="ada@acme.example", transport=transport, context=context)
    token = await tokens.get()

Four grants: a refresh token, a service account's key (RFC 7523), a client's own credentials, or a given access token.
A refresh token that the endpoint replaces (RFC 6749 §6) is stored. The names of the settings follow Logto's.
"""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self

import structlog
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from mailroom.errors import MailroomError, Misconfigured, SendingError, Unavailable, Uncertain
from mailroom.message import MASK
from mailroom.pem import private_key_in
from mailroom.providers.base import ProviderContext
from mailroom.providers.egress import split_url
from mailroom.text import bounded

if TYPE_CHECKING:
    import httpx

_RENEW_SECONDS: Final = 60.0
"""A token is not used any more so long before it expires."""
_REQUEST_SECONDS: Final = 20.0
_USUAL_LIFETIME_SECONDS: Final = 3600.0
_LONGEST_LIFETIME_SECONDS: Final = 24 * 3600.0
_ASSERTION_SECONDS: Final = 300
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_TOKEN: Final = re.compile(r"[!-~]+")
_TEMPORARY: Final = frozenset({"temporarily_unavailable", "server_error", "slow_down"})

log = structlog.get_logger()


def _check_url(url: str) -> str:
    parts = split_url(url, ("https", "http"))
    if "@" in parts.netloc or not url.isprintable():
        raise ValueError("write it as https://host/path")
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ValueError("secrets go there: it must be https://")
    return url


class OAuth2(BaseModel):
    """How to get an access token."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    client_id: str | None = Field(None, min_length=1, description="id of the application that you registered")
    client_secret: SecretStr | None = Field(
        None, min_length=1, description="its secret; without a `refresh_token` tokens are the application's own"
    )
    refresh_token: SecretStr | None = Field(
        None,
        min_length=1,
        description="from the consent to that application; one that replaces it is stored in the outbox, encrypted",
    )
    service_client: str | None = Field(
        None, min_length=1, description="a service account: `client_email` in its key's JSON file"
    )
    private_key: SecretStr | None = Field(None, min_length=1, description="its key in PEM format: `private_key` there")
    passphrase: SecretStr | None = Field(None, min_length=1, description="of the private key, if it has one")
    access_token: SecretStr | None = Field(None, min_length=1, description="a token that you renew yourself")
    access_url: Annotated[str, AfterValidator(_check_url)] | None = Field(
        None, description='the token endpoint; default with `preset = "gmail"`: Google\'s'
    )
    scope: str | None = Field(
        None, pattern=r"^[!-~]+( [!-~]+)*$", description="scope of the token; default: the preset's"
    )

    @model_validator(mode="after")
    def _check_grant(self) -> Self:
        if self.access_token is not None:
            if self.refresh_token or self.private_key or self.client_secret:
                raise ValueError("an access_token of your own needs nothing beside it")
        elif self.private_key is not None:
            if self.service_client is None or self.refresh_token or self.client_secret:
                raise ValueError("private_key goes with service_client, and with nothing else")
            self.signing_key()
        elif self.client_id is None or not (self.refresh_token or self.client_secret):
            raise ValueError("give client_id, client_secret and refresh_token; or service_client and private_key")
        return self

    def signing_key(self) -> RSAPrivateKey:
        """Return the service account's key. Raises ValueError."""
        assert self.private_key is not None
        passphrase = self.passphrase.get_secret_value() if self.passphrase else None
        key = private_key_in(self.private_key.get_secret_value(), passphrase)
        if not isinstance(key, RSAPrivateKey):
            raise ValueError("private_key must be RSA")  # noqa: TRY004  # pydantic collects ValueErrors
        return key

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown."""
        given = (self.client_secret, self.refresh_token, self.access_token)
        return tuple(secret.get_secret_value() for secret in given if secret)


@dataclass(slots=True)
class Token:
    """An access token."""

    text: str = field(repr=False)
    renew_at: float
    """By the monotonic clock."""
    accepted: bool = False
    """Whether a server has accepted it; only such a token is replaced when it is refused."""


class Tokens:
    """The token with which all connections log in. Concurrent callers share a request."""

    def __init__(
        self, settings: OAuth2, *, username: str, transport: "httpx.AsyncBaseTransport", context: ProviderContext
    ) -> None:
        """`username` is the mailbox for which a service account acts."""
        import httpx  # noqa: PLC0415 - for OAuth2 only

        self._settings = settings
        self._username = username
        self._url = settings.access_url or ""
        self._scope = settings.scope or ""
        self._clock = context.clock
        self._client = httpx.AsyncClient(transport=transport, trust_env=False, timeout=None)  # noqa: S113  # `_renew` bounds it
        self._renewal: asyncio.Task[Token] | None = None
        self._refresh_token = _RefreshToken(settings.refresh_token, context) if settings.refresh_token else None
        self._key = settings.signing_key() if settings.private_key else None
        self._token: Token | None = None
        if settings.access_token is not None:
            self._token = Token(settings.access_token.get_secret_value(), float("inf"))

    async def get(self) -> Token:
        """Return a token that does not expire soon. Raises Misconfigured or Unavailable.

        The request goes on without a caller that is cancelled: its response may have the only valid refresh token.
        """
        if self._token is not None and self._clock.monotonic() < self._token.renew_at:
            return self._token
        if self._renewal is None:
            self._renewal = asyncio.create_task(self._renew(), name="oauth2")
            self._renewal.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._renewal)

    def discard(self, token: Token) -> bool:
        """Delete a token that a server refused; return whether to try another: not if no server ever accepted one."""
        is_renewable = self._settings.access_token is None
        if is_renewable and self._token is token:
            self._token = None
        return is_renewable and token.accepted

    async def aclose(self) -> None:
        """Close the connections to the token endpoint."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.wait((self._renewal,))
        await self._client.aclose()

    async def _renew(self) -> Token:
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                self._token = await self._request()
        except TimeoutError:
            raise Unavailable(f"the token endpoint did not answer within {_REQUEST_SECONDS:g} s") from None
        finally:
            self._renewal = None
        return self._token

    async def _request(self) -> Token:
        requested_at = self._clock.monotonic()
        try:
            response = await self._client.post(
                self._url, data=await self._form(), headers={"Accept": "application/json"}
            )
        except Uncertain as error:
            raise Unavailable(f"the token endpoint did not answer: {error.diagnostic}") from None
        except Unavailable as error:
            raise Unavailable(
                f"no token: {error.diagnostic}",
                code=error.code,
                retry_after=error.retry_after,
                is_throttled=error.is_throttled,
            ) from None
        except Misconfigured as error:
            raise Misconfigured(f"no token: {error.diagnostic}", code=error.code) from None
        fields = _fields(response)
        text = fields.get("access_token")
        if response.status_code != HTTPStatus.OK or not isinstance(text, str) or not _TOKEN.fullmatch(text):
            raise self._refusal(response.status_code, fields)
        if self._refresh_token and isinstance(new := fields.get("refresh_token"), str) and new:
            await self._refresh_token.replace(new)
        return Token(text, requested_at + _usable_seconds(fields.get("expires_in")))

    async def _form(self) -> dict[str, str]:
        settings = self._settings
        if self._key is not None:
            grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
            form = {"grant_type": grant, "assertion": self._assertion(self._key)}
        elif self._refresh_token:
            form = {"grant_type": "refresh_token", "refresh_token": await self._refresh_token.read()}
        else:
            form = {"grant_type": "client_credentials", "scope": self._scope}
        if settings.client_id is not None:
            form["client_id"] = settings.client_id
        if settings.client_secret is not None:
            form["client_secret"] = settings.client_secret.get_secret_value()
        return form

    def _assertion(self, key: RSAPrivateKey) -> str:
        now = int(self._clock.wall())
        claims = {"iss": self._settings.service_client, "sub": self._username, "scope": self._scope, "aud": self._url}
        parts = ({"alg": "RS256", "typ": "JWT"}, {**claims, "iat": now, "exp": now + _ASSERTION_SECONDS})
        signed = b".".join(_base64url(json.dumps(part).encode()) for part in parts)
        return (signed + b"." + _base64url(key.sign(signed, PKCS1v15(), hashes.SHA256()))).decode()

    def _refusal(self, status: int, fields: Mapping[str, Any]) -> SendingError:
        error, description = fields.get("error"), fields.get("error_description")
        code = bounded(error) if isinstance(error, str) else ""
        text = f"{code}: {description}" if isinstance(description, str) else code
        text = text or f"HTTP {status}, not as documented"
        for secret in (*self._settings.secrets(), self._refresh_token.text if self._refresh_token else ""):
            text = text.replace(secret, MASK) if secret else text
        temporary = status >= 500 or status == HTTPStatus.TOO_MANY_REQUESTS or code in _TEMPORARY  # noqa: PLR2004  # HTTP's
        kind = Unavailable if temporary else Misconfigured
        return kind(bounded(f"{self._url} gives no access token: {text}"), code=code or f"HTTP {status}")


class _RefreshToken:
    """The refresh token: that of the settings, or the last one that replaced it; some vendors revoke the old one."""

    def __init__(self, configured: SecretStr, context: ProviderContext) -> None:
        self.text = configured.get_secret_value()
        # Another token in the settings has another name, so that it is used instead of what replaced the former.
        digest = hashlib.sha256(self.text.encode()).hexdigest()[:16]
        self._name = f"{context.name} refresh_token {digest}"
        self._provider = context.name
        self._store = context.secrets
        self._is_stored = True

    async def read(self) -> str:
        """Return the current token, which another process may have stored."""
        if self._is_stored:
            try:
                self.text = await self._store.get(self._name) or self.text
            except MailroomError as error:
                log.warning("oauth2.token_not_read", provider=self._provider, problem=str(error))
        return self.text

    async def replace(self, new: str) -> None:
        """Use and store a new token."""
        if new == self.text and self._is_stored:
            return
        self.text, self._is_stored = new, False
        try:
            await self._store.put(self._name, new)
        except MailroomError as error:
            remedy = "after a restart its vendor may refuse the old one: then get a new refresh_token"
            log.error("oauth2.token_not_stored", provider=self._provider, problem=str(error), remedy=remedy)  # noqa: TRY400 - the text says it all
        else:
            self._is_stored = True


def _fields(response: "httpx.Response") -> dict[str, Any]:
    try:
        value = response.json()
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _usable_seconds(expires_in: Any) -> float:
    """Return for how many seconds a token is used."""
    try:
        seconds = float(expires_in)
    except (TypeError, ValueError):
        seconds = -1
    if not 0 <= seconds <= _LONGEST_LIFETIME_SECONDS:
        seconds = _USUAL_LIFETIME_SECONDS
    return max(seconds - _RENEW_SECONDS, seconds / 2)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
