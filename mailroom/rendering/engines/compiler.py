"""Compiles templates: evaluates their constant parts when they are loaded, on Jinja's syntax tree.

`inline_constants` replaces the names of constants by their values; Jinja then joins them with the text around them.
`merge_template` merges a template with all that it extends and includes, `prune_branches` removes branches whose
condition is constant, and `encode_as_references` writes non-ASCII text as character references.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from markupsafe import escape

Parse = Callable[[str], nodes.Template]
"""Parses the template of this name."""

_SCOPED: Final[tuple[type[nodes.Node], ...]] = (
    nodes.CallBlock,
    nodes.EvalContextModifier,
    nodes.FilterBlock,
    nodes.FromImport,
    nodes.Import,
    nodes.Macro,
)
"""Nodes with a scope of their own, or that import names."""
_JINJA_NAMES: Final = frozenset({"self", "super", "caller", "loop", "varargs", "kwargs"})
_MAX_LEVELS: Final = 16


class _NotMergeable(Exception):
    """The template cannot be merged: its output depends on more than blocks, includes and conditions."""


def inline_constants(template: nodes.Template, constants: Mapping[str, Any]) -> nodes.Template:
    """Replace the names of constants (strings, and mappings of strings) by their values."""
    folded: nodes.Template = _ReplaceConstants(constants).visit(template)
    return folded


def merge_template(name: str, parse: Parse) -> nodes.Template | None:
    """Return this template merged with all that it extends and includes, or None if it cannot be merged.

    Templates that set variables or define macros are not merged, because those scopes end with the file.
    """
    try:
        blocks: dict[str, nodes.Block] = {}
        template = _require_mergeable(parse(name))
        for _ in range(_MAX_LEVELS):
            if template.find(nodes.Extends) is None:
                template.body = _Inline(name, blocks, parse).all(template.body)
                return template
            template = _merge_into_parent(template, blocks, parse)
    except (_NotMergeable, RecursionError):
        pass
    return None


def prune_branches(template: nodes.Template) -> nodes.Template:
    """Remove branches whose condition is constant and false, and join adjacent output."""
    template.body = _prune(template.body)
    return template


def encode_as_references(template: nodes.Template) -> nodes.Template:
    """Replace non-ASCII characters of constant output by HTML character references."""
    for output in template.find_all(nodes.Output):
        output.nodes = [_to_references(node) for node in output.nodes]
    return template


def _to_references(node: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.TemplateData):
        text = node.data
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        text = escape(node.value)
    else:
        return node
    return nodes.TemplateData(text.encode("ascii", "xmlcharrefreplace").decode(), lineno=node.lineno)


def _require_mergeable(template: nodes.Template) -> nodes.Template:
    names = template.find_all(nodes.Name)
    if any(name.ctx != "load" or name.name in _JINJA_NAMES for name in names) or _contains(template, *_SCOPED):
        raise _NotMergeable
    return template


def _merge_into_parent(template: nodes.Template, blocks: dict[str, nodes.Block], parse: Parse) -> nodes.Template:
    """Add the blocks that no child template overrides to `blocks`, and return the parent template."""
    first, *rest = template.body
    if not isinstance(first, nodes.Extends) or any(one.find(nodes.Extends) for one in rest):
        raise _NotMergeable
    for block in template.find_all(nodes.Block):
        blocks.setdefault(block.name, block)
    return _require_mergeable(parse(_constant_name(first.template)))


def _contains(template: nodes.Template, *kinds: type[nodes.Node]) -> bool:
    return any(template.find(kind) for kind in kinds)


def _constant_name(name: nodes.Expr) -> str:
    if isinstance(name, nodes.Const) and isinstance(name.value, str):
        return name.value
    raise _NotMergeable


class _Inline(NodeTransformer):
    """Replaces block and include nodes by their content."""

    def __init__(self, name: str, blocks: Mapping[str, nodes.Block], parse: Parse) -> None:
        self._is_html = name.endswith("html.jinja")
        self._blocks = blocks
        self._parse = parse

    def all(self, body: list[nodes.Node]) -> list[nodes.Node]:
        """Return these nodes with blocks and includes replaced."""
        return [new for node in body for new in self.visit_list(node)]

    def visit_Block(self, node: nodes.Block) -> list[nodes.Node]:  # noqa: N802 - Jinja's name
        if node.required:
            raise _NotMergeable
        return self.all(self._blocks.get(node.name, node).body)

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:  # noqa: N802 - likewise
        name = _constant_name(node.template)
        if node.ignore_missing or not node.with_context or name.endswith("html.jinja") is not self._is_html:
            raise _NotMergeable
        part = _require_mergeable(self._parse(name))
        if _contains(part, nodes.Block, nodes.Extends):
            raise _NotMergeable
        return self.all(part.body)


class _ReplaceConstants(NodeTransformer):
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


def _prune(body: list[nodes.Node]) -> list[nodes.Node]:
    pruned: list[nodes.Node] = []
    for node in body:
        for one in _prune_condition(node) if isinstance(node, nodes.If) else (node,):
            last = pruned[-1] if pruned else None
            if isinstance(one, nodes.Output) and isinstance(last, nodes.Output):
                pruned[-1] = nodes.Output([*last.nodes, *one.nodes], lineno=last.lineno)
            else:
                pruned.append(one)
    return pruned


def _prune_condition(node: nodes.If) -> list[nodes.Node]:
    """Return the nodes that remain of a condition."""
    test = _constant_truth(node.test)
    if test is not None:
        if test:
            return _prune(node.body)
        if not node.elif_:
            return _prune(node.else_)
        following, *rest = node.elif_
        return _prune_condition(nodes.If(following.test, following.body, rest, node.else_, lineno=following.lineno))
    branches = [nodes.If(one.test, _prune(one.body), [], [], lineno=one.lineno) for one in node.elif_]
    return [nodes.If(node.test, _prune(node.body), branches, _prune(node.else_), lineno=node.lineno)]


def _constant_truth(test: nodes.Node) -> bool | None:
    """Return the value of a constant condition; None: it depends on the mail."""
    assert isinstance(test, nodes.Expr)
    try:
        return bool(test.as_const())
    except nodes.Impossible:
        return None
