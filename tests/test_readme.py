"""What README promises on its first screen happens when its lines are typed."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from mailroom.config import load
from tests.e2e.harness import ROOT, Server

README = (ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return [text for name, text in _BLOCK.findall(README) if name == language]


async def test_the_two_commands_give_a_mail(tmp_path: Path) -> None:
    """`make run`, the curl, the page: the mail is there with its code."""
    run, curl = blocks("sh")
    makefile = (ROOT / "Makefile").read_text()
    assert run == "make run\n"
    assert "run: setup\n\t$(BIN)/python server.py --dev\n" in makefile

    async with Server(tmp_path, None, arguments=["--dev"]) as server:
        typed = curl.replace("localhost:8000", f"localhost:{server.port}")
        process = await asyncio.create_subprocess_shell(
            f"{typed.strip()} --silent --show-error --fail-with-body --noproxy '*'", stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        assert re.fullmatch(r'\{"id": ?"[0-9a-f-]{36}"\}', said.decode())

        async with httpx.AsyncClient(base_url=server.url, trust_env=False) as browser, asyncio.timeout(10):
            while "ada@example.com" not in (page := (await browser.get("/console/captured")).text):
                pass  # it is kept before it is caught, a few milliseconds apart
        assert "329452" in page


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """With the dots filled in the server would start with them, and they say what the text says."""
    (text,) = blocks("toml")
    assert text.count("…") == 5
    file = tmp_path / "mailroom.toml"
    file.write_text(text.replace("…", "a-secret-of-more-than-thirty-two-characters"))

    settings = load(environ={}, config=file)

    assert settings.sender.email == "no-reply@acme.example"
    assert list(settings.providers) == ["main"]
    assert settings.providers["main"].type == "smtp"
    assert settings.connector.authorization[0].get_secret_value().startswith("Bearer ")


def test_the_variables_are_variables(tmp_path: Path) -> None:
    """Those that are named in the text reach the settings that they are named for."""
    named = re.findall(r"MAILROOM_[A-Z_]+", README)
    assert named
    (tmp_path / "key").write_text("a-secret-of-more-than-thirty-two-characters\n")
    values = {
        "MAILROOM_FROM": "Acme <no-reply@acme.example>",
        "MAILROOM_CONNECTOR__AUTHORIZATION": "Bearer of a long text",
        "MAILROOM_PROVIDERS__MAIN__PASSWORD": "a password",
        "MAILROOM_SECRET_KEY_FILE": str(tmp_path / "key"),
    }
    assert set(named) == set(values)
    rest = {"TYPE": "smtp", "HOST": "smtp.acme.example", "USERNAME": "acme"}
    values |= {f"MAILROOM_PROVIDERS__MAIN__{name}": value for name, value in rest.items()}
    (tmp_path / "mailroom.toml").touch()

    settings = load(environ=values, config=tmp_path / "mailroom.toml")

    assert settings.sender.name == "Acme"
    assert settings.connector.authorization[0].get_secret_value() == "Bearer of a long text"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make (\w+)`?$|`make (\w+)`", README, re.MULTILINE))))
def test_every_target_is_there(target: tuple[str, str]) -> None:
    """`make …` as the text says it."""
    assert re.search(rf"^{''.join(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!https?:)[^)]+)\)", README))
def test_every_link_leads_somewhere(path: str) -> None:
    """Files beside the README."""
    assert (ROOT / path).is_file()


def test_the_first_screen_is_one_screen() -> None:
    """The two commands come before line 30."""
    assert README[: README.index("## Send real ones")].count("\n") < 30
