"""Checks the settings together: combinations that are faults, and values with which the server does not start."""

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from mailroom.config import database_url
from mailroom.config.fields import SettingPath
from mailroom.config.model import Settings
from mailroom.config.overrides import Override
from mailroom.config.senders import providers_of
from mailroom.config.sources import did_you_mean
from mailroom.message import TEMPLATES
from mailroom.outbox.by_url import SQLITE, is_postgres
from mailroom.providers import ProviderSettings

PathFault = tuple[SettingPath, str]
"""A setting, and what is wrong with it."""

MISSING: Final[dict[SettingPath, str]] = {
    ("from",): 'missing; set the sender of your mails: "Acme <no-reply@acme.example>" (or MAILROOM_FROM)',
    ("secret_key",): "missing; `mailroom keygen --write mailroom.toml` writes one (or MAILROOM_SECRET_KEY)",
    ("providers",): (
        'missing; configure a provider: [providers.main] with type = "smtp" and its host '
        "(or MAILROOM_PROVIDERS__MAIN__TYPE and so on)"
    ),
    ("connector", "authorization"): (
        "missing; `mailroom keygen --write mailroom.toml` writes one, which you also type into Logto's HTTP "
        "email connector (or MAILROOM_CONNECTOR__AUTHORIZATION)"
    ),
}
"""The server does not start without these, except with `--dev`."""

_SHORTEST_KEY: Final = 32
_SHORTEST_AUTHORIZATION: Final = 16
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_PLACEHOLDER: Final = re.compile(r"…|replace[-_ ]this", re.IGNORECASE)
"""Placeholders for secrets in our examples."""
_DRAIN: Final = timedelta(seconds=6)

_EPHEMERAL_HOSTS: Final = {
    "DYNO": "Heroku",
    "K_SERVICE": "Cloud Run",
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda",
    "VERCEL": "Vercel",
}
"""Variables that identify hosts which lose their disk at every restart."""


def find_faults(
    settings: Settings, *, names: list[str], unordered: bool, environ: Mapping[str, str], dev: bool
) -> Iterator[PathFault]:
    """Yield the faults that concern several settings.

    `names` are all configured providers, faulty ones included; `unordered`: several are set by variables alone.
    """
    yield from _placeholders(settings, ())
    yield from _secrets(settings, dev=dev)
    yield from _database(settings, environ)
    yield from _routes(settings, names, unordered=unordered)
    for name, provider in settings.providers.items():
        if problem := provider.inexpressible(provider.sender or settings.sender, settings.reply_to):
            yield ("providers", name), problem
    for index, override in enumerate(settings.overrides):
        yield from _override(settings, override, ("overrides", index), names)
    if settings.connector.trusted_proxies and settings.connector.trusted_hops:
        yield ("connector", "trusted_hops"), "cannot be combined with trusted_proxies; remove one of them"
    recipient = settings.limits.recipient
    if recipient and recipient.seconds > settings.retention.total_seconds():
        yield ("limits", "recipient"), "its duration is longer than retention, after which codes are not counted"
    if dev and settings.host not in _LOOPBACK:
        yield ("host",), "with --dev only this machine may connect; remove it, or run without --dev"


def warnings(settings: Settings) -> list[str]:
    """Return warnings, which the server logs at start."""
    messages = []
    for name, provider in settings.providers.items():
        if provider.type == "capture" and not settings.dev:
            messages.append(f"provider {name} captures mails instead of sending them")
        if getattr(provider, "sandbox", False):
            messages.append(f"provider {name} is in its sandbox: mails are checked and none is sent")
        messages += [f"provider {name} {warning}" for warning in _transport_warnings(provider)]
    if settings.metrics_token is None and _is_public(settings.host):
        messages.append(f"anyone who can connect can read /metrics on {settings.host}: set metrics_token")
    kinds = sorted({*TEMPLATES, *(event.template for event in settings.webhook.events.values())})
    for index, override in enumerate(settings.overrides):
        kind = override.when.kind
        if kind and kind not in kinds:
            messages.append(
                f"overrides[{index}].when.kind: no mail of the kind {kind!r} is known{did_you_mean(kind, kinds)}"
            )
        if any(earlier.when.includes(override.when) for earlier in settings.overrides[:index]):
            messages.append(f"overrides[{index}] is never used: an earlier override matches all of its mails")
    if settings.role == "web" and not is_postgres(settings.database_url):
        messages.append('role = "web" on SQLite stores messages and sends none: it is for benchmarks')
    if settings.shutdown_timeout < _DRAIN:
        messages.append(
            "shutdown_timeout is shorter than Logto keeps idle connections (5 s): a restart can break requests"
        )
    return messages


def _transport_warnings(provider: ProviderSettings) -> Iterator[str]:
    """Yield settings with which others can read mails or credentials in transit."""
    if getattr(provider, "tls_verify", True) is False:
        yield "does not verify the server's certificate (tls_verify = false): anyone in between can read everything"
    if getattr(provider, "tls", "") == "none" and not _is_loopback(str(getattr(provider, "host", ""))):
        yield 'does not encrypt (tls = "none"): anyone in between can read everything, codes and password'
    for setting in ("endpoint", "url"):
        value = getattr(provider, setting, None)
        url = urlsplit(value.get_secret_value() if isinstance(value, SecretStr) else value or "")
        if url.scheme == "http" and not _is_loopback(url.hostname or ""):
            yield f"does not encrypt ({setting} is http://): anyone in between can read everything, codes and keys"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_public(host: str) -> bool:
    """Return whether other machines can connect to this address."""
    if host == "localhost":
        return False
    address = ip_address(host)
    return address.is_unspecified or not (address.is_private or address.is_loopback or address.is_link_local)


def is_placeholder(secret: SecretStr) -> bool:
    """Return whether a secret is a placeholder of an example."""
    return bool(_PLACEHOLDER.search(secret.get_secret_value()))


def _placeholders(value: Any, path: SettingPath) -> Iterator[PathFault]:
    """Yield the secrets below a setting that were copied from an example."""
    match value:
        case SecretStr() if is_placeholder(value):
            is_theirs = path[0] in ("providers", "webhook")
            todo = "put the real one there" if is_theirs else "`mailroom keygen` prints a new one"
            yield path, f"is a placeholder from an example; {todo}"
        case BaseModel():
            for name, field in type(value).model_fields.items():
                yield from _placeholders(getattr(value, name), (*path, field.alias or name))
        case dict():
            for name, inner in value.items():
                yield from _placeholders(inner, (*path, name))
        case tuple():
            for index, inner in enumerate(value):
                yield from _placeholders(inner, (*path, index))


def _secrets(settings: Settings, *, dev: bool) -> Iterator[PathFault]:
    for index, key in enumerate(settings.secret_key):
        if len(key.get_secret_value()) < _SHORTEST_KEY and not is_placeholder(key):
            yield ("secret_key", index), f"is shorter than {_SHORTEST_KEY} characters; `mailroom keygen` prints one"
    if not settings.secret_key:
        yield ("secret_key",), MISSING["secret_key",]
    if not settings.connector.authorization and not dev:
        yield ("connector", "authorization"), MISSING["connector", "authorization"]
    for index, header in enumerate(settings.connector.authorization):
        text = header.get_secret_value()
        path = ("connector", "authorization", index)
        if is_placeholder(header):
            continue
        if not (text.isascii() and text.isprintable()):
            yield path, "is not a valid header value: printable ASCII, no line breaks"
        elif len(text) < _SHORTEST_AUTHORIZATION and not dev:
            problem = f"is shorter than {_SHORTEST_AUTHORIZATION} characters, easily guessed"
            yield path, f"{problem}; `mailroom keygen` prints one"


def _database(settings: Settings, environ: Mapping[str, str]) -> Iterator[PathFault]:
    url, path = settings.database_url, ("database_url",)
    if settings.database_listen_url:
        listen_url = settings.database_listen_url.get_secret_value()
        for problem in database_url.find_listen_problems(listen_url):
            yield ("database_listen_url",), problem
    if is_postgres(url):
        for problem in database_url.find_problems(url):
            yield path, problem
        return
    name = url.removeprefix(SQLITE)
    if name in (url, "", ":memory:") or "?" in name or "\0" in name or name.endswith("/"):
        known = "sqlite:///data/mailroom.db, sqlite:////var/lib/mailroom/mailroom.db"
        yield path, f"name a file ({known}) or a database (postgresql://user:password@host/database)"
        return
    if settings.role == "worker":
        yield ("role",), 'a worker needs PostgreSQL (database_url = "postgresql://…"): on SQLite one process does all'
    if settings.workers > 1:
        yield ("workers",), 'several need PostgreSQL (database_url = "postgresql://…"): on SQLite one process does all'
    for variable, host in _EPHEMERAL_HOSTS.items():
        if environ.get(variable):
            problem = f"{host} (known by {variable}) loses its disk at every restart, and SQLite with it"
            yield path, f'{problem}: use PostgreSQL, database_url = "postgresql://…"'
            return


def _routes(settings: Settings, names: list[str], *, unordered: bool) -> Iterator[PathFault]:
    for template, route in settings.routes.items():
        yield from _unknown_providers(("routes", template), route, names)
        if not route:
            yield ("routes", template), "names no provider"
    if unordered and "default" not in settings.routes:
        problem = "variables have no order: set the order of the providers"
        yield ("routes", "default"), f"{problem}, MAILROOM_ROUTES__DEFAULT={','.join(names)}"


def _override(settings: Settings, override: Override, path: SettingPath, names: list[str]) -> Iterator[PathFault]:
    yield from _unknown_providers((*path, "providers"), override.providers or (), names)
    for name in providers_of(settings, override):
        if provider := settings.providers.get(name):
            sender = override.sender or provider.sender or settings.sender
            if problem := provider.inexpressible(sender, override.reply_to or settings.reply_to):
                yield path, f"provider {name} cannot send these mails: {problem}"


def _unknown_providers(path: SettingPath, route: tuple[str, ...], names: list[str]) -> Iterator[PathFault]:
    for index, name in enumerate(route):
        if name not in names:
            yield (*path, index), f"there is no provider {name!r}{did_you_mean(name, names)}"
        elif name in route[:index]:
            yield (*path, index), f"{name!r} is listed twice"
