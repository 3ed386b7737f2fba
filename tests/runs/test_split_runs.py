"""Runs whose split a column of either party decides: agreed on by both, checked, and said aloud."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest

from moiety.config import load_run
from moiety.contract.assignment import Assignment
from moiety.contract.contract import Contract
from moiety.contract.schedule import Split
from moiety.contract.terms import Assigned
from moiety.demo.compare import join, train_twin
from moiety.demo.local import simulate
from moiety.errors import (
    ConfigError,
    ContractMismatchError,
    DataError,
    MalformedMessageError,
    MoietyError,
    RemoteProtocolError,
)
from moiety.protocol.handshake import (
    DataOwnerHandshake,
    ExpectedAssignment,
    LabelOwnerHandshake,
    assignment_blocks,
)
from moiety.protocol.messages import Block, Kind
from moiety.store import model as checkpoint
from tests.support.pair import data_terms, label_terms
from tests.support.parties import Files, configure, make_parties, meet, rewrite_table, run_here, score
from tests.support.randomness import RecordedRandomness, words_of

DAYS: Final = [f"2024-{1 + row % 12:02d}-{1 + row % 28:02d}" for row in range(600)]
OWNERS: Final = ("data owner", "label owner")


def split_by_day(folder: Path, owner: str, **rule: Any) -> Files:
    """Make both folders, with a column of days at one party, which both agree to split by."""
    files = make_parties(folder)
    of = {"data owner": files.data_owner, "label owner": files.label_owner}
    table = of[owner].parent / ("features.parquet" if owner == "data owner" else "labels.parquet")
    rewrite_table(table, lambda found: found.append_column("day", pa.array(DAYS)))
    for party, path in of.items():
        own = {"by": "day", **rule} if party == owner else {}
        configure(path, {"split": {**own, "reveals": "periods"}})
    return files


def days_in(files: Files, split: Split) -> set[str]:
    schedule = join(files.label_owner, files.data_owner).schedule
    return {DAYS[row] for row in schedule.split_rows(split)}


def run(files: Files) -> Any:
    return simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"periods"))


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["blind", "joint", "acml"])
@pytest.mark.parametrize("owner", OWNERS)
def test_run_split_by_either_partys_column_trains_on_the_past(
    tmp_path: Path, owner: str, protocol: str
) -> None:
    files = split_by_day(tmp_path, owner)
    if protocol != "blind":
        for path in (files.label_owner, files.data_owner):
            configure(path, {"protocol": {"name": protocol, "reveals": "gradients"}})
    if protocol == "joint":
        configure(files.data_owner, {"model": {"bottom": "moiety.demo.networks:bottom"}})
    result = run(files)
    past, present, future = (days_in(files, split) for split in (Split.TRAIN, Split.VALIDATION, Split.TEST))
    assert max(past) < min(present) <= max(present) < min(future)
    assert result.test["AUC"] > 0.6
    assert result.test["AUC"] == pytest.approx(
        train_twin(join(files.label_owner, files.data_owner))["AUC"], abs=0.01
    )
    assert result.in_features == (16 if protocol == "joint" else 8)  # the day is no feature
    assert len(score(files, tmp_path / "scores.csv")) == 600


def test_split_column_that_is_listed_is_a_feature_too(tmp_path: Path) -> None:
    files = split_by_day(tmp_path, "data owner")
    table = files.data_owner.parent / "features.parquet"
    rewrite_table(table, lambda found: found.append_column("age", pa.array(np.arange(600.0))))
    configure(files.data_owner, {"split.by": "age", "table.features": ["age", "f0", "f1", "f2", "f3", "f4"]})
    assert run(files).in_features == 6


@pytest.mark.parametrize("owner", OWNERS)
def test_run_over_the_network_says_on_both_sides_what_it_reveals(tmp_path: Path, owner: str) -> None:
    files = split_by_day(tmp_path, owner)
    meeting = meet(files)
    assert meeting.result is not None
    told = {"data owner": meeting.reports, "label owner": meeting.result.disclosed}
    for party, said in told.items():
        words = "shows the peer which rows lie" if party == owner else "a column of the peer's decides"
        assert any(words in sentence for sentence in said), said


def test_second_run_after_a_split_by_time_has_the_same_split(tmp_path: Path) -> None:
    files = split_by_day(tmp_path, "label owner")
    run(files)
    first = days_in(files, Split.TEST)
    simulate(files.label_owner, files.data_owner)
    assert days_in(files, Split.TEST) == first


def test_assignment_is_saved_at_the_label_owner_and_no_seed_is_asked(tmp_path: Path) -> None:
    files = split_by_day(tmp_path, "data owner", test_from="2024-11-01")
    run(files)
    arrays, _ = checkpoint.load_model(files.label_owner.parent / "small")
    counts = Assignment(rows=600, packed=arrays["assignment"].tobytes()).counts
    late = sum(day >= "2024-11-01" for day in DAYS)
    assert counts == (600 - late, 0, late)


# --- what has to be said on both sides ---


@pytest.mark.parametrize(
    ("label_owner", "data_owner"),
    [
        ({"reveals": "periods"}, None),
        (None, {"reveals": "periods"}),
        ({"by": "day", "reveals": "periods"}, None),
        (None, {"by": "day", "reveals": "periods"}),
        ({"reveals": "periods"}, {"reveals": "periods"}),
        ({"by": "day", "reveals": "periods"}, {"by": "day", "reveals": "periods"}),
    ],
)
def test_split_that_one_side_did_not_agree_to_is_refused_before_it_crosses(
    tmp_path: Path, label_owner: dict[str, Any] | None, data_owner: dict[str, Any] | None
) -> None:
    files = make_parties(tmp_path)
    for path, table, split in (
        (files.label_owner, "labels.parquet", label_owner),
        (files.data_owner, "features.parquet", data_owner),
    ):
        rewrite_table(path.parent / table, lambda found: found.append_column("day", pa.array(DAYS)))
        configure(path, {"split": split})
    configure(files.data_owner, {"table.features": [f"f{number}" for number in range(8)]})
    with pytest.raises(ContractMismatchError) as caught:
        run(files)
    assert caught.value.field == "split"
    assert 'reveals = "periods"' in caught.value.hint
    assert not (tmp_path / "bank" / "small" / "model.json").exists()


@pytest.mark.parametrize(
    ("party", "split", "says"),
    [
        ("label owner", {"by": "day"}, "shows the peer which rows"),
        ("data owner", {"by": "day"}, "shows the peer which rows"),
        ("label owner", {"by": "target", "reveals": "periods"}, "would show the data owner labels"),
        ("data owner", {"test": 0.3}, "has fractions and no column"),
        ("label owner", {"reveals": "periods", "test": 0.3}, "a column of the peer's decides"),
        ("label owner", {"test_from": 3}, "has test_from and no column"),
        ("data owner", {"reveals": "periods", "missing": "train"}, "has missing and no column"),
        (
            "data owner",
            {"by": "day", "reveals": "periods", "test": 0.1, "test_from": "2024-01-01"},
            "both fractions and cut points",
        ),
        ("label owner", {"by": "day", "reveals": "periods", "test": 0.9, "validation": 0.1}, "keeps 1 of"),
    ],
)
def test_run_file_with_half_a_split_is_refused(
    tmp_path: Path, party: str, split: dict[str, Any], says: str
) -> None:
    files = make_parties(tmp_path)
    path = files.label_owner if party == "label owner" else files.data_owner
    configure(path, {"split": split})
    with pytest.raises(ConfigError, match=says) as caught:
        load_run(path)
    assert caught.value.hint


@pytest.mark.parametrize("owner", OWNERS)
def test_check_says_what_the_split_shows_and_to_whom(tmp_path: Path, owner: str) -> None:
    files = split_by_day(tmp_path, owner)
    own, peers = files.data_owner, files.label_owner
    if owner == "label owner":
        own, peers = peers, own
    said = run_here("check", own)
    assert said.code == 0
    assert "which rows lie in which period of column day" in " ".join(said.output.split())
    asked = run_here("check", peers)
    assert "which rows lie in which period" not in " ".join(asked.output.split())
    assert f"a column of the {owner}'s" in " ".join(asked.output.split())
    configure(own, {"split.by": "dey"})
    failed = run_here("check", own)
    assert (failed.code, "no column 'dey'" in failed.errors) == (3, True)


def test_missing_days_are_refused_before_anybody_connects(tmp_path: Path) -> None:
    files = split_by_day(tmp_path, "data owner")
    table = files.data_owner.parent / "features.parquet"
    holes = pa.array([None, *DAYS[1:]])
    rewrite_table(table, lambda found: found.set_column(found.column_names.index("day"), "day", holes))
    with pytest.raises(DataError, match="missing in 1 of 600 rows"):
        run(files)
    configure(files.data_owner, {"split.missing": "train"})
    run(files)
    assert 0 in join(files.label_owner, files.data_owner).schedule.split_rows(Split.TRAIN)


# --- what a peer may send ---

ASSIGNED: Final = Assignment.of((words_of("splits", 40) % np.uint64(3)).astype(np.uint8))
BLOCKS: Final = list(assignment_blocks(ASSIGNED))


def label_handshake(**changes: Any) -> tuple[LabelOwnerHandshake, Block]:
    """A label owner that waits for the data owner's assignment, and the data owner's terms."""
    answer = data_terms(split="data-owner", **{"assigned": Assigned.of(ASSIGNED), **changes})
    return LabelOwnerHandshake(label_terms(split="data-owner")), DataOwnerHandshake().answer(answer)


def data_handshake(**changes: Any) -> tuple[DataOwnerHandshake, Block]:
    """A data owner that wants the label owner's assignment, and the label owner's terms."""
    terms = label_terms(split="label-owner", **{"assigned": Assigned.of(ASSIGNED), **changes})
    return DataOwnerHandshake(split="label-owner", rows=40), LabelOwnerHandshake(terms).hello()


def test_handshake_agrees_on_the_data_owners_assignment() -> None:
    label_owner, answer = label_handshake()
    assert label_owner.receive(answer) is None
    contract = label_owner.receive(BLOCKS[0])
    assert isinstance(contract, Contract)
    np.testing.assert_array_equal(contract.schedule.split_rows(Split.TEST), ASSIGNED.rows_in(2))


def test_handshake_agrees_on_the_label_owners_assignment() -> None:
    terms = label_terms(split="label-owner", assigned=Assigned.of(ASSIGNED))
    label_owner = LabelOwnerHandshake(terms, assignment=ASSIGNED)
    data_owner = DataOwnerHandshake(split="label-owner", rows=40)
    opening = list(label_owner.opening())
    assert [block.kind for block in opening] == [Kind.HELLO, Kind.ASSIGNMENT]
    assert data_owner.receive(opening[0]) is None
    assert data_owner.receive(opening[1]) == terms
    own = data_terms(split="label-owner")
    contract = data_owner.agree(own)
    assert label_owner.receive(data_owner.answer(own)) == contract
    assert contract.assignment == ASSIGNED


def test_contract_digest_covers_the_assignment() -> None:
    other = Assignment.of((words_of("other", 40) % np.uint64(3)).astype(np.uint8))
    digests = set()
    for assigned in (ASSIGNED, other):
        terms = label_terms(split="label-owner", assigned=Assigned.of(assigned))
        digests.add(Contract(label_owner=terms, data_owner=data_terms(split="label-owner")).digest)
    assert len(digests) == 2


@pytest.mark.parametrize("handshake", [label_handshake, data_handshake])
def test_assignment_other_than_stated_is_refused(handshake: Any) -> None:
    stated = Assigned.of(ASSIGNED)
    for changes in ({"digest": "00" * 32}, {"training": stated.training + 1}, {"test": 0}):
        owner, hello = handshake(assigned=stated.model_copy(update=changes))
        assert owner.receive(hello) is None
        with pytest.raises(RemoteProtocolError, match="not the one that was stated"):
            owner.receive(BLOCKS[0])


@pytest.mark.parametrize("handshake", [label_handshake, data_handshake])
def test_assignment_that_nobody_stated_is_refused(handshake: Any) -> None:
    owner, hello = handshake(assigned=None)
    with pytest.raises(RemoteProtocolError, match="states no assignment"):
        owner.receive(hello)


@pytest.mark.parametrize("handshake", [label_handshake, data_handshake])
@pytest.mark.parametrize(
    ("block", "error"),
    [
        (Block(kind=Kind.ASSIGNMENT, step=0, payload=bytes(9)), MalformedMessageError),
        (Block(kind=Kind.ASSIGNMENT, step=0, payload=b"\xff" * 10), MalformedMessageError),
        (Block(kind=Kind.ASSIGNMENT, step=0, payload=bytes(10), count=2), RemoteProtocolError),
        (Block(kind=Kind.ASSIGNMENT, step=1, payload=bytes(10)), RemoteProtocolError),
        (Block(kind=Kind.PUBLIC_KEY, step=0, payload=bytes(10)), RemoteProtocolError),
    ],
)
def test_block_in_place_of_an_assignment_is_refused(
    handshake: Any, block: Block, error: type[MoietyError]
) -> None:
    owner, hello = handshake()
    owner.receive(hello)
    with pytest.raises(error):
        owner.receive(block)


def test_assignment_without_training_rows_is_refused() -> None:
    empty = Assignment.of(np.full(40, 2, dtype=np.uint8))
    expected = ExpectedAssignment(Assigned.of(empty), rows=40)
    with pytest.raises(RemoteProtocolError, match="no training rows"):
        expected.receive(next(assignment_blocks(empty)))


@pytest.mark.parametrize(("split", "rows"), [("drawn", 40), ("data-owner", 40), ("label-owner", 41)])
def test_data_owner_waits_for_no_assignment_that_it_did_not_ask_for(split: Any, rows: int) -> None:
    """It answers at once, so that both sides name what they differ in; nothing is kept of what follows."""
    handshake = DataOwnerHandshake(split=split, rows=rows)
    terms = label_terms(split="label-owner", assigned=Assigned.of(ASSIGNED))
    assert handshake.receive(LabelOwnerHandshake(terms).hello()) == terms
    with pytest.raises(ContractMismatchError):
        handshake.agree(data_terms(split=split, rows=rows))
