"""A protocol that only this file and an entry of the registry know: everything else takes it as it comes.

z as in `blind`, under the label owner's key; the update as in `acml`, under the data owner's. The data owner
sends Enc(x) before the label owner's Enc(W_label), once a session; nobody knows W_0; the best epoch is
hidden.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from moiety.config.protocols import PROTOCOLS, KnownProtocol
from moiety.contract.flow import Flow, Serves, When, request, response
from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.crypto.ring import RingArray, decode
from moiety.demo.compare import join, train_twin
from moiety.demo.local import simulate
from moiety.errors import LocalProtocolError, MoietyError, RemoteProtocolError
from moiety.party.plan.timing import calibrate
from moiety.protocol import blind
from moiety.protocol.acml import WEIGHT_GRADIENT
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.choice import HIDDEN_CHOICE
from moiety.protocol.initial import DrawsFactor, initial_product
from moiety.protocol.machine import Matrices
from moiety.protocol.messages import Block, Kind
from moiety.store.model import load_model
from tests.party.plan.test_traffic import assert_sends, recorded, whole_run
from tests.protocol.test_joint import (
    Change,
    RecordedPair,
    changed_messages,
    check_refused,
    contract_for,
    follow_exactly,
)
from tests.support.pair import training_handles
from tests.support.parties import Files, configure, run_here, score
from tests.support.plan_cases import DATA_OPTIONS, EPOCHS, Case, files_of, label_options, planned
from tests.support.randomness import RecordedRandomness

CASE = Case(protocol="toy")
OPENING = [Kind.INITIAL_FACTOR, Kind.MASKED_INITIAL]
ANSWERS = [Kind.WEIGHTS, Kind.MASKED_Z, Kind.SHARE_OF_Z]
STEP = [Kind.REQUEST, Kind.ACTIVATIONS, *ANSWERS, Kind.MASKED_UPDATE]


class ToyDataOwner(DrawsFactor, BlindDataOwner):
    """Evaluator of z, and key holder of the update."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {Kind.ACTIVATIONS: lambda: self._activation_ND.astype(np.uint64)}

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE).T

    def prepare(self) -> None:
        pass


class ToyLabelOwner(DrawsFactor, BlindLabelOwner):
    """Key holder of z, and evaluator of the update."""

    def _matrices(self) -> Matrices:
        multiplier = {Kind.MASKED_UPDATE: lambda: np.ascontiguousarray(self._scaled_NK.T).view(np.int64)}
        return super()._matrices() | multiplier

    def _moved(self) -> RingArray:
        return self._share - self._product(Product.UPDATE).T

    def prepare(self) -> None:
        pass


FLOW = Flow(
    opening=initial_product(Role.DATA_OWNER),
    forward=(
        request(
            Kind.ACTIVATIONS,
            WEIGHT_GRADIENT,
            when=When.TRAINING,
            serves=Serves.ACTIVATIONS,
            says="toy activations",
        ),
        *blind.FORWARD,
    ),
    update=(response(Kind.MASKED_UPDATE, WEIGHT_GRADIENT),),
    choice=HIDDEN_CHOICE,
    label_owner=ToyLabelOwner,
    data_owner=ToyDataOwner,
)


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the product is told of the toy."""
    monkeypatch.setitem(PROTOCOLS, "toy", KnownProtocol(module=__name__))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Make both parties' folders, with run files that say `name = "toy"`."""
    made = files_of(tmp_path, CASE)
    for path in (made.label_owner, made.data_owner):
        configure(path, {"protocol": {"name": "toy"}})
    return made


# --- its machines ---


def test_steps_equal_plain_integers_exactly() -> None:
    contract = contract_for("toy", activations="fixed", epochs=5)
    pair = RecordedPair(contract)
    assert follow_exactly(pair, training_handles(contract)) == 10
    later = [kind for kind in STEP if kind is not Kind.ACTIVATIONS]
    assert [block.kind for block in pair.seen] == [*OPENING, *STEP * 2, *later * 8]
    pair.forward(contract.schedule.batches(Split.TEST, epoch=0)[0], training=False)
    assert [block.kind for block in pair.seen[-4:]] == [Kind.REQUEST, *ANSWERS]


@pytest.mark.parametrize(("kind", "change", "error"), changed_messages([*OPENING, *STEP]))
def test_changed_message_is_refused(kind: Kind, change: Change, error: type[MoietyError]) -> None:
    check_refused(contract_for("toy", activations="fixed"), kind, change, error)


def test_block_out_of_order_is_refused() -> None:
    contract = contract_for("toy", activations="fixed")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    (asked,) = pair.label_owner.request(handle, training=True)
    (activations,) = pair.data_owner.receive(asked)
    (weights,) = pair.label_owner.receive(activations)
    masked, share = pair.data_owner.receive(weights)
    with pytest.raises(RemoteProtocolError, match=r"SHARE_OF_Z of step 1.* where MASKED_Z of step 1"):
        pair.label_owner.receive(share)
    with pytest.raises(LocalProtocolError, match="stopped at an earlier error"):
        pair.label_owner.receive(masked)


def test_answer_that_is_not_taken_to_its_end_closes_the_label_owner() -> None:
    contract = contract_for("toy", activations="fixed")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    (asked,) = pair.label_owner.request(handle, training=True)
    (activations,) = pair.data_owner.receive(asked)
    answer = iter(pair.label_owner.receive(activations))
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    with pytest.raises(LocalProtocolError, match="stopped at an earlier error"):
        pair.label_owner.receive(Block(kind=Kind.MASKED_Z, step=1, payload=b""))


# --- its runs ---


@pytest.mark.parametrize("keep", ["last", "best"])
def test_forecast_of_a_run_is_what_crosses(files: Files, keep: str) -> None:
    configure(files.label_owner, {"train.keep": keep})
    made = planned(files.label_owner, label_options(CASE))
    recorder = recorded(files)
    passes = 4  # three steps, and one batch to validate
    assert_sends(made.forecast.run, recorder, lambda _: True)
    assert_sends(made.forecast.epoch, recorder, lambda block: 0 < block.step <= passes)
    assert_sends(made.forecast.later_epoch, recorder, lambda block: passes < block.step <= 2 * passes)
    assert_sends(made.forecast.test, recorder, lambda block: block.step > EPOCHS * passes)
    assert made.forecast.later_epoch.data_owner_bytes < made.forecast.epoch.data_owner_bytes
    choices = {Kind.CHOICE, Kind.MASKED_CHOICE} & {kind for kind, _, _ in recorder.messages()}
    assert len(choices) == (2 if keep == "best" else 0)


def test_forecasts_of_both_sides_agree_with_the_messages(files: Files) -> None:
    label, data = planned(files.label_owner, label_options(CASE)), planned(files.data_owner, DATA_OPTIONS)
    assert label.forecast.run.label_owner_bytes == data.forecast.run.label_owner_bytes
    assert label.forecast.memory_bytes == data.forecast.memory_bytes
    assert sorted(whole_run(data.contract)) == sorted(recorded(files).messages())


def test_time_of_a_step_is_measured(files: Files) -> None:
    contract = planned(files.data_owner, DATA_OPTIONS).contract
    times = calibrate(contract, 143, training=True, randomness=RecordedRandomness(b"times"), threads=1)
    assert min(times.opening.data_owner, times.fresh.label_owner, times.kept.data_owner) > 0


def test_training_in_the_clear_begins_from_the_weights_of_the_run(files: Files) -> None:
    configure(files.label_owner, {"train.learning_rate": 1e-9})  # so that they hardly move
    simulate(files.label_owner, files.data_owner)
    joined = join(files.label_owner, files.data_owner)
    label, data = (load_model(each.folder)[0]["share"] for each in (joined.settings, joined.provider))
    weights_DK, initial_DK = (decode(each, scale_bits=38) for each in (label + data, joined.weights(8)))
    assert np.abs(initial_DK).max() > 0.1
    assert np.abs(weights_DK - initial_DK).max() < 1e-6
    assert train_twin(joined).keys() == {"AUC", "KS"}


def test_trained_model_scores(files: Files, tmp_path: Path) -> None:
    recorded(files)
    assert score(files, tmp_path / "scores.csv").num_rows == 610


# --- what is said of it ---


def printed(*arguments: str | Path) -> str:
    outcome = run_here(*arguments)
    assert outcome.code == 0, outcome.errors
    return " ".join(outcome.output.split())


def test_check_says_what_crosses(files: Files) -> None:
    for path, encrypted in ((files.label_owner, "share of W"), (files.data_owner, "toy activations")):
        configure(path, {"train.keep": "best"} if path == files.label_owner else {})
        said = printed("check", path)
        assert "toy" in said
        assert f"{encrypted}, encrypted" in said
        assert "masked products and weights" in said
        assert "scaled gradients" not in said
        assert "gradient for each" not in said
    assert "not which one it is" in printed("check", files.label_owner)


def test_contract_names_it(files: Files) -> None:
    assert "toy" in printed("contract", files.data_owner)
    recorded(files)
    kept = json.loads((files.label_owner.parent / "small" / "contract.json").read_text(encoding="utf-8"))
    assert "toy" in json.dumps(kept)


@pytest.mark.parametrize(
    ("choice", "hint"),
    [
        ({"name": "toys"}, "supported: 'blind', 'joint', 'acml' or 'toy'"),
        ({"name": "toy", "reveals": "gradients"}, "leave reveals out, or choose joint or acml"),
    ],
)
def test_run_file_is_checked_against_its_entry(files: Files, choice: dict[str, str], hint: str) -> None:
    configure(files.data_owner, {"protocol": choice})
    outcome = run_here("check", files.data_owner)
    assert outcome.code == 2
    assert hint in " ".join(outcome.errors.split())


def test_bottom_model_to_train_is_refused(files: Files) -> None:
    configure(files.data_owner, {"model": {"bottom": "moiety.demo.networks:bottom"}})
    outcome = run_here("check", files.data_owner)
    assert outcome.code == 2
    assert 'protocol "toy" trains none' in outcome.errors
