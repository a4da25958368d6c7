"""Gives a process a wall clock that a test can set: `time.time` is ahead by the seconds in a file.

Python imports this module if its folder is on PYTHONPATH. The file is named by SETTABLE_CLOCK.
"""

import os
import time
from pathlib import Path

_file = Path(os.environ["SETTABLE_CLOCK"])
_time = time.time


def _ahead() -> float:
    return _time() + float(_file.read_text())


time.time = _ahead
