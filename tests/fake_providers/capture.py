"""Stands in for the mail catcher where that is not what is tested."""

from typing import Any, NoReturn

from mailroom.providers import ProviderContext, ProviderSettings


class Settings(ProviderSettings):
    """Nothing of its own."""


def connect(settings: Any, context: ProviderContext) -> NoReturn:
    """Nobody asks."""
    raise NotImplementedError
