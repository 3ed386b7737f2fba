"""The data owner's bottom model: its private network in front of the interactive layer.

A frozen one is applied once and gives activations that never change. A trained one is applied to each batch
and takes da back. Either way all prepared columns, as float64, have to fit into memory. It draws from a
random stream of its own, so that dropout does not depend on what else runs in the process. Imported by the
data owner's loop and by the comparison with the twin.
Shapes: N rows, C prepared columns, D in_features.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moiety.config import DataOwnerRun as Settings
from moiety.contract.schedule import RowIndices
from moiety.crypto.ring import encode_activations
from moiety.crypto.sampling import Seed, derive
from moiety.crypto.secret import Secret
from moiety.errors import CheckpointMismatchError, ConfigError, NonFiniteError
from moiety.nn.build import advance, check_training, from_factory, make_optimizer, make_schedule, seed_torch
from moiety.protocol.dither import RowDigests, row_digests
from moiety.protocol.state import Features

Arrays = dict[str, NDArray[Any]]
ACTIVATION_LIMIT: Final = 8.0
_CHUNK: Final = 4096
_PREFIX: Final = "bottom."


class BottomModel(Secret):
    """The network with its random stream.

    Args:
        settings: the run file; its `model.bottom` makes the network.
        columns: C, prepared columns.
        seed: of the initial weights and of dropout.

    Raises:
        ConfigError: the factory cannot be used.
    """

    def __init__(self, settings: Settings, *, columns: int, seed: Seed) -> None:
        assert settings.model.bottom is not None
        self._seed = seed
        self._stream = torch.get_rng_state()
        with self._own_stream():
            seed_torch(seed)
            self.network = from_factory(
                settings.model.bottom, columns, key="model.bottom", takes="the number of prepared columns"
            )

    def begin_step(self, step: int) -> None:
        """Start the random stream of a step: dropout is a function of seed and step, also after a restart."""
        seed = derive(self._seed, b"dropout", step.to_bytes(8, "little"))
        with self._own_stream():
            seed_torch(seed)

    def load(self, arrays: Arrays) -> None:
        """Take saved weights.

        Raises:
            CheckpointMismatchError: they are of another network.
        """
        saved = {
            name.removeprefix(_PREFIX): torch.from_numpy(array.copy())
            for name, array in arrays.items()
            if name.startswith(_PREFIX)
        }
        try:
            self.network.load_state_dict(saved)
        except RuntimeError as error:
            raise CheckpointMismatchError(
                "the saved bottom model has another shape than model.bottom makes",
                hint="restore the module that the run was trained with",
            ) from error

    def arrays(self) -> Arrays:
        """Return what to save."""
        return {f"{_PREFIX}{name}": value.numpy() for name, value in self.network.state_dict().items()}

    def fixed(self, values_NC: NDArray[np.float64]) -> tuple[Features, int]:
        """Apply the network once, in eval mode.

        Args:
            values_NC: prepared columns of all rows; they, and the activations as float64, have to fit into
                memory.

        Returns:
            Activations that never change, and how many of them were clipped.

        Raises:
            ConfigError: its output is not (rows, in_features).
            NonFiniteError: an activation is NaN or infinite.
        """
        self.network.eval()
        with torch.no_grad():
            starts = range(0, len(values_NC), _CHUNK)
            parts = [self.apply(_tensor(values_NC[start : start + _CHUNK])).numpy() for start in starts]
        return fixed_activations(np.concatenate(parts).astype(np.float64))

    def apply(self, values_NC: Tensor) -> Tensor:
        """Run the network under its own random stream."""
        with self._own_stream():
            output = self.network(values_NC)
        if not isinstance(output, Tensor) or output.shape[:1] != values_NC.shape[:1] or output.ndim != 2:  # noqa: PLR2004
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ConfigError(
                f"the bottom model returned {shape} for {tuple(values_NC.shape)}",
                hint="return (rows, in_features) for (rows, columns); nn.Flatten may be missing",
            )
        return output

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        outside = torch.get_rng_state()
        torch.set_rng_state(self._stream)
        try:
            yield
        finally:
            self._stream = torch.get_rng_state()
            torch.set_rng_state(outside)


class TrainedActivations(Secret):
    """Activations of a bottom model that is trained by da: a `protocol.state.Activations`.

    Args:
        bottom: the network.
        settings: its optimiser and schedule.
        values_NC: prepared columns of all rows, which have to fit into memory.
        steps_per_epoch: after so many updates the schedule steps.
        keep_epochs: keep the weights of every epoch's end, for `go_back`.
    """

    def __init__(
        self,
        bottom: BottomModel,
        settings: Settings,
        values_NC: NDArray[np.float64],
        *,
        steps_per_epoch: int,
        keep_epochs: bool = False,
    ) -> None:
        self._bottom = bottom
        self._values = _tensor(values_NC)
        self._optimizer = make_optimizer(settings.train, bottom.network.parameters())
        self._schedule = make_schedule(settings.train, self._optimizer)
        self._steps_per_epoch = steps_per_epoch
        self._steps = 0
        self._keep_epochs = keep_epochs
        self._output: Tensor | None = None
        self.candidates: list[Arrays] = []
        self.clipped = 0

    def batch(self, rows: RowIndices, *, training: bool) -> tuple[NDArray[np.int16], RowDigests]:
        """Apply the network: in train mode with gradients, or in eval mode without.

        Raises:
            ConfigError: its output is not (rows, in_features).
            NonFiniteError: an activation is NaN or infinite.
        """
        self._bottom.network.train(training)
        self._bottom.begin_step(self._steps)
        with torch.set_grad_enabled(training):
            output = self._bottom.apply(self._values[torch.from_numpy(rows)])
            # What is clipped has no gradient: moving it within the clipped range would change nothing.
            self._output = output.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        features, clipped = fixed_activations(output.detach().numpy().astype(np.float64))
        self.clipped += clipped
        return features.activation_ND, features.digest_N

    def backward(self, gradient_ND: NDArray[np.float64]) -> None:
        """Train by da of the batch last applied."""
        assert self._output is not None
        self._output.backward(torch.from_numpy(gradient_ND).to(self._output.dtype))  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._output = None
        self._steps += 1
        if self._steps % self._steps_per_epoch == 0:
            advance(self._schedule)
            if self._keep_epochs:
                kept = {name: array.copy() for name, array in self._bottom.arrays().items()}
                self.candidates.append(kept)

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs, without the weights: `BottomModel.arrays` gives them."""
        return {
            "steps": self._steps,
            "clipped": self.clipped,
            "optimizer": self._optimizer.state_dict(),
            "schedule": None if self._schedule is None else self._schedule.state_dict(),
            "candidates": self.candidates,
        }

    def load(self, state: Mapping[str, Any], weights: Arrays) -> None:
        """Take what `state` returned, and the weights.

        Raises:
            CheckpointMismatchError: they are of another network, optimiser or schedule.
        """
        self._bottom.load(weights)
        try:
            self._steps, self.clipped = state["steps"], state["clipped"]
            self.candidates = list(state["candidates"])
            self._optimizer.load_state_dict(state["optimizer"])
            if self._schedule is not None:
                self._schedule.load_state_dict(state["schedule"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise CheckpointMismatchError(
                "the saved optimiser or schedule is of another kind than [train] names",
                hint="resume with the run file that the run began with",
            ) from error

    def go_back(self, epoch: int) -> None:
        """Return the network to the end of an epoch, and drop what was kept of the others."""
        self._bottom.load(self.candidates[epoch])
        self.candidates.clear()


def fixed_activations(values_ND: NDArray[np.float64]) -> tuple[Features, int]:
    """Encode activations; return them with their digests, and how many were clipped.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    try:
        activation_ND, clipped = encode_activations(values_ND)
    except NonFiniteError as error:
        raise NonFiniteError(
            f"activations of the bottom model: {error.message}",
            hint="lower its learning rate, or look for a division by zero in it",
        ) from error
    return Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND)), clipped


def check_bottom(settings: Settings, values_NC: NDArray[np.float64]) -> int:
    """Build a bottom model and apply it to two rows; return in_features.

    Raises:
        ConfigError: the factory, its output or the optimiser cannot be used.
    """
    bottom = BottomModel(settings, columns=values_NC.shape[1], seed=Seed(bytes(32)))
    features, _ = bottom.fixed(values_NC[:2])
    if settings.trains_bottom:
        check_training(settings.train, parameters=bottom.network.parameters())
    return int(features.activation_ND.shape[1])


def _tensor(values_NC: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values_NC.astype(np.float32))
