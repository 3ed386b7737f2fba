"""The baseline of 2020: every linear layer under Paillier, every activation in the clear at the key holder.

The flow of GELU-Net (IJCAI 2018): the key holder encrypts a layer's input element by element; the other
side holds the weights, raises each ciphertext to each weight and returns encrypted sums; the key holder
decrypts them and applies bias and activation in the clear. Backward, it encrypts dz and takes da back in the
same way. The weight gradient costs nothing here: the key holder knows both factors and may send their product
masked. The dearer flow, where the other side makes it from the encrypted input, is an option. Whatever else
could be charged is left out: masks, re-randomised answers, serialisation, the network.
Shapes: M multiplications.
"""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from benchmarks.paper.cost import per_row
from benchmarks.paper.elementwise import DECRYPTION, INVERSE, MULTIPLICATION, Arithmetic, Clear, Connection
from moiety.errors import ParameterError

VALUE_BITS: Final = 24
"""Fractional bits of what is encrypted: they cost nothing."""
WEIGHT_BITS: Final = 16
"""Fractional bits of multipliers: exponents are that long, as weights are below 1."""


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """The multiplications of a linear layer, one row: output[target] += input[source] weight[weight]."""

    source_M: NDArray[np.int64]
    target_M: NDArray[np.int64]
    weight_M: NDArray[np.int64]

    @classmethod
    def of(cls, layer: nn.Module, shape: torch.Size) -> "Wiring":
        """Lay out a fully connected layer, or a convolution without padding, for inputs of this shape.

        Raises:
            ParameterError: the layer is of another kind.
        """
        inputs = torch.arange(shape[1:].numel(), dtype=torch.float64).reshape(1, *shape[1:])
        if isinstance(layer, nn.Linear):
            columns = inputs.T
        elif isinstance(layer, nn.Conv2d) and _is_plain(layer):
            columns = functional.unfold(inputs, layer.kernel_size)[0]
        else:
            raise ParameterError(f"the baseline has no {type(layer).__name__} of this kind")
        contraction, positions = columns.shape
        outputs = layer.weight.shape[0]
        weights = np.arange(outputs * contraction).reshape(outputs, contraction, 1)
        targets = np.arange(outputs * positions).reshape(outputs, 1, positions)
        source, target, weight = np.broadcast_arrays(columns.numpy().astype(np.int64)[None], targets, weights)
        return cls(source_M=source.ravel(), target_M=target.ravel(), weight_M=weight.ravel())


class EncryptedLayer(nn.Module):
    """A linear layer whose products are computed under encryption.

    Args:
        layer: the layer in the clear; its parameters are used and get their gradients.
        arithmetic: does the work.
        encrypted_weight_gradient: the other side computes it from the encrypted input.
    """

    def __init__(
        self, layer: nn.Module, arithmetic: Arithmetic, *, encrypted_weight_gradient: bool = False
    ) -> None:
        super().__init__()
        self.layer: Any = layer
        self.arithmetic = arithmetic
        self.encrypted_weight_gradient = encrypted_weight_gradient
        self.wiring: Wiring | None = None
        self._inputs: list[list[Any]] = []

    def forward(self, values: Tensor) -> Tensor:
        """Apply the layer to rows."""
        self.wiring = self.wiring or Wiring.of(self.layer, values.shape)
        result: Tensor = _EncryptedProduct.apply(values, self.layer.weight, self)  # type: ignore[no-untyped-call]
        bias = self.layer.bias.reshape(-1, *[1] * (result.ndim - 2))
        output: Tensor = result + bias
        return output

    def products(self, values: Tensor) -> Tensor:
        """Encrypt rows, let the other side multiply by the weights, decrypt."""
        assert self.wiring is not None
        weights = _integers(self.layer.weight, WEIGHT_BITS)[self.wiring.weight_M]
        outputs = int(self.wiring.target_M.max()) + 1
        self._inputs = [self._encrypt(row) for row in values]
        rows: list[Tensor] = []
        for ciphertexts in self._inputs:
            connections = _connections(self.wiring.source_M, self.wiring.target_M, weights)
            rows.append(self._decrypted(ciphertexts, connections, outputs))
        positions = self._positions(values)
        shape = (len(values), int(self.layer.weight.shape[0]), *positions)
        product: Tensor = torch.stack(rows).reshape(shape).to(values.dtype)
        return product

    def input_gradient(self, gradient: Tensor, shape: torch.Size) -> Tensor:
        """Encrypt dz, let the other side multiply by the transposed weights, decrypt da."""
        assert self.wiring is not None
        weights = _integers(self.layer.weight, WEIGHT_BITS)[self.wiring.weight_M]
        rows = []
        for row in gradient:
            connections = _connections(self.wiring.target_M, self.wiring.source_M, weights)
            rows.append(self._decrypted(self._encrypt(row), connections, shape[1:].numel()))
        return torch.stack(rows).reshape(shape).to(gradient.dtype)

    def weight_gradient(self, gradient: Tensor) -> Tensor:
        """Let the other side, which knows dz, multiply the encrypted input; decrypt sums over rows."""
        assert self.wiring is not None
        ciphertexts: list[Any] = []
        connections: list[Connection] = []
        for encrypted, row in zip(self._inputs, gradient, strict=True):
            multipliers = _integers(row, WEIGHT_BITS)[self.wiring.target_M]
            sources = self.wiring.source_M + len(ciphertexts)
            connections += _connections(sources, self.wiring.weight_M, multipliers)
            ciphertexts += encrypted
        shape = self.layer.weight.shape
        total = self._decrypted(ciphertexts, iter(connections), shape.numel())
        return total.reshape(shape).to(gradient.dtype)

    def _encrypt(self, row: Tensor) -> list[Any]:
        return self.arithmetic.encrypt(_integers(row, VALUE_BITS).tolist())

    def _decrypted(self, ciphertexts: list[Any], connections: Iterator[Connection], count: int) -> Tensor:
        sums = self.arithmetic.sums(ciphertexts, connections, count)
        values = [value / 2 ** (VALUE_BITS + WEIGHT_BITS) for value in self.arithmetic.decrypt(sums)]
        return torch.tensor(values, dtype=torch.float64)

    def _positions(self, values: Tensor) -> list[int]:
        if isinstance(self.layer, nn.Linear):
            return []
        sizes = zip(values.shape[2:], self.layer.kernel_size, strict=True)
        return [size - kernel + 1 for size, kernel in sizes]


class _EncryptedProduct(torch.autograd.Function):
    """The product and its gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, layer: EncryptedLayer) -> Tensor:
        """Return the product without bias."""
        ctx.save_for_backward(values, weight)
        ctx.layer = layer
        return layer.products(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        """Return the gradients of input, where one is needed, and weight."""
        values, weight = ctx.saved_tensors
        layer: EncryptedLayer = ctx.layer
        input_gradient = layer.input_gradient(gradient, values.shape) if ctx.needs_input_grad[0] else None
        if layer.encrypted_weight_gradient:
            return input_gradient, layer.weight_gradient(gradient), None
        if gradient.ndim == 2:
            return input_gradient, gradient.T @ values, None
        weight_gradient = conv2d_weight(values, weight.shape, gradient)  # type: ignore[no-untyped-call]
        return input_gradient, weight_gradient, None


def encrypt_layers(network: nn.Module, arithmetic: Arithmetic, *, encrypted_weight_gradient: bool) -> None:
    """Put every linear layer of a network under encryption, in place."""
    for name, child in network.named_children():
        if isinstance(child, (nn.Linear, nn.Conv2d)):
            layer = EncryptedLayer(child, arithmetic, encrypted_weight_gradient=encrypted_weight_gradient)
            setattr(network, name, layer)
        else:
            encrypt_layers(child, arithmetic, encrypted_weight_gradient=encrypted_weight_gradient)


def count_step(
    network: nn.Module, values_NC: Tensor, target_NK: Tensor, *, encrypted_weight_gradient: bool
) -> Counter[str]:
    """Count the operations of a training step, in the clear. The network is changed."""
    clear = Clear()
    encrypt_layers(network, clear, encrypted_weight_gradient=encrypted_weight_gradient)
    train_step(network, values_NC, target_NK)
    return clear.counts


def dearer_counts(
    network: nn.Module, values_NC: Tensor, target_NK: Tensor, *, batch: int
) -> dict[str, float]:
    """Count operations per row of a batch where the other side computes the weight gradient.

    Multiplications are the mean of the rows given: zeros among dz are skipped. Each weight then costs one
    decryption a batch, and one inverse, as some row's dz is negative.
    """
    cheap, full = (
        count_step(deepcopy(network), values_NC, target_NK, encrypted_weight_gradient=each)
        for each in (False, True)
    )
    counts = per_row(cheap, len(values_NC))
    weights = full[DECRYPTION] - cheap[DECRYPTION]
    counts[MULTIPLICATION] = full[MULTIPLICATION] / len(values_NC)
    counts[DECRYPTION] += weights / batch
    counts[INVERSE] += weights / batch
    return counts


def train_step(network: nn.Module, values_NC: Tensor, target_NK: Tensor) -> list[Tensor]:
    """Go forward and backward once; return the outputs and the gradients of all parameters."""
    output_NK = network(values_NC)
    functional.mse_loss(output_NK, target_NK).backward()  # type: ignore[no-untyped-call]
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    return [output_NK.detach(), *gradients]


def _connections(
    source_M: NDArray[np.int64], target_M: NDArray[np.int64], weight_M: NDArray[np.int64]
) -> Iterator[Connection]:
    return zip(source_M.tolist(), target_M.tolist(), weight_M.tolist(), strict=True)


def _integers(values: Tensor, bits: int) -> NDArray[np.int64]:
    numbers: NDArray[np.float64] = values.detach().double().numpy().ravel()
    integers: NDArray[np.int64] = np.rint(numbers * 2**bits).astype(np.int64)
    return integers


def _is_plain(layer: nn.Conv2d) -> bool:
    plain = (layer.stride, layer.padding, layer.dilation, layer.groups)
    return plain == ((1, 1), (0, 0), (1, 1), 1)
