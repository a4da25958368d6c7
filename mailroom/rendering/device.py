"""Names browser and system of a user agent: `device("Mozilla/5.0 (X11; Linux x86_64) … Chrome/139.0 …")`.

Only names listed here are returned, because whoever signs in chooses the text of the header.
"""

import re
from typing import Any, Final

_BROWSERS: Final = (
    (re.compile(r"\bEdg(?:e|A|iOS)?/"), "Edge"),
    (re.compile(r"\b(?:OPR|OPT|OPX|Opera)/"), "Opera"),
    (re.compile(r"\bSamsungBrowser/"), "Samsung Internet"),
    (re.compile(r"\bYaBrowser/"), "Yandex Browser"),
    (re.compile(r"\bMicroMessenger/"), "WeChat"),
    (re.compile(r"\bVivaldi/"), "Vivaldi"),
    (re.compile(r"\b(?:Firefox|FxiOS)/"), "Firefox"),
    (re.compile(r"\b(?:Chrome|CriOS)/"), "Chrome"),
    (re.compile(r"\bVersion/\S+ (?:Mobile/\S+ )?Safari/"), "Safari"),
)
"""In this order: most browsers also name Chrome and Safari."""
_SYSTEMS: Final = (
    (re.compile(r"\bWindows\b"), "Windows"),
    (re.compile(r"\biPhone\b"), "iPhone"),
    (re.compile(r"\biPad\b"), "iPad"),
    (re.compile(r"\bAndroid\b"), "Android"),
    (re.compile(r"\bCrOS\b"), "ChromeOS"),
    (re.compile(r"\bMac OS X\b"), "macOS"),
    (re.compile(r"\bLinux\b"), "Linux"),
)
"""In this order: Android also names Linux, iPhone and iPad also Mac OS X."""
_LONGEST: Final = 500


def device(user_agent: Any) -> str:
    """Return `Chrome · Linux`, one of both, or an empty string if neither is known."""
    if not isinstance(user_agent, str):
        return ""
    text = user_agent[:_LONGEST]
    names = (next((name for pattern, name in table if pattern.search(text)), "") for table in (_BROWSERS, _SYSTEMS))
    return " · ".join(filter(None, names))
