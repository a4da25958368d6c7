"""Chromium by its DevTools protocol over pipes: pictures of pages, and values that a page computes."""

import base64
import fcntl
import json
import os
import shutil
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

PROGRAM: Final = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe"),
)
_FREE: Final = 10
"""The pipes get descriptors from here on: the browser expects them to be 3 and 4, which others may have."""


class Chromium:
    """One browser with one page."""

    def __enter__(self) -> Self:
        """Start the browser."""
        assert PROGRAM, "Chromium is not installed"
        self._folder = TemporaryDirectory()
        command_end, self._commands = map(_out_of_the_way, os.pipe())
        self._answers, answer_end = map(_out_of_the_way, os.pipe())
        silence = os.open(os.devnull, os.O_RDWR)
        self._process = os.posix_spawn(
            PROGRAM,
            [PROGRAM, *_FLAGS, f"--user-data-dir={self._folder.name}/profile"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, command_end, 3),
                (os.POSIX_SPAWN_DUP2, answer_end, 4),
                (os.POSIX_SPAWN_DUP2, silence, 2),
            ],
        )
        for end in (command_end, answer_end, silence):
            os.close(end)
        self._received = b""
        self._count = 0
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        self.call("Page.enable")
        return self

    def __exit__(self, *_: object) -> None:
        """End the browser."""
        os.close(self._commands)
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        os.close(self._answers)
        self._folder.cleanup()

    def show(self, html: str, *, width: int, height: int = 600, dark: bool = False) -> None:
        """Load a page and its images at this width."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._set_size(width, height)
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        page = Path(self._folder.name, "page.html")
        page.write_text(html, encoding="utf-8")
        self.call("Page.navigate", url=page.as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def picture(self) -> bytes:
        """Return the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        self._set_size(size["width"], size["height"])
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression or promise, as JSON has it."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def pixels(self, png: bytes, box: dict[str, float]) -> list[tuple[int, int, int]]:
        """Return the colours of a picture's pixels within a box (`x`, `y`, `width`, `height`)."""
        whole = {key: int(value) for key, value in box.items()}
        flat = self.evaluate(
            f"""(async () => {{
                const image = new Image();
                image.src = "data:image/png;base64,{base64.b64encode(png).decode()}";
                await image.decode();
                const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
                canvas.drawImage(image, 0, 0);
                return [...canvas.getImageData({whole["x"]}, {whole["y"]}, {whole["width"]}, {whole["height"]}).data];
            }})()"""
        )
        return list(zip(flat[::4], flat[1::4], flat[2::4], strict=True))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._count:
            pass
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def _set_size(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "the browser has ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        decoded: dict[str, Any] = json.loads(message)
        return decoded


def _out_of_the_way(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FREE)
    os.close(descriptor)
    return moved
