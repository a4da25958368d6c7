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
    for name, command in parent.commands.items():
        found.append((*above, name))
        if isinstance(command, click.Group):
            found += commands(command, (*above, name))
    return found


def test_the_commands_are_listed() -> None:
    assert {" ".join(words) for words in commands(context.mailroom)} == {
        "check", "doctor", "import", "keygen", "preview", "providers", "send", "serve", "status", "outbox",
        "outbox list", "outbox find", "outbox show",
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
