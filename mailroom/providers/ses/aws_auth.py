"""Signs requests for AWS with botocore: its chain of credentials and its Signature Version 4. httpx sends.

botocore comes with the extra `ses` and is imported here only. What may block (files, the host's endpoints, STS) runs
in a thread; a signature with credentials at hand takes 0.2 ms and does not.
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

# At DEBUG it tells what it signs, session token and all.
logging.getLogger("botocore").setLevel(logging.WARNING)

_FROM_THE_HOST: Final = frozenset({"env", "assume-role-with-web-identity", "container-role", "iam-role"})
"""Where credentials are looked for unless a profile is named: the environment, EKS, ECS and EKS pods, EC2."""
_REFRESH_SECONDS: Final = 900
"""Before they expire; botocore refreshes from then on (advisory), and must in the last 600 s."""
_SIGNED: Final = ("content-type",)
"""Beside `host` and `x-amz-…`: nothing that a proxy may change."""
_TEMPORARY: Final = frozenset({"IDPCommunicationError", "InternalFailure", "ServiceUnavailable", "Throttling"})
"""STS's own error codes that are not the operator's to mend (API_AssumeRoleWithWebIdentity.html, CommonErrors.html)."""
_FIRST_SERVER_ERROR: Final = 500


class AwsCredentials:
    """Keys from the settings, or what botocore's chain finds: kept, and renewed before they expire."""

    def __init__(self, fixed: Credentials | None, *, region: str, profile: str | None, egress: Egress) -> None:
        """Take the settings' keys, or None to search; nothing is asked yet."""
        self._fixed = fixed
        self._region = region
        self._profile = profile
        self._egress = egress
        self._found: Credentials | None = fixed
        self._lock = asyncio.Lock()
        self.current: ReadOnlyCredentials | None = None
        """What was used last."""

    async def get(self) -> ReadOnlyCredentials:
        """Return credentials that are good now. Raises Misconfigured or Unavailable."""
        found = self._found
        if found is None or (isinstance(found, RefreshableCredentials) and found.refresh_needed(_REFRESH_SECONDS)):
            async with self._lock:  # whoever comes meanwhile waits for the same answer
                self.current = await asyncio.to_thread(self._refresh)
        else:
            self.current = found.get_frozen_credentials()
        return self.current

    def forget(self) -> bool:
        """Search anew next time: AWS says that these have expired. False: the operator has to give others."""
        self._found = self._fixed
        return self._fixed is None

    def _refresh(self) -> ReadOnlyCredentials:
        try:
            if self._found is None:
                self._found = self._session().get_credentials()
            if self._found is None:
                raise Misconfigured("no credentials: neither the environment nor this host has any")
            return self._found.get_frozen_credentials()
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


class AwsAuth(httpx.Auth):
    """Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html) for httpx."""

    requires_request_body = True

    def __init__(self, credentials: AwsCredentials, *, region: str, service: str) -> None:
        """Take the names of the credential scope: `eu-central-1`, `ses`."""
        self._credentials = credentials
        self._region = region
        self._service = service

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Add `X-Amz-Date`, `X-Amz-Security-Token` and `Authorization`."""
        headers = {name: request.headers[name] for name in _SIGNED if name in request.headers}
        signed = AWSRequest(method=request.method, url=str(request.url), headers=headers, data=request.content)
        SigV4Auth(await self._credentials.get(), self._service, self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        yield request


def _failure(error: Exception) -> SendingError:
    """Return what it means that there are no credentials; no mail was handed over."""
    match error:
        case SendingError():
            return error
        case ClientError():
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            temporary = code in _TEMPORARY or status >= _FIRST_SERVER_ERROR
            return (Unavailable if temporary else Misconfigured)(f"no credentials: AWS STS answers {bounded(code)}")
        case MetadataRetrievalError() | CredentialRetrievalError() | ConnectionFailed() | HTTPClientError():
            return Unavailable("no credentials: the host's endpoint or AWS STS does not answer as it should")
    return Misconfigured(f"no credentials: {bounded(str(error))}")
