"""Which keys may have been stored lately, in fixed memory: nearly all codes have no earlier one for the same sign-in.

An index of keys would write a page of its own for each message. So the database is searched only for those of which
this filter says that there may be an earlier one.
"""

from mmap import mmap
from struct import Struct
from typing import Final

from mailroom.clock import Instant

PERIOD_SECONDS: Final = 3600.0
"""Keys are known for one to two periods: as long as codes may live, `lifetimes.code`."""
_WORDS: Final = 1 << 19
"""Of 64 bits: 4 MB a period. With 100,000 keys in it one new key in 100,000 seems known, with a million one in 400."""
_PLACE_AND_BITS: Final = Struct("<2I").unpack_from


class RecentKeys:
    """A blocked Bloom filter for each of two periods: a key sets four bits of one word.

    Keys are keyed hashes, so their octets are uniformly random.
    """

    def __init__(self) -> None:
        self._period = 0
        self._current = _words()
        self._last: memoryview[int] | None = None

    def add(self, key: bytes, now: Instant) -> bool:
        """Add a key; return whether it may have been added before. Never False for one that was."""
        period = int(now / PERIOD_SECONDS)
        if period > self._period:
            self._last = self._current if period == self._period + 1 else None
            self._current, self._period = _words(), period
        place, bits = _PLACE_AND_BITS(key)
        place %= _WORDS
        mask = 1 << (bits & 63) | 1 << (bits >> 6 & 63) | 1 << (bits >> 12 & 63) | 1 << (bits >> 18 & 63)
        word = self._current[place]
        self._current[place] = word | mask
        return word & mask == mask or (self._last is not None and self._last[place] & mask == mask)


def _words() -> "memoryview[int]":
    """Return zeros; the system makes a page of memory of them when it is written."""
    return memoryview(mmap(-1, 8 * _WORDS)).cast("Q")
