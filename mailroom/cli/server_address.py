"""The URL at which this machine reaches the configured server."""

from mailroom.settings import Settings

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


def server_url(settings: Settings) -> str:
    """Return the server's base URL, without a trailing slash."""
    host = _EVERYWHERE.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
