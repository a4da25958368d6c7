"""`deploy/Dockerfile` and the compose files.

No container engine runs where the tests run. So the steps of the Dockerfile are done by the shell, in an empty folder
that stands for the image's root. Not tried: the base images, another user than the test's, the network between
containers, and Compose itself, whose files are only read.
"""

import asyncio
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from mailroom.config import load
from tests.e2e.harness import AUTHORIZATION, ROOT, SECRET_KEY, unless
from tests.ports import free_port

DEPLOY: Final = ROOT / "deploy"
_MOST_OCTETS: Final = 35_000_000
"""Of what is added to the base image, compressed: python:3.13-slim has about 45 MB, together they have less than 80."""
_STARTS_WITHIN: Final = 60.0
MAIL: Final = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}}


def instructions() -> Iterator[tuple[str, str]]:
    """Yield each instruction of the Dockerfile and its argument."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line:
            word, _, argument = line.partition(" ")
            yield word, argument.strip()


@dataclass
class Image:
    """A folder in the place of an image's root."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = ""

    def path(self, name: str) -> Path:
        """Return the place of one of the image's files."""
        return self.root / os.path.join(self.folder, name).lstrip("/")  # noqa: PTH118 - a relative or absolute name

    def moved(self, text: str) -> str:
        """Let the image's absolute paths begin at its root."""
        return re.sub(r"(?<![\w./])/(?=(?:app|mailroom)\b)", f"{self.root}/", text)

    def environ(self, base: Path) -> dict[str, str]:
        """Return the variables; `base` has the base image's programs."""
        path = self.moved(self.environment.get("PATH", "$PATH")).replace("$PATH", f"{base}:{os.environ['PATH']}")
        own = {name: self.moved(value) for name, value in self.environment.items()}
        passed = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        return {**passed, "HOME": str(self.root), **own, "PATH": path}


def create_base(folder: Path) -> None:
    """Make Python and pip, as the base image has them; pip is that of the tests, which installing would take 3 s."""
    venv.create(folder)
    pip = find_spec("pip")
    assert pip
    assert pip.origin
    [packages] = folder.glob("lib/*/site-packages")
    (packages / "pip").symlink_to(Path(pip.origin).parent)


def build(folder: Path, base: Path) -> Image:
    """Do the steps of the Dockerfile; return the last stage.

    All stages have the same root: an environment cannot be moved, and `COPY --from` keeps its path.
    """
    image = Image(folder)
    for word, argument in instructions():
        match word:
            case "FROM":
                image = Image(folder)
            case "COPY":
                copy_into(image, argument)
            case "RUN":
                run_in(image, argument, base)
            case "ENV":
                image.environment |= dict(pair.split("=", 1) for pair in shlex.split(argument))
            case "CMD":
                image.command = json.loads(argument)
            case "HEALTHCHECK":
                image.health = json.loads(argument.partition("CMD ")[2])
            case "WORKDIR" | "USER":
                setattr(image, {"WORKDIR": "folder", "USER": "user"}[word], argument)
            case _:
                assert word in {"VOLUME", "EXPOSE"}, word
    return image


def run_in(image: Image, command: str, base: Path) -> None:
    """Do a RUN step."""
    image.path(".").mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["sh", "-euc", image.moved(command)],
        cwd=image.path("."),
        env=image.environ(base),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


def copy_into(image: Image, argument: str) -> None:
    """Do a COPY step; from another stage there is nothing to copy."""
    *sources, target = argument.split()
    if sources[0].startswith("--from="):
        assert sources[1:] == [target]
        assert image.path(target).is_dir()
        return
    for source in sources:
        copy(ROOT / source, image.path(source if target == "./" else target))


def copy(source: Path, target: Path) -> None:
    """Copy what .dockerignore lets through."""
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert f"!{source.name}" in allowed
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@unless("" if shutil.which("strip") else "strip is not installed: deploy/Dockerfile is not tried")
@unless("" if os.geteuid() == 0 else "only root may give files to another user: deploy/Dockerfile is not tried")
@pytest.mark.alone
async def test_the_steps_of_the_dockerfile_make_a_server(tmp_path: Path) -> None:
    """It is small, its health check notices it, it writes below /mailroom/data only, and the command works in it."""
    await asyncio.to_thread(create_base, tmp_path / "base")
    image = await asyncio.to_thread(build, tmp_path / "image", tmp_path / "base" / "bin")
    assert (image.user, image.folder) == ("10001:10001", "/mailroom")
    assert image.path("data").stat().st_uid == 10001
    with tarfile.open(tmp_path / "image.tar.gz", "w:gz", compresslevel=6) as archive:
        archive.add(image.path("/app"), "app")
    assert (tmp_path / "image.tar.gz").stat().st_size < _MOST_OCTETS

    environ = image.environ(tmp_path / "base" / "bin") | {
        "PORT": str(free_port()),
        "MAILROOM_FROM": "a@acme.example",
        "MAILROOM_SECRET_KEY": SECRET_KEY,
        "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION,
        "MAILROOM_PROVIDERS__MAIN__TYPE": "capture",
    }

    async def run(words: list[str]) -> asyncio.subprocess.Process:
        words = [image.moved(word) for word in words]
        program = shutil.which(words[0], path=environ["PATH"]) or words[0]
        return await asyncio.create_subprocess_exec(program, *words[1:], cwd=image.path("."), env=environ)

    before = files(image.root)
    assert await (await run(image.health)).wait() == 1, "nothing answers yet"
    server = await run(image.command)
    try:
        async with asyncio.timeout(_STARTS_WITHIN):
            while await (await run(image.health)).wait() != 0:
                assert server.returncode is None
        url = f"http://127.0.0.1:{environ['PORT']}"
        async with httpx.AsyncClient(base_url=url, trust_env=False) as logto:
            answer = await logto.post("/email", json=MAIL, headers={"authorization": AUTHORIZATION})
        assert answer.status_code == httpx.codes.OK
        assert await (await run(["mailroom", "status"])).wait() == 0
    finally:
        server.terminate()
        assert await asyncio.wait_for(server.wait(), 20) == 0
    written = {name for name, changed in files(image.root).items() if before.get(name) != changed}
    assert {name.split("/")[1] for name in written} == {"data"}, written


def files(root: Path) -> dict[str, int]:
    """Return all files and when they were changed."""
    return {str(file.relative_to(root)): file.lstat().st_mtime_ns for file in root.rglob("*") if not file.is_dir()}


def services(name: str) -> dict[str, Any]:
    """Return the services of a compose file."""
    document = yaml.safe_load((DEPLOY / name).read_text())
    assert set(document) == {"name", "services", "volumes"}
    for service in document["services"].values():
        named = {volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./"}
        assert named <= set(document["volumes"])
    return dict(document["services"])


@pytest.mark.parametrize(("file", "service"), [("compose.yaml", "mailroom"), ("compose.caddy.yaml", "caddy")])
def test_a_service_has_few_rights(file: str, service: str) -> None:
    settings = services(file)[service]
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["restart"] == "unless-stopped"


def test_mailroom_is_reached_from_this_machine_and_from_caddy_only() -> None:
    """Logto shows its users what a broken connection held, so a proxy comes first."""
    assert services("compose.yaml")["mailroom"]["ports"] == ["127.0.0.1:8000:8000"]
    caddy = services("compose.caddy.yaml")
    assert caddy["mailroom"] == {"extends": {"file": "compose.yaml", "service": "mailroom"}}
    assert caddy["caddy"]["environment"] == {"UPSTREAM": "mailroom:8000"}
    assert "reverse_proxy {$UPSTREAM:127.0.0.1:8000} {" in (DEPLOY / "Caddyfile").read_text()


def test_the_files_that_compose_names_are_there_and_its_variables_are_settings(tmp_path: Path) -> None:
    mailroom = services("compose.yaml")["mailroom"]
    assert (DEPLOY / mailroom["build"]["context"] / mailroom["build"]["dockerfile"]).is_file()
    assert mailroom["env_file"] == "../.env"
    assert ("VOLUME", '["/mailroom/data"]') in [*instructions()]
    assert "data:/mailroom/data" in mailroom["volumes"]
    environ = mailroom["environment"] | {
        "MAILROOM_FROM": "a@acme.example",
        "MAILROOM_SECRET_KEY": SECRET_KEY,
        "MAILROOM_CONNECTOR__AUTHORIZATION": AUTHORIZATION,
        "MAILROOM_PROVIDERS__MAIN__TYPE": "capture",
        "PORT": "8000",
    }
    (tmp_path / "mailroom.toml").touch()
    settings = load(environ=environ, config=tmp_path / "mailroom.toml")
    assert (settings.host, settings.port, settings.connector.trusted_hops) == ("0.0.0.0", 8000, 1)
