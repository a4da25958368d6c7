"""Creates overlay folders for tests, and renderers that use them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mailroom.message import Address, Email, Priority
from mailroom.rendering.renderer import TemplateRenderer
from tests.rendering.samples import SENDER, full, make_renderer, message


def write_files(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files, and return the folder."""
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def renderer_with(folder: Path, files: Mapping[str, str], **changes: Any) -> TemplateRenderer:
    """Return a renderer with these files above the bundled ones."""
    return make_renderer(overlay=write_files(folder, files), **changes)


def render(
    renderer: TemplateRenderer,
    template: str = "SignIn",
    payload: Mapping[str, Any] | None = None,
    *,
    priority: Priority | None = None,
    sender: Address = SENDER,
    reply_to: Address | None = None,
    **more: Any,
) -> Email:
    """Render one mail; without a payload, with all fields."""
    given = full(template) if payload is None else payload
    subject = message(template, {**given, **more}, priority=priority)
    return renderer.render(subject, sender=sender, reply_to=reply_to)
