"""Signs requests for AWS with botocore: its credential chain and its Signature Version 4. httpx sends them.

    client = httpx.AsyncClient(auth=AwsAuth(None, region="eu-central-1", service="ses", profile=None, egress=egress))

botocore comes with the extra `ses` and is imported here only. Code that may block (files, the host's endpoints, STS)
runs in a thread; a signature with stored credentials takes 0.2 ms and does not.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Final

import botocore.session
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as ConnectionFailed

from mailroom.errors import Misconfigured, SendingError, Unavailable
from mailroom.providers.egress import Egress
from mailroom.text import bounded

# At DEBUG it logs what it signs, the session token included.
logging.getLogger("botocore").setLevel(logging.WARNING)

_FROM_THE_HOST: Final = frozenset({"env", "assume-role-with-web-identity", "container-role", "iam-role"})
"""Where credentials are searched unless a profile is named: the environment, EKS, ECS and EKS pods, EC2."""
_REFRESH_SECONDS: Final = 900
"""Before they expire; botocore refreshes from then on (advisory), and must in the last 600 s."""
_SIGNED: Final = ("content-type",)
"""Beside `host` and `x-amz-…`: nothing that a proxy may change."""
_TEMPORARY: Final = frozenset({"IDPCommunicationError", "InternalFailure", "ServiceUnavailable", "Throttling"})
"""STS's error codes that another attempt may not get (API_AssumeRoleWithWebIdentity.html, CommonErrors.html)."""


class AwsAuth(httpx.Auth):
    """Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html) for httpx.

    By fixed keys, or by those that botocore's chain returns: they are stored, and renewed before they expire.
    """

    requires_request_body = True

    def __init__(
        self,
        keys: tuple[str, str, str | None] | None,
        *,
        region: str,
        service: str,
        profile: str | None,
        egress: Egress,
    ) -> None:
        """`keys` are id, secret and session token, or None to search; region and service are the credential scope's."""
        self._fixed = Credentials(*keys) if keys else None
        self._region = region
        self._service = service
        self._profile = profile
        self._egress = egress
        self._credentials = self._fixed
        self._lock = asyncio.Lock()
        self.current: ReadOnlyCredentials | None = None
        """The keys that were used last."""

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add `X-Amz-Date`, `X-Amz-Security-Token` and `Authorization`. Raises Misconfigured or Unavailable."""
        headers = {name: request.headers[name] for name in _SIGNED if name in request.headers}
        signed = AWSRequest(method=request.method, url=str(request.url), headers=headers, data=request.content)
        SigV4Auth(await self._current_keys(), self._service, self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request

    def forget(self) -> bool:
        """Search again next time, because AWS refused expired keys. Returns False if they are the settings'."""
        self._credentials = self._fixed
        return self._fixed is None

    async def _current_keys(self) -> ReadOnlyCredentials:
        stored = self._credentials
        if stored is None or (isinstance(stored, RefreshableCredentials) and stored.refresh_needed(_REFRESH_SECONDS)):
            async with self._lock:  # concurrent callers wait for the same credentials
                self.current = await asyncio.to_thread(self._refresh)
        else:
            self.current = stored.get_frozen_credentials()
        return self.current

    def _refresh(self) -> ReadOnlyCredentials:
        try:
            if self._credentials is None:
                self._credentials = self._session().get_credentials()
            if self._credentials is None:
                raise Misconfigured("no credentials: neither the environment nor this host has any")
            return self._credentials.get_frozen_credentials()
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise _failure(error) from None

    def _session(self) -> botocore.session.Session:
        session = botocore.session.Session(profile=self._profile)
        session.set_config_variable("region", self._region)
        session.set_config_variable("sts_regional_endpoints", "regional")
        session.set_config_variable("ec2_metadata_v1_disabled", True)
        if self._egress.ca_file is not None:
            session.set_config_variable("ca_bundle", str(self._egress.ca_file))
        if (proxy := self._egress.proxy) is not None and proxy.scheme in ("http", "https"):  # STS; urllib3 has no SOCKS
            session.set_default_client_config(Config(proxies={"http": proxy.url, "https": proxy.url}))
        if (self._profile or session.get_config_variable("profile")) is None:
            resolver = session.get_component("credential_provider")
            resolver.providers = [one for one in resolver.providers if one.METHOD in _FROM_THE_HOST]
        return session


def _failure(error: Exception) -> SendingError:
    """Return the error for missing credentials; no mail was handed over."""
    match error:
        case SendingError():
            return error
        case ClientError():
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            temporary = code in _TEMPORARY or status >= 500  # noqa: PLR2004  # HTTP's
            return (Unavailable if temporary else Misconfigured)(f"no credentials: AWS STS answers {bounded(code)}")
        case MetadataRetrievalError() | CredentialRetrievalError() | ConnectionFailed() | HTTPClientError():
            return Unavailable("no credentials: the host's endpoint or AWS STS does not answer as it should")
    return Misconfigured(f"no credentials: {bounded(str(error))}")
