"""Row 26 of the attacks: what depends on labels and could be seen by the data owner."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from moiety.contract.contract import Contract
from moiety.contract.schedule import RowHandle, RowIndices, Schedule, Split
from moiety.crypto.ring import encode_gradients
from moiety.crypto.sampling import Seed
from moiety.demo.local import simulate
from moiety.errors import LocalProtocolError, RemoteProtocolError
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import AdaptiveStep
from moiety.party.data_owner.session import DataOwnerSession
from moiety.party.label_owner.result import Result
from moiety.protocol.blind import BlindDataOwner
from moiety.protocol.choice import encode_epoch
from moiety.protocol.messages import Block, Kind, Request, encode_request
from moiety.protocol.simulate import Pair
from tests.attacks.test_protocol import FROM_DATA_OWNER, outline, pair_of, rectified
from tests.support.attack_tools import folded_auc
from tests.support.no_choice import NeverGoesBack
from tests.support.pair import contract_of, data_terms, label_terms, training_handles
from tests.support.parties import (
    COLUMNS,
    ROWS,
    configure,
    features_of,
    make_parties,
    rewrite_table,
    target_of,
    with_column,
)
from tests.support.randomness import RecordedRandomness, words_of

CLIPPING_RATE = 100.0


class PairLink(NeverGoesBack):
    """The layer's end of a pair in this process."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._z = np.zeros((0, 0))
        self.clipped = 0

    def start(self, handle: RowHandle, *, training: bool) -> None:
        self._z = self._pair.forward(handle, training=training)

    def result(self) -> NDArray[np.float64]:
        return self._z

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        del dz_NK
        words = words_of("rounding", scaled_NK.size).reshape(scaled_NK.shape)
        rounded, clipped = encode_gradients(scaled_NK, words)
        self.clipped += clipped
        self._pair.update(rounded)


def learnable() -> tuple[Contract, NDArray[np.int16], NDArray[np.int64]]:
    """A small run: 192 rows of 6 columns, 4 units, 2 epochs of 8 batches; one label in eight is 1."""
    terms = {"rows": 192, "batch": 24, "validation": 0.0, "test": 0.0, "epochs": 2}
    contract = contract_of(
        label=label_terms(**terms, out_features=4), data=data_terms(rows=192, in_features=6)
    )
    labels = (words_of("labels", 192) % np.uint64(24) == 0).astype(np.int64)
    return contract, rectified("row 26", 192, 6) >> 6, labels


def to_data_owner(labels_N: NDArray[np.int64], *, mining: bool = False, rate: float = 0.05) -> list[Block]:
    """Train; return what the data owner received.

    With `mining`, a broken label owner that spares itself the update of batches without a positive label.
    """
    contract, table, _ = learnable()
    seen: list[Block] = []
    pair = pair_of(contract, table, name=b"row 26", seen=seen)
    link = PairLink(pair)
    layer = InteractiveLinear(link, in_features=6, out_features=4, rule=AdaptiveStep(rate))
    top = torch.nn.Linear(4, 1)
    with torch.no_grad():
        top.weight.fill_(0.25)
        top.bias.zero_()
    for handle in training_handles(contract):
        target = torch.from_numpy(labels_N[contract.schedule.rows_of(handle)]).float()
        if mining and not target.any():
            with torch.no_grad():
                layer(handle)
            continue
        score = top(layer(handle)).squeeze(1)
        torch.nn.functional.binary_cross_entropy_with_logits(score, target).backward()  # type: ignore[no-untyped-call]
        layer.bias.grad = None
    assert (link.clipped > 0) == (rate >= CLIPPING_RATE)
    return [each for each in seen if each.kind not in FROM_DATA_OWNER]


def gradients_sent(blocks: list[Block], steps: int) -> NDArray[np.float64]:
    """For each step, whether gradients came."""
    sent = {each.step for each in blocks if each.kind is Kind.GRADIENTS}
    return np.array([float(step + 1 in sent) for step in range(steps)])


def test_label_dependent_messages_permuted_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data owner compares the messages of runs that differ in the labels only.

    Control, a label owner that updates on batches with a positive label only, at a data owner that lets it:
    whether GRADIENTS come tells which batches have one (AUC 1), and permuted labels give another outline.
    Ours: permuted, constant and extreme labels give one outline. (What it can make of the ciphertexts and of
    its own share, which is a function of them, is row 1.)
    """
    contract, _, labels = learnable()
    orders = [labels, labels[::-1].copy(), np.zeros_like(labels), np.ones_like(labels)]
    runs = [to_data_owner(each) for each in orders]
    runs.append(to_data_owner(labels, rate=CLIPPING_RATE))  # every dz' clipped: counted here, told to nobody
    assert len({tuple(outline(blocks)) for blocks in runs}) == 1

    monkeypatch.setattr(BlindDataOwner, "_check_training", lambda *_: None)
    handles = training_handles(contract)
    mined = [to_data_owner(each, mining=True) for each in orders[:2]]
    assert outline(mined[0]) != outline(mined[1])
    positive = [int(labels[contract.schedule.rows_of(each)].any()) for each in handles]
    assert 0 < sum(positive) < len(positive)
    assert folded_auc(gradients_sent(mined[0], len(handles)), np.array(positive)) == 1.0


def test_label_dependent_order_refused() -> None:
    """A label owner (or its user) wants a weighted sampler: positives first, some twice.

    Control, a broken layer whose requests carry row numbers: the order of first requests is the labels (AUC
    1). Ours: the layer refuses anything but a handle, the schedule knows no other batch, and the data owner
    refuses a batch out of turn.
    """
    contract, table, labels = learnable()
    order = np.argsort(-labels, kind="stable")
    place = np.empty(len(order))
    place[order] = np.arange(len(order))
    assert folded_auc(place, labels) == 1.0

    pair = pair_of(contract, table, name=b"row 26")
    layer = InteractiveLinear(PairLink(pair), in_features=6, out_features=4, rule=AdaptiveStep(0.05))
    for free in (torch.arange(4), order[:4], [1, 2, 3], 5, slice(0, 4)):
        with pytest.raises(LocalProtocolError, match="batch's handle"):
            layer(free)
    first, second = training_handles(contract)[:2]
    for forged in (
        RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=3),
        RowHandle(split=Split.TRAIN, epoch=0, batch=8, rows=24),
        RowHandle(split=Split.TRAIN, epoch=2, batch=0, rows=24),
        RowHandle(split=Split.VALIDATION, epoch=0, batch=0, rows=24),
    ):
        assert not contract.schedule.contains(forged)
    with pytest.raises(RemoteProtocolError, match="was due"):
        pair.forward(second, training=True)
    wrong = RowHandle(split=Split.TRAIN, epoch=0, batch=0, rows=first.rows - 1)
    request = encode_request(Request(handle=wrong, training=False, updates=0))
    owner = pair_of(contract, table, name=b"row 26").data_owner
    with pytest.raises(RemoteProtocolError, match="not in the schedule"):
        list(owner.receive(Block(kind=Kind.REQUEST, step=1, payload=request)))


def test_label_dependent_order_is_drawn_jointly() -> None:
    """The label owner picks its nonce until the order suits its labels; the data owner's comes after it.

    Control, an order that only the label owner's nonce decides: the same for every answer. Ours: the first
    batch differs for each of 64 nonces of the data owner.
    """
    owners = [data_terms(nonce=f"{number:064x}") for number in range(64)]

    def first_batch(schedule: Schedule) -> bytes:
        rows: RowIndices = schedule.rows_of(schedule.batches(Split.TRAIN, epoch=0)[0])
        return rows.tobytes()

    contracts = [contract_of(data=each) for each in owners]
    assert len({first_batch(each.schedule) for each in contracts}) == 64
    alone = {first_batch(_alone(each)) for each in contracts}
    assert len(alone) == 1


def _alone(contract: Contract) -> Schedule:
    """A broken schedule, whose seed is the label owner's nonce."""
    schedule = contract.schedule
    return Schedule(
        seed=Seed(bytes.fromhex(contract.label_owner.nonce)),
        rows=schedule.rows,
        validation=schedule.validation,
        test=schedule.test,
        batch=schedule.batch,
        epochs=schedule.epochs,
    )


def trained_blocks(
    folder: Path, target_N: NDArray[np.int64], monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> tuple[list[Block], Result]:
    """Train by a run file with some labels; return what reached the data owner, and the result."""
    folder.mkdir()
    files = make_parties(folder)
    rewrite_table(folder / "bank" / "labels.parquet", with_column("target", target_N.tolist()))
    configure(files.label_owner, {name.replace("__", "."): value for name, value in settings.items()})
    seen: list[Block] = []
    receive = DataOwnerSession.receive

    def watched(session: DataOwnerSession, block: Block) -> Iterator[Block]:
        seen.append(block)
        yield from receive(session, block)

    with monkeypatch.context() as patch:
        patch.setattr(DataOwnerSession, "receive", watched)
        result = simulate(files.label_owner, files.data_owner, randomness=RecordedRandomness(b"row 26"))
    return seen, result


def orders_of_labels() -> list[NDArray[np.int64]]:
    """Labels that can be learnt, and the same permuted, which cannot."""
    labels = target_of(features_of(ROWS, COLUMNS), "binary")
    return [labels, labels[np.argsort(words_of("permutation", ROWS))]]


def test_label_dependent_choice_permuted_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data owner watches runs that keep their best epoch, even classes out, step rates by metrics.

    Control, a run that names its best epoch (`acml` does): other labels, another message. Ours in `blind`:
    one outline for labels that can be learnt and for permuted ones, though their best epochs differ.
    """
    rules: dict[str, Any] = {
        "train__epochs": 4,
        "train__learning_rate": 0.2,
        "train__keep": "best",
        "train__schedule": "ReduceLROnPlateau",
        "train__schedule_options": {"patience": 0},
        "split__stratify": "metrics and loss",
    }
    runs = [
        trained_blocks(tmp_path / f"run {number}", labels, monkeypatch, **rules)
        for number, labels in enumerate(orders_of_labels())
    ]
    best = [result.kept_epoch for _, result in runs]
    assert None not in best
    assert best[0] != best[1]
    assert outline(runs[0][0]) == outline(runs[1][0])
    assert encode_epoch(best[0] or 0) != encode_epoch(best[1] or 0)


def test_label_dependent_stop_tells_only_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data owner watches runs with early stopping, which both sides declared.

    What it gives away, and the control at once: permuted labels stop at another epoch, so whoever can train
    on a guess of the labels can test the guess. Ours: up to there, and after it, the messages are the same.
    """
    rules: dict[str, Any] = {
        "train__epochs": 12,
        "train__learning_rate": 0.03,
        "train__early_stopping": {"patience": 2},
    }
    runs = [
        trained_blocks(tmp_path / f"run {number}", labels, monkeypatch, **rules)
        for number, labels in enumerate(orders_of_labels())
    ]
    epochs = [len(result.validation) for _, result in runs]
    assert epochs[0] != epochs[1]
    stops = [next(i for i, each in enumerate(seen) if each.kind is Kind.CHOICE) for seen, _ in runs]
    earlier = min(stops)
    assert outline(runs[0][0][:earlier]) == outline(runs[1][0][:earlier])
    ends = [
        [(each.kind, len(each.payload)) for each in seen[stop:]]
        for (seen, _), stop in zip(runs, stops, strict=True)
    ]
    assert ends[0] == ends[1]


TABLES, TABLE_ROWS, RUNS, TESTED = 1000, 40, 60, 12


def test_label_dependent_split_exact_stratification() -> None:
    """The data owner keeps the splits of many runs: each stratified one is a linear equation of the labels.

    Control, splits that hold exactly the table's share of positives: after 60 runs on a table of 40 rows
    the labels are the one direction that all equations leave, and the label of one row gives its sign
    (AUC 1.00 over 1000 tables, the known row left out). Ours: splits that come from the seed alone.
    """
    tables = [np.argsort(words_of(f"labels {table}", TABLE_ROWS)) % 2 for table in range(TABLES)]
    with threadpool_limits(limits=1):  # small matrices: beside other tests, threads wait for each other
        drawn = solved([drawn_split(run) for run in range(RUNS)])
        found = [solved(stratified_splits(each, name=f"{number}")) for number, each in enumerate(tables)]
    ours = [drawn * np.sign(drawn[0] * (labels[0] - 0.5)) for labels in tables]
    both = zip(found, tables, strict=True)
    signed = [each * np.sign(each[0] * (labels[0] - 0.5)) for each, labels in both]
    label_M = np.concatenate([labels[1:] for labels in tables])
    assert folded_auc(np.concatenate([each[1:] for each in signed]), label_M) >= 0.99
    assert folded_auc(np.concatenate([each[1:] for each in ours]), label_M) <= 0.52


def drawn_split(run: int) -> NDArray[np.int64]:
    seed = Seed(run.to_bytes(32, "little"))
    schedule = Schedule(seed=seed, rows=TABLE_ROWS, validation=0.0, test=0.3, batch=10, epochs=1)
    return schedule.split_rows(Split.TEST)


def stratified_splits(labels_N: NDArray[np.int64], *, name: str) -> list[NDArray[np.int64]]:
    """Draw test rows within each class, as a careless label owner would."""
    words_RN = words_of(f"strata {name}", RUNS * TABLE_ROWS).reshape(RUNS, TABLE_ROWS)
    classes = [np.flatnonzero(labels_N == value) for value in (0, 1)]
    taken = [rows[np.argsort(words_RN[:, rows], axis=1)[:, : TESTED // 2]] for rows in classes]
    return list(np.concatenate(taken, axis=1))


def solved(tests: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the direction that y - 1/2 has if every test split, and the table, is half positive."""
    equations = np.full((len(tests) + 1, TABLE_ROWS), -TESTED / TABLE_ROWS)
    equations[-1] = 1.0
    for equation, rows in zip(equations, tests, strict=False):
        equation[rows] += 1.0
    direction: NDArray[np.float64] = np.linalg.eigh(equations.T @ equations)[1][:, 0]
    return direction
