"""The operator's pages."""

from handlers.console.pages import Console

__all__ = ["Console"]
