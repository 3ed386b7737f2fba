"""The paper's protocol as it is written: ACML with its masks, and the attack that follows W through it.

A float copy of the message flow of Zhang and Zhu (arXiv:2007.06849, section 4; FATE's hetero neural network
has the same), small, and broken where the paper is. The encryption is left out: the data owner holds the
key, so what it decrypts it sees here too, and the label owner sees what it sees in the paper. Nothing here
is of the product. Shapes: N rows, D in_features, K out_features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.support.randomness import words_of

Numbers = NDArray[np.float64]


class Draws:
    """Float test data that follow from a name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0

    def uniform(self, *shape: int, bound: float = 1.0) -> Numbers:
        """Draw uniformly from [-bound, bound)."""
        self._number += 1
        words = words_of(f"{self._name} {self._number}", int(np.prod(shape))).reshape(shape)
        return bound * (np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0)

    def normal(self, *shape: int) -> Numbers:
        """Draw from the standard normal distribution (Box and Muller)."""
        length = np.sqrt(-2.0 * np.log1p(-(self.uniform(*shape) + 1.0) / 2.0))
        drawn: Numbers = length * np.cos(np.pi * self.uniform(*shape))
        return drawn

    def bits(self, count: int) -> NDArray[np.int64]:
        """Draw 0 and 1."""
        return (self.uniform(count) >= 0).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the label owner has of one step.

    Args:
        share_DK: its own part of W before the step.
        z_NK: what came out of the interactive layer.
        scaled_NK: learning rate x dz, its own.
    """

    share_DK: Numbers
    z_NK: Numbers
    scaled_NK: Numbers


class PaperDataOwner:
    """Party A: holds the key and the activations, and adds up the noise it has put on W.

    The mistake that the attack lives on: the accumulated noise starts at zero.
    """

    def __init__(self, shape: tuple[int, int], *, noise_bound: float, draws: Draws) -> None:
        self.accumulated_DK = np.zeros(shape)
        self._noise_bound = noise_bound
        self._draws = draws

    def released(self, masked_z_NK: Numbers, activation_ND: Numbers) -> Numbers:
        """Decrypt z plus the peer's noise and add what the accumulated noise takes off."""
        return masked_z_NK + activation_ND @ self.accumulated_DK

    def noisy_gradient(self, masked_DK: Numbers, *, learning_rate: float) -> Numbers:
        """Decrypt the gradient of W plus the peer's noise, put own noise on it and remember it."""
        noise_DK = self._draws.uniform(*masked_DK.shape, bound=self._noise_bound)
        self.accumulated_DK = self.accumulated_DK + noise_DK
        return masked_DK + noise_DK / learning_rate


class PaperLabelOwner:
    """Party B: holds W minus the accumulated noise, in floats, and bounded float noise masks."""

    def __init__(self, weights_DK: Numbers, *, learning_rate: float, mask_bound: float, draws: Draws) -> None:
        self.weights_DK = weights_DK
        self._learning_rate = learning_rate
        self._mask_bound = mask_bound
        self._draws = draws

    def step(self, owner: PaperDataOwner, activation_ND: Numbers, dz_NK: Numbers) -> tuple[Seen, Numbers]:
        """Run one step, the data owner's part of it included; return what this side saw, and da = dz W^T."""
        before_DK = self.weights_DK
        mask_NK = self._draws.uniform(len(activation_ND), before_DK.shape[1], bound=self._mask_bound)
        z_NK = owner.released(activation_ND @ before_DK + mask_NK, activation_ND) - mask_NK
        da_ND = dz_NK @ (before_DK + owner.accumulated_DK).T
        mask_DK = self._draws.uniform(*before_DK.shape, bound=self._mask_bound)
        masked_DK = activation_ND.T @ dz_NK + mask_DK
        noisy_DK = owner.noisy_gradient(masked_DK, learning_rate=self._learning_rate) - mask_DK
        self.weights_DK = before_DK - self._learning_rate * noisy_DK
        return Seen(share_DK=before_DK, z_NK=z_NK, scaled_NK=self._learning_rate * dz_NK), da_ND


def solve_activations(z_NK: Numbers, weights_DK: Numbers) -> Numbers:
    """Solve z = a W for a; exact where out_features >= in_features and W is known."""
    solved = np.linalg.lstsq(weights_DK.T, z_NK.T, rcond=None)[0].T
    return np.asarray(solved, dtype=np.float64)


def track(seen: list[Seen]) -> list[Numbers]:
    """The attack: take the own share for W in the first batch, solve, and follow W from there.

    Each step's activations follow from z and W, and the next W from them and the own dz, whatever noise the
    data owner puts on the share: that noise never changes W itself.
    """
    weights_DK: Numbers = seen[0].share_DK
    found = []
    for each in seen:
        activation_ND = solve_activations(each.z_NK, weights_DK)
        weights_DK = weights_DK - np.matmul(activation_ND.T, each.scaled_NK)
        found.append(activation_ND)
    return found


def solve_each(seen: list[Seen]) -> list[Numbers]:
    """The same without memory: the own share of the moment stands for W in every batch."""
    return [solve_activations(each.z_NK, each.share_DK) for each in seen]
