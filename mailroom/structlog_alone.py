"""Imports structlog without rich: import this before structlog is imported anywhere.

structlog imports rich wherever it is installed, for tracebacks that `logs` draws by itself. That takes 60 ms of a
server's start; the commands, which draw with rich, import it themselves.
"""

import sys

_is_rich_imported = "rich" in sys.modules
if not _is_rich_imported:
    sys.modules["rich"] = None  # type: ignore[assignment]  # the documented way to make an import fail

import structlog  # noqa: E402, F401 - what all of this is for

if not _is_rich_imported:
    del sys.modules["rich"]
