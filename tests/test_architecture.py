"""The house keeps its shape: arrows point one way, files stay short, nothing knows the machine it was written on."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 320
"""Lines; about 300 is a smell."""

BASE = frozenset(
    {
        "mailroom",
        "mailroom.address",
        "mailroom.clock",
        "mailroom.errors",
        "mailroom.logto",
        "mailroom.message",
        "mailroom.text",
    }
)
"""What everybody may know: the data, the errors, the time."""
SETTINGS = BASE | {"mailroom.settings", "mailroom.providers", "mailroom.rendering"}

ARROWS: Mapping[str, frozenset[str]] = {
    "supervisor": frozenset(),
    "mailroom": frozenset(),
    "mailroom.clock": frozenset(),
    "mailroom.core_dumps": frozenset(),
    "mailroom.errors": frozenset(),
    "mailroom.smtpclient": frozenset(),
    "mailroom.logto": frozenset(),
    "mailroom.text": frozenset(),
    "mailroom.message": BASE,
    "mailroom.address": BASE,
    "mailroom.structlog_alone": frozenset(),
    "mailroom.logs": BASE,
    "mailroom.sealing": BASE,
    "mailroom.outbox": BASE | {"mailroom.sealing"},
    "mailroom.metrics": BASE | {"mailroom.outbox"},
    "mailroom.providers": BASE | {"mailroom.smtpclient"},
    "mailroom.rendering": BASE,
    "mailroom.checking": BASE | {"mailroom.rendering"},
    "mailroom.preview": BASE | {"mailroom.checking", "mailroom.rendering"},
    "mailroom.settings": BASE | {"mailroom.providers", "mailroom.rendering"},
    "mailroom.loading": SETTINGS,
    "mailroom.importing": SETTINGS | {"mailroom.loading"},
    "mailroom.templates": SETTINGS,
    "mailroom.lifecycle": SETTINGS | {"mailroom.outbox"},
    "mailroom.doctor": SETTINGS,
    "mailroom.courier": SETTINGS | {"mailroom.outbox", "mailroom.metrics"},
}
"""Room → the rooms that it may import."""

EVERYWHERE = frozenset({"handlers", "mailroom.cli", "mailroom.__main__", "server"})
"""May import all of mailroom; `server` also the handlers."""
HTTP_SERVERS = frozenset({"starlette", "uvicorn", "uvloop", "httptools"})


def sources() -> list[Path]:
    """Return the house's own Python files."""
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


def room_of(module: str) -> str:
    """Return the room that a module lies in: `mailroom.outbox` for `mailroom.outbox.sqlite`."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "mailroom" else parts[0]


def imports(module: str, tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports, wherever in the file, as dotted names."""
    package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield inner if inner in MODULES else source


def imported(module: str) -> set[str]:
    """Return the modules that a module of the house imports."""
    return set(imports(module, ast.parse(MODULES[module].read_text())))


def ours(names: set[str]) -> set[str]:
    """Return the names that are of the house."""
    return {name for name in names if name.split(".")[0] in {"mailroom", "handlers", "server", "supervisor"}}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_point_one_way(module: str) -> None:
    """From server to handlers to mailroom; inside, courier → {outbox, rendering, providers} → the base."""
    room = room_of(module)
    targets = {room_of(name) for name in ours(imported(module))} - {room}
    if room in EVERYWHERE:
        turned = {
            target
            for target in targets
            if target == "server"
            or (target == "supervisor" and room != "server")
            or (target == "handlers" and room not in {"server", "mailroom.cli"})
        }
    else:
        assert room in ARROWS, f"{room} is new: draw its arrows in {Path(__file__).name}"
        turned = targets - ARROWS[room]
    assert not turned, f"{module} must not import {sorted(turned)}"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith("mailroom") and not name.startswith("mailroom.cli")]
)
def test_the_core_knows_no_http_server(module: str) -> None:
    """What happens to a message does not depend on how it came in."""
    assert not {name.split(".")[0] for name in imported(module)} & HTTP_SERVERS


def test_no_module_waits_for_itself() -> None:
    """Imports form no circle; a package and its own modules count apart."""
    graph = {module: ours(imported(module)) - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_a_file_says_what_it_is_for_and_stays_short(module: str) -> None:
    """A docstring opens it; a long one wants to be two."""
    text = MODULES[module].read_text()
    assert ast.get_docstring(ast.parse(text)), f"{module} does not say what it is for"
    assert text.count("\n") <= LONGEST, f"{module} is longer than {LONGEST} lines"


def tracked() -> list[Path]:
    """Return every file that is in the repository, or would be."""
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


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone: nobody knows which files are in it")
def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Neither its folders nor where it gets its packages."""
    found = [
        f"{file.relative_to(ROOT)}:{number}: {what}"
        for file in tracked()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        for what, pattern in FOREIGN.items()
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_npm_lock_names_no_host() -> None:
    """`npm ci` takes the packages from wherever npm is told to; the hashes stay."""
    lock = (ROOT / "tests" / "node" / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock


def test_commands_write_to_the_terminal_in_one_place() -> None:
    """`mailroom.cli.printing` escapes what strangers wrote."""
    writers = {"echo", "secho", "print", "print_exception"}
    found = [
        f"{module}:{node.lineno}"
        for module, file in MODULES.items()
        if module.startswith("mailroom.cli.") and module != "mailroom.cli.printing"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call)
        and (getattr(node.func, "id", None) or getattr(node.func, "attr", None)) in writers
    ]
    assert found == []
