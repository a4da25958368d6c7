"""Compiles a folder of Jinja templates once and renders them in a sandbox, so that no payload breaks a mail."""

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import ChainableUndefined, FileSystemLoader, TemplateError, TemplateSyntaxError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from mailroom.errors import RenderingError
from mailroom.rendering.inert import printed, whole

LONGEST_PART: Final = 256 * 1024
"""Characters; a template that makes more of a payload is refused."""

_ENDING: Final = ".jinja"
_MOST_RECORDED: Final = 256


class Engine:
    """The templates of one folder, ready to render from any thread."""

    def __init__(self, folder: Path) -> None:
        """Raise RenderingError with file and line if one of them does not compile."""
        self._folder = folder
        self.missing: set[str] = set()
        """Variables that a template printed and the payload did not have; for the operator, never with values."""
        self._environment = _Sandbox(
            loader=FileSystemLoader(folder),
            autoescape=_is_html,
            undefined=_recording(self.missing),
            finalize=printed,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            cache_size=-1,
        )
        self.names = frozenset(self._environment.list_templates(filter_func=lambda name: name.endswith(_ENDING)))
        for name in self.names:
            try:
                self._environment.get_template(name)
            except TemplateSyntaxError as error:
                raise RenderingError(f"{name}, line {error.lineno}: {error.message}") from error
            except (TemplateError, UnicodeDecodeError) as error:
                raise RenderingError(f"{name}: {error}") from error

    def render(self, name: str, variables: Mapping[str, Any]) -> str:
        """Return the rendered text. Raises RenderingError naming file and line, never a value."""
        template = self._environment.get_template(name)
        pieces: list[str] = []
        room = LONGEST_PART
        try:
            for piece in template.generate(variables):
                pieces.append(piece)
                room -= len(piece)
                if room < 0:
                    raise RenderingError(f"{name}: gives more than {LONGEST_PART} characters")
        except RenderingError:
            raise
        except Exception as error:
            # The error's own text could hold what the payload holds.
            raise RenderingError(f"{_place(error, self._folder, name)}: {type(error).__name__}") from None
        return whole("".join(pieces))


def _is_html(name: str | None) -> bool:
    """Tell which templates are escaped. Named, for Jinja's own choice does not know `html.jinja`."""
    return name is None or name.endswith("html.jinja")


def _place(error: Exception, folder: Path, name: str) -> str:
    """Return the innermost template line that the error came through."""
    place = name
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(folder):
            place = f"{file.relative_to(folder)}, line {line}"
    return place


def _recording(missing: set[str]) -> type[ChainableUndefined]:
    """Return what a missing variable is: empty, however deep the template asks, and remembered where it was printed."""

    class Missing(ChainableUndefined):
        __slots__ = ()

        def __str__(self) -> str:
            if len(missing) < _MOST_RECORDED and self._undefined_name:
                missing.add(self._undefined_name)
            return ""

    return Missing


class _Sandbox(ImmutableSandboxedEnvironment):
    """Looks keys up before attributes (`user.items` is a field, not a method), and multiplies numbers only."""

    intercepted_binops = frozenset({"*", "**"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, dict):
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*" and isinstance(left, int | float) and isinstance(right, int | float):
            return left * right
        raise SecurityError(f"{operator} is for numbers, and ** for nobody")
