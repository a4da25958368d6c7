"""The settings file and the environment file."""

import os
import stat
from pathlib import Path

import pytest

from mailroom.errors import ImportingError
from mailroom.importing.setting_files import append_variables, create_toml, others_can_read, read_toml, read_variables


def test_only_its_owner_can_read_a_new_environment_file(tmp_path: Path) -> None:
    file = tmp_path / "new" / ".env"
    append_variables(file, {"A": "1"})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == "A=1\n"
    assert not others_can_read(file)


def test_an_environment_file_is_parsed(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# A=1\nB=2\nexport C='3 4'\n D = x \nE=\"\nnonsense\nF=a=b\n\nB=5")
    assert read_variables(tmp_path / ".env") == {"B": "5", "C": "3 4", "D": "x", "E": '"', "F": "a=b"}


def test_existing_lines_and_permissions_are_not_changed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# mine\nA=1")
    file.chmod(0o640)
    append_variables(file, {"B": "2", "C": "3"})
    assert file.read_text() == "# mine\nA=1\nB=2\nC=3\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert others_can_read(file)
    assert read_variables(file) == {"A": "1", "B": "2", "C": "3"}


def test_secrets_are_not_written_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImportingError, match="cannot write"):
        append_variables(tmp_path / ".env", {"A": "1"})
    assert not (tmp_path / "elsewhere").exists()


def test_a_lone_surrogate_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ImportingError, match="half a character"):
        append_variables(tmp_path / ".env", {"A": "\ud800"})


def test_settings_are_created_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "mailroom.toml"
    assert read_toml(file) is None
    create_toml(file, "port = 1\n")
    assert read_toml(file) == {"port": 1}
    with pytest.raises(ImportingError, match="exists"):
        create_toml(file, "port = 2\n")
    assert read_toml(file) == {"port": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"port = ", "is not TOML"), (b"\xff", "is not UTF-8"), (b"#" * 1024 * 1025, "larger than 1024 KiB")],
    ids=["cut off", "latin-1", "huge"],
)
def test_settings_that_cannot_be_read_stop_the_import(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "mailroom.toml").write_bytes(content)
    with pytest.raises(ImportingError, match=problem):
        read_toml(tmp_path / "mailroom.toml")


def test_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImportingError, match="is not a file"):
        read_variables(tmp_path / "pipe")
    with pytest.raises(ImportingError, match="cannot read"):
        read_variables(tmp_path)
