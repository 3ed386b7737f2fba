"""`InteractiveLinear`: the interactive layer as a `torch.nn.Module`.

z = a W + bias, with a at the data owner, W shared between the parties and the bias here. Forward in grad
mode opens a training step, backward sends Enc(dz'), applies the update and closes it. The layer's weight
is no parameter: `optimizer.step` moves the bias and the networks behind, the layer moves W by its own
`learning_rate`. Shapes: N rows, D in_features, K out_features.
"""

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moiety.contract.schedule import RowHandle
from moiety.crypto.ring import RingArray
from moiety.errors import LocalProtocolError, NonFiniteError
from moiety.nn.step import StepRule


class Link(Protocol):
    """The label owner's end of the protocol, as the layer uses it."""

    def start(self, handle: RowHandle, *, training: bool) -> None:
        """Ask for z of a batch."""
        ...

    def result(self) -> NDArray[np.float64]:
        """Return z, float64 (rows, out_features), waiting for it."""
        ...

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        """Send dz' encrypted and apply the update; dz itself is for a bottom model that is trained."""
        ...

    def share(self) -> RingArray:
        """Return what this side holds of W, between steps."""
        ...

    def go_back(self, epoch: int, share_DK: RingArray) -> None:
        """Return W to what it was at the end of an epoch, of which this side kept its share."""
        ...


# ruff: noqa: SLF001 - the classes of this module are one mechanism


class Pending:
    """z on its way: several can be asked for before the first is waited for, one per data owner."""

    def __init__(self, layer: "InteractiveLinear", handle: RowHandle, *, training: bool) -> None:
        self._layer = layer
        self.training = training
        layer._link.start(handle, training=training)

    def result(self) -> Tensor:
        """Wait for z and return z + bias, (rows, out_features)."""
        return self._layer._receive(self)


class InteractiveLinear(nn.Module):
    """The joint linear layer, seen from the label owner.

    Args:
        link: the protocol's end.
        in_features: columns of the data owner's prepared table.
        out_features: units.
        rule: makes dz' of dz; its learning rate is the layer's.

    Leaks:
        To the data owner: nothing beyond what is public in `blind`; in `joint` and `acml` da of every
        training row, from which labels can be read. To this side: z of every batch asked for, from which
        features can be estimated; the data owner's policy counts it.
    """

    def __init__(self, link: Link, *, in_features: int, out_features: int, rule: StepRule) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.bias = nn.Parameter(torch.zeros(out_features))
        self._link = link
        self.rule = rule
        self._open: Pending | None = None

    @property
    def learning_rate(self) -> float:
        """The rate of the layer's own update; may be changed between steps."""
        return self.rule.learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self.rule.learning_rate = value

    def forward(self, rows: RowHandle) -> Tensor:
        """Return z + bias of a batch, (rows, out_features).

        In grad mode this opens a training step, which backward closes; under `no_grad` it is a forward
        pass only.

        Args:
            rows: a batch's handle, from `run.batches`.

        Raises:
            LocalProtocolError: the step before still waits for its backward.
        """
        return self.start(rows).result()

    def start(self, rows: RowHandle) -> Pending:
        """Ask for z of a batch without waiting for it.

        Raises:
            LocalProtocolError: the step before still waits for its backward; not a handle.
        """
        if not isinstance(rows, RowHandle):
            raise LocalProtocolError(
                f"rows must be a batch's handle, not {type(rows).__name__}",
                hint="pass batch.rows as run.batches gives it: free row numbers would leak the labels",
            )
        if self._open is not None:
            raise LocalProtocolError(
                "a second forward came before backward",
                hint="call backward once for each forward, or wrap evaluation in torch.no_grad()",
            )
        pending = Pending(self, rows, training=torch.is_grad_enabled())
        self._open = pending if pending.training else None
        return pending

    def _receive(self, pending: Pending) -> Tensor:
        z = torch.from_numpy(self._link.result()).to(self.bias)
        if not pending.training:
            return z + self.bias
        released: Tensor = _Release.apply(self.bias, z, pending)  # type: ignore[no-untyped-call]
        return released

    def _close_step(self, gradient: Tensor, pending: Pending) -> None:
        # A kept graph of an earlier step must not pass for the open one: its gradient is of other rows.
        if self._open is not pending:
            raise LocalProtocolError(
                "backward ran twice for one forward",
                hint="call it once: the update was already applied, and retain_graph is not supported",
            )
        if self.bias.grad is not None and bool(self.bias.grad.any()):
            raise LocalProtocolError(
                "gradients were not cleared since the last step",
                hint="call optimizer.zero_grad() in every step: gradients cannot be accumulated",
            )
        if not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(
                "the gradient of z is not finite; nothing was sent",
                hint="lower the learning rate, or look for a division by zero in the loss",
            )
        dz_NK = gradient.detach().cpu().numpy().astype(np.float64)
        self._link.update(self.rule.scale(dz_NK), dz_NK)
        self._open = None

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """Return what this side holds of the layer: its share of W, the bias, the step rule's state."""
        rule = {f"rule.{name}": value for name, value in self.rule.state().items()}
        return {"share": self._link.share(), "bias": self.bias.detach().cpu().numpy(), **rule}

    def go_back(self, epoch: int, snapshot: Mapping[str, NDArray[Any]]) -> None:
        """Return the layer, at both parties, to the end of an epoch.

        Args:
            epoch: which one.
            snapshot: what `snapshot` returned then.

        Raises:
            LocalProtocolError: a step is open, or the contract has no best epoch to go back to.

        Leaks:
            As `protocol.choice`: in `blind` that the training is over, otherwise the epoch.
        """
        self._link.go_back(epoch, snapshot["share"])
        self.bias.data = torch.from_numpy(snapshot["bias"].copy()).to(self.bias)
        self.rule.load({name.removeprefix("rule."): snapshot[name] for name in snapshot})

    def __deepcopy__(self, memo: Any) -> NoReturn:
        raise LocalProtocolError("an interactive layer cannot be copied: the peer holds the rest of it")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise LocalProtocolError("an interactive layer cannot be pickled: the peer holds the rest of it")

    def extra_repr(self) -> str:
        """Return what `print(layer)` shows."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _Release(torch.autograd.Function):
    """z enters the graph as a constant; the bias is what autograd reaches the layer by."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, z: Tensor, pending: Pending) -> Tensor:
        ctx.pending = pending
        return z + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        ctx.pending._layer._close_step(gradient, ctx.pending)
        return gradient.sum(dim=0), None, None
