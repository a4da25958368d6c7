"""Checks the URL of a PostgreSQL database before anything connects: a misspelt option would fail late."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from mailroom.config.sources import did_you_mean
from mailroom.outbox.by_url import is_postgres

_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS: Final = ("any", "primary", "standby", "read-write", "read-only", "prefer-standby")
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_OPTIONS: Final = (
    *("host", "port", "dbname", "user", "password", "sslmode", "sslnegotiation", "sslpassword"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "pgbouncer", "service"),
    *("krbsrvname", "gsslib", *_FILES),
)
"""libpq's, as far as asyncpg knows them, and `pgbouncer`, which is ours."""


def find_problems(url: str) -> Iterator[str]:
    """Yield what is wrong with a URL; without its values, which may be secrets."""
    if "#" in url:
        yield "has a #; in user and password write it as %23"
        return
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    hosts = parts.netloc.rpartition("@")[2]
    if not hosts and "host" not in options and "service" not in options:
        yield "names no host: postgresql://user:password@host/database"
    for host in hosts.split(","):
        port = host.rpartition("]")[2].partition(":")[2]
        if port and not port.isdecimal():
            yield "has a port that is no number; in user and password write : as %3A, / as %2F, @ as %40"
    yield from _option_problems(options)


def find_listen_problems(url: str) -> Iterator[str]:
    """Yield what is wrong with the URL on whose connection other processes wake this one."""
    if not is_postgres(url):
        yield "is no URL of a PostgreSQL: postgresql://user:password@host/database"
    elif "pgbouncer" in dict(parse_qsl(urlsplit(url).query)):
        yield "leads through a PgBouncer (pgbouncer=true), where no process can be woken: name the database's own host"
    else:
        yield from find_problems(url)


def _option_problems(options: Mapping[str, str]) -> Iterator[str]:
    for name in options:
        if name not in _OPTIONS:
            yield f"has the unknown option {name}{did_you_mean(name, list(_OPTIONS))}"
    for name, known in (("sslmode", _SSL_MODES), ("target_session_attrs", _SESSIONS)):
        if options.get(name, known[0]) not in known:
            yield f"has a {name} that is none of {', '.join(known)}"
    for name in _FILES:
        if name in options and not Path(options[name]).is_file():
            yield f"names a file that does not exist: {name}={options[name]}"
