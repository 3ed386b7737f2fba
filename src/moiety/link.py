"""The label owner's end: drives its machine over a session, for `InteractiveLinear`."""

import numpy as np
from numpy.typing import NDArray

from moiety.crypto.sampling import Seed, expand_words
from moiety.crypto.secret import Secret
from moiety.protocol.blind import BlindLabelOwner
from moiety.ring import Z_BITS, decode, encode_gradients
from moiety.schedule import RowHandle
from moiety.session import Session


class LabelOwnerLink(Secret):
    """Requests z and sends updates, one exchange at a time.

    Args:
        session: open and bound.
        machine: the label owner's state machine.
        rounding_seed: of the stochastic rounding of dz'; kept by the label owner only.
    """

    def __init__(self, session: Session, machine: BlindLabelOwner, *, rounding_seed: Seed) -> None:
        self._session = session
        self._machine = machine
        self._rounding_seed = rounding_seed
        self.clipped = 0

    def receive(self) -> None:
        """Take blocks until nothing more is due."""
        while self._machine.waiting:
            self._machine.receive(self._session.receive())

    def start(self, handle: RowHandle, *, training: bool) -> None:
        """Ask for z of a batch.

        Leaks:
            Nothing: the schedule is public, the weights are encrypted.
        """
        self._session.send(self._machine.request(handle, training=training))

    def result(self) -> NDArray[np.float64]:
        """Wait for z, float64 (rows, out_features)."""
        self.receive()
        return decode(self._machine.z(), scale_bits=Z_BITS)

    def update(self, scaled_NK: NDArray[np.float64]) -> None:
        """Round dz' stochastically, send it encrypted and wait until both shares have moved.

        Leaks:
            Nothing: the gradients are encrypted.
        """
        words = expand_words(
            self._rounding_seed, b"rounding", index=self._machine.updates, count=scaled_NK.size
        )
        rounded, clipped = encode_gradients(scaled_NK, words.reshape(scaled_NK.shape))
        self.clipped += clipped
        self._session.send(self._machine.update(rounded))
        self.receive()
