"""The reverse proxies of `deploy/` on loopback ports, run by Caddy and nginx in front of an upstream of the test."""

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
"""What each writes to stderr once its sockets listen."""
_RELOADED = {"caddy": "load complete", "nginx": "exited with code 0"}
"""What each writes to stderr at the end of a reload; nginx, when the worker of the old configuration has ended."""


@dataclass(frozen=True, slots=True)
class _Site:
    """The ports and files that a proxy's configuration is changed to."""

    directory: Path
    port: int
    plain_port: int
    upstream_port: int
    chain: Path
    key: Path
    authority: Path


class Front:
    """A running proxy."""

    def __init__(self, site: _Site, proxy: str, process: asyncio.subprocess.Process) -> None:
        self._proxy = proxy
        self._directory = site.directory
        self._process = process
        self._lines: list[str] = []
        self._changed = asyncio.Condition()
        self.url = f"https://localhost:{site.port}"
        self.plain_url = f"http://localhost:{site.plain_port}"
        """Its address without TLS."""
        self.authority = site.authority
        """The file with the authority of its certificate."""
        self.trust = ssl.create_default_context(cafile=site.authority)

    async def read_stderr(self) -> None:
        """Collect what the proxy writes to stderr until it ends."""
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            async with self._changed:
                self._lines.append(line.decode())
                self._changed.notify_all()
        async with self._changed:
            self._lines.append("")
            self._changed.notify_all()

    async def wait_for_line(self, text: str, since: int = 0) -> None:
        """Wait for a line on stderr with this text. Raises AssertionError if the proxy ends before."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(lambda: any(text in line or not line for line in self._lines[since:]))
        assert self._lines[-1], "".join([f"{self._proxy} ended:\n", *self._lines])

    async def reload(self) -> None:
        """Reload the configuration as `systemctl reload` does, and return when that is done."""
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
        await self.wait_for_line(_RELOADED[self._proxy], since)


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
    site = _Site(
        directory,
        free_port(),
        free_port(),
        upstream_port,
        directory / "chain.pem",
        directory / "key.pem",
        directory / "authority.pem",
    )
    certificate.private_key_pem.write_to_path(site.key)
    site.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(site.authority)

    command = (_write_caddy if proxy == "caddy" else _write_nginx)(site, changed or {})
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env=_environment(directory), stderr=asyncio.subprocess.PIPE
    )
    running = Front(site, proxy, process)
    reading = asyncio.ensure_future(running.read_stderr())
    try:
        await running.wait_for_line(_READY[proxy])
        yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading


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


def _write_caddy(site: _Site, further: Mapping[str, str]) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "Caddyfile").read_text(),
        {
            "\tauto_https": f"\tadmin unix//{site.directory}/admin\n\tauto_https",
            "\nmail.acme.example {": f"\nhttps://localhost:{site.port} {{\n\ttls {site.chain} {site.key}",
            "http://mail.acme.example {": f"http://localhost:{site.plain_port} {{",
            "127.0.0.1:8000": f"127.0.0.1:{site.upstream_port}",
            **further,
        },
    )
    (site.directory / "Caddyfile").write_text(changed)
    return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


def _write_nginx(site: _Site, further: Mapping[str, str]) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "nginx.conf").read_text(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{site.port} ssl;",
            "listen 80;": f"listen 127.0.0.1:{site.plain_port};",
            "/etc/letsencrypt/live/mail.acme.example/fullchain.pem": str(site.chain),
            "/etc/letsencrypt/live/mail.acme.example/privkey.pem": str(site.key),
            "server_name mail.acme.example": "server_name localhost",
            "127.0.0.1:8000": f"127.0.0.1:{site.upstream_port}",
            **further,
        },
    )
    (site.directory / "mailroom.conf").write_text(changed)
    (site.directory / "nginx.conf").write_text(wrapped(site.directory / "mailroom.conf", site.directory))
    return ["nginx", "-p", str(site.directory), "-c", str(site.directory / "nginx.conf"), "-e", "stderr"]


def changes(text: str, replacements: Mapping[str, str]) -> str:
    """Replace texts that must be there."""
    for old, new in replacements.items():
        assert old in text, f"the configuration has no {old!r} any more"
        text = text.replace(old, new)
    return text


def wrapped(configuration: Path, directory: Path) -> str:
    """Return the main file around what goes to conf.d, all of it within this directory."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temp_paths = "\n".join(f"    {kind}_temp_path {directory}/{kind};" for kind in kinds)
    return f"""\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
{temp_paths}
    include {configuration};
}}
"""


def _environment(directory: Path) -> dict[str, str]:
    home = str(directory)
    return {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, "XDG_DATA_HOME": home}
