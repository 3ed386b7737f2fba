"""The group by published vectors, its refusals, and what equal and different ids become."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.crypto.psi import Blinding, Elements, Ristretto255, hash_ids, intersect, require_distinct
from moiety.errors import MalformedMessageError
from tests.support.randomness import RecordedRandomness

GROUP = Ristretto255()
OPRF = Ristretto255(b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512")
BLIND = bytes.fromhex("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706")
NEUTRAL = bytes(32)


@pytest.mark.parametrize(
    ("message", "blinded"),
    [
        (b"\x00", "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c"),
        (b"\x5a" * 17, "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418"),
    ],
)
def test_hash_and_multiply_as_in_rfc_9497(message: bytes, blinded: str) -> None:
    """RFC 9497, appendix A.1.1: BlindedElement of OPRF(ristretto255, SHA-512)."""
    assert OPRF.multiply(BLIND, OPRF.hash(message)).hex() == blinded


def test_domains_separate_hashes() -> None:
    assert GROUP.hash(b"id") != OPRF.hash(b"id")


@pytest.mark.parametrize("element", [NEUTRAL, b"\xff" * 32, b"\x01" + bytes(31), bytes(31) + b"\x80"])
def test_bytes_that_are_no_element_are_refused(element: bytes) -> None:
    with pytest.raises(MalformedMessageError, match="no element"):
        GROUP.multiply(BLIND, element)


def test_scalars_follow_from_their_seeds() -> None:
    one, other = (RecordedRandomness(name).seed() for name in (b"one", b"other"))
    assert GROUP.scalar(one) == GROUP.scalar(one) != GROUP.scalar(other)


@given(
    own=st.sets(st.binary(min_size=1, max_size=12), max_size=12),
    peer=st.sets(st.binary(min_size=1, max_size=12), max_size=12),
)
def test_doubly_blinded_ids_meet_where_ids_are_equal(own: set[bytes], peer: set[bytes]) -> None:
    here, there = sorted(own), sorted(peer)
    a, b = (blinding(name, 1) for name in (b"a", b"b"))
    mine = b.multiply(a.multiply(elements(here)))
    theirs = a.multiply(b.multiply(elements(there)))
    places, digest = intersect(mine, theirs)
    counterparts, same = intersect(theirs, mine)
    assert digest == same
    assert [here[place] for place in places] == [there[place] for place in counterparts]
    assert {here[place] for place in places} == own & peer


def test_common_order_is_that_of_the_bytes() -> None:
    mixed = elements([b"%d" % number for number in range(40)])
    places, _ = intersect(mixed, mixed[::-1].copy())
    ordered = [mixed[place].tobytes() for place in places]
    assert ordered == sorted(ordered)


def test_order_in_which_ids_leave_is_drawn() -> None:
    first, again, other = blinding(b"a", 50), blinding(b"a", 50), blinding(b"b", 50)
    assert sorted(first.order) == list(range(50))
    assert first.order.tolist() == again.order.tolist() != other.order.tolist()
    assert first.order.tolist() != list(range(50))


def test_element_twice_is_refused_wherever_it_is() -> None:
    distinct = elements([b"a", b"b", b"c"])
    require_distinct(distinct)
    with pytest.raises(MalformedMessageError, match="twice"):
        require_distinct(np.concatenate([distinct, distinct[:1]]))


def test_elements_that_end_in_zeros_are_told_apart() -> None:
    """NumPy's strings of bytes drop zeros at their end."""
    ends = np.zeros((2, 32), dtype=np.uint8)
    ends[1, 8] = 1
    require_distinct(ends)
    assert intersect(ends[:1], ends[1:])[0].tolist() == []


def elements(ids: list[bytes]) -> Elements:
    return hash_ids(GROUP, ids)


def blinding(name: bytes, count: int) -> Blinding:
    return Blinding(GROUP, count=count, randomness=RecordedRandomness(name))
