"""All commands have a help text, and can be run as a module."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mailroom.cli import context

ROOT = Path(__file__).parents[2]


def commands(parent: click.Group, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the words of every command."""
    found = []
    context = click.Context(parent)
    for name in parent.list_commands(context):
        command = parent.get_command(context, name)
        found.append((*above, name))
        if isinstance(command, click.Group):
            found += commands(command, (*above, name))
    return found


def test_the_commands_are_listed() -> None:
    assert {" ".join(words) for words in commands(context.mailroom)} == {
        "check", "doctor", "import", "keygen", "preview", "providers", "send", "serve", "status", "pause", "resume",
        "outbox", "outbox list", "outbox find", "outbox show", "outbox retry", "outbox cancel", "outbox prune",
        "outbox backup", "outbox hold-all",
        "outbox copy",
    }  # fmt: skip


@pytest.mark.parametrize("words", commands(context.mailroom), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(context.mailroom, [*words, "--help"])
    assert result.exit_code == 0
    assert " ".join(words) in result.output
    assert "--json" in result.output or words in {("outbox",), ("serve",)}


def test_the_command_can_be_run_as_a_module(tmp_path: Path) -> None:
    Path("mailroom.toml").unlink()

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {"PATH": os.defpath, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "mailroom", *words],
            cwd=tmp_path, env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert run("keygen").returncode == 0
    checked = run("check")
    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr.startswith("The settings have 4 faults:\n  from: missing; ")
    assert run("nonsense").returncode == 2


def test_a_command_imports_only_what_it_needs() -> None:
    """A monitoring system runs `status`: all commands together take a second longer."""
    code = "import sys, mailroom.cli.status_command as _; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert {"aiohttp", "dns", "jinja2", "mailroom.lint", "starlette"}.isdisjoint(shown.stdout.split())
