"""The interactive layer against a plain one, and whole training against its twin in the clear.

Everything runs under the parameters of real runs, with recorded seeds.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from moiety.contract.contract import Contract
from moiety.contract.schedule import RowHandle, Split
from moiety.crypto.ring import ACTIVATION_BITS, GRADIENT_BITS, WEIGHT_BITS, Z_BITS, RingArray, decode
from moiety.crypto.sampling import Seed
from moiety.demo.twin import TwinLink
from moiety.nn.layer import InteractiveLinear, Link
from moiety.nn.step import STEP_RULES, PlainStep
from tests.support.pair import Parties, contract_of, data_terms, label_terms, parties, training_handles
from tests.support.randomness import RecordedRandomness, words_of

ROUNDING_SEED = Seed(bytes([9]) * 32)  # as `tests.support.pair.parties` gives its link


def production_contract(**changes: object) -> Contract:
    return contract_of(label=label_terms(**changes), data=data_terms(), production=True)


def small_table(both: Parties) -> None:
    """Scale the data owner's activations to |a| < 1, as prepared features mostly are."""
    both.activations()[...] >>= 3


class DitheredTwin(TwinLink):
    """The twin, which adds the dither that the data owner added, and keeps its weights."""

    def __init__(self, *arguments: Any, rho: list[RingArray], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._rho = iter(rho)
        self.trace: list[RingArray] = []

    def result(self) -> NDArray[np.float64]:
        exact_NK = self._activation_ND.astype(np.int64).view(np.uint64) @ self.weights
        return decode(exact_NK + next(self._rho), scale_bits=Z_BITS)

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        super().update(scaled_NK, dz_NK)
        self.trace.append(self.weights)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training leaves behind: networks, losses and validation scores."""

    layer: InteractiveLinear
    top: nn.Module
    losses: list[float]
    scores: list[torch.Tensor]


def train(link: Link, contract: Contract, *, rule: str) -> Trained:
    """Train as a user would, with validation after every epoch."""
    layer = InteractiveLinear(
        link,
        in_features=contract.in_features,
        out_features=contract.out_features,
        rule=STEP_RULES[rule](0.05),
    )
    top = nn.Sequential(nn.ReLU(), nn.Linear(3, 1))
    for parameter in top.parameters():
        nn.init.constant_(parameter, 0.3)
    target = torch.from_numpy((words_of("target", 40) % np.uint64(2)).astype(np.float32))
    optimizer = torch.optim.Adam([*layer.parameters(), *top.parameters()], lr=0.05)
    criterion = nn.BCEWithLogitsLoss()
    losses, scores = [], []
    for epoch in range(contract.label_owner.epochs):
        for handle in contract.schedule.batches(Split.TRAIN, epoch=epoch):
            rows = torch.from_numpy(contract.schedule.rows_of(handle))
            loss: Any = criterion(top(layer(handle)).squeeze(1), target[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        with torch.no_grad():
            validation = contract.schedule.batches(Split.VALIDATION, epoch=epoch)
            scores += [top(layer(handle)) for handle in validation]
    return Trained(layer=layer, top=top, losses=losses, scores=scores)


@pytest.mark.parametrize("rule", ["adaptive", "sgd"])
def test_three_epochs_equal_a_plain_simulation_exactly(rule: str) -> None:
    contract = production_contract(epochs=3, batch=10)
    both = parties(contract, randomness=RecordedRandomness(b"three epochs"))
    small_table(both)
    initial_DK = both.weights()
    encrypted = train(both.link, contract, rule=rule)
    twin = DitheredTwin(
        both.data_owner.machine._features,
        initial_DK,
        schedule=contract.schedule,
        rounding_seed=ROUNDING_SEED,
        rho=both.data_owner.rho,
    )
    plain = train(twin, contract, rule=rule)
    assert len(training_handles(contract)) == twin.updates == both.label_owner.updates == 9
    assert np.array_equal(both.weights(), twin.weights)
    assert not np.array_equal(both.weights(), initial_DK)
    assert encrypted.losses == plain.losses
    assert torch.equal(encrypted.layer.bias, plain.layer.bias)
    assert all(map(torch.equal, encrypted.top.parameters(), plain.top.parameters()))
    assert all(map(torch.equal, encrypted.scores, plain.scores))


def test_every_step_moves_the_weights_as_the_twin_does() -> None:
    contract = production_contract(epochs=2)
    both = parties(contract, randomness=RecordedRandomness(b"steps"))
    twin = TwinLink(
        both.data_owner.machine._features,
        both.weights(),
        schedule=contract.schedule,
        rounding_seed=ROUNDING_SEED,
    )
    for number, handle in enumerate(training_handles(contract)):
        words = words_of(f"dz {number}", 3 * handle.rows).view(np.int64)
        scaled_NK = np.ldexp(words.astype(np.float64), -70).reshape(handle.rows, 3)
        for link in (both.link, twin):
            link.start(handle, training=True)
            link.result()
            link.update(scaled_NK, scaled_NK)
        assert np.array_equal(both.weights(), twin.weights)


def real(values: NDArray[Any], bits: int) -> torch.Tensor:
    return torch.from_numpy(np.ldexp(values.astype(np.float64), -bits))


def plain_layer(both: Parties, *, bias: torch.Tensor) -> nn.Linear:
    """A float64 `nn.Linear` of the same weights, which only a test can put together."""
    plain = nn.Linear(5, 3).double()
    with torch.no_grad():
        plain.weight.copy_(real(both.weights().view(np.int64), WEIGHT_BITS).T)
        plain.bias.copy_(bias)
    return plain


def test_layer_equals_nn_linear_within_the_derived_bounds() -> None:
    """Forward, bias gradient and weight update of one step with plain SGD, in float64.

    Forward: both compute x W of the same numbers; moiety's sum is exact and dithered by rho in
    [-2^-6, 2^-6). The float64 sums of 5 products, each below 8 x 1, are off by less than
    5 x 2^-53 x 40 < 2^-44. So |z - z'| <= 2^-6 + 2^-44.

    Bias: the loss is linear in z, so dz is the same on both sides and the bias gradient is the same sum.

    Weights: dz' = rate x dz is rounded to 26 bits stochastically, off by less than 2^-26 each; W moves
    by -x^T dz' exactly. So |W - W'| < 2^-26 x sum over rows of |x|, plus float64 error: 14 products below
    8 x 2^-1 give less than 14 x 2^-53 x 56 < 2^-43.
    """
    contract = production_contract()
    both = parties(contract, randomness=RecordedRandomness(b"linear"))
    handle = training_handles(contract)[0]
    x_ND = real(both.activations()[contract.schedule.rows_of(handle)], ACTIVATION_BITS)
    layer = InteractiveLinear(both.link, in_features=5, out_features=3, rule=PlainStep(0.125))
    layer.double()
    nn.init.constant_(layer.bias, 0.75)
    plain = plain_layer(both, bias=layer.bias)
    words = words_of("upstream", 3 * handle.rows).view(np.int64)
    upstream_NK = real(words.reshape(handle.rows, 3), 63)

    z_NK, plain_NK = layer(handle), plain(x_ND)
    assert (z_NK - plain_NK).abs().max().item() <= 2.0**-6 + 2.0**-44
    (z_NK * upstream_NK).sum().backward()
    (plain_NK * upstream_NK).sum().backward()
    assert layer.bias.grad is not None
    assert plain.bias.grad is not None
    assert plain.weight.grad is not None
    assert torch.allclose(layer.bias.grad, plain.bias.grad, rtol=0, atol=2.0**-48)

    moved_DK = real(both.weights().view(np.int64), WEIGHT_BITS)
    expected_DK = (plain.weight.detach() - 0.125 * plain.weight.grad).T
    bound_D1 = 2.0**-GRADIENT_BITS * x_ND.abs().sum(dim=0, keepdim=True).T + 2.0**-43
    assert bool(((moved_DK - expected_DK).abs() <= bound_D1).all())
    assert (moved_DK - plain.weight.detach().T).abs().min().item() > bound_D1.max().item()


def test_prediction_under_no_grad_leaves_the_weights() -> None:
    contract = production_contract()
    both = parties(contract)
    before = both.weights()
    layer = InteractiveLinear(both.link, in_features=5, out_features=3, rule=PlainStep(1.0))
    handles: list[RowHandle] = contract.schedule.batches(Split.TEST, epoch=0)
    with torch.no_grad():
        z = [layer(handle) for handle in handles]
    assert [len(each) for each in z] == [handle.rows for handle in handles]
    assert np.array_equal(both.weights(), before)


def test_clipped_gradients_are_counted() -> None:
    contract = contract_of()
    both = parties(contract)
    handle = training_handles(contract)[0]
    both.link.start(handle, training=True)
    both.link.result()
    scaled_NK = np.zeros((handle.rows, 3))
    scaled_NK[0, :2] = 17.0
    both.link.update(scaled_NK, scaled_NK)
    assert both.link.clipped == 2
