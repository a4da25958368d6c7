"""Converts the options of Logto's SMTP connector, which are nodemailer's, to settings of an SMTP provider."""

from collections.abc import Mapping
from typing import Any, Final

from mailroom.importing.plan import Connector, ImportLog
from mailroom.providers.smtp.smtp_settings import check_header

_IMPLICIT: Final = 465
_LONGEST_CONNECT_SECONDS: Final = 100

_HANDLED: Final = frozenset(
    {
        *("host", "port", "auth", "authMethod", "username", "password", "fromEmail", "replyTo", "templates"),
        *("secure", "requireTLS", "ignoreTLS", "tls", "name", "localAddress", "servername", "customHeaders"),
        "connectionTimeout",
    }
)
_IGNORED: Final = frozenset(
    {"logger", "debug", "disableFileAccess", "disableUrlAccess", "greetingTimeout", "socketTimeout", "dnsTimeout"}
)
"""Mailroom logs every attempt, opens no files or URLs that a mail names, and limits the total time of a mail."""

_OAUTH2: Final = {"clientId": "client_id", "serviceClient": "service_client", "accessUrl": "access_url"}
_OAUTH2_SECRETS: Final = {"clientSecret": "client_secret", "refreshToken": "refresh_token"}
_PRIVATE_KEY: Final = {"key": "private_key", "passphrase": "passphrase"}
_GOOGLE_URL: Final = "https://oauth2.googleapis.com/token"
_GOOGLE_SCOPE: Final = "https://mail.google.com/"
"""nodemailer's defaults."""


def settings_of(connector: Connector, log: ImportLog) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the settings and the secrets."""
    config, source = connector.config, connector.source
    settings: dict[str, Any] = {"host": config.get("host")}
    port = config.get("port")
    if port is not None:
        settings["port"] = int(port) if isinstance(port, str) and port.isdecimal() and len(port) < 6 else port  # noqa: PLR2004  # digits of a port
    settings["tls"] = _tls(connector, settings.get("port"), log)
    settings |= _tls_options(connector, log)
    for theirs, ours in (("name", "helo_name"), ("localAddress", "local_address")):
        if config.get(theirs) not in (None, ""):
            settings[ours] = config[theirs]
    settings |= _headers(connector, log)
    settings |= _connect_timeout(connector, log)
    for key in sorted(config.keys() - _HANDLED - _IGNORED):
        log.leave_out(source, key, "Mailroom has no such setting", "see docs/settings.md for what SMTP has")
    method = config.get("authMethod")
    if isinstance(method, str) and method.lower() in ("plain", "login", "cram-md5"):
        settings["auth"] = method.lower()
    elif method is not None:
        remedy = "nothing, if the server offers one"
        log.leave_out(source, "authMethod", "Mailroom logs in by PLAIN, LOGIN or CRAM-MD5", remedy)
    credentials, secrets = _auth(connector, log)
    return settings | credentials, secrets


def _tls(connector: Connector, port: Any, log: ImportLog) -> str:
    """Return what nodemailer does for these options: `secure` first, then `ignoreTLS`, then `requireTLS`."""
    config = connector.config
    for key in ("secure", "ignoreTLS", "requireTLS"):
        if config.get(key) not in (None, True, False):
            log.leave_out(connector.source, key, "it is neither true nor false", "set tls yourself")
    if config.get("secure") is True or (config.get("secure") is None and port == _IMPLICIT):
        return "implicit"
    if config.get("ignoreTLS") is True:
        return "none"
    if config.get("requireTLS") is True:
        return "starttls"
    log.note(
        connector.source,
        'Logto encrypts only where the server offers it, and so does tls = "opportunistic" now; make it "starttls" if '
        "your server can do that (most can), so that nobody in between can remove the encryption",
    )
    return "opportunistic"


def _tls_options(connector: Connector, log: ImportLog) -> dict[str, Any]:
    config, source = connector.config, connector.source
    options = config.get("tls")
    if options is not None and not isinstance(options, dict):
        log.leave_out(source, "tls", "it is no JSON object", "give the connector's JSON as Logto has it")
    remaining = dict(options) if isinstance(options, dict) else {}
    remaining.setdefault("servername", config.get("servername"))
    settings: dict[str, Any] = {}
    if remaining.pop("rejectUnauthorized", True) is False:
        settings["tls_verify"] = False
        log.note(source, "the server's certificate is not verified (tls.rejectUnauthorized: false); change it")
    name = remaining.pop("servername")
    if name not in (None, "", config.get("host")):
        settings["servername"] = name
    oldest = remaining.pop("minVersion", None)
    if oldest == "TLSv1.3":
        settings["tls_min_version"] = "1.3"
    elif oldest not in (None, "TLSv1", "TLSv1.1", "TLSv1.2"):  # our minimum is TLS 1.2
        remedy = "refuse older versions at the server"
        log.leave_out(source, "tls.minVersion", "Mailroom accepts TLS 1.2 too", remedy)
    for key in sorted(remaining):
        remedy = "save the certificates in a PEM file, and set ca_file" if key == "ca" else "see docs/settings.md"
        log.leave_out(source, f"tls.{key}", "Mailroom has no setting for it", remedy)
    return settings


def _headers(connector: Connector, log: ImportLog) -> dict[str, Any]:
    given, source = connector.config.get("customHeaders") or {}, connector.source
    if not isinstance(given, dict):
        log.leave_out(source, "customHeaders", "it is no JSON object", "set headers yourself")
        return {}
    headers = {}
    for name, value in given.items():
        try:
            values = [value] if isinstance(value, str) else value
            if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
                raise ValueError("its value is no text")  # noqa: TRY301 - as those of check_header
            check_header(name, values)
            headers[name] = value
        except ValueError as error:
            log.leave_out(source, f"customHeaders.{name}", str(error), "correct it in headers, or leave it out")
    return {"headers": headers} if headers else {}


def _connect_timeout(connector: Connector, log: ImportLog) -> dict[str, Any]:
    milliseconds = connector.config.get("connectionTimeout")
    if milliseconds is None:
        return {}
    if isinstance(milliseconds, int | float) and 0 < milliseconds <= _LONGEST_CONNECT_SECONDS * 1000:
        return {"connect_timeout": milliseconds / 1000}
    log.note(connector.source, "connectionTimeout stays at Mailroom's own: it waits 100 s at most")
    return {}


def _auth(connector: Connector, log: ImportLog) -> tuple[dict[str, Any], dict[str, str]]:
    """Return how to log in. nodemailer's type `login` means name and password, not the mechanism LOGIN."""
    config, source = connector.config, connector.source
    auth = config.get("auth")
    if auth is None:  # Logto's format in 2022
        auth = {"user": config.get("username"), "pass": config.get("password")}
    if not isinstance(auth, dict):
        log.leave_out(source, "auth", "it is no JSON object", "give the connector's JSON as Logto has it")
        return {}, {}
    type_ = str(auth.get("type") or "login").lower()
    if type_ == "oauth2":
        return _oauth2(auth, source, log)
    if type_ != "login":
        log.leave_out(source, "auth.type", "nodemailer has login and oauth2", "set username and password yourself")
    user, password = auth.get("user"), auth.get("pass")
    if not user and not password:
        return {}, {}  # a relay that authenticates by our address
    if not (isinstance(user, str) and isinstance(password, str) and user and password):
        remedy = "set username and password, or neither"
        log.leave_out(source, "auth", "user and pass belong together, as texts", remedy)
        return {}, {}
    return {"username": user}, {"password": password}


def _oauth2(auth: Mapping[str, Any], source: str, log: ImportLog) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the table `oauth2` and its secrets."""
    table = {ours: auth[theirs] for theirs, ours in _OAUTH2.items() if auth.get(theirs)}
    secrets = {ours: auth[theirs] for theirs, ours in _OAUTH2_SECRETS.items() if auth.get(theirs)}
    key = auth.get("privateKey")
    parts = key if isinstance(key, dict) else {"key": key}
    secrets |= {ours: parts[theirs] for theirs, ours in _PRIVATE_KEY.items() if parts.get(theirs)}
    if key:
        table["scope"] = _GOOGLE_SCOPE
    if not secrets and auth.get("accessToken"):
        secrets["access_token"] = auth["accessToken"]
        log.note(source, "the access token ends soon, and there is nothing to get a new one with")
    else:
        table.setdefault("access_url", _GOOGLE_URL)
    return {"username": auth.get("user"), "oauth2": table}, {f"oauth2.{name}": text for name, text in secrets.items()}
