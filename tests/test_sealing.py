"""Sealed values open only where they belong, and hashes tell nothing."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailroom.errors import SealBroken
from mailroom.sealing import BufferedEntropy, Seal, new_data_key, unwrap, wrap

SEAL = Seal(bytes(32))


@given(st.binary(max_size=2000))
def test_a_sealed_value_is_decrypted_unchanged(plaintext: bytes) -> None:
    """Any octets, also none; and the sealed value does not contain them."""
    sealed = SEAL.seal("id", "column", plaintext)
    assert SEAL.open("id", "column", sealed) == plaintext
    assert len(plaintext) < 4 or plaintext not in sealed


def test_the_same_value_is_sealed_differently_each_time() -> None:
    """Equal payloads cannot be recognized."""
    assert SEAL.seal("id", "column", b"x") != SEAL.seal("id", "column", b"x")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: sealed[:-1] + bytes([sealed[-1] ^ 1]),
        lambda sealed: bytes([sealed[0] ^ 1]) + sealed[1:],
        lambda sealed: sealed[:20],
        lambda sealed: sealed[:5],
        lambda sealed: b"",
    ],
)
def test_a_changed_value_cannot_be_decrypted(spoil: Callable[[bytes], bytes]) -> None:
    """Changed, cut or emptied."""
    with pytest.raises(SealBroken, match="column of id cannot be decrypted"):
        SEAL.open("id", "column", spoil(SEAL.seal("id", "column", b"secret")))


@pytest.mark.parametrize(("id_", "column"), [("other", "column"), ("id", "other"), ("i", "dcolumn")])
def test_a_value_cannot_be_decrypted_as_another_column_or_row(id_: str, column: str) -> None:
    """Neither rows nor columns can be swapped."""
    with pytest.raises(SealBroken):
        SEAL.open(id_, column, SEAL.seal("id", "column", b"secret"))


def test_another_data_key_decrypts_nothing() -> None:
    """Of another database."""
    with pytest.raises(SealBroken):
        Seal(b"1" * 32).open("id", "column", SEAL.seal("id", "column", b"secret"))


@pytest.mark.parametrize("value", [{"code": "123\ud800"}, {"\udfff": 1}, {"x": object()}])
def test_a_value_that_is_not_json_is_refused_without_showing_it(value: Any) -> None:
    """The error names the type of the problem, and nothing of the value."""
    with pytest.raises(ValueError, match="sealed of id cannot be written as JSON") as caught:
        SEAL.seal_json("id", "sealed", value)
    assert "123" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_hashes_depend_on_key_kind_and_value() -> None:
    """Equal only when all three are."""
    hashes = {
        SEAL.key_of("repeat", b"x"),
        SEAL.key_of("once", b"x"),
        SEAL.key_of("repeat", b"y"),
        Seal(b"1" * 32).key_of("repeat", b"x"),
    }
    assert len(hashes) == 4
    assert SEAL.key_of("repeat", b"x") in hashes


def test_a_data_key_is_unwrapped_by_any_of_the_secrets() -> None:
    """The result says whether the first one did."""
    data_key = new_data_key()
    wrapped = wrap(data_key, "old")
    assert data_key not in wrapped
    assert unwrap(wrapped, ["old"]) == (data_key, True)
    assert unwrap(wrapped, ["new", "old"]) == (data_key, False)


@pytest.mark.parametrize("secrets", [[], ["new"], ["old ", "OLD"]])
def test_the_error_for_a_wrong_secret_says_what_to_do(secrets: list[str]) -> None:
    """In one sentence."""
    with pytest.raises(SealBroken, match="put back the one that was used last"):
        unwrap(wrap(new_data_key(), "old"), secrets)


_FORK = """
import os
from mailroom.sealing import BufferedEntropy
entropy = BufferedEntropy()
entropy(1)
if not os.fork():
    print(entropy(16).hex(), flush=True)
    os._exit(0)
os.wait()
print(entropy(16).hex())
"""


@given(st.lists(st.integers(0, 9000), min_size=1, max_size=20))
def test_buffered_entropy_returns_as_many_octets_as_asked_for(counts: list[int]) -> None:
    """More than a block, too."""
    entropy = BufferedEntropy()
    assert [len(entropy(count)) for count in counts] == counts


def test_buffered_entropy_returns_nothing_twice_to_any_thread() -> None:
    entropy = BufferedEntropy()
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda _: [entropy(12) for _ in range(2000)], range(8)))
    assert len({octets for ours in drawn for octets in ours}) == 16_000


def test_a_forked_process_draws_other_octets() -> None:
    """Two processes with the same nonces would reveal what they seal."""
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, check=True)
    child, parent = done.stdout.split()
    assert child != parent
