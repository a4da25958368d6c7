"""docs/providers/smtp.md: its blocks are valid settings."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailroom.providers.smtp.presets import Name
from mailroom.providers.smtp.smtp_provider import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "providers" / "smtp.md").read_text()
PEM = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize("block", re.findall(r"(?s)```toml\n(.*?)```", PAGE))
def test_a_block_is_valid_settings(block: str) -> None:
    written = block.replace("-----BEGIN PRIVATE KEY-----…", PEM.replace("\n", "\\n"))
    Settings.model_validate(tomllib.loads(written)["providers"]["main"], by_alias=True, by_name=False)


@pytest.mark.parametrize("name", get_args(Name))
def test_every_preset_is_documented(name: str) -> None:
    assert f"| `{name}`" in PAGE
