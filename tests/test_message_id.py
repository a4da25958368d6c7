"""Message ids are UUIDs of version 7."""

from uuid import RFC_4122, UUID

from hypothesis import given
from hypothesis import strategies as st

from mailroom.message import new_id

MOMENTS = st.floats(0, 2**47 / 1000)


@given(now=MOMENTS, entropy=st.binary(min_size=10, max_size=10))
def test_an_id_is_a_uuid_of_version_7_with_its_time(now: float, entropy: bytes) -> None:
    written = new_id(now, entropy)
    parsed = UUID(written)
    assert str(parsed) == written
    assert (parsed.version, parsed.variant) == (7, RFC_4122)
    assert parsed.int >> 80 == int(now * 1000)


@given(earlier=MOMENTS, later=MOMENTS, entropy=st.binary(min_size=20, max_size=20))
def test_ids_sort_by_their_time(earlier: float, later: float, entropy: bytes) -> None:
    if int(earlier * 1000) < int(later * 1000):
        assert new_id(earlier, entropy[:10]) < new_id(later, entropy[10:])
