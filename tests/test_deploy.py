"""What `deploy/` holds is understood by the tools it is for, and does on the wire what it is there for."""

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from tests.e2e.front import PROXIES, Front, changes, front, missing, wrapped
from tests.e2e.harness import AUTHORIZATION, ROOT, Server, configuration, unless

DEPLOY = ROOT / "deploy"
MAIL = {"to": "ada@example.com", "type": "SignIn", "payload": {"code": "329452"}, "ip": "203.0.113.7"}
SORRY = "The mail could not be sent right now. Please try again in a minute."

each_proxy = pytest.mark.parametrize("proxy", [pytest.param(name, marks=unless(missing(name))) for name in PROXIES])


def needs(tool: str) -> pytest.MarkDecorator:
    """Skip where the tool is not installed; CI installs it."""
    return pytest.mark.skipif(
        shutil.which(tool) is None, reason=f"{tool} is not installed: deploy/ is not checked by it"
    )


def run(*command: str) -> str:
    """Return what a command said. Fails with it if the command does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class TestTheToolsUnderstand:
    """Each file, as the tool that it is for reads it."""

    @needs("caddy")
    def test_caddyfile(self) -> None:
        """Valid, and formatted as Caddy formats."""
        run("caddy", "validate", "--config", str(DEPLOY / "Caddyfile"), "--adapter", "caddyfile")
        assert run("caddy", "fmt", str(DEPLOY / "Caddyfile")) == (DEPLOY / "Caddyfile").read_text()

    @needs("nginx")
    def test_nginx_conf(self, tmp_path: Path) -> None:
        """`nginx -t` opens certificates and ports, so these are the test's."""
        certificate = trustme.CA().issue_cert("mail.acme.example")
        certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
        text = changes(
            (DEPLOY / "nginx.conf").read_text(),
            {
                "/etc/letsencrypt/live/mail.acme.example/fullchain.pem": str(tmp_path / "both.pem"),
                "/etc/letsencrypt/live/mail.acme.example/privkey.pem": str(tmp_path / "both.pem"),
                "listen 443": f"listen unix:{tmp_path}/443",
                "listen 80": f"listen unix:{tmp_path}/80",
            },
        )
        (tmp_path / "mailroom.conf").write_text(text)
        (tmp_path / "nginx.conf").write_text(wrapped(tmp_path / "mailroom.conf", tmp_path))
        said = run("nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr")
        assert "[warn]" not in said

    @needs("systemd-analyze")
    def test_systemd_units(self, tmp_path: Path) -> None:
        """No unknown key, no dangling name; the interpreter is the test's, since /opt/mailroom is not there."""
        service = (DEPLOY / "mailroom.service").read_text()
        (tmp_path / "mailroom.service").write_text(
            changes(service, {"/opt/mailroom/.venv/bin/python": sys.executable, "file:/opt/mailroom": f"file:{ROOT}"})
        )
        shutil.copy(DEPLOY / "mailroom.socket", tmp_path)
        units = [str(tmp_path / name) for name in ("mailroom.service", "mailroom.socket")]
        assert run("systemd-analyze", "verify", "--man=no", *units) == ""


def test_the_unit_signals_the_parent_process_alone() -> None:
    """It passes SIGTERM on: a second one would end the drain. SIGHUP to a child would be lost."""
    service = (DEPLOY / "mailroom.service").read_text().splitlines()
    assert "KillMode=mixed" in service
    assert "ExecReload=/bin/kill -HUP $MAINPID" in service


class Upstream:
    """Stands where Mailroom stands and notes what arrives; `drops`: it closes instead of answering."""

    def __init__(self, *, drops: bool) -> None:
        self.drops = drops
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on each connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length:"))
            await reader.readexactly(int(length.partition(":")[2]))
            if not self.drops:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def upstream(*, drops: bool = False) -> AsyncIterator[tuple[Upstream, int]]:
    """Run an upstream; gives it and its port."""
    place = Upstream(drops=drops)
    server = await asyncio.start_server(place.serve, "127.0.0.1", 0)
    async with server:
        yield place, server.sockets[0].getsockname()[1]


def client(edge: Front) -> httpx.AsyncClient:
    """Return a client as Logto is one: keep-alive, no proxy."""
    return httpx.AsyncClient(base_url=edge.url, verify=edge.trust, timeout=30, trust_env=False)


@each_proxy
async def test_a_dead_upstream_is_answered_and_not_dropped(proxy: str, tmp_path: Path) -> None:
    """502 in words for an end user: no reset, which would leak the request."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # taken, but unused listens: refused
        async with front(proxy, tmp_path, unused.getsockname()[1]) as edge, client(edge) as logto:
            answer = await logto.post("/email", json=MAIL)
            assert answer.status_code == httpx.codes.BAD_GATEWAY
            assert answer.text.strip() == SORRY
            assert answer.headers["connection"] == "close"


@each_proxy
async def test_a_request_that_was_sent_is_not_sent_again(proxy: str, tmp_path: Path) -> None:
    """The upstream may have kept the mail before it broke: one try, then 502."""
    async with upstream(drops=True) as (place, port), front(proxy, tmp_path, port) as edge, client(edge) as logto:
        answer = await logto.post("/email", json=MAIL)
        assert answer.status_code == httpx.codes.BAD_GATEWAY
        assert len(place.heads) == 1


@each_proxy
async def test_an_upstream_that_does_not_answer_is_given_up(proxy: str, tmp_path: Path) -> None:
    """After 30 s, here 1: Logto would wait for ever, and its end user with it."""
    with socket.create_server(("127.0.0.1", 0)) as mute:  # the kernel accepts, unused reads
        changed = {"timeout 30s": "timeout 1s"}
        async with front(proxy, tmp_path, mute.getsockname()[1], changed) as edge, client(edge) as logto:
            answer = await logto.post("/email", json=MAIL)
    assert answer.status_code in {httpx.codes.BAD_GATEWAY, httpx.codes.GATEWAY_TIMEOUT}
    assert answer.text.strip() == SORRY


@each_proxy
async def test_no_connection_of_a_client_is_used_twice(proxy: str, tmp_path: Path) -> None:
    """A reload closes idle connections; a request that was on its way would be lost, and leak."""
    async with upstream() as (_, port), front(proxy, tmp_path, port) as edge, client(edge) as logto:
        answers = [await logto.post(path, json=MAIL) for path in ("/email", "/webhook", "/email")]
    assert [answer.headers["connection"] for answer in answers] == ["close"] * 3


@each_proxy
async def test_the_client_cannot_forge_its_address(proxy: str, tmp_path: Path) -> None:
    """With `trusted_hops = 1` the last address is the proxy's own word, and there is no other."""
    async with upstream() as (place, port), front(proxy, tmp_path, port) as edge, client(edge) as logto:
        await logto.post("/email", json=MAIL, headers={"x-forwarded-for": "192.0.2.1"})
        (head,) = place.heads
        told = [line for line in head.lower().split("\r\n") if line.startswith("x-forwarded-for:")]
        assert told == ["x-forwarded-for: 127.0.0.1"]


@each_proxy
@pytest.mark.parametrize("path", ["/email", "/email/", "/webhook"])
async def test_plain_http_is_refused_without_a_redirect(proxy: str, path: str, tmp_path: Path) -> None:
    """Logto would follow one, and lose its authorization or its body on the way."""
    async with upstream() as (place, port), front(proxy, tmp_path, port) as edge:
        async with httpx.AsyncClient(base_url=edge.plain_url, trust_env=False) as stranger:
            answer = await stranger.post(path, json=MAIL)
        assert answer.status_code == httpx.codes.FORBIDDEN
        assert answer.text.strip() == "Please use https."
        assert place.heads == []


@each_proxy
async def test_metrics_are_not_shown_to_strangers(proxy: str, tmp_path: Path) -> None:
    """Prometheus asks Mailroom itself."""
    async with upstream() as (place, port), front(proxy, tmp_path, port) as edge, client(edge) as stranger:
        assert (await stranger.get("/metrics")).status_code == httpx.codes.NOT_FOUND
        assert place.heads == []


@unless(missing("nginx"))
async def test_a_body_beyond_all_measure_is_refused_in_plain_words(tmp_path: Path) -> None:
    """Refused by nginx before Mailroom would; its own HTML page must not reach end users."""
    async with upstream() as (place, port), front("nginx", tmp_path, port) as edge, client(edge) as logto:
        answer = await logto.post("/email", content=b"x" * 3_000_000)
        assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
        assert answer.text == "The request is too large.\n"
        assert place.heads == []


@each_proxy
async def test_a_restart_is_not_noticed_by_anyone(proxy: str, tmp_path: Path) -> None:
    """Clients that post without pause while one process drains and the next takes over see nothing but 200."""
    places = {name: tmp_path / name for name in ("front", "server")}
    for place in places.values():
        place.mkdir()
    over = asyncio.Event()
    statuses: list[int] = []

    async def post_until_over(logto: httpx.AsyncClient, number: int) -> None:
        while not over.is_set():
            mail = MAIL | {"to": f"u{number}-{len(statuses)}@example.com"}
            statuses.append((await logto.post("/email", json=mail)).status_code)

    async with (
        Server(places["server"], configuration('type = "capture"')) as server,
        front(proxy, places["front"], server.port) as edge,
        client(edge) as logto,
    ):
        logto.headers["authorization"] = AUTHORIZATION
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(post_until_over(logto, number))
            old = server.terminate()
            await server.start()
            await server.ended(old)
            await server.ready()
            over.set()
    assert len(statuses) > 4
    assert set(statuses) == {httpx.codes.OK}
