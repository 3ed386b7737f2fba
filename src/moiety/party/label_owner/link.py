"""The label owner's end: drives its machine over a session, for `InteractiveLinear`."""

import numpy as np
from numpy.typing import NDArray

from moiety.contract.schedule import RowHandle
from moiety.crypto.ring import Z_BITS, RingArray, decode, encode_gradients, encode_input_gradients
from moiety.crypto.sampling import Seed, expand_words
from moiety.crypto.secret import Secret
from moiety.net.session import Session
from moiety.protocol.label_owner import LabelOwner

Revealed = list[tuple[RowHandle, NDArray[np.float32]]]


class LabelOwnerLink(Secret):
    """Requests z and sends updates, one exchange at a time.

    Args:
        session: open and bound.
        machine: the label owner's state machine.
        rounding_seed: of the stochastic rounding of dz'; kept by the label owner only.
        trains_bottom: the contract shows da to the data owner.

    Attributes:
        boundary: the transcript's digest before the last request; None before the first.
        clipped, clipped_input: values of dz' and dz'' that were clipped.
    """

    def __init__(
        self, session: Session, machine: LabelOwner, *, rounding_seed: Seed, trains_bottom: bool = False
    ) -> None:
        self._session = session
        self._machine = machine
        self._rounding_seed = rounding_seed
        self._trains_bottom = trains_bottom
        self._revealed: Revealed = []
        self._handle: RowHandle | None = None
        self.boundary: bytes | None = None
        self.clipped = 0
        self.clipped_input = 0

    @property
    def in_step(self) -> bool:
        """Whether a training step waits for its gradient."""
        return self._machine.open

    def receive(self) -> None:
        """Take blocks, and answer them, until nothing more is due; prepare what comes next meanwhile."""
        self._machine.prepare()
        self._session.drive(self._machine)

    def start(self, handle: RowHandle, *, training: bool) -> None:
        """Ask for z of a batch.

        Leaks:
            Nothing: the schedule is public, the weights are encrypted.
        """
        self._handle = handle
        self.boundary = self._session.transcript.digest()
        self._session.send(self._machine.request(handle, training=training))

    def result(self) -> NDArray[np.float64]:
        """Wait for z, float64 (rows, out_features)."""
        self.receive()
        return decode(self._machine.z(), scale_bits=Z_BITS)

    def update(self, scaled_NK: NDArray[np.float64], dz_NK: NDArray[np.float64]) -> None:
        """Round dz' stochastically, send it encrypted and wait until both shares have moved.

        Leaks:
            Nothing in `blind`: the gradients are encrypted. Where the bottom model is trained, da.
        """
        rounded, clipped = encode_gradients(scaled_NK, self._words(b"rounding", scaled_NK))
        self.clipped += clipped
        input_NK = self._input_gradient(dz_NK) if self._trains_bottom else None
        self._session.send(self._machine.update(rounded, input_NK))
        self.receive()

    def share(self) -> RingArray:
        """Return W_label, between exchanges."""
        return self._machine.share

    def go_back(self, epoch: int, share_DK: RingArray) -> None:
        """Return both shares to the end of an epoch, of which W_label was kept.

        Leaks:
            In `blind` that the training is over; in `joint` and `acml` the epoch.
        """
        self._session.send(self._machine.choose(epoch, share_DK))
        self.receive()

    def take_revealed(self) -> Revealed:
        """Return dz of the batches since the last call: what the data owner was shown a linear image of."""
        taken, self._revealed = self._revealed, []
        return taken

    def _input_gradient(self, dz_NK: NDArray[np.float64]) -> NDArray[np.int64]:
        assert self._handle is not None
        self._revealed.append((self._handle, dz_NK.astype(np.float32)))
        rounded, clipped = encode_input_gradients(len(dz_NK) * dz_NK, self._words(b"input rounding", dz_NK))
        self.clipped_input += clipped
        return rounded

    def _words(self, purpose: bytes, like_NK: NDArray[np.float64]) -> NDArray[np.uint64]:
        words = expand_words(self._rounding_seed, purpose, index=self._machine.updates, count=like_NK.size)
        return words.reshape(like_NK.shape)
