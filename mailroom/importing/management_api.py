"""Fetches connectors and email templates from a running Logto through its Management API."""

import re
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from mailroom.errors import ImportingError
from mailroom.importing.recognize import LARGEST, decode

OSS_RESOURCE: Final = "https://default.logto.app/api"
"""The Management API's resource indicator of a self-hosted Logto; in Logto Cloud it is the tenant's address."""
_CLOUD: Final = ".logto.app"
_CLOUD_CONSOLE: Final = ("cloud.logto.io", "auth.logto.io")
_PATH: Final = re.compile(r"/(?:api|oidc|console|sign-in|register|welcome)(?:/.*)?")
"""Pages and APIs of Logto, whose address is often copied with them."""
_WANTED: Final = "the address at which your users sign in, Logto's ENDPOINT (port 3001 unless it was changed)"
_TIMEOUT_SECONDS: Final = 30.0
_LOOK: Final = "see Logto's audit logs"
_ADVICE: Final = {
    "invalid_client": "check --app-id and the secret of the machine-to-machine application",
    "invalid_target": "check --resource: Logto's console shows it under API resources, Logto Management API",
    "invalid_scope": "give the application a role with the Management API's permission `all`",
}


def resource_of(url: str) -> str:
    """Return the Management API's resource indicator for a Logto at this address."""
    host = urlsplit(url).hostname or ""
    return f"https://{host}/api" if host.endswith(_CLOUD) else OSS_RESOURCE


def fetch(
    url: str, *, app_id: str, app_secret: str, resource: str | None = None, transport: httpx.BaseTransport | None = None
) -> list[tuple[str, Any]]:
    """Return connectors and templates, each with the address it came from.

    The application is a machine-to-machine one whose role has the Management API's permission `all`. Raises
    ImportingError with what to do; no text of it holds a secret.
    """
    base = _check_url(url)
    try:
        with httpx.Client(timeout=_TIMEOUT_SECONDS, transport=transport) as client:
            token = _token(client, base, app_id, app_secret, resource or resource_of(base))
            client.headers["authorization"] = f"Bearer {token}"
            connectors = _get(client, f"{base}/api/connectors")
            templates = _get(client, f"{base}/api/email-templates", missing=[])  # Logto before 1.25 has none
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise ImportingError(f"no Logto answers at {base} ({type(error).__name__})") from None
    return [(f"{base}/api/connectors", connectors), (f"{base}/api/email-templates", templates)]


def _check_url(url: str) -> str:
    """Return the address without a trailing slash; refuse credentials, for the address is printed."""
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        is_valid = False
    if not is_valid or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise ImportingError("write Logto's address as https://logto.acme.example")
    if parts.hostname in _CLOUD_CONSOLE:
        raise ImportingError(f"{parts.hostname} is Logto Cloud's console; write https://<tenant>.logto.app")
    if _PATH.fullmatch(parts.path):
        raise ImportingError(f"write Logto's address without {parts.path}: {parts.scheme}://{parts.netloc}")
    return url.rstrip("/")


def _token(client: httpx.Client, base: str, app_id: str, app_secret: str, resource: str) -> str:
    """Return an access token by client credentials (RFC 6749 §4.4, RFC 8707)."""
    form = {"grant_type": "client_credentials", "resource": resource, "scope": "all"}
    status, raw = _request(client, "POST", f"{base}/oidc/token", data=form, auth=httpx.BasicAuth(app_id, app_secret))
    if status == httpx.codes.NOT_FOUND:
        raise ImportingError(f"{base} has no /oidc/token, so it is not Logto's address; write {_WANTED}")
    if status != httpx.codes.OK:
        code = _code(raw, "error")
        if code == "invalid_client" and (core := _core_address(client, base)):
            raise ImportingError(
                f"{base} is the admin console's address, which does not know your application; write {core}"
            )
        raise ImportingError(f"Logto gives no token: {status} {code}; {_ADVICE.get(code, _LOOK)}")
    response = decode(raw, f"what {base}/oidc/token answers")
    token = response.get("access_token") if isinstance(response, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise ImportingError(f"{base}/oidc/token answers without a token; is this Logto?")
    return token


def _core_address(client: httpx.Client, base: str) -> str:
    """Return what the admin console calls Logto's own address; empty if `base` is not an admin console's.

    Logto answers `/api/.well-known/endpoints/…` at the console's address only (packages/core, well-known routes).
    """
    status, raw = _request(client, "GET", f"{base}/api/.well-known/endpoints/default")
    with suppress(ImportingError):
        response = decode(raw, "the response") if status == httpx.codes.OK else None
        address = response.get("user") if isinstance(response, dict) else None
        return _check_url(address) if isinstance(address, str) else ""
    return ""


def _get(client: httpx.Client, address: str, *, missing: Any = None) -> Any:
    status, raw = _request(client, "GET", address)
    if status == httpx.codes.NOT_FOUND and missing is not None:
        return missing
    if status in (401, 403):
        advice = "give the application a role with the Management API's permission `all`, and check --resource"
        raise ImportingError(f"Logto refuses access to {address}: {status} {_code(raw, 'code')}; {advice}")
    if status != httpx.codes.OK:
        raise ImportingError(f"{address} answers {status} {_code(raw, 'code')}")
    rows = decode(raw, f"what {address} answers")
    if not isinstance(rows, list):
        raise ImportingError(f"{address} does not answer with a list; is this Logto?")
    return rows


def _request(client: httpx.Client, method: str, address: str, **options: Any) -> tuple[int, bytes]:
    """Return status and body; raise ImportingError if the body is too large."""
    raw = bytearray()
    with client.stream(method, address, **options) as response:
        for piece in response.iter_bytes():
            raw += piece
            if len(raw) > LARGEST:
                raise ImportingError(f"{address} answers with more than {LARGEST // 1024 // 1024} MiB")
        return response.status_code, bytes(raw)


def _code(raw: bytes, key: str) -> str:
    """Return Logto's error code, nothing else of the body."""
    with suppress(ImportingError):
        response = decode(raw, "the error")
        code = response.get(key) if isinstance(response, dict) else None
        if isinstance(code, str) and code.replace("_", "").replace(".", "").isalnum():
            return code[:60]
    return ""
