"""The preview's page in Chromium: what its script makes of an address."""

import asyncio
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
import uvicorn

from handlers.console.preview import Preview
from handlers.lifecycle import bind_socket
from mailroom.lint.rules.rendered import LintContext
from mailroom.preview.preview_send import PreviewSender
from tests.clock import FakeClock
from tests.providers.contract import SecretsInMemory
from tests.rendering.overlays import renderer_with, write_files
from tests.rendering.samples import SENDER

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


@contextmanager
def serving(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Serve the page for these templates."""
    sender = PreviewSender({}, clock=FakeClock(), entropy=Random(1).randbytes, secrets=SecretsInMemory())
    app = Preview(LintContext(renderer_with(folder, files), SENDER), sender, refreshes=True).app()
    listening = bind_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://localhost:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page with an overlay in which the sign-in mail has a finding."""
    files = {"SignIn/text.jinja": "Moin {{ user.name }}, {{ code }} {{ brand.support_email }}"}
    with serving(tmp_path_factory.mktemp("preview") / "mine", files) as url:
        yield url


async def page(url: str, profile: Path) -> str:
    """Return the document after its script has run, without script and styles."""
    assert CHROMIUM
    arguments = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=3000",
    )
    process = await asyncio.create_subprocess_exec(
        CHROMIUM, *arguments, "--dump-dom", url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    written, _ = await process.communicate()
    return re.sub(r"<(script|style)\b.*?</\1>", "", written.decode(), flags=re.DOTALL)


async def test_one_mail_is_shown_in_the_looks_and_widths_of_the_address(address: str, tmp_path: Path) -> None:
    query = "kind=SignIn&language=de&looks=light,dark,inverted&widths=390,760"
    document = await page(f"{address}/?{query}", tmp_path)
    captions = re.findall(r"<figcaption>([^<]+)</figcaption>", document)
    looks = ("light", "dark", "inverted")
    assert captions == [f"{width}, {look}" for width in ("Phone", "Desktop") for look in looks]
    assert document.count('sandbox="allow-same-origin"') == 6
    assert "German · de</option>" in document
    assert "314159 ist dein Anmeldecode" in document
    assert "Moin ,” if a value is missing" in document
    heights = [int(height) for height in re.findall(r"height: (\d+)px", document)]
    assert len(heights) == 6
    assert all(200 < height < 1200 for height in heights), "a frame is as high as its mail"


async def test_a_broken_payload_clears_the_verdict(address: str, tmp_path: Path) -> None:
    document = await page(f"{address}/?kind=Register&language=en&payload=%7B", tmp_path)
    assert "The payload is no JSON" in document
    assert "The checks find nothing wrong." not in document
    assert "The checks find nothing wrong." in await page(f"{address}/?kind=Register&language=en", tmp_path)


@pytest.mark.parametrize(("shows", "label", "count"), [("languages", "Thai · th", 20), ("kinds", "BindMfa", 17)])
async def test_a_gallery_shows_the_real_pages(address: str, tmp_path: Path, shows: str, label: str, count: int) -> None:
    document = await page(f"{address}/?kind=Register&language=ja&looks=dark&shows={shows}", tmp_path)
    frames = re.findall(r'<iframe title="([^"]+)"[^>]* src="(/mail[?][^"]+)"', document)
    assert len(frames) == count
    assert label in dict(frames)
    assert all("look=dark" in source for _, source in frames)


@asynccontextmanager
async def open_page(url: str, profile: Path) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Keep a page open; yield its DevTools connection."""
    assert CHROMIUM
    arguments = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        "--remote-debugging-port=0",
    )
    process = await asyncio.create_subprocess_exec(CHROMIUM, *arguments, stderr=asyncio.subprocess.PIPE)
    try:
        assert process.stderr
        while b"DevTools listening on" not in (line := await process.stderr.readline()):
            assert line, "Chromium has ended"
        port = re.findall(rb"127.0.0.1:(\d+)", line)[0].decode()
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                targets = await response.json()
            [target] = [target for target in targets if target["type"] == "page"]
            async with session.ws_connect(target["webSocketDebuggerUrl"]) as connection:
                await command(connection, "Page.navigate", url=url)
                yield connection
    finally:
        process.terminate()
        await process.communicate()


async def command(connection: aiohttp.ClientWebSocketResponse, method: str, **parameters: Any) -> Any:
    """Send a DevTools command and return its result."""
    await connection.send_json({"id": 1, "method": method, "params": parameters})
    while "id" not in (answer := await connection.receive_json()):
        pass
    return answer["result"]


async def evaluate(connection: aiohttp.ClientWebSocketResponse, expression: str) -> Any:
    """Return the value of a JavaScript expression, a promise's too."""
    result = await command(connection, "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
    assert "exceptionDetails" not in result, result
    return result["result"]["value"]


SUBJECT_CHANGES = """new Promise((resolve) => {
  const subject = () => document.getElementById("subject")?.textContent ?? "";
  const look = () => subject().includes("%s") ? resolve(location.search) : setTimeout(look, 50);
  look();
})"""


async def test_an_open_page_shows_an_edited_file_by_itself(tmp_path: Path) -> None:
    folder, words = tmp_path / "mine", '[SignIn]\nsubject = "{code} %s {app}"\n'
    with serving(folder, {"locales/en.toml": words % "before"}) as url:
        async with asyncio.timeout(60), open_page(f"{url}/?kind=SignIn&looks=dark&widths=760", tmp_path / "p") as page:
            await evaluate(page, SUBJECT_CHANGES % "before")
            write_files(folder, {"locales/en.toml": words % "afterwards"})
            address = await evaluate(page, SUBJECT_CHANGES % "afterwards")
            assert address == "?kind=SignIn&language=en&looks=dark&widths=760", "what is shown stays the same"
            captions = "[...document.querySelectorAll('figcaption')].map((one) => one.textContent).join()"
            assert await evaluate(page, captions) == "Desktop, dark"
