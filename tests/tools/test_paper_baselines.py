import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from benchmarks.paper.all_layers import count_step, dearer_counts, encrypt_layers, train_step
from benchmarks.paper.cost import predicted
from benchmarks.paper.elementwise import (
    DECRYPTION,
    ENCRYPTION,
    INVERSE,
    MULTIPLICATION,
    OPERATIONS,
    Clear,
    Elementwise,
)
from benchmarks.paper.networks import NETWORKS
from benchmarks.paper.python_paillier import PER_BATCH, measure
from moiety.crypto.paillier.keys import PrivateKey
from moiety.crypto.sampling import SystemRandomness
from moiety.errors import ParameterError

KEY_BITS = 256
TOLERANCE = 1e-3  # of weights with 16 fractional bits


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate(KEY_BITS, SystemRandomness())


def elementwise(key: PrivateKey) -> Elementwise:
    return Elementwise(key, randomness=SystemRandomness())


def small_network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Unflatten(1, (2, 6, 6)),
        nn.Conv2d(2, 3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 2, 2),
        nn.Flatten(),
        nn.Linear(2, 4),
        nn.Tanh(),
        nn.Linear(4, 2),
    )


def wave(*shape: int) -> torch.Tensor:
    return torch.arange(math.prod(shape)).mul(1.7).sin().reshape(shape)


def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return wave(count, 72), wave(count, 2)


@pytest.mark.parametrize("encrypted_weight_gradient", [False, True])
def test_all_layers_give_the_outputs_and_gradients_of_the_clear_network(
    key: PrivateKey, *, encrypted_weight_gradient: bool
) -> None:
    clear = small_network()
    encrypted = deepcopy(clear)
    encrypt_layers(encrypted, elementwise(key), encrypted_weight_gradient=encrypted_weight_gradient)
    expected, found = train_step(clear, *rows(2)), train_step(encrypted, *rows(2))
    assert len(found) == len(expected) == 9
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("encrypted_weight_gradient", [False, True])
def test_counting_in_the_clear_counts_what_encryption_does(
    key: PrivateKey, *, encrypted_weight_gradient: bool
) -> None:
    arithmetic, network = elementwise(key), small_network()
    encrypt_layers(network, arithmetic, encrypted_weight_gradient=encrypted_weight_gradient)
    train_step(network, *rows(2))
    counted = count_step(small_network(), *rows(2), encrypted_weight_gradient=encrypted_weight_gradient)
    assert arithmetic.counts == counted
    assert set(arithmetic.seconds) == set(counted)


def test_operations_of_a_dense_network_are_those_of_its_shapes() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))
    counted = count_step(network, wave(1, 5), wave(1, 3), encrypted_weight_gradient=False)
    # Forward 5 x 4 and 4 x 3, backward 3 x 4; the gradient of the table is not asked for.
    assert counted[MULTIPLICATION] == 20 + 12 + 12
    assert counted[ENCRYPTION] == 5 + 4 + 3
    assert counted[DECRYPTION] == 4 + 3 + 4


def test_layers_of_the_paper_encrypt_more_than_a_hundred_times_the_interactive_layer() -> None:
    network = NETWORKS["images, dense"]
    torch.manual_seed(4)
    values, target = wave(1, network.columns), wave(1, network.outputs)
    counted = count_step(network.joined(), values, target, encrypted_weight_gradient=False)
    forward = 784 * 128 + 128 * 64 + 64 * 32 + 32 * 10
    assert counted[MULTIPLICATION] == pytest.approx(forward + forward - 784 * 128, rel=0.02)


def test_sums_leave_out_zero_weights_and_take_negative_ones(key: PrivateKey) -> None:
    for arithmetic in (Clear(), elementwise(key)):
        encrypted = arithmetic.encrypt([3, -5, 7])
        sums = arithmetic.sums(encrypted, [(0, 0, -2), (1, 0, 4), (2, 1, 0), (2, 2, 1)], 3)
        assert arithmetic.decrypt(sums) == [-26, 0, 7]
        assert [arithmetic.counts[each] for each in OPERATIONS] == [3, 3, 1, 3]


def test_equal_values_encrypt_to_different_ciphertexts(key: PrivateKey) -> None:
    assert len(set(elementwise(key).encrypt([1, 1, 1]))) == 3


def test_layers_that_the_baseline_does_not_lay_out_are_refused(key: PrivateKey) -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 2, padding=1))
    encrypt_layers(network, elementwise(key), encrypted_weight_gradient=False)
    with pytest.raises(ParameterError, match="Conv2d"):
        network(wave(1, 1, 3, 3))


def test_costs_of_a_batch_follow_from_few_rows() -> None:
    torch.manual_seed(5)
    network, batch = nn.Sequential(nn.Linear(72, 5), nn.Tanh(), nn.Linear(5, 2)), 8
    counted = count_step(deepcopy(network), *rows(batch), encrypted_weight_gradient=True)
    estimated = dearer_counts(network, *rows(2), batch=batch)
    for name in (ENCRYPTION, MULTIPLICATION, DECRYPTION, INVERSE):
        assert batch * estimated[name] == pytest.approx(counted[name], rel=0.02)
    assert predicted({"a": 2, "b": 3}, {"a": 0.5}) == 1.0


@pytest.mark.parametrize("bottom", [True, False])
def test_python_paillier_gives_the_results_of_the_clear_step(*, bottom: bool) -> None:
    pytest.importorskip("phe")
    cost = measure(key_bits=512, rows=3, in_features=4, units=2, bottom=bottom)
    assert cost.largest_error < 1e-9
    total = sum(spent * (1 if stage in PER_BATCH else 3) for stage, spent in cost.seconds.items())
    assert 3 * cost.seconds_per_row + cost.seconds_per_batch == pytest.approx(total)
    assert len(cost.seconds) == len(cost.counts) == (8 if bottom else 5)
    assert cost.per_row(batch=10) == cost.seconds_per_row + cost.seconds_per_batch / 10
