"""The same copy of the templates as for the checks."""

from tests.checking.conftest import copy

__all__ = ["copy"]
