"""The preview's page in Chromium: what its script makes of an address."""

import asyncio
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import uvicorn

from handlers.console.preview import Preview
from handlers.lifecycle import bind_socket
from mailroom.lint.rules.rendered import LintContext
from mailroom.preview.preview_send import PreviewSender
from tests.clock import FakeClock
from tests.rendering.overlays import renderer_with
from tests.rendering.samples import SENDER

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the page with an overlay in which the sign-in mail has a finding."""
    files = {"SignIn/text.jinja": "Moin {{ user.name }}, {{ code }} {{ brand.support_email }}"}
    renderer = renderer_with(tmp_path_factory.mktemp("preview") / "mine", files)
    sender = PreviewSender({}, clock=FakeClock(), entropy=Random(1).randbytes)
    app = Preview(LintContext(renderer, SENDER), sender).app()
    listening = bind_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    yield f"http://localhost:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


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


@pytest.mark.parametrize(("shows", "label", "count"), [("languages", "Thai · th", 20), ("kinds", "BindMfa", 10)])
async def test_a_gallery_shows_the_real_pages(address: str, tmp_path: Path, shows: str, label: str, count: int) -> None:
    document = await page(f"{address}/?kind=Register&language=ja&looks=dark&shows={shows}", tmp_path)
    frames = re.findall(r'<iframe title="([^"]+)"[^>]* src="(/mail[?][^"]+)"', document)
    assert len(frames) == count
    assert label in dict(frames)
    assert all("look=dark" in source for _, source in frames)
