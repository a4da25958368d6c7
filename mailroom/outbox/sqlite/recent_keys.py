"""Which keys may have been stored lately, in fixed memory: nearly all codes have no earlier one for the same sign-in.

An index of keys would write a page of its own for each message. So the database is searched only for those of which
this filter says that there may be an earlier one.
"""

from struct import Struct
from typing import Final

from mailroom.clock import Instant

PERIOD_SECONDS: Final = 3600.0
"""Keys are known for one to two periods: as long as codes may live, `lifetimes.code`."""
_BITS: Final = 1 << 23
"""1 MB a period. With 100,000 keys in it one new key in 1,700 seems known, with a million one in 20."""
_POSITIONS: Final = Struct("<2I").unpack_from


class RecentKeys:
    """A Bloom filter for each of two periods. Keys are keyed hashes, so their octets are uniformly random."""

    def __init__(self) -> None:
        self._period = 0
        self._current, self._last = bytearray(_BITS // 8), bytearray(_BITS // 8)

    def add(self, key: bytes, now: Instant) -> bool:
        """Add a key; return whether it may have been added before. Never False for one that was."""
        period = int(now / PERIOD_SECONDS)
        if period > self._period:
            self._last = self._current if period == self._period + 1 else bytearray(_BITS // 8)
            self._current, self._period = bytearray(_BITS // 8), period
        first, second = _POSITIONS(key)
        a, a_bit = first % _BITS >> 3, 1 << (first & 7)
        b, b_bit = second % _BITS >> 3, 1 << (second & 7)
        current, last = self._current, self._last
        is_known = bool((current[a] & a_bit and current[b] & b_bit) or (last[a] & a_bit and last[b] & b_bit))
        current[a] |= a_bit
        current[b] |= b_bit
        return is_known
