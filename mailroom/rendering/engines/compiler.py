"""Compiles the templates of one kind of mail in one language to a single template, on Jinja's syntax tree.

`merge_template` merges a template with all that it extends and includes, `inline_constants` replaces constants such as
translations by their values, and `encode_as_references` writes non-ASCII text as character references.

Row e of the bench takes 66 µs of CPU a mail with this and 178 µs without.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from jinja2 import nodes
from jinja2.visitor import NodeTransformer
from markupsafe import escape

Parse = Callable[[str], nodes.Template]
"""Parses the template of this name."""

_MERGEABLE: Final = (nodes.Output, nodes.If, nodes.Block, nodes.Include, nodes.Extends)
"""Other statements set variables or define macros, whose scopes end with the file."""
_JINJA_NAMES: Final = frozenset({"self", "super", "caller"})
_ABOUT_ABSENCE: Final = frozenset({"defined", "undefined", "default", "d"})
"""Tests and filters that distinguish what is absent from what is empty."""
_MAX_LEVELS: Final = 16


class NotMergeable(Exception):
    """The template cannot be merged: its output depends on more than blocks, includes and conditions."""


def inline_constants(template: nodes.Template, constants: Mapping[str, Any]) -> nodes.Template:
    """Replace the names of constants (strings, and mappings of strings) by their values."""
    inlined: nodes.Template = _ReplaceConstants(constants).visit(template)
    return inlined


def merge_template(name: str, parse: Parse) -> nodes.Template:
    """Return this template merged with all that it extends and includes. Raises NotMergeable."""
    blocks: dict[str, nodes.Block] = {}
    template = _parse_mergeable(name, parse)
    for _ in range(_MAX_LEVELS):
        if template.find(nodes.Extends) is None:
            template.body = _ReplaceBlocks(name, blocks, parse).visit_all(template.body)
            return template
        first, *rest = template.body
        if not isinstance(first, nodes.Extends) or any(node.find(nodes.Extends) for node in rest):
            raise NotMergeable
        for block in template.find_all(nodes.Block):
            blocks.setdefault(block.name, block)
        template = _parse_mergeable(_constant_name(first.template), parse)
    raise NotMergeable


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


def _parse_mergeable(name: str, parse: Parse) -> nodes.Template:
    template = parse(name)
    if not all(isinstance(statement, _MERGEABLE) for statement in template.find_all(nodes.Stmt)) or any(
        used.name in _JINJA_NAMES for used in template.find_all(nodes.Name)
    ):
        raise NotMergeable
    return template


def _constant_name(name: nodes.Expr) -> str:
    if isinstance(name, nodes.Const) and isinstance(name.value, str):
        return name.value
    raise NotMergeable


class _ReplaceBlocks(NodeTransformer):
    """Replaces block and include nodes by their content."""

    def __init__(self, name: str, blocks: Mapping[str, nodes.Block], parse: Parse) -> None:
        self._is_html = name.endswith("html.jinja")
        self._blocks = blocks
        self._parse = parse

    def visit_all(self, body: list[nodes.Node]) -> list[nodes.Node]:
        """Return these nodes with blocks and includes replaced."""
        return [new for node in body for new in self.visit_list(node)]

    def visit_Block(self, node: nodes.Block) -> list[nodes.Node]:  # noqa: N802 - Jinja's name
        if node.required:
            raise NotMergeable
        return self.visit_all(self._blocks.get(node.name, node).body)

    def visit_Include(self, node: nodes.Include) -> list[nodes.Node]:  # noqa: N802 - likewise
        name = _constant_name(node.template)
        if node.ignore_missing or not node.with_context or name.endswith("html.jinja") is not self._is_html:
            raise NotMergeable
        part = _parse_mergeable(name, self._parse)
        if part.find(nodes.Block) or part.find(nodes.Extends):
            raise NotMergeable
        return self.visit_all(part.body)


class _ReplaceConstants(NodeTransformer):
    """Replaces constants by their values; those that are absent are empty texts."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = constants

    def visit_Name(self, node: nodes.Name) -> nodes.Node:  # noqa: N802 - likewise
        value = self._constants.get(node.name)
        return nodes.Const(value, lineno=node.lineno) if node.ctx == "load" and isinstance(value, str) else node

    def visit_Test(self, node: nodes.Test) -> nodes.Node:  # noqa: N802 - likewise
        """Leave `is defined`: an absent translation is a constant, too."""
        return node if node.name in _ABOUT_ABSENCE else self.generic_visit(node)

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802 - likewise
        return node if node.name in _ABOUT_ABSENCE else self.generic_visit(node)

    def visit_Getattr(self, node: nodes.Getattr) -> nodes.Node:  # noqa: N802 - likewise
        table = self._constants.get(node.node.name) if isinstance(node.node, nodes.Name) else None
        if isinstance(table, Mapping) and node.attr in table:
            return nodes.Const(table[node.attr], lineno=node.lineno)
        return self.generic_visit(node)
