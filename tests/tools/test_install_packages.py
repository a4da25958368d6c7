"""The progress of an installation, by what pip writes."""

import subprocess
import sys
from pathlib import Path

from tools.install_packages import progress

SCRIPT = Path(__file__).parents[2] / "tools" / "install_packages.py"
PIP = """\
Collecting aiohttp==3.14.5 (from -r requirements.txt (line 4))
  Downloading aiohttp-3.14.5-cp311-cp311-manylinux2014_x86_64.whl (1.9 MB)
Processing /wheels/annotated_types-0.8.0-py3-none-any.whl (from -r requirements.txt (line 172))
Requirement already satisfied: aiohttp-socks==0.12.0 in ./.venv/lib (from -r requirements.txt (line 166))
Installing collected packages: aiohttp, annotated_types
Successfully installed aiohttp-3.14.5 annotated_types-0.8.0
"""


def test_each_package_is_counted() -> None:
    assert list(progress(PIP.splitlines(), 3)) == [
        "Installing packages: 1 of 3, aiohttp",
        "Installing packages: 2 of 3, annotated_types",
        "Installing packages: 3 of 3, aiohttp-socks",
        "Installing packages: 3 found, unpacking",
    ]


def test_what_pip_says_is_shown_if_it_fails(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("no-such-package==1.0 \\\n    --hash=sha256:00\n")
    arguments = ("--no-index", "--require-hashes", "-r", str(tmp_path / "requirements.txt"))
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Installing about 1 packages …\n")
    assert "No matching distribution found for no-such-package==1.0" in done.stderr
