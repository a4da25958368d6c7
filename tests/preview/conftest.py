"""The same copy of the templates as for the checks."""

from tests.lint.conftest import copy

__all__ = ["copy"]
