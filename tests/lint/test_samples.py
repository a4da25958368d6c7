"""The sample payloads."""

from typing import Any

import pytest

from mailroom.lint.samples import CODE, PROBE, Sample, message, payload
from mailroom.logto import CODE_TYPES
from mailroom.message import TEMPLATES, Priority


def leaves(value: Any) -> list[Any]:
    return [leaf for item in value.values() for leaf in leaves(item)] if isinstance(value, dict) else [value]


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind_has_all_four(kind: str) -> None:
    full, minimal, null, hostile = (payload(kind, sample, "de") for sample in Sample)
    assert set(minimal) <= set(full) == set(null) == set(hostile)
    assert {leaf for leaf in leaves(null) if leaf is not None} <= set(leaves(minimal))
    assert any(PROBE in str(leaf) for leaf in leaves(hostile))
    assert not any(PROBE in str(leaf) for leaf in leaves(full))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_messages_are_as_the_doors_make_them(kind: str) -> None:
    made = message(kind, Sample.HOSTILE, "ja")
    assert made.languages == ("ja",)
    assert made.is_code == (kind in CODE_TYPES)
    assert (made.payload.get("code") == CODE) == made.is_code
    assert (made.priority is Priority.INVITATION) == (kind == "OrganizationInvitation")


def test_a_payload_replaces_that_of_the_sample() -> None:
    assert message("SignIn", Sample.FULL, "en", {"code": "1"}).payload == {"code": "1"}


def test_a_kind_of_the_operators_own_is_an_event() -> None:
    assert message("Farewell", Sample.FULL, "en").priority is Priority.EVENT
    assert "user" in payload("Farewell", Sample.MINIMAL, "en")
