"""The files beside `mailroom.toml`: `.env`, and what relative paths name."""

import errno
from pathlib import Path

import pytest
import trustme

from mailroom.config import load
from mailroom.config.model import Settings
from mailroom.errors import Fault, SettingsError
from mailroom.outbox.by_url import sqlite_path

FILE = f"""
from = "Acme <no-reply@acme.example>"
secret_key = "{"k3y-" * 10}"
[connector]
authorization = "Bearer 0123456789abcdef"
[providers.main]
type = "capture"
"""


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(file: str, **environ: str) -> Settings:
    Path("mailroom.toml").write_text(file)
    return load(environ=environ)


def faults(file: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        loaded(file)
    return {fault.path: fault.problem for fault in caught.value.faults}


def test_env_beside_the_file_is_read() -> None:
    """The environment overrides it, be it by a file; other variables in it are not ours."""
    Path("etc").mkdir()
    Path("etc/mailroom.toml").write_text(FILE)
    Path("key").write_text("k" * 32)
    Path("etc/.env").write_text(
        f'MAILROOM_FROM="Lighthouse <l@acme.example>"\nMAILROOM_PORT=2\nMAILROOM_SECRET_KEY={"e" * 32}\nPORT=3\n'
    )
    Path(".env").write_text("MAILROOM_PORT=4\n")
    environ = {"MAILROOM_PORT": "1", "MAILROOM_SECRET_KEY_FILE": "key"}
    settings = load(environ=environ, config=Path("etc/mailroom.toml"))
    assert (settings.sender.name, settings.port) == ("Lighthouse", 1)
    assert settings.secret_key[0].get_secret_value() == "k" * 32


def test_an_empty_variable_does_not_hide_the_one_of_env() -> None:
    """Compose passes `${NAME:-}` of an unset one."""
    Path(".env").write_text("MAILROOM_PORT=2\n")
    assert loaded(FILE, MAILROOM_PORT="").port == 2


def test_a_misspelt_variable_in_env_is_a_fault() -> None:
    Path(".env").write_text("MAILROOM_FORM=a@acme.example\n")
    assert faults(FILE) == {"MAILROOM_FORM": "unknown setting; did you mean MAILROOM_FROM?"}


def test_env_that_cannot_be_read_is_named_only_if_something_is_wrong() -> None:
    """Systemd passes the variables of a file that only root can read."""
    Path(".env").write_bytes(b"\xff")
    assert loaded(FILE).port == 8000
    found = faults(FILE.replace("secret_key", "# "))
    assert list(found.items())[-1] == (".env", "is not UTF-8 text")
    assert "secret_key" in found


def test_env_of_root_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file is that only root can read; root itself, who may run this test, can."""

    def refuse(_self: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    Path(".env").touch()
    Path("mailroom.toml").touch()
    file = Path("mailroom.toml")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_text", lambda self, **_: "" if self == file else refuse(self))
        with pytest.raises(SettingsError) as caught:
            load(environ={})
    assert caught.value.faults[-1] == Fault(".env", "cannot be read: Permission denied")


def test_env_may_be_a_folder() -> None:
    """Some call their virtual environment so."""
    Path(".env").mkdir()
    assert loaded(FILE).port == 8000


def test_quotes_that_docker_keeps_are_removed() -> None:
    assert loaded(FILE, MAILROOM_FROM='"Acme <c@acme.example>"').sender.email == "c@acme.example"


def test_paths_in_the_file_are_relative_to_it() -> None:
    """So a command reads the same from any folder. Paths in variables are relative to the current one."""
    Path("etc").mkdir()
    smtp = '[providers.relay]\ntype = "smtp"\nhost = "localhost"\nca_file = "ca.pem"\n'
    Path("etc/mailroom.toml").write_text(f'templates = "mine"\n{FILE}{smtp}')
    with trustme.CA().cert_pem.tempfile() as authority:
        Path("etc/ca.pem").write_bytes(Path(authority).read_bytes())
    settings = load(environ={}, config=Path("etc/mailroom.toml"))
    assert settings.templates == Path("etc/mine")
    assert sqlite_path(settings.database_url) == Path("etc/data/mailroom.db")
    assert getattr(settings.providers["relay"], "ca_file", None) == Path("etc/ca.pem")
    environ = {"MAILROOM_TEMPLATES": "mine", "DATABASE_URL": "sqlite:///m.db"}
    settings = load(environ=environ, config=Path("etc/mailroom.toml"))
    assert (settings.templates, sqlite_path(settings.database_url)) == (Path("mine"), Path("m.db"))


def test_an_absolute_path_stays() -> None:
    Path("etc").mkdir()
    Path("etc/mailroom.toml").write_text(f'database_url = "sqlite:////var/lib/m.db"\n{FILE}')
    assert sqlite_path(load(environ={}, config=Path("etc/mailroom.toml")).database_url) == Path("/var/lib/m.db")


def test_what_development_stores_is_beside_the_file() -> None:
    Path("etc").mkdir()
    Path("etc/mailroom.toml").touch()
    settings = load(environ={}, config=Path("etc/mailroom.toml"), dev=True)
    assert sqlite_path(settings.database_url) == Path("etc/data/dev.db")
    assert Path("etc/data/dev-secret-key").is_file()
