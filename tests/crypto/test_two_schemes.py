"""The same training under two cryptosystems and in the clear: bit-equal weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from moiety.config import DataOwnerRun, load_data_owner_run
from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, RowIndices, Split
from moiety.crypto.paillier.scheme import TESTING_ONLY as PAILLIER
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Evaluator, KeyHolder, Scheme
from moiety.net.transcript import Transcript
from moiety.nn.bottom import BottomModel, TrainedActivations
from moiety.nn.layer import InteractiveLinear, Link
from moiety.nn.step import AdaptiveStep
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.protocol import simulate
from moiety.protocol.dither import RowDigests, dither
from moiety.protocol.label_owner import LabelOwner
from moiety.protocol.messages import Block
from moiety.protocol.simulate import Pair
from moiety.protocol.state import Activations
from tests.protocol.test_joint import SMALL, RecordedPair, contract_for
from tests.runs.test_equivalence import DitheredTwin
from tests.support.no_choice import NeverGoesBack
from tests.support.pair import training_handles
from tests.support.parties import configure, features_of, make_parties
from tests.support.randomness import RecordedRandomness, words_of


@pytest.fixture
def own_seeds_for_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let keys take their seeds elsewhere: schemes need different numbers of them."""
    make = simulate.make_halves

    def make_halves(
        contract: Contract, key_holder: Role, *, randomness: Randomness
    ) -> tuple[KeyHolder | None, Evaluator | None]:
        del randomness
        return make(contract, key_holder, randomness=RecordedRandomness(b"keys"))

    monkeypatch.setattr(simulate, "make_halves", make_halves)


def exact_z(pair: RecordedPair, handle: RowHandle) -> RingArray:
    """Release z of a batch and take the dither off, which depends on how W is shared."""
    state = pair.data_owner.state()
    digest_N = pair.recorder.features.digest_N[pair.contract.schedule.rows_of(handle)]
    rho_NK = dither(state.dither_key, state.share_DK, digest_N)
    pair._to_data_owner(pair.label_owner.request(handle, training=True))
    return pair.label_owner.z() - rho_NK


def trained(scheme: Scheme, *, steps: int, activations: str) -> tuple[RecordedPair, list[RingArray]]:
    """Train with gradients that follow from z: one wrong bit anywhere would continue into every later W."""
    contract = contract_for("acml", activations=activations, scheme=scheme, epochs=-(-steps // 2))
    pair = RecordedPair(contract)
    trace = [pair.weights()]
    for number, handle in enumerate(training_handles(contract)[:steps]):
        z_NK = exact_z(pair, handle).view(np.int64)
        scaled_NK, input_NK = pair.gradients(handle, number)
        low_NK = (z_NK & 0xFFFF).view(np.uint64)
        pair.update(scaled_NK + (z_NK >> 34).view(np.uint64) + low_NK, input_NK)
        trace.append(pair.weights())
    return pair, trace


@pytest.mark.slow
@pytest.mark.usefixtures("own_seeds_for_keys")
def test_two_hundred_steps_of_both_schemes_have_the_same_weights() -> None:
    rlwe, paillier = (trained(scheme, steps=200, activations="fixed") for scheme in (SMALL, PAILLIER))
    assert len(rlwe[1]) == 201
    assert all(map(np.array_equal, rlwe[1], paillier[1]))
    assert len({weights.tobytes() for weights in rlwe[1]}) == 201
    # The sums are the same, and nothing else is.
    assert not np.any(rlwe[0].label_owner.share == paillier[0].label_owner.share)


@pytest.mark.usefixtures("own_seeds_for_keys")
def test_both_schemes_show_the_same_input_gradients() -> None:
    rlwe, paillier = (trained(scheme, steps=10, activations="trained") for scheme in (SMALL, PAILLIER))
    assert all(map(np.array_equal, rlwe[1], paillier[1]))
    gradients = [pair.recorder.gradients for pair, _ in (rlwe, paillier)]
    assert [len(each) for each in gradients] == [10, 10]
    assert all(map(np.array_equal, *gradients))


@pytest.mark.usefixtures("own_seeds_for_keys")
def test_one_wrong_bit_of_z_shows_in_the_weights() -> None:
    # The control: the comparison above sees what it is meant to see.
    _, trace = trained(SMALL, steps=3, activations="fixed")
    pair, _ = trained(SMALL, steps=1, activations="fixed")
    handle = training_handles(pair.contract)[1]
    z_NK = (exact_z(pair, handle) ^ np.uint64(1)).view(np.int64)
    scaled_NK, _ = pair.gradients(handle, 1)
    pair.update(scaled_NK + (z_NK >> 34).view(np.uint64) + (z_NK & 0xFFFF).view(np.uint64))
    assert not np.array_equal(pair.weights(), trace[2])


# --- a bottom model and a top network, as users train them ---


class Watched(NeverGoesBack):
    """Activations that keep the digests of the last batch."""

    def __init__(self, activations: Activations) -> None:
        self._activations = activations
        self.digest_N: RowDigests = np.zeros((0, 0), dtype=np.uint8)

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:
        activation_ND, self.digest_N = self._activations.batch(rows, training=training)
        return activation_ND, self.digest_N

    def backward(self, gradient_ND: NDArray[np.float64]) -> None:
        self._activations.backward(gradient_ND)


class PairSession:
    """In place of a session: hands blocks to the data owner of a pair, and its answers back."""

    def __init__(self, pair: Pair, activations: Watched) -> None:
        self._pair = pair
        self._activations = activations
        self.rho: list[RingArray] = []
        self.transcript = Transcript(Role.LABEL_OWNER)

    def send(self, blocks: Iterable[Block]) -> None:
        state = self._pair.data_owner.state() if self._pair.data_owner.idle else None
        self._pair._to_data_owner(blocks)
        if state is not None:  # it was a request
            self.rho.append(dither(state.dither_key, state.share_DK, self._activations.digest_N))

    def drive(self, machine: LabelOwner) -> None:
        assert not machine.waiting  # `send` gave it all answers


@pytest.fixture
def bottom_run(tmp_path: Path) -> DataOwnerRun:
    """Return a run file with a bottom model that has dropout and batch norm."""
    files = make_parties(tmp_path)
    protocol = {"name": "joint", "reveals": "gradients"}
    configure(
        files.data_owner, {"protocol": protocol, "model.bottom": "tests.crypto.test_two_schemes:bottom"}
    )
    return load_data_owner_run(files.data_owner)


def bottom(columns: int) -> nn.Module:
    return nn.Sequential(nn.Linear(columns, 5), nn.BatchNorm1d(5), nn.Dropout(0.25), nn.Tanh())


def activations_of(run: DataOwnerRun, contract: Contract) -> tuple[BottomModel, TrainedActivations]:
    model = BottomModel(run, columns=6, seed=Seed(bytes(32)))
    steps = len(contract.schedule.batches(Split.TRAIN, epoch=0))
    return model, TrainedActivations(model, run, features_of(40, 6), steps_per_epoch=steps)


def train_networks(link: Link, contract: Contract) -> tuple[dict[str, torch.Tensor], list[float]]:
    """Train a top network over a link, with validation after each epoch."""
    layer = InteractiveLinear(link, in_features=5, out_features=3, rule=AdaptiveStep(0.05))
    torch.manual_seed(1)
    top = nn.Sequential(nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.05)
    target = torch.from_numpy((words_of("target", 40) % np.uint64(2)).astype(np.float32))
    losses = []
    for epoch in range(contract.label_owner.epochs):
        for split in (Split.TRAIN, Split.VALIDATION):
            for handle in contract.schedule.batches(split, epoch=epoch):
                rows = torch.from_numpy(contract.schedule.rows_of(handle))
                with torch.set_grad_enabled(split is Split.TRAIN):
                    output = top(layer(handle)).squeeze(1)
                    loss: Any = nn.functional.binary_cross_entropy_with_logits(output, target[rows])
                losses.append(loss.item())
                if split is Split.TRAIN:
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
    return {**top.state_dict(), "layer": layer.bias.detach()}, losses


@pytest.mark.parametrize(
    ("protocol", "scheme"),
    [
        ("joint", SMALL),
        pytest.param("acml", SMALL, marks=pytest.mark.slow),
        pytest.param("acml", PAILLIER, marks=pytest.mark.slow),
    ],
)
def test_training_with_a_bottom_model_equals_training_in_the_clear(
    bottom_run: DataOwnerRun, protocol: str, scheme: Scheme
) -> None:
    contract = contract_for(protocol, scheme=scheme, epochs=5)
    own, activations = activations_of(bottom_run, contract)
    watched = Watched(activations)
    pair = Pair(contract, watched, randomness=RecordedRandomness(b"networks"))
    initial_DK, session = pair.weights(), PairSession(pair, watched)
    link = LabelOwnerLink(
        session,  # type: ignore[arg-type]
        pair.label_owner,
        rounding_seed=Seed(bytes(32)),
        trains_bottom=True,
    )
    encrypted, losses = train_networks(link, contract)

    clear, clear_activations = activations_of(bottom_run, contract)
    twin = DitheredTwin(
        clear_activations,
        initial_DK,
        schedule=contract.schedule,
        rounding_seed=Seed(bytes(32)),
        trains_bottom=True,
        rho=session.rho,
    )
    plain, plain_losses = train_networks(twin, contract)
    assert losses == plain_losses
    assert np.array_equal(pair.weights(), twin.weights)
    assert not np.array_equal(initial_DK, twin.weights)
    assert all(torch.equal(value, plain[name]) for name, value in encrypted.items())
    arrays, expected = own.arrays(), clear.arrays()
    assert all(np.array_equal(arrays[name], expected[name]) for name in arrays)
    untrained = activations_of(bottom_run, contract)[0].arrays()
    assert all(not np.array_equal(arrays[name], untrained[name]) for name in arrays)


def test_link_keeps_what_it_showed_until_it_is_taken(bottom_run: DataOwnerRun) -> None:
    contract = contract_for("joint", epochs=1)
    watched = Watched(activations_of(bottom_run, contract)[1])
    pair = Pair(contract, watched, randomness=RecordedRandomness(b"revealed"))
    link = LabelOwnerLink(
        PairSession(pair, watched),  # type: ignore[arg-type]
        pair.label_owner,
        rounding_seed=Seed(bytes(32)),
        trains_bottom=True,
    )
    shown = []
    for number, handle in enumerate(training_handles(contract)):
        link.start(handle, training=True)
        link.result()
        dz_NK = np.full((handle.rows, 3), 2.0**-10 * (number + 1))
        dz_NK[0, :2] = 1.0  # times the rows of the batch, beyond 8
        link.update(dz_NK, dz_NK)
        shown.append((handle, dz_NK))
    revealed = link.take_revealed()
    assert [handle for handle, _ in revealed] == [handle for handle, _ in shown]
    assert all(np.array_equal(kept, dz_NK) for (_, kept), (_, dz_NK) in zip(revealed, shown, strict=True))
    assert link.take_revealed() == []
    assert link.clipped_input == 4
    assert link.clipped == 0
