"""Browser and system of user agents, as browsers send them."""

from typing import Any

import pytest

from mailroom.rendering.device import device

MOZILLA = "Mozilla/5.0"
WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
MAC = "Macintosh; Intel Mac OS X 10_15_7"
IPHONE = "iPhone; CPU iPhone OS 18_6 like Mac OS X"


@pytest.mark.parametrize(
    ("user_agent", "shown"),
    [
        (f"{MOZILLA} (X11; Linux x86_64) {WEBKIT} Chrome/139.0.0.0 Safari/537.36", "Chrome · Linux"),
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/139.0.0.0 Safari/537.36", "Chrome · Windows"),
        (
            f"{MOZILLA} (Windows NT 10.0; Win64; x64) {WEBKIT} Chrome/139.0.0.0 Safari/537.36 Edg/139.0.0.0",
            "Edge · Windows",
        ),
        (f"{MOZILLA} (Windows NT 10.0; Win64; x64; rv:142.0) Gecko/20100101 Firefox/142.0", "Firefox · Windows"),
        (f"{MOZILLA} ({MAC}) {APPLE} Version/18.6 Safari/605.1.15", "Safari · macOS"),
        (f"{MOZILLA} ({MAC}) {WEBKIT} Chrome/139.0.0.0 Safari/537.36 OPR/120.0.0.0", "Opera · macOS"),
        (f"{MOZILLA} ({IPHONE}) {APPLE} Version/18.6 Mobile/15E148 Safari/604.1", "Safari · iPhone"),
        (f"{MOZILLA} ({IPHONE}) {APPLE} CriOS/139.0.7258.76 Mobile/15E148 Safari/604.1", "Chrome · iPhone"),
        (f"{MOZILLA} ({IPHONE}) {APPLE} FxiOS/142.0 Mobile/15E148 Safari/605.1.15", "Firefox · iPhone"),
        (
            f"{MOZILLA} (iPad; CPU OS 18_6 like Mac OS X) {APPLE} Version/18.6 Mobile/15E148 Safari/604.1",
            "Safari · iPad",
        ),
        (f"{MOZILLA} (Linux; Android 10; K) {WEBKIT} Chrome/139.0.0.0 Mobile Safari/537.36", "Chrome · Android"),
        (
            f"{MOZILLA} (Linux; Android 10; K) {WEBKIT} SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
            "Samsung Internet · Android",
        ),
        (f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) {WEBKIT} Chrome/139.0.0.0 Safari/537.36", "Chrome · ChromeOS"),
        # The view of an app: it has no name of its own.
        (f"{MOZILLA} ({IPHONE}) {APPLE} Mobile/15E148", "iPhone"),
        ("Opera/9.80 (Windows NT 6.0) Presto/2.12.388 Version/12.14", "Opera · Windows"),
        ("acme-backend/2.3.1", ""),
        ("Call +1 555 0100 now: your account is at risk, https://evil.example", ""),
        ("x" * 1_000_000 + " Chrome/1 Windows", ""),
        ("", ""),
        (None, ""),
        (7, ""),
        (["Chrome/1"], ""),
    ],
)
def test_only_known_names_are_shown(user_agent: Any, shown: str) -> None:
    assert device(user_agent) == shown
