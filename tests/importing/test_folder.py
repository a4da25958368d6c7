"""Files are written into the templates folder: once, completely, and nowhere else."""

import os
from pathlib import Path

import pytest

from mailroom.errors import ImportingError
from mailroom.importing.folder import FileStatus, place
from mailroom.importing.plan import ImportLog, OverlayFile

HTML = OverlayFile("SignIn", "fr.html", b"<p>{{code}}\r\n")
TOML = OverlayFile("SignIn", "fr.toml", b'subject = "x"\n')


def statuses(root: Path, *files: OverlayFile, force: bool = False, dry_run: bool = False) -> list[str]:
    """Place files; return their statuses."""
    return [str(placed.status) for placed in place(files, root, ImportLog(), force=force, dry_run=dry_run)]


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_files_are_written_once_and_then_unchanged(tmp_path: Path) -> None:
    root = tmp_path / "a" / "b"
    assert statuses(root, TOML, HTML) == ["written", "written"]
    assert tree(root) == {"SignIn/logto/fr.html": HTML.content, "SignIn/logto/fr.toml": TOML.content}
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    assert statuses(root, TOML, HTML) == ["unchanged", "unchanged"]
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before


def test_an_edited_file_is_overwritten_only_with_force(tmp_path: Path) -> None:
    statuses(tmp_path, HTML)
    edited = tmp_path / HTML.path
    edited.write_bytes(b"mine")
    assert statuses(tmp_path, HTML) == ["kept"]
    assert edited.read_bytes() == b"mine"
    assert statuses(tmp_path, HTML, force=True, dry_run=True) == ["overwritten"]
    assert edited.read_bytes() == b"mine"
    assert statuses(tmp_path, HTML, force=True) == ["overwritten"]
    assert tree(tmp_path) == {HTML.path: HTML.content}


def test_a_file_of_the_same_length_is_compared_by_content(tmp_path: Path) -> None:
    statuses(tmp_path, TOML)
    (tmp_path / TOML.path).write_bytes(b'subject = "y"\n')
    assert statuses(tmp_path, TOML) == ["kept"]


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert statuses(tmp_path / "new", HTML, dry_run=True) == ["written"]
    assert statuses(tmp_path, HTML, dry_run=True) == ["written"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("linked", ["SignIn", "SignIn/logto", "SignIn/logto/fr.html"])
def test_symbolic_links_below_the_folder_are_not_followed(tmp_path: Path, linked: str, force: bool) -> None:  # noqa: FBT001 - a table's column
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "logto").mkdir(parents=True)
    (outside / "logto" / "fr.html").write_bytes(b"theirs")
    target = {"SignIn": outside, "SignIn/logto": outside / "logto"}.get(linked, outside / "logto" / "fr.html")
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(target)
    assert statuses(root, HTML, force=force) == ["refused"]
    assert tree(outside) == {"logto/fr.html": b"theirs"}


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "root/SignIn/logto").mkdir(parents=True)
    (tmp_path / "root" / HTML.path).symlink_to(tmp_path / "made")
    assert statuses(tmp_path / "root", HTML) == ["refused"]
    assert not (tmp_path / "made").exists()


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    """The operator named it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "named").symlink_to(tmp_path / "real")
    assert statuses(tmp_path / "named", HTML) == ["written"]
    assert (tmp_path / "real" / HTML.path).read_bytes() == HTML.content


def test_pipes_and_folders_with_a_files_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / TOML.path).mkdir(parents=True)
    os.mkfifo(tmp_path / HTML.path)
    assert statuses(tmp_path, TOML, HTML, force=True) == ["refused", "refused"]
    (tmp_path / "Register").write_bytes(b"a file")
    assert statuses(tmp_path, OverlayFile("Register", "fr.html", b"")) == ["refused"]


def test_parts_of_an_earlier_import_are_reported(tmp_path: Path) -> None:
    """A template that became plain text in Logto still has its HTML file."""
    statuses(tmp_path, TOML, HTML)
    text = OverlayFile("SignIn", "fr.txt", b"{{code}}")
    log = ImportLog()
    placed = place([TOML, text], tmp_path, log)
    assert [(left.source, left.what) for left in log.left_out] == [(str(tmp_path), HTML.path)]
    assert [(file.path, file.status) for file in placed] == [
        (TOML.path, FileStatus.UNCHANGED),
        (text.path, FileStatus.WRITTEN),
        (HTML.path, FileStatus.STALE),
    ]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(ImportingError, match="cannot use the folder"):
        place([HTML], tmp_path / "root", ImportLog())
    long = OverlayFile("SignIn", "x" * 300, b"")
    with pytest.raises(ImportingError, match=r"cannot write .*SignIn/logto/xxx"):
        place([long], tmp_path / "new", ImportLog())


def test_a_full_disk_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mailroom.importing.folder.os.fsync", full)
    with pytest.raises(ImportingError, match="No space left"):
        place([HTML], tmp_path, ImportLog())
    assert tree(tmp_path) == {}


def test_a_file_that_is_created_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(_: int) -> None:
        (tmp_path / HTML.path).write_bytes(b"mine")

    monkeypatch.setattr("mailroom.importing.folder.os.fsync", meanwhile)
    with pytest.raises(ImportingError, match="exists"):
        place([HTML], tmp_path, ImportLog())
    assert tree(tmp_path) == {HTML.path: b"mine"}


def test_without_files_no_folder_is_made(tmp_path: Path) -> None:
    assert place([], tmp_path / "new", ImportLog()) == []
    assert not (tmp_path / "new").exists()
