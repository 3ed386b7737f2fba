"""Trainings whose gradients are attacked: split training in the clear, and `blind` as its data owner sees it.

The runs of `blind` are under parameters without security unless asked otherwise. Not of the product.
Shapes: N rows, D in_features, K out_features.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor, nn

from moiety.contract.contract import Contract
from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import WEIGHT_BITS, RingArray, decode, encode_activations
from moiety.crypto.sampling import Randomness
from moiety.nn.layer import InteractiveLinear
from moiety.nn.step import AdaptiveStep
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import Pair
from tests.attacks.test_labels import PairLink
from tests.attacks.test_protocol import FROM_DATA_OWNER, decode_activations, features_of
from tests.support.pair import contract_of, data_terms, label_terms, training_handles
from tests.support.paper_version import Draws, Numbers
from tests.support.randomness import RecordedRandomness, words_of

Labels = NDArray[np.int64]

ROWS = 40_960
BATCH = 256  # the smallest that the default policy allows
INPUTS, UNITS = 64, 4


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep small matrices on one thread: beside other tests, threads that wait for each other cost more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


# --- split training in the clear


@dataclass(frozen=True, kw_only=True)
class ClearRun:
    """Split training in the clear: the data owner trains its bottom network by da."""

    bottom: nn.Module
    weights_DK: Numbers
    dz_NK: Numbers
    da_ND: Numbers
    label_N: Labels


def clear_run(x: Numbers, label_N: Labels, *, name: str, epochs: int = 1, batch: int = 512) -> ClearRun:
    """Train a bottom network, an interactive layer of 64 x 32 and a top network; keep all gradients."""
    torch.manual_seed(torch_seed(name))
    bottom = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())
    layer, top = nn.Linear(64, 32), nn.Sequential(nn.ReLU(), nn.Linear(32, 1))
    modules = nn.ModuleList([bottom, layer, top])
    optimizer = torch.optim.Adam(modules.parameters(), lr=5e-3)
    inputs, targets = torch.from_numpy(x).float(), torch.from_numpy(label_N).float()
    gradients: list[tuple[Numbers, Numbers]] = []
    for start in [*range(0, len(x), batch)] * epochs:
        rows = slice(start, start + batch)
        activation = bottom(inputs[rows])
        z = layer(activation)
        activation.retain_grad()
        z.retain_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(top(z).squeeze(1), targets[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        gradients.append((_numbers(z.grad), _numbers(activation.grad)))
    dz_NK, da_ND = (np.concatenate(each) for each in zip(*gradients, strict=True))
    return ClearRun(
        bottom=bottom.eval(),
        weights_DK=_numbers(layer.weight).T,
        dz_NK=dz_NK,
        da_ND=da_ND,
        label_N=np.tile(label_N, epochs),
    )


def torch_seed(name: str) -> int:
    return int(words_of(name, 1)[0] >> np.uint64(1))


def _numbers(tensor: Tensor | None) -> Numbers:
    assert tensor is not None
    return tensor.detach().numpy().astype(np.float64)


@cache
def weak_run(name: str, *, positives: float = 0.5) -> ClearRun:
    """Labels that 20 features say little about, balanced unless asked otherwise."""
    draws = Draws(f"weak {name}")
    x = draws.normal(ROWS, 20)
    score_N = 0.1 * x @ draws.normal(20) + draws.normal(ROWS)
    label_N = (score_N > np.quantile(score_N, 1 - positives)).astype(np.int64)
    return clear_run(x, label_N, name=name)


def crossed(name: str) -> tuple[Numbers, Labels]:
    """Labels that only a trained network gets from the features: the sign of a product, 1 in 20 wrong."""
    draws = Draws(f"crossed {name}")
    x = draws.normal(ROWS + 4096, 8)
    right = draws.uniform(len(x)) > -0.9
    return x, np.where(right, x[:, 0] * x[:, 1] > 0, x[:, 0] * x[:, 1] <= 0).astype(np.int64)


# --- a run of `blind`, as the data owner sees it


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the data owner has of one training step, and beside it, for controls, what nobody has.

    Args:
        epoch: the pass.
        rows: numbers of its rows.
        activation_ND: its rows.
        label_N: the labels, which it wants.
        received: the blocks from the label owner.
        sent: the blocks to it.
        before_DK, after_DK: its share of W.
        weights_before_DK, weights_after_DK: W.
    """

    epoch: int
    rows: RowIndices
    activation_ND: Numbers
    label_N: Labels
    received: list[Block]
    sent: list[Block]
    before_DK: RingArray
    after_DK: RingArray
    weights_before_DK: RingArray
    weights_after_DK: RingArray

    def message(self, kind: Kind) -> list[bytes]:
        """The payloads of one received message."""
        return [each.payload for each in self.received if each.kind is kind]

    @property
    def own_update(self) -> Numbers:
        """What its share moved by, as a fraction of the ring."""
        return of_ring(self.before_DK - self.after_DK)

    @property
    def update(self) -> Numbers:
        """a^T dz', which neither party has."""
        return decode(self.weights_before_DK - self.weights_after_DK, scale_bits=WEIGHT_BITS)


@dataclass(frozen=True, kw_only=True)
class BlindRun:
    """A training under `blind` and everything in it."""

    contract: Contract
    steps: list[Step]

    @cached_property
    def labels(self) -> Labels:
        """The labels in the order of the steps."""
        return np.concatenate([each.label_N for each in self.steps])


def of_ring(values: RingArray) -> Numbers:
    """Ring integers as fractions of the ring in [-1/2, 1/2)."""
    return np.ldexp(values.view(np.int64).astype(np.float64), -64)


def blind_run(
    x_ND: Numbers,
    label_N: Labels,
    *,
    randomness: Randomness,
    epochs: int = 1,
    batch: int = BATCH,
    rate: float = 0.01,
    production: bool = False,
) -> BlindRun:
    """Train one interactive layer under `blind` and a fixed linear top network."""
    rows, columns = x_ND.shape
    splits = {"validation": 0.0, "test": 0.0, "epochs": epochs, "batch": batch}
    contract = contract_of(
        label=label_terms(rows=rows, out_features=UNITS, **splits),
        data=data_terms(rows=rows, in_features=columns),
        production=production,
    )
    activation_ND, _ = encode_activations(x_ND)
    seen: list[Block] = []
    pair = Pair(contract, features_of(activation_ND), randomness=randomness, observe=seen.append)
    layer = InteractiveLinear(
        PairLink(pair), in_features=columns, out_features=UNITS, rule=AdaptiveStep(rate)
    )
    slope = torch.tensor([0.5, -0.5, 0.25, -0.25])
    steps = []
    for handle in training_handles(contract):
        row_numbers = contract.schedule.rows_of(handle)
        target_N = label_N[row_numbers]
        before_DK, weights_DK = pair.data_owner.state().share_DK, pair.weights()
        seen.clear()
        score = layer(handle) @ slope
        nn.functional.binary_cross_entropy_with_logits(score, torch.from_numpy(target_N).float()).backward()  # type: ignore[no-untyped-call]
        layer.bias.grad = None
        steps.append(
            Step(
                epoch=handle.epoch,
                rows=row_numbers,
                activation_ND=decode_activations(activation_ND[row_numbers]),
                label_N=target_N,
                received=[each for each in seen if each.kind not in FROM_DATA_OWNER],
                sent=[each for each in seen if each.kind in FROM_DATA_OWNER],
                before_DK=before_DK,
                after_DK=pair.data_owner.state().share_DK,
                weights_before_DK=weights_DK,
                weights_after_DK=pair.weights(),
            )
        )
    return BlindRun(contract=contract, steps=steps)


def unrelated(name: str, *, rows: int = ROWS) -> tuple[Numbers, Labels]:
    """Features, and balanced labels that have nothing to do with them."""
    draws = Draws(f"unrelated {name}")
    return draws.normal(rows, INPUTS), draws.bits(rows)


@cache
def unrelated_run(name: str) -> BlindRun:
    x_ND, label_N = unrelated(name)
    return blind_run(x_ND, label_N, randomness=RecordedRandomness(f"row 1 {name}".encode()))


def linear_run(name: str, *, rows: int = 20_480) -> BlindRun:
    """A run whose labels a linear layer learns."""
    draws = Draws(f"linear {name}")
    x_ND = draws.normal(rows, INPUTS)
    score_N = x_ND @ draws.normal(INPUTS) / 8 + 0.3 * draws.normal(rows)
    return blind_run(
        x_ND,
        (score_N > 0).astype(np.int64),
        randomness=RecordedRandomness(f"row 3 {name}".encode()),
        rate=0.05,
    )
