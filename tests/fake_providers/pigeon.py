"""A provider for tests of settings: one of each kind of setting, and it delivers nothing."""

from ipaddress import IPv4Address, IPv6Address
from typing import Any, NoReturn

from pydantic import Field, SecretStr

from mailroom.providers import ProviderContext, ProviderSettings


class Settings(ProviderSettings):
    """What a pigeon can be told."""

    host: str = Field(description="the loft")
    port: int = Field(587, ge=1, le=65535, description="its port")
    password: SecretStr | None = Field(None, description="what opens it")
    key_file: str = Field("", description="a setting whose own name ends in _file")
    headers: dict[str, str | tuple[str, ...]] = Field({}, description="rings on its leg")
    nest: IPv4Address | IPv6Address | None = Field(None, description="where it returns to")
    regions: tuple[str, ...] = Field((), description="where it flies")


def connect(settings: Any, context: ProviderContext) -> NoReturn:
    """Nobody asks a pigeon of the tests to fly."""
    raise NotImplementedError
