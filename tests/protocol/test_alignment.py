"""The alignment's machines: what both find, what a peer that deviates meets, and row 20 of the attacks."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moiety.contract.terms import encode_terms
from moiety.crypto.psi import Ristretto255, hash_ids
from moiety.errors import (
    AlignmentError,
    ContractMismatchError,
    LocalProtocolError,
    MalformedMessageError,
    MoietyError,
    RemoteProtocolError,
)
from moiety.protocol import alignment
from moiety.protocol.alignment import Alignment, AlignmentTerms, DataOwnerAlignment, LabelOwnerAlignment
from moiety.protocol.messages import Block, Kind
from tests.support.randomness import RecordedRandomness

GROUP = Ristretto255()
LABELS = [b"%d" % number for number in range(60)]
FEATURES = [b"%d" % number for number in range(40, 110)][::-1]
Change = Callable[[Block], Sequence[Block]]


def machine(kind: type[Alignment], ids: Sequence[bytes], **changes: object) -> Alignment:
    terms = {"run": "small", "columns": 1, "normalise": ((),), "ids": len(ids), **changes}
    return kind(
        AlignmentTerms.model_validate(terms),
        elements=lambda: hash_ids(GROUP, list(ids)),
        group=GROUP,
        randomness=RecordedRandomness(kind.__name__.encode()),
    )


def label_owner(ids: Sequence[bytes] = LABELS, **changes: Any) -> LabelOwnerAlignment:
    made = machine(LabelOwnerAlignment, ids, **changes)
    assert isinstance(made, LabelOwnerAlignment)
    return made


def data_owner(ids: Sequence[bytes] = FEATURES, **changes: Any) -> Alignment:
    return machine(DataOwnerAlignment, ids, **changes)


def unchanged(block: Block) -> Sequence[Block]:
    return [block]


def run(
    here: LabelOwnerAlignment, there: Alignment, *, to_data: Change = unchanged, to_label: Change = unchanged
) -> list[Block]:
    """Let both talk until nothing is said; return all that was."""
    said: list[Block] = []
    outgoing = [here.hello()]
    while outgoing:
        said += outgoing
        back = [answer for block in outgoing for each in to_data(block) for answer in there.receive(each)]
        said += back
        outgoing = [answer for block in back for each in to_label(block) for answer in here.receive(each)]
    return said


def test_both_find_the_common_ids_in_one_order() -> None:
    here, there = label_owner(), data_owner()
    run(here, there)
    assert here.result is not None
    assert there.result is not None
    assert here.result.digest == there.result.digest
    assert here.result.places is not None
    assert there.result.places is not None
    common = [LABELS[place] for place in here.result.places]
    assert common == [FEATURES[place] for place in there.result.places]
    assert set(common) == set(LABELS) & set(FEATURES)
    assert (here.result.peer_ids, there.result.peer_ids) == (70, 60)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_blocks_of_any_size_give_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "BLOCK_ELEMENTS", size)
    here, there = label_owner(), data_owner()
    said = run(here, there)
    assert sum(block.kind is Kind.BLINDED_IDS for block in said) == -(-60 // size) + -(-70 // size)
    assert here.result is not None
    assert here.result.places is not None
    assert len(here.result.places) == 20


def test_progress_counts_every_id_of_both() -> None:
    told: list[tuple[int, int]] = []
    here, there = label_owner(), data_owner()
    here._progress = lambda done, count: told.append((done, count))
    run(here, there)
    assert told == [(60, 130), (130, 130)]


def test_what_leaves_is_shuffled_and_blinded() -> None:
    """The same ids under other randomness: other bytes, and not in the order of the table."""
    here, there = label_owner(), data_owner()
    first = next(block for block in run(here, there) if block.kind is Kind.BLINDED_IDS).payload
    plain = hash_ids(GROUP, LABELS).tobytes()
    assert not {plain[i : i + 32] for i in range(0, len(plain), 32)} & {
        first[i : i + 32] for i in range(0, len(first), 32)
    }
    secret = here._secret
    assert first == secret.multiply(hash_ids(GROUP, [LABELS[place] for place in secret.order])).tobytes()


def test_nothing_in_common_is_named_on_both_sides() -> None:
    here, there = label_owner([b"a"]), data_owner([b"b", b"c"])
    with pytest.raises(AlignmentError, match="none of 2 own ids"):
        run(here, there)
    blocks = Block(kind=Kind.ALIGNED, step=0, payload=b"")
    with pytest.raises(LocalProtocolError):
        list(there.receive(blocks))


def test_kept_alignment_of_both_needs_no_ids() -> None:
    kept = "ab" * 32
    here, there = label_owner(kept=kept), data_owner(kept=kept)
    here._hashed = there._hashed = _must_not_run  # type: ignore[assignment]
    said = run(here, there)
    assert [block.kind for block in said] == [Kind.ALIGNMENT, Kind.ALIGNMENT]
    assert here.result is not None
    assert (here.result.digest.hex(), here.result.places) == (kept, None)
    assert there.result == replace(here.result, peer_ids=60)


@pytest.mark.parametrize("other", ["", "cd" * 32])
def test_kept_alignment_of_one_side_is_made_again(other: str) -> None:
    here, there = label_owner(kept="ab" * 32), data_owner(kept=other)
    run(here, there)
    assert here.result is not None
    assert here.result.places is not None


def _must_not_run() -> None:
    raise AssertionError("ids were hashed")


@pytest.mark.parametrize(
    ("field", "value"),
    [("run", "other"), ("columns", 2), ("normalise", (("trim",),)), ("wire_version", 1)],
)
def test_what_differs_is_named_on_both_sides(field: str, value: Any) -> None:
    here, there = label_owner(), data_owner(FEATURES, **{field: value})
    answers: list[Block] = []
    with pytest.raises(ContractMismatchError) as told:
        answers.extend(there.receive(here.hello()))
    with pytest.raises(ContractMismatchError) as here_told:
        list(here.receive(_answer(there)))
    assert (told.value.field, here_told.value.field) == (field, field)
    shown = '[["trim"]]' if field == "normalise" else value
    assert here_told.value.peer == shown == told.value.own


def _answer(there: Alignment) -> Block:
    return Block(kind=Kind.ALIGNMENT, step=0, payload=encode_terms(there._terms))


def with_payload(change: Callable[[bytes], bytes], *, kind: Kind) -> Change:
    def changed(block: Block) -> Sequence[Block]:
        return [replace(block, payload=change(block.payload))] if block.kind is kind else [block]

    return changed


BAD_ELEMENTS: dict[str, Callable[[bytes], bytes]] = {
    "the neutral element": lambda data: bytes(32) + data[32:],
    "no element": lambda data: b"\xff" * 32 + data[32:],
    "one twice": lambda data: data[32:64] + data[32:],
}


@pytest.mark.parametrize("name", BAD_ELEMENTS)
@pytest.mark.parametrize("direction", ["to_data", "to_label"])
def test_bad_points_and_duplicates_are_refused(name: str, direction: str) -> None:
    """Row 20. A peer sends what is no element, the neutral one, or an element twice.

    Control: the unchanged elements are taken. The neutral element would be its own multiple, and tell nothing
    of a scalar but match every peer that does the same; an element twice would count an id twice.
    """
    run(label_owner(), data_owner())
    here, there = label_owner(), data_owner()
    with pytest.raises(MalformedMessageError, match=r"no element|twice"):
        run(here, there, **{direction: with_payload(BAD_ELEMENTS[name], kind=Kind.BLINDED_IDS)})


@pytest.mark.parametrize("direction", ["to_data", "to_label"])
def test_doubly_blinded_ids_altered_end_in_an_error(direction: str) -> None:
    """A wrong element among those that come back: the parties find different rows, and say so."""
    altered = with_payload(lambda data: GROUP.hash(b"another") + data[32:], kind=Kind.DOUBLY_BLINDED)
    here, there = label_owner(LABELS[40:]), data_owner(LABELS[40:])
    with pytest.raises((RemoteProtocolError, AlignmentError)):
        run(here, there, **{direction: altered})


def dropped(kind: Kind) -> Change:
    return lambda block: [] if block.kind is kind else [block]


def repeated(kind: Kind) -> Change:
    return lambda block: [block, block] if block.kind is kind else [block]


@pytest.mark.parametrize("kind", [Kind.BLINDED_IDS, Kind.DOUBLY_BLINDED, Kind.ALIGNED])
@pytest.mark.parametrize("direction", ["to_data", "to_label"])
@pytest.mark.parametrize("fault", [dropped, repeated])
def test_messages_missing_or_twice_find_nothing(
    kind: Kind, direction: str, fault: Callable[[Kind], Change]
) -> None:
    here, there = label_owner(), data_owner()
    with contextlib.suppress(MoietyError):
        run(here, there, **{direction: fault(kind)})
    finished = [each.result is not None for each in (here, there)]
    assert not all(finished) or (kind is Kind.ALIGNED and fault is repeated)


def test_machine_is_closed_after_an_error() -> None:
    there = data_owner()
    with pytest.raises(RemoteProtocolError):
        list(there.receive(Block(kind=Kind.HELLO, step=0, payload=b"")))
    with pytest.raises(LocalProtocolError):
        list(there.receive(label_owner().hello()))


@pytest.mark.slow
def test_ten_thousand_ids_none_misaligned() -> None:
    """0 misaligned rows; a million in the campaign."""
    numbers = np.arange(10_000)
    mine = [b"%d" % number for number in numbers if number % 10]
    theirs = [b"%d" % number for number in numbers[::-1] if number % 9]
    here, there = label_owner(mine), data_owner(theirs)
    run(here, there)
    assert here.result is not None
    assert there.result is not None
    assert here.result.places is not None
    assert there.result.places is not None
    pairs = zip(here.result.places, there.result.places, strict=True)
    assert sum(mine[one] != theirs[other] for one, other in pairs) == 0
    assert len(here.result.places) == sum(1 for n in range(10_000) if n % 10 and n % 9)
