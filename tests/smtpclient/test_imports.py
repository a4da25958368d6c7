"""The library stands alone: it could be published as it is."""

import subprocess
import sys
from pathlib import Path

ALL = """
import pkgutil, sys
import mailroom.smtpclient
for module in pkgutil.iter_modules(mailroom.smtpclient.__path__):
    __import__(f"mailroom.smtpclient.{module.name}")
print(*(name for name in sys.modules if name.partition(".")[0] in {"mailroom", "handlers", "pydantic", "msgspec"}))
"""


def test_it_imports_nothing_of_ours() -> None:
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", ALL], cwd=root, capture_output=True, text=True, check=True)
    others = [name for name in found.stdout.split() if not name.startswith("mailroom.smtpclient")]
    assert others == ["mailroom"], "the package that it lies in, which is empty"


def test_without_a_proxy_python_socks_is_not_imported() -> None:
    code = "import sys, mailroom.smtpclient; print('python_socks' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
