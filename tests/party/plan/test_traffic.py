"""Bytes and messages of a plan beside those of a session in memory: compared for equality."""

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from moiety.contract.contract import Contract
from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.net.channel import Channel
from moiety.net.frame import NO_CONTRACT, NO_SESSION, Frame, decode_frame, encode_frame
from moiety.party.label_owner.train import train
from moiety.party.plan.cost import Cost, Forecast
from moiety.party.plan.options import Options
from moiety.party.plan.traffic import Course, evaluator_bytes, exchange, finish, opening, prepared_bytes
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import Pair, make_halves
from moiety.protocol.state import Features
from tests.support.pair import contract_of as paired
from tests.support.pair import data_terms, label_terms, training_handles
from tests.support.parties import Files, configure, rewrite_table, wire
from tests.support.plan_cases import (
    CASES,
    DATA_OPTIONS,
    DATA_OWNER,
    EPOCHS,
    LABEL_OWNER,
    Case,
    by_case,
    files_of,
    label_options,
    planned,
)
from tests.support.randomness import RecordedRandomness

ENDS = {Kind.FINISH, Kind.ACKNOWLEDGE}
Message = tuple[Kind, Role, tuple[int, ...]]


class Recorder:
    """A channel that keeps the frames that crossed, as its own end saw them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.frames: list[tuple[Frame, int]] = []

    @property
    def bytes_sent(self) -> int:
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        return self._channel.bytes_received

    def send(self, frame: bytes) -> None:
        self.frames.append((decode_frame(frame), len(frame)))
        self._channel.send(frame)

    def receive(self, *, deadline_seconds: float) -> bytes:
        frame = self._channel.receive(deadline_seconds=deadline_seconds)
        self.frames.append((decode_frame(frame), len(frame)))
        return frame

    def close(self) -> None:
        self._channel.close()

    def messages(self) -> list[Message]:
        """The messages in order, with the sizes of their blocks."""
        return messages_of([(frame.block, frame.role) for frame, _ in self.frames])

    def sent(self, role: Role, wanted: Callable[[Block], bool]) -> int:
        """Bytes of a party's frames."""
        return sum(size for frame, size in self.frames if frame.role is role and wanted(frame.block))


def messages_of(blocks: list[tuple[Block, Role]]) -> list[Message]:
    joined: list[Message] = []
    for block, role in blocks:
        if block.index == 0:
            joined.append((block.kind, role, ()))
        kind, sender, sizes = joined[-1]
        assert (kind, sender, len(sizes)) == (block.kind, role, block.index)
        joined[-1] = (kind, sender, (*sizes, len(block.payload)))
    return joined


def recorded(files: Files) -> Recorder:
    """Train in memory."""
    recorder = Recorder(wire(files))
    result = train(files.label_owner, channel=recorder, randomness=RecordedRandomness(b"label owner"))
    assert (result.bytes_sent, result.bytes_received) == (recorder.bytes_sent, recorder.bytes_received)
    return recorder


def assert_sends(cost: Cost, recorder: Recorder, wanted: Callable[[Block], bool]) -> None:
    """Compare a part of the forecast with the frames of that part."""
    assert recorder.sent(LABEL_OWNER, wanted) > 0
    assert cost.label_owner_bytes == recorder.sent(LABEL_OWNER, wanted)
    assert cost.data_owner_bytes == recorder.sent(DATA_OWNER, wanted)


def whole_run(contract: Contract) -> list[Message]:
    """The messages of a run, from the forecast of each exchange."""
    course = Course(contract)
    splits = [*[Split.TRAIN, Split.VALIDATION] * contract.label_owner.epochs, Split.TEST]
    exchanges = [
        each
        for split in splits
        for rows, held in course.one_pass(split)
        for each in exchange(contract, rows, training=split is Split.TRAIN, held=held)
    ]
    messages = [*opening(contract), *exchanges, *finish()]
    return [(each.kind, each.sender, each.sizes) for each in messages]


@by_case
def test_bytes_are_those_of_a_session_part_by_part(tmp_path: Path, case: Case) -> None:
    files = files_of(tmp_path, case)
    made = planned(files.label_owner, label_options(case)).forecast
    recorder = recorded(files)
    passes = 4  # three steps, and one batch to validate
    parts: list[tuple[Cost, Callable[[Block], bool]]] = [
        (made.handshake, lambda block: block.step == 0 and block.kind not in ENDS),
        (made.epoch, lambda block: 0 < block.step <= passes),
        (made.later_epoch, lambda block: passes < block.step <= 2 * passes),
        (made.later_epoch, lambda block: 2 * passes < block.step <= 3 * passes),
        (made.test, lambda block: block.step > EPOCHS * passes),
        (made.finish, lambda block: block.kind in ENDS),
        (made.run, lambda _: True),
    ]
    for cost, wanted in parts:
        assert_sends(cost, recorder, wanted)
    assert _sent(made.step) == max(step_bytes(recorder, range(1, 4)), key=sum)
    kept = case == Case(protocol="acml")
    assert _sent(made.later_step) == (max(step_bytes(recorder, range(5, 8))) if kept else _sent(made.step))


def step_bytes(recorder: Recorder, steps: range) -> list[tuple[int, int]]:
    """Bytes of each step, both ways."""
    return [
        (recorder.sent(LABEL_OWNER, is_step), recorder.sent(DATA_OWNER, is_step))
        for is_step in map(_of_step, steps)
    ]


def _sent(cost: Cost) -> tuple[int, int]:
    return cost.label_owner_bytes, cost.data_owner_bytes


def _of_step(number: int) -> Callable[[Block], bool]:
    return lambda block: block.step == number


@by_case
def test_messages_and_round_trips_are_those_of_a_session(tmp_path: Path, case: Case) -> None:
    files = files_of(tmp_path, case)
    made = planned(files.data_owner, DATA_OPTIONS)
    recorder = recorded(files)
    found = recorder.messages()
    expected = whole_run(made.contract)
    assert [each[:2] for each in found] == [each[:2] for each in expected]
    # Batches of an epoch differ by one row, and only the session's seed says which comes first.
    assert sorted(found) == sorted(expected)
    waits = sum(
        after is DATA_OWNER and before is LABEL_OWNER for (_, before, _), (_, after, _) in pairwise(found)
    )
    assert made.forecast.run.round_trips == waits


@by_case
def test_both_run_files_give_the_same_forecast(tmp_path: Path, case: Case) -> None:
    files = files_of(tmp_path, case)
    label = planned(files.label_owner, label_options(case))
    data = planned(files.data_owner, DATA_OPTIONS)
    assert _bytes(label.forecast) == _bytes(data.forecast)
    assert label.forecast.memory_bytes == data.forecast.memory_bytes
    assert label.spare_bits == data.spare_bits
    assert label.parameters == data.parameters


def _bytes(made: Forecast) -> list[tuple[int, int]]:
    parts = (made.handshake, made.step, made.later_step, made.epoch, made.later_epoch, made.test, made.run)
    return [_sent(each) for each in parts]


def test_activations_that_never_change_cross_once(tmp_path: Path) -> None:
    fixed = planned(files_of(tmp_path / "fixed", CASES[3]).label_owner, label_options(CASES[3])).forecast
    assert fixed.later_epoch.data_owner_bytes < fixed.epoch.data_owner_bytes / 2
    trained = planned(files_of(tmp_path / "trained", CASES[4]).label_owner, label_options(CASES[4])).forecast
    assert trained.later_epoch.data_owner_bytes == trained.epoch.data_owner_bytes


@pytest.mark.parametrize("protocol", ["blind", "joint"])
def test_large_messages_are_cut_as_in_a_session(protocol: str) -> None:
    rows, inputs, units = 3000, 260, 32
    reveals = "nothing" if protocol == "blind" else "gradients"
    same: dict[str, Any] = {"rows": rows, "protocol": protocol, "reveals": reveals}
    label = label_terms(out_features=units, batch=rows, epochs=1, validation=0.0, test=0.0, **same)
    kind = "fixed" if protocol == "blind" else "trained"
    data = data_terms(in_features=inputs, activations=kind, **same)
    contract = paired(label=label, data=data, production=True)
    seen: list[Block] = []
    features = _Still(
        activation_ND=np.zeros((rows, inputs), dtype=np.int16), digest_N=np.zeros((rows, 12), dtype=np.uint8)
    )
    pair = Pair(contract, features, randomness=RecordedRandomness(b"cut"), observe=seen.append)
    assert _sizes(seen) == [(each.kind, each.sizes) for each in opening(contract)[-len(_sizes(seen)) :]]
    seen.clear()
    (handle,) = training_handles(contract)
    pair.forward(handle, training=True)
    gradient_NK = np.zeros((rows, units), dtype=np.uint64)
    pair.update(gradient_NK, None if protocol == "blind" else gradient_NK.view(np.int64))
    messages = exchange(contract, rows, training=True)
    assert sorted(_sizes(seen)) == sorted((each.kind, each.sizes) for each in messages)
    assert len(seen) > len(messages)
    assert sum(each.bytes for each in messages) == sum(len(_frame_of(block)) for block in seen)


def _frame_of(block: Block) -> bytes:
    return encode_frame(
        Frame(
            role=LABEL_OWNER,
            contract=NO_CONTRACT,
            session=NO_SESSION,
            sequence=0,
            acknowledged=0,
            block=block,
        )
    )


class _Still(Features):
    """A bottom model that learns nothing."""

    def backward(self, gradient_ND: Any) -> None:  # type: ignore[override]
        del gradient_ND


def _sizes(blocks: list[Block]) -> list[tuple[Kind, tuple[int, ...]]]:
    kinds = dict.fromkeys(block.kind for block in blocks)
    return [(kind, tuple(len(each.payload) for each in blocks if each.kind is kind)) for kind in kinds]


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        (CASES[0], {"split.validation": 0.0, "train.epochs": 1}),
        (CASES[0], {"split.validation": 0.0, "split.test": 0.0, "train.epochs": 2}),
        (CASES[1], {"split.validation": 0.4, "train.batch": 100, "train.epochs": 2}),
        (CASES[3], {"split.validation": 0.4, "train.batch": 100, "train.epochs": 1}),
    ],
)
def test_bytes_are_those_of_a_session_of_another_shape(
    tmp_path: Path, case: Case, changes: dict[str, Any]
) -> None:
    files = files_of(tmp_path, case)
    configure(files.label_owner, changes)
    configure(files.data_owner, {"policy.smallest_batch": 64})
    options = Options(
        units=4,
        batch=changes.get("train.batch", 150),
        epochs=changes["train.epochs"],
        validation=changes["split.validation"],
        test=changes.get("split.test", 0.2),
    )
    made = planned(files.data_owner, options).forecast
    recorder = recorded(files)
    assert_sends(made.run, recorder, lambda _: True)


def test_memory_counts_what_waits_and_what_is_kept(tmp_path: Path) -> None:
    made = planned(files_of(tmp_path, CASES[2]).label_owner, label_options(CASES[2]))
    contract, rows = made.contract, 143
    size = {each.kind: sum(each.sizes) for each in exchange(contract, rows, training=True)}
    plans = {product: contract.plan(product, rows) for product in contract.products}
    waiting = size[Kind.MASKED_INPUT_GRADIENT] + size[Kind.SHARE_OF_INPUT_GRADIENT] + size[Kind.GRADIENTS]
    evaluated = (Product.FORWARD, Product.UPDATE, Product.INITIAL)
    expected = (
        size[Kind.WEIGHTS]
        + waiting
        + max(evaluator_bytes(plans[product]) for product in evaluated)
        + prepared_bytes(plans[Product.INPUT_GRADIENT])
    )
    assert made.forecast.memory_bytes[DATA_OWNER] == expected
    answers = size[Kind.MASKED_Z] + size[Kind.SHARE_OF_Z]
    expected = (
        size[Kind.DATA_WEIGHTS]
        + max(answers, size[Kind.MASKED_UPDATE])
        + evaluator_bytes(plans[Product.INPUT_GRADIENT])
        + max(prepared_bytes(plans[product]) for product in (Product.FORWARD, Product.UPDATE))
    )
    assert made.forecast.memory_bytes[LABEL_OWNER] == expected


def test_memory_of_what_a_key_holder_prepares() -> None:
    label = label_terms(rows=1024, out_features=32, batch=1024, validation=0.0, test=0.0)
    contract = paired(label=label, data=data_terms(rows=1024, in_features=91), production=True)
    needed, source = contract.plan(Product.UPDATE, 1024), RecordedRandomness(b"memory")
    holder, _ = make_halves(contract, LABEL_OWNER, randomness=source)
    assert holder is not None
    tracemalloc.start()
    holder.prepare(plan=needed, randomness=source)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.95 < prepared_bytes(needed) / held < 1.05


def test_memory_of_the_evaluator_is_about_what_it_takes() -> None:
    label = label_terms(rows=1024, out_features=32, batch=1024, validation=0.0, test=0.0)
    contract = paired(label=label, data=data_terms(rows=1024, in_features=91), production=True)
    needed, source = contract.plan(Product.FORWARD, 1024), RecordedRandomness(b"memory")
    holder, evaluator = make_halves(contract, LABEL_OWNER, randomness=source)
    assert holder is not None
    assert evaluator is not None
    request = list(holder.encrypt(np.zeros((91, 32), dtype=np.uint64), plan=needed, randomness=source))
    activation_ND = np.zeros((1024, 91), dtype=np.int16)
    tracemalloc.start()
    for _ in evaluator.respond(activation_ND, request, plan=needed, randomness=source):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.6 < evaluator_bytes(needed) / peak < 1.6


@pytest.mark.parametrize("protocol", ["blind", "acml"])
def test_bytes_of_a_run_that_keeps_its_best_epoch_are_those_of_a_session(
    tmp_path: Path, protocol: str
) -> None:
    case = Case(protocol=protocol)
    files = files_of(tmp_path, case)
    configure(files.label_owner, {"train.keep": "best"})
    made = planned(files.label_owner, label_options(case))
    recorder = recorded(files)
    assert_sends(made.forecast.run, recorder, lambda _: True)
    assert_sends(made.forecast.test, recorder, lambda block: block.step > EPOCHS * 4)
    assert {Kind.CHOICE, Kind.SHARE_OF_Z} <= {kind for kind, _, _ in recorder.messages()}


@pytest.mark.parametrize("owner", ["data owner", "label owner"])
def test_bytes_of_a_run_split_by_time_are_those_of_a_session(tmp_path: Path, owner: str) -> None:
    case = Case(protocol="blind")
    files = files_of(tmp_path, case)
    parties = {"data owner": files.data_owner, "label owner": files.label_owner}
    name = "features.parquet" if owner == "data owner" else "labels.parquet"
    days = pa.array([float(row * 7 % 610) for row in range(610)])
    rewrite_table(parties[owner].parent / name, lambda table: table.append_column("day", days))
    for party, path in parties.items():
        by = {"by": "day"} if party == owner else {}
        configure(path, {"split": {**by, "reveals": "periods"}})
    made = planned(files.label_owner, label_options(case))
    asked = planned(files.data_owner, DATA_OPTIONS)
    recorder = recorded(files)
    exact = made if owner == "label owner" else asked
    if owner == "label owner":
        assert_sends(exact.forecast.run, recorder, lambda _: True)
    other = asked if exact is made else made
    assert any("the column that splits the rows" in sentence for sentence in other.assumed)
    assert other.contract.schedule.split_rows(Split.TEST).size == 122
