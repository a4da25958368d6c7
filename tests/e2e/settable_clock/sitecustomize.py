"""Gives a process a wall clock that a test can set: `time.time` is ahead by as many seconds as a file says.

Python imports this by itself when the folder is on PYTHONPATH. The file is that which SETTABLE_CLOCK names.
"""

import os
import time
from pathlib import Path

_file = Path(os.environ["SETTABLE_CLOCK"])
_time = time.time


def _ahead() -> float:
    return _time() + float(_file.read_text())


time.time = _ahead
