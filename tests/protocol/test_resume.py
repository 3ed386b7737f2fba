"""The blocks by which both parties name checkpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, Lasts, fields_lasting
from moiety.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    LocalProtocolError,
    MalformedMessageError,
    RemoteProtocolError,
)
from moiety.protocol.messages import MARKS_LIMIT, Block, Kind
from moiety.protocol.resume import (
    Mark,
    mark_block,
    read_mark,
    read_resume,
    read_resumed,
    require_same,
    resume_block,
    resumed_block,
    terms_to_save,
)
from tests.support.pair import contract_of, data_terms, label_terms

MARKS = st.builds(Mark, updates=st.integers(0, 2**64 - 1), transcript=st.binary(min_size=32, max_size=32))
ONE, TWO = Mark(updates=1, transcript=b"1" * 32), Mark(updates=2, transcript=b"2" * 32)


@given(MARKS)
def test_mark_comes_back(mark: Mark) -> None:
    assert read_mark(mark_block(Kind.CHECKPOINT, mark), Kind.CHECKPOINT) == mark


@given(st.lists(MARKS, min_size=1, max_size=MARKS_LIMIT))
def test_list_comes_back_in_order(marks: list[Mark]) -> None:
    assert read_resume(resume_block(marks)) == marks


def test_list_is_cut_to_its_limit_at_the_old_end() -> None:
    assert read_resume(resume_block([TWO] * MARKS_LIMIT + [ONE])) == [TWO] * MARKS_LIMIT


def test_empty_list_is_not_sent() -> None:
    with pytest.raises(LocalProtocolError):
        resume_block([])


def test_choice_comes_back() -> None:
    assert read_resumed(resumed_block(ONE), [TWO, ONE]) == ONE
    assert read_resumed(resumed_block(None), [ONE]) is None


def test_choice_that_was_not_offered_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="not offered"):
        read_resumed(resumed_block(TWO), [ONE])


@pytest.mark.parametrize("size", [1, 39, 41, 80])
def test_mark_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessageError):
        read_mark(Block(kind=Kind.CHECKPOINT, step=0, payload=bytes(size)), Kind.CHECKPOINT)
    with pytest.raises(MalformedMessageError):
        read_resumed(Block(kind=Kind.RESUMED, step=0, payload=bytes(size)), [ONE])


@pytest.mark.parametrize("size", [0, 39, 41])
def test_list_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessageError):
        read_resume(Block(kind=Kind.RESUME, step=0, payload=bytes(size)))


@pytest.mark.parametrize("change", [{"kind": Kind.REQUEST}, {"step": 1}, {"index": 1, "count": 2}])
def test_block_at_another_place_is_refused(change: dict[str, int]) -> None:
    place: dict[str, int] = {"kind": Kind.RESUMED, "step": 0, **change}
    with pytest.raises(RemoteProtocolError, match="RESUMED was expected"):
        read_resumed(Block(payload=b"", **place), [ONE])  # type: ignore[arg-type]


# --- the terms that a run began with ---

MAY_DIFFER = fields_lasting(Lasts.SESSION, Lasts.AGREEMENT)
SIDES: list[tuple[str, LabelOwnerTerms | DataOwnerTerms]] = [
    ("label_owner", label_terms()),
    ("data_owner", data_terms()),
]
SAME = [(role, terms, name) for role, terms in SIDES for name in type(terms).model_fields]


@pytest.mark.parametrize(("role", "terms", "field"), SAME)
def test_resumed_run_has_the_terms_that_it_began_with(
    role: str, terms: LabelOwnerTerms | DataOwnerTerms, field: str
) -> None:
    saved = {role: {**terms_to_save(contract_of())[role], field: "other"}}
    if field in MAY_DIFFER:
        require_same(saved, terms, whose="own")
        return
    with pytest.raises(CheckpointMismatchError, match=f"began with {field} = other"):
        require_same(saved, terms, whose="own")


def test_resumed_run_may_have_another_policy_software_and_wire_version() -> None:
    """Those of 0.1.0 are of wire version 4, where limits stood beside the other fields."""
    assert {"policy", "before", "software", "wire_version", "nonce"} <= MAY_DIFFER
    saved = terms_to_save(contract_of())["data_owner"]
    del saved["policy"], saved["before"]
    earlier = {**saved, "wire_version": 4, "smallest_batch": 9, "steps_limit": None, "steps_before": 3}
    require_same({"data_owner": earlier}, data_terms(), whose="own")


@pytest.mark.parametrize("saved", [{}, {"data_owner": None}, {"data_owner": 3}, []])
def test_checkpoint_without_terms_is_damaged(saved: object) -> None:
    with pytest.raises(CheckpointCorruptError, match="no terms"):
        require_same(saved, data_terms(), whose="own")  # type: ignore[arg-type]
