"""The reverse proxies of `deploy/` on loopback ports, run by the tools themselves before an upstream of the test's."""

import asyncio
import shutil
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


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where a proxy stands: what its configuration is changed to."""

    directory: Path
    port: int
    plain_port: int
    upstream_port: int
    chain: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Front:
    """A proxy that runs."""

    url: str
    plain_url: str
    """Its http side."""
    trust: ssl.SSLContext
    """Knows the authority of its certificate."""


def missing(proxy: str) -> str:
    """Return why the proxy cannot run here; empty: it can."""
    return "" if shutil.which(proxy) else f"{proxy} is not installed: its configuration is not tried"


@asynccontextmanager
async def front(proxy: str, directory: Path, upstream_port: int) -> AsyncIterator[Front]:
    """Run `deploy/`'s configuration of this proxy, changed in nothing but host, ports and certificate."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    ground = _Ground(directory, free_port(), free_port(), upstream_port, directory / "chain.pem", directory / "key.pem")
    certificate.private_key_pem.write_to_path(ground.key)
    ground.chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    command = _write_caddy(ground) if proxy == "caddy" else _write_nginx(ground)
    process = await asyncio.create_subprocess_exec(
        *command, cwd=directory, env=_environment(directory), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = bytearray()
    try:
        while _READY[proxy].encode() not in said:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, f"{proxy} ended: {said.decode()}"
            said += line
        draining = asyncio.ensure_future(process.stderr.read())
        yield Front(f"https://localhost:{ground.port}", f"http://localhost:{ground.plain_port}", trust)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
    await draining


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


def _write_caddy(ground: _Ground) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "Caddyfile").read_text(),
        {
            "\tauto_https": "\tadmin off\n\tauto_https",
            "\nmail.acme.example {": f"\nhttps://localhost:{ground.port} {{\n\ttls {ground.chain} {ground.key}",
            "http://mail.acme.example {": f"http://localhost:{ground.plain_port} {{",
            "127.0.0.1:8000": f"127.0.0.1:{ground.upstream_port}",
        },
    )
    (ground.directory / "Caddyfile").write_text(changed)
    return ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]


def _write_nginx(ground: _Ground) -> list[str]:
    changed = changes(
        (ROOT / "deploy" / "nginx.conf").read_text(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{ground.port} ssl;",
            "listen 80;": f"listen 127.0.0.1:{ground.plain_port};",
            "/etc/letsencrypt/live/mail.acme.example/fullchain.pem": str(ground.chain),
            "/etc/letsencrypt/live/mail.acme.example/privkey.pem": str(ground.key),
            "server_name mail.acme.example": "server_name localhost",
            "127.0.0.1:8000": f"127.0.0.1:{ground.upstream_port}",
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
