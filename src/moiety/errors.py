"""What can go wrong, by who can mend it.

    MoietyError                       message, hint, typed fields; never raised itself
      ConfigError                     run file or arguments                          exit 2
      ParameterError                  shapes or encryption parameters                exit 2
        InsecureParameterError        bits_required, bits_estimated
      DataError                       a table, a column or a value                   exit 3
        AlignmentError                the two tables do not have the same rows
      CapacityError                   arithmetic left its range                      exit 4
        RingOverflowError             largest_magnitude_bits, limit_bits
        NonFiniteError                a loss or gradient is not a finite number
      ProtocolError                   this session stops for good                    exit 5
        LocalProtocolError            this side called things in the wrong order
        RemoteProtocolError           the peer's message is not acceptable here
          ContractMismatchError       field, own, peer
          MalformedMessageError       does not decode, or is over its limit
          OutOfOrderError             not the frame that was expected
          PeerAbortedError            the peer stopped and said so
      TransportError                  the connection                                 exit 6
        PeerUnreachableError, PeerTimeoutError, PeerIdentityError
        SessionLostError              the peer has another session by now, or none
      CheckpointError                 what a run saved                               exit 7
        CheckpointCorruptError, CheckpointMismatchError
      PolicyError                     a limit the data owner set                     exit 8
        PeerPolicyError               the peer stopped at that limit; a PeerAbortedError too

A message carries shapes, counts, names and limits; never a value of a table, a key, a label, a weight or
a gradient. A hint says what to do. Nothing here is caught and dropped: foreign exceptions are wrapped
where they enter, with their cause. Everybody imports this module; it imports nothing.
"""

from typing import ClassVar


class MoietyError(Exception):
    """Base of every error the package raises on purpose.

    Args:
        message: what is wrong, in one sentence without a full stop.
        hint: what to do about it; may be empty where the message says it all.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(MoietyError):
    """A run file or an argument cannot be used."""

    exit_code = 2


class ParameterError(MoietyError):
    """Shapes or encryption parameters that do not fit together."""

    exit_code = 2


class InsecureParameterError(ParameterError):
    """Encryption parameters below the required security level."""

    def __init__(self, message: str, *, bits_required: int, bits_estimated: int) -> None:
        super().__init__(message, hint="use one of the listed parameter sets")
        self.bits_required = bits_required
        self.bits_estimated = bits_estimated


class DataError(MoietyError):
    """A table, a column or a value cannot be used."""

    exit_code = 3


class AlignmentError(DataError):
    """The two parties' tables do not hold the same rows in the same order."""


class CapacityError(MoietyError):
    """Arithmetic left the range it was designed for."""

    exit_code = 4


class RingOverflowError(CapacityError):
    """A number is too large for its fixed-point format; the number itself is not shown."""

    def __init__(self, message: str, *, largest_magnitude_bits: int, limit_bits: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.largest_magnitude_bits = largest_magnitude_bits
        self.limit_bits = limit_bits


class NonFiniteError(CapacityError):
    """A loss or a gradient is not a finite number."""


class ProtocolError(MoietyError):
    """The session stops; its state is closed for good."""

    exit_code = 5


class LocalProtocolError(ProtocolError):
    """This side called things in the wrong order."""


class RemoteProtocolError(ProtocolError):
    """The peer sent a message that is not acceptable at this point."""


class ContractMismatchError(RemoteProtocolError):
    """The two parties did not configure the same thing."""

    def __init__(self, *, field: str, own: object, peer: object, hint: str = "") -> None:
        super().__init__(
            f"the parties differ in {field}: own {own!s}, peer {peer!s}",
            hint=hint or f"agree on {field} with the peer and change one of the two run files",
        )
        self.field = field
        self.own = own
        self.peer = peer


class MalformedMessageError(RemoteProtocolError):
    """A message does not decode, or exceeds its limit."""


class OutOfOrderError(RemoteProtocolError):
    """A frame was lost, repeated or overtaken on its way."""


class PeerAbortedError(RemoteProtocolError):
    """The peer stopped the session and said so, without detail.

    Attributes:
        interrupted: it was told to stop by its own side; nothing went wrong.
    """

    interrupted: bool = False


class TransportError(MoietyError):
    """The connection to the peer failed."""

    exit_code = 6


class PeerUnreachableError(TransportError):
    """No connection could be made, or it was lost."""


class PeerTimeoutError(TransportError):
    """The peer is connected but did not answer in time."""


class PeerIdentityError(TransportError):
    """A certificate is not the pinned one, not valid now, or does not fit its key."""


class SessionLostError(TransportError):
    """One of the two processes started anew: the session cannot continue, a new one can take its place.

    Raised on both sides. Both go back to the newest checkpoint that they have in common.
    """


class CheckpointError(MoietyError):
    """What a run saved cannot be used."""

    exit_code = 7


class CheckpointCorruptError(CheckpointError):
    """A saved file is missing, damaged or does not match its digest."""


class CheckpointMismatchError(CheckpointError):
    """A saved file belongs to another run, model or table."""


class PolicyError(MoietyError):
    """A limit that the data owner set would be exceeded."""

    exit_code = 8

    def __init__(self, *, limit: str, allowed: object, asked: object, meaning: str, remedy: str) -> None:
        super().__init__(
            f"the data owner's policy allows {limit} {allowed!s}, and {asked!s} was asked for ({meaning})",
            hint=_policy_hint(limit, remedy),
        )
        self.limit = limit
        self.allowed = allowed
        self.asked = asked


class PeerPolicyError(PolicyError, PeerAbortedError):
    """The peer stopped at a limit of the data owner's policy, and said which."""

    def __init__(self, *, limit: str, meaning: str, remedy: str) -> None:
        MoietyError.__init__(
            self,
            f"the peer stopped the session at {limit}, a limit of the data owner's policy ({meaning})",
            hint=_policy_hint(limit, remedy),
        )
        self.limit = limit


def _policy_hint(limit: str, remedy: str) -> str:
    return f"{remedy}, or agree with the data owner on a different {limit}"
