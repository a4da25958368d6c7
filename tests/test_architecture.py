"""The shape of the tree: files and folders stay small, names are unique, nothing refers to a developer's machine."""

import ast
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 320
"""Lines; about 300 is a smell."""

MOST_MODULES = 14
"""Of one folder; more should be two folders."""

SAME_NAMES: dict[str, str] = {}
"""Module names that exist twice in the tree, each with its reason."""


def sources() -> list[Path]:
    """Return the Python files of the server."""
    return [
        ROOT / "server.py",
        ROOT / "supervisor.py",
        *sorted((ROOT / "handlers").rglob("*.py")),
        *sorted((ROOT / "mailroom").rglob("*.py")),
    ]


def name_of(file: Path) -> str:
    """Return the module's dotted name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in sources() if file.exists()}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_a_docstring_and_stays_short(module: str) -> None:
    text = MODULES[module].read_text()
    assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
    assert text.count("\n") <= LONGEST, f"{module} is longer than {LONGEST} lines"


def test_no_two_modules_have_the_same_name() -> None:
    """A file name in a traceback identifies the module."""
    names = Counter(file.stem for file in MODULES.values() if not file.stem.startswith("__"))
    assert {name for name, number in names.items() if number > 1} == set(SAME_NAMES)


def test_no_module_is_private() -> None:
    """A name without an underscore is enough: a package exports what others use."""
    assert not [name for name in MODULES if name.rpartition(".")[2].startswith("_") and not name.endswith("__main__")]


def test_no_folder_has_too_many_modules() -> None:
    """The bench and the tools are included."""
    files = [*MODULES.values(), *(ROOT / "bench").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    folders = Counter(file.parent for file in files if file.stem != "__init__")
    assert {folder for folder, number in folders.items() if number > MOST_MODULES} == set()


def tracked() -> list[Path]:
    """Return every file that is in the repository or not ignored by it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [file for name in listed.stdout.decode().split("\0") if name and (file := ROOT / name).is_file()]


# In pieces, so that this file does not find itself.
FOREIGN = {
    "a path of a developer's machine": re.compile(r"(?<![\w.-])/(?:" + "work|root|" + r"home/[a-z]+|Users/\w+)/"),
    "the address of a package index": re.compile(
        "--" + r"(?:extra-)?index-url|//[\w.]*py" + r"pi\.org|//registry\.npm"
    ),
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: its files are unknown")
def test_no_file_refers_to_the_machine_it_was_written_on() -> None:
    """Neither its folders nor the address of its package index."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {what}"
        for file in tracked()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_npm_lock_names_no_host() -> None:
    """`npm ci` uses the registry that npm is configured with; the hashes are checked."""
    lock = (ROOT / "tests" / "node" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock


def test_commands_write_to_the_terminal_in_one_place() -> None:
    """`mailroom.cli.output` escapes text from outside."""
    writers = {"echo", "secho", "print", "print_exception"}
    found = [
        f"{module}:{node.lineno}"
        for module, file in MODULES.items()
        if module.startswith("mailroom.cli.") and module != "mailroom.cli.output"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) or getattr(node.func, "attr", None)) in writers
    ]
    assert found == []
