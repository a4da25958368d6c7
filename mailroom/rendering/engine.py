"""Compiles Jinja templates once and renders them in a sandbox, so that no payload breaks a mail."""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import CodeType
from typing import Any, Final

from jinja2 import (
    BytecodeCache,
    ChainableUndefined,
    FunctionLoader,
    Template,
    TemplateError,
    TemplateSyntaxError,
    meta,
    nodes,
)
from jinja2.bccache import Bucket
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from mailroom.errors import RenderingError
from mailroom.rendering.folding import decided, flat, fold, referring
from mailroom.rendering.inert import printed, whole

ENDING: Final = ".jinja"

LONGEST_PART: Final = 256 * 1024
"""Characters; a template that makes more of a payload is refused."""

_MOST_PIECES: Final = 8192
"""Of output, each of at most `inert.LONGEST_VALUE` characters if it comes from a payload: no loop runs on for ever."""
_OFTEN: Final = 100
"""Mails after which a page is compiled as one."""
_FOREIGN_STYLE: Final = re.compile(r"<style[^>]*>[^<]*[^\0-\x7f<]", re.IGNORECASE)
_MOST_RECORDED: Final = 256


@dataclass(frozen=True, slots=True)
class Source:
    """A template as it is written."""

    text: str = field(repr=False)
    place: str
    """Its file, for errors."""


def read(folder: Path) -> dict[str, Source]:
    """Return the templates of a folder by their names. Raises RenderingError for what is no text."""
    found = {}
    for file in sorted(folder.rglob(f"*{ENDING}")):
        name = file.relative_to(folder).as_posix()
        try:
            found[name] = Source(file.read_text(encoding="utf-8"), name)
        except (OSError, UnicodeDecodeError) as error:
            raise RenderingError(f"{name}: cannot be read as UTF-8 text ({type(error).__name__})") from error
    return found


def check(source: Source) -> None:
    """Raise RenderingError, with file and line, if a template would not compile."""
    with _told(source):
        _Sandbox({}).compile(source.text, filename=source.place)


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """Turn what Jinja says of a template into an error of ours."""
    try:
        yield
    except TemplateSyntaxError as error:
        raise RenderingError(f"{source.place}, line {error.lineno}: {error.message}") from error
    except TemplateError as error:
        raise RenderingError(f"{source.place}: {error}") from error
    except RecursionError:
        raise RenderingError(f"{source.place}: is nested too deeply") from None


class Compiled(BytecodeCache):
    """Keeps what was compiled, for engines that have most of their templates in common."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def copy(self) -> "Compiled":
        """Return one that begins with what is here."""
        made = Compiled()
        made._codes |= self._codes
        return made

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code back if there is one."""
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code."""
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


class Engine:
    """Templates that refer to each other by name, ready to render from any thread."""

    def __init__(
        self, templates: Path | Mapping[str, Source], constants: Mapping[str, Any], compiled: Compiled | None = None
    ) -> None:
        """Compile them, a folder's or those given, with what is the same in every mail: texts, and tables of texts.

        `compiled` belongs to engines with the same constants. Raises RenderingError with file and line if one of
        the templates does not compile.
        """
        sources = read(templates) if isinstance(templates, Path) else templates
        self._sources = sources
        self._places = frozenset(source.place for source in sources.values())
        self.missing: set[str] = set()
        """Variables that a template printed and the payload did not have; for the operator, never with values."""
        self._environment = _Sandbox(
            constants,
            loader=FunctionLoader(lambda name: _loaded(sources, name)),
            bytecode_cache=compiled,
            autoescape=_is_html,
            undefined=_recording(self.missing),
            finalize=printed,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
            cache_size=-1,
        )
        self._references = True
        """Whether what is not ASCII becomes a character reference. It is no longer than quoted-printable would make it,
        the rest of the page needs no encoding, and no provider gets a charset wrong. In a style it means itself."""
        self.names = frozenset(sources)
        for name, source in sources.items():
            with _told(source):
                self._environment.get_template(name)
            if _FOREIGN_STYLE.search(source.text):
                self._references = False

    def render(self, name: str, variables: dict[str, Any]) -> str:
        """Return the rendered text. Raises RenderingError naming file and line, never a value."""
        template = self._environment.get_template(name)
        try:
            pieces = _pieces(template, variables)
        except Exception:  # noqa: BLE001 - whatever an operator's template and a stranger's payload make together
            raise self._error(name) from None
        return self.text(name, pieces)

    def page(self, name: str, constants: Mapping[str, Any]) -> "Page":
        """Return a template for mails that have even more in common: texts, and tables of texts, by their names."""
        return Page(self, name, constants)

    def flat(self, name: str, constants: Mapping[str, Any]) -> Template | None:
        """Compile a template with all that it extends and includes as one; None: it has to stay as it is."""
        environment = self._environment

        def parsed(name: str) -> nodes.Template:
            return environment.parse(self._sources[name].text, name, self._sources[name].place)

        try:
            if (one := flat(name, parsed)) is None:
                return None
            one = decided(fold(one, constants))
            if self._references and _is_html(name):
                one = referring(one)
            code = environment.compile(one, name, self._sources[name].place)
        except Exception:  # noqa: BLE001 - this is for speed alone: as it is written the template tells what is wrong
            return None
        return Template.from_code(environment, code, {})

    def text(self, name: str, pieces: list[str]) -> str:
        """Join what a template made. Raises RenderingError if it is too much."""
        text = "".join(pieces)
        if len(pieces) == _MOST_PIECES or len(text) > LONGEST_PART:
            raise RenderingError(f"{name}: makes too much of the payload; {LONGEST_PART} characters are allowed")
        if text.isascii():
            return text
        text = whole(text)
        return text.encode("ascii", "xmlcharrefreplace").decode() if self._references and _is_html(name) else text

    def references(self, name: str) -> list[str]:
        """Return the names of templates that one extends, includes or imports, as far as they are written in it."""
        source = self._sources.get(name)
        if source is None:
            return []
        found = meta.find_referenced_templates(self._environment.parse(source.text))
        return [one for one in found if one is not None]

    def _error(self, name: str) -> RenderingError:
        """Return what is being handled as an error of ours. Its own text could hold what the payload holds."""
        try:
            self._environment.handle_exception()  # puts the templates' own lines into the traceback
        except Exception as error:  # noqa: BLE001 - likewise
            return RenderingError(f"{_place(error, self._places, name)}: {type(error).__name__}")


class Page:
    """One template for the mails of a kind in one language.

    Compiled as one with all that it extends and includes once it has been rendered often: that takes 10 ms, and saves
    30 µs a mail.
    """

    def __init__(self, engine: Engine, name: str, constants: Mapping[str, Any]) -> None:
        self._engine = engine
        self._constants = constants
        self._rendered = 0
        self.name = name

    def render(self, variables: dict[str, Any]) -> str:
        """Return the rendered text. Raises RenderingError naming file and line, never a value."""
        if self._rendered < _OFTEN:
            self._rendered += 1
        elif self._flat is not None:
            try:
                pieces = _pieces(self._flat, variables)
            except Exception:  # noqa: BLE001, S110 - it will fail again below, and there lines are known
                pass
            else:
                return self._engine.text(self.name, pieces)
        return self._engine.render(self.name, variables)

    @cached_property
    def _flat(self) -> Template | None:
        return self._engine.flat(self.name, self._constants)


def _pieces(template: Template, variables: dict[str, Any]) -> list[str]:
    """Render: what `template.render` does, without its copies of the variables."""
    context = template.environment.context_class(
        template.environment, _GLOBALS | variables, template.name, template.blocks
    )
    return list(islice(template.root_render_func(context), _MOST_PIECES))


_GLOBALS: Final = {"range": safe_range, "namespace": Namespace}
"""What templates get of Jinja's own functions; a payload that has a `range` overrules it for itself."""


def _loaded(sources: Mapping[str, Source], name: str) -> tuple[str, str, None] | None:
    source = sources.get(name)
    return None if source is None else (source.text, source.place, None)


def _is_html(name: str | None) -> bool:
    """Tell which templates are escaped. Named, for Jinja's own choice does not know `html.jinja`."""
    return name is None or name.endswith("html.jinja")


def _place(error: Exception, places: frozenset[str], name: str) -> str:
    """Return the innermost template line that the error came through."""
    place = name
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = frame.f_code.co_filename
        if file in places:
            place = f"{file}, line {line}"
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

    def __init__(self, constants: Mapping[str, Any], **options: Any) -> None:
        super().__init__(**options)
        self._constants = constants

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return fold(super()._parse(source, name, filename), self._constants)

    intercepted_binops = frozenset({"*", "**"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is dict:
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - Jinja's
        if operator == "*" and isinstance(left, int | float) and isinstance(right, int | float):
            return left * right
        raise SecurityError(f"{operator} is for numbers, and ** for nobody")
