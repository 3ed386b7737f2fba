"""The same training under two cryptosystems: bit-equal weights, and the paper's flow against the others."""

import numpy as np
import pytest

from moiety import simulate
from moiety.crypto.paillier import TESTING_ONLY as PAILLIER
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import Evaluator, KeyHolder, Scheme
from moiety.contract import Contract
from moiety.dither import dither
from moiety.messages import Role
from moiety.ring import RingArray
from moiety.schedule import RowHandle
from tests.pair import training_handles
from tests.randomness import RecordedRandomness
from tests.test_joint import SMALL, RecordedPair, contract_for


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
    """Train with gradients that follow from z: one wrong bit anywhere would go on into every later W."""
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
