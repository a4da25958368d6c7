"""Runs `pip install` with these arguments and shows how far it is.

    python tools/install_packages.py --require-hashes -r requirements.txt

On a terminal one line counts the packages; otherwise one line says that they are being installed. pip's own output is
shown only if it fails.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_FOUND: Final = re.compile(
    r"(?:Collecting |Processing \S*/|Requirement already satisfied: )([A-Za-z0-9._]+(?:-[a-z]\w*)*)"
)
_PINNED: Final = re.compile(r"^[A-Za-z0-9._-]+(?:\[.*?\])?==", re.MULTILINE)


def progress(lines: Iterable[str], total: int) -> Iterator[str]:
    """Yield what to show for pip's output, line by line; `total` is about how many packages there are."""
    count = 0
    for line in lines:
        if found := _FOUND.match(line):
            count += 1
            yield f"Installing packages: {count} of {max(count, total)}, {found[1]}"
        elif line.startswith("Installing collected packages"):
            yield f"Installing packages: {count} found, unpacking"


def main(arguments: Sequence[str]) -> int:
    """Run pip; return its exit code."""
    files = [arguments[index + 1] for index, word in enumerate(arguments[:-1]) if word == "-r"]
    total = sum(len(_PINNED.findall(Path(file).read_text())) for file in files)
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--progress-bar",
        "off",
        *arguments,
    ]
    output: list[str] = []
    is_terminal = sys.stderr.isatty()
    if not is_terminal:
        sys.stderr.write(f"Installing about {total} packages …\n")
    with subprocess.Popen(  # noqa: S603 - pip of this environment
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as pip:
        assert pip.stdout is not None
        for text in progress(_recorded(pip.stdout, output), total):
            if is_terminal:
                sys.stderr.write(f"\r\033[K{text}")
                sys.stderr.flush()
    if is_terminal:
        sys.stderr.write("\r\033[K")
    if pip.returncode:
        sys.stderr.writelines(output)
    return pip.returncode


def _recorded(lines: Iterable[str], output: list[str]) -> Iterator[str]:
    for line in lines:
        output.append(line)
        yield line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
