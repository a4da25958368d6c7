"""Where this machine reaches the server that these settings describe."""

from mailroom.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not listened on


def server_url(settings: Settings) -> str:
    """Return the server's base URL, without a trailing slash."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
