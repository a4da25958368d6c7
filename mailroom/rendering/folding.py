"""Settles before there is a mail what can be known of a template: Jinja then writes it as one text.

`fold` puts constants in the place of their names. `flat` makes one template of all that a template extends and
includes, which a mail's frame and its parts are in every mail.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from markupsafe import escape

Parse = Callable[[str], nodes.Template]
"""Returns a template of this name as it is written."""

_SCOPED: Final[tuple[type[nodes.Node], ...]] = (
    nodes.CallBlock,
    nodes.EvalContextModifier,
    nodes.FilterBlock,
    nodes.FromImport,
    nodes.Import,
    nodes.Macro,
)
"""What has a scope of its own, or brings names from elsewhere."""
_JINJAS: Final = frozenset({"self", "super", "caller", "loop", "varargs", "kwargs"})
_MOST_LEVELS: Final = 16


class _TooClever(Exception):
    """The template does what only its own run can tell."""


def fold(template: nodes.Template, constants: Mapping[str, Any]) -> nodes.Template:
    """Put constants, texts and tables of texts, in the place of their names."""
    folded: nodes.Template = _Fold(constants).visit(template)
    return folded


def flat(name: str, parse: Parse) -> nodes.Template | None:
    """Return one template that prints what this one prints with all that it extends and includes.

    None: it is more than blocks, parts and conditions. Templates that set variables, or have macros, stay as they are:
    their scopes end where a file ends.
    """
    try:
        blocks: dict[str, nodes.Block] = {}
        template = _plain(parse(name))
        for _ in range(_MOST_LEVELS):
            if template.find(nodes.Extends) is None:
                template.body = _Splice(name, blocks, parse).all(template.body)
                return template
            template = _extended(template, blocks, parse)
    except (_TooClever, RecursionError):
        pass
    return None


def decided(template: nodes.Template) -> nodes.Template:
    """Leave out the branches that constants rule out, and join texts that follow each other."""
    template.body = _decided(template.body)
    return template


def referring(template: nodes.Template) -> nodes.Template:
    """Write what is printed of a page's own words in ASCII: as character references."""
    for output in template.find_all(nodes.Output):
        output.nodes = [_in_ascii(node) for node in output.nodes]
    return template


def _in_ascii(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.TemplateData):
        text = node.data
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        text = escape(node.value)
    else:
        return node
    return nodes.TemplateData(text.encode("ascii", "xmlcharrefreplace").decode(), lineno=node.lineno)


def _plain(template: nodes.Template) -> nodes.Template:
    names = template.find_all(nodes.Name)
    if any(name.ctx != "load" or name.name in _JINJAS for name in names) or _has(template, *_SCOPED):
        raise _TooClever
    return template


def _extended(template: nodes.Template, blocks: dict[str, nodes.Block], parse: Parse) -> nodes.Template:
    """Remember the blocks that nobody below has filled, and return the template above."""
    first, *rest = template.body
    if not isinstance(first, nodes.Extends) or any(one.find(nodes.Extends) for one in rest):
        raise _TooClever
    for block in template.find_all(nodes.Block):
        blocks.setdefault(block.name, block)
    return _plain(parse(_constant(first.template)))


def _has(template: nodes.Template, *kinds: type[nodes.Node]) -> bool:
    return any(template.find(kind) for kind in kinds)


def _constant(name: nodes.Expr) -> str:
    if isinstance(name, nodes.Const) and isinstance(name.value, str):
        return name.value
    raise _TooClever


class _Splice(NodeTransformer):
    """Puts blocks and included parts where they stand."""

    def __init__(self, name: str, blocks: Mapping[str, nodes.Block], parse: Parse) -> None:
        self._is_html = name.endswith("html.jinja")
        self._blocks = blocks
        self._parse = parse

    def all(self, body: list[nodes.Node]) -> list[nodes.Node]:
        """Return these nodes with everything in its place."""
        return [found for node in body for found in self.visit_list(node)]

    def visit_Block(self, node: nodes.Block) -> list[nodes.Node]:  # noqa: N802 - Jinja's name
        if node.required:
            raise _TooClever
        return self.all(self._blocks.get(node.name, node).body)

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:  # noqa: N802 - likewise
        name = _constant(node.template)
        if node.ignore_missing or not node.with_context or name.endswith("html.jinja") is not self._is_html:
            raise _TooClever
        part = _plain(self._parse(name))
        if _has(part, nodes.Block, nodes.Extends):
            raise _TooClever
        return self.all(part.body)


class _Fold(NodeTransformer):
    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - likewise
        value = self._constants.get(node.name)
        return nodes.Const(value, lineno=node.lineno) if node.ctx == "load" and isinstance(value, str) else node

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802 - likewise
        table = self._constants.get(node.node.name) if isinstance(node.node, nodes.Name) else None
        if isinstance(table, Mapping) and node.attr in table:
            return nodes.Const(table[node.attr], lineno=node.lineno)
        return self.generic_visit(node)


def _decided(body: list[nodes.Node]) -> list[nodes.Node]:
    found: list[nodes.Node] = []
    for node in body:
        for one in _branch(node) if isinstance(node, nodes.If) else (node,):
            last = found[-1] if found else None
            if isinstance(one, nodes.Output) and isinstance(last, nodes.Output):
                found[-1] = nodes.Output([*last.nodes, *one.nodes], lineno=last.lineno)
            else:
                found.append(one)
    return found


def _branch(node: nodes.If) -> list[nodes.Node]:
    """Return what is left of a condition."""
    test = _truth(node.test)
    if test is not None:
        if test:
            return _decided(node.body)
        if not node.elif_:
            return _decided(node.else_)
        following, *rest = node.elif_
        return _branch(nodes.If(following.test, following.body, rest, node.else_, lineno=following.lineno))
    branches = [nodes.If(one.test, _decided(one.body), [], [], lineno=one.lineno) for one in node.elif_]
    return [nodes.If(node.test, _decided(node.body), branches, _decided(node.else_), lineno=node.lineno)]


def _truth(test: nodes.Node) -> bool | None:
    """Return how a condition ends; None: only a mail can tell."""
    assert isinstance(test, nodes.Expr)
    try:
        return bool(test.as_const())
    except nodes.Impossible:
        return None
