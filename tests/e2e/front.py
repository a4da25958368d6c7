"""The reverse proxies of `deploy/` on loopback ports, run by the tools themselves before an upstream of the test's."""

import asyncio
import shutil
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.e2e.harness import ROOT
from tests.ports import free_port

PROXIES = ("caddy", "nginx")
_READY = {"caddy": "serving initial configuration", "nginx": "start worker process "}
"""What each says on stderr once its sockets listen."""
_RELOADED = {"caddy": "load complete", "nginx": "exited with code 0"}
"""What each says on stderr at the end of a reload; nginx, when the worker of the old configuration has ended."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where a proxy stands: what its configuration is changed to."""

    directory: Path
    port: int
    plain_port: int
    upstream_port: int
    chain: Path
    key: Path
    authority: Path


class Front:
    """A proxy that runs."""

    def __init__(self, ground: _Ground, proxy: str, process: asyncio.subprocess.Process) -> None:
        self._proxy = proxy
        self._directory = ground.directory
        self._process = process
        self._lines: list[str] = []
        self._news = asyncio.Condition()
        self.url = f"https://localhost:{ground.port}"
        self.plain_url = f"http://localhost:{ground.plain_port}"
        """Its http side."""
        self.authority = ground.authority
        """The file with the authority of its certificate."""
        self.trust = ssl.create_default_context(cafile=ground.authority)

    async def listen(self) -> None:
        """Note what the proxy writes to stderr until it ends; nobody else reads it."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._news:
                self._lines.append(line.decode())
                self._news.notify_all()
        async with self._news:
            self._lines.append("")
            self._news.notify_all()

    async def says(self, words: str, since: int = 0) -> None:
        """Wait for a line on stderr with these words. Raises AssertionError if the proxy ends before."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: any(words in line or not line for line in self._lines[since:]))
        assert self._lines[-1], "".join([f"{self._proxy} ended:\n", *self._lines])

    async def reload(self) -> None:
        """Have the configuration read again, as `systemctl reload` does, and return when that is done."""
        since = len(self._lines)
        if self._proxy == "nginx":
            self._process.send_signal(signal.SIGHUP)
        else:
            command = ("caddy", "reload", "--config", "Caddyfile", "--force")
            reload = await asyncio.create_subprocess_exec(
                *command,
                cwd=self._directory,
                env=_environment(self._directory),
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert await reload.wait() == 0, "caddy reload failed"
        await self.says(_RELOADED[self._proxy], since)


def missing(proxy: str) -> str:
    """Return why the proxy cannot run here; empty: it can."""
    return "" if shutil.which(proxy) else f"{proxy} is not installed: its configuration is not tried"


@asynccontextmanager
async def front(
    proxy: str, directory: Path, upstream_port: int, changed: Mapping[str, str] | None = None
) -> AsyncIterator[Front]:
    """Run `deploy/`'s configuration of this proxy, changed in nothing but host, ports, certificate and `changed`."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ground = _Ground(
        directory,
        free_port(),
        free_port(),
        upstream_port,
        directory / "chain.pem",
        directory / "key.pem",
        directory / "authority.pem",
    )
    certificate.private_key_pem.write_to_path(ground.key)
    ground.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(ground.authority)

    command = (_write_caddy if proxy == "caddy" else _write_nginx)(ground, changed or {})
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env=_environment(directory), stderr=asyncio.subprocess.PIPE
    )
    place = Front(ground, proxy, process)
    listening = asyncio.ensure_future(place.listen())
    try:
        await place.says(_READY[proxy])
        yield place
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await listening


@asynccontextmanager
async def haproxy(directory: Path, upstream_port: int) -> AsyncIterator[str]:
    """Run HAProxy as people put it before a server, which passes on trailers and offers to upgrade; gives its URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        fd = listening.fileno()
        (directory / "haproxy.cfg").write_text(_HAPROXY.format(fd=fd, upstream_port=upstream_port))
        process = await asyncio.create_subprocess_exec(
            "haproxy", "-q", "-db", "-f", "haproxy.cfg", cwd=directory, env=_environment(directory), pass_fds=(fd,)
        )
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            process.terminate()
            await process.wait()


_HAPROXY = """\
defaults
    mode http
    option forwardfor
    http-reuse always
    timeout connect 2s
    timeout client 30s
    timeout server 30s

frontend public
    bind fd@{fd}
    default_backend mailroom

backend mailroom
    server mailroom 127.0.0.1:{upstream_port}
"""


def _write_caddy(ground: _Ground, further: Mapping[str, str]) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "Caddyfile").read_text(),
        {
            "\tauto_https": f"\tadmin unix//{ground.directory}/admin\n\tauto_https",
            "\nmail.acme.example {": f"\nhttps://localhost:{ground.port} {{\n\ttls {ground.chain} {ground.key}",
            "http://mail.acme.example {": f"http://localhost:{ground.plain_port} {{",
            "127.0.0.1:8000": f"127.0.0.1:{ground.upstream_port}",
            **further,
        },
    )
    (ground.directory / "Caddyfile").write_text(changed)
    return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


def _write_nginx(ground: _Ground, further: Mapping[str, str]) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "nginx.conf").read_text(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{ground.port} ssl;",
            "listen 80;": f"listen 127.0.0.1:{ground.plain_port};",
            "/etc/letsencrypt/live/mail.acme.example/fullchain.pem": str(ground.chain),
            "/etc/letsencrypt/live/mail.acme.example/privkey.pem": str(ground.key),
            "server_name mail.acme.example": "server_name localhost",
            "127.0.0.1:8000": f"127.0.0.1:{ground.upstream_port}",
            **further,
        },
    )
    (ground.directory / "mailroom.conf").write_text(changed)
    (ground.directory / "nginx.conf").write_text(wrapped(ground.directory / "mailroom.conf", ground.directory))
    return ["nginx", "-p", str(ground.directory), "-c", str(ground.directory / "nginx.conf"), "-e", "stderr"]


def changes(text: str, replacements: Mapping[str, str]) -> str:
    """Replace texts that must be there."""
    for old, new in replacements.items():
        assert old in text, f"the configuration has no {old!r} any more"
        text = text.replace(old, new)
    return text


def wrapped(configuration: Path, directory: Path) -> str:
    """Return the main file around what goes to conf.d, all of it within this directory."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"    {kind}_temp_path {directory}/{kind};" for kind in kinds)
    return f"""\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
{places}
    include {configuration};
}}
"""


def _environment(directory: Path) -> dict[str, str]:
    home = str(directory)
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, "XDG_DATA_HOME": home}
