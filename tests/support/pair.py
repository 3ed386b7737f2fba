"""Two parties on an in-memory wire that can drop, repeat, reorder, cut and change frames.

Small terms, contracts and tables; the data owner's end of a session as a loop without threads; and
`Tamper`, what the network does to the frames of one direction.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, Split
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms
from moiety.crypto.parameters import TESTING_ONLY
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Randomness, Seed
from moiety.crypto.scheme import Scheme
from moiety.crypto.schemes import RlweScheme
from moiety.errors import MoietyError
from moiety.net.channel import MAX_FRAME_BYTES, Channel, memory_pair
from moiety.net.frame import Frame, decode_frame, encode_frame
from moiety.net.session import Session
from moiety.party.label_owner.link import LabelOwnerLink
from moiety.protocol.blind import BlindDataOwner, BlindLabelOwner
from moiety.protocol.data_owner import Charge
from moiety.protocol.dither import dither, row_digests
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import make_halves
from moiety.protocol.state import Features
from tests.support.randomness import RecordedRandomness, words_of

Tamper = Callable[[int, bytes], Iterable[bytes]]
"""What the wire does with frame number n of one direction: the frames that arrive in its place."""

LABEL_NONCE = "11" * 32
DATA_NONCE = "22" * 32
DIGEST = "ab" * 32
DEADLINE_SECONDS = 1.0
POLICY = {"released_z_per_row": 100, "predictions": 1000, "smallest_batch": 4}


def label_terms(**changes: object) -> LabelOwnerTerms:
    """Terms of a label owner: 40 rows, 3 units, 2 epochs of batches of at most 16."""
    usual: dict[str, object] = {
        "run": "test-run",
        "purpose": "train",
        "protocol": "blind",
        "scheme": "rlwe",
        "rows": 40,
        "order_digest": DIGEST,
        "nonce": LABEL_NONCE,
        "out_features": 3,
        "epochs": 2,
        "batch": 16,
        "validation": 0.1,
        "test": 0.2,
    }
    return LabelOwnerTerms.model_validate({**usual, **changes})


def data_terms(**changes: object) -> DataOwnerTerms:
    """Terms of the data owner that answers `label_terms`: 5 columns and a policy that covers the run."""
    usual: dict[str, object] = {
        "run": "test-run",
        "purpose": "train",
        "protocol": "blind",
        "scheme": "rlwe",
        "rows": 40,
        "order_digest": DIGEST,
        "nonce": DATA_NONCE,
        "in_features": 5,
        "parameters": "rlwe-8192-141",
        "policy": POLICY,
        "before": {},
    }
    policy = changes.get("policy")
    if isinstance(policy, dict):
        changes["policy"] = POLICY | policy
    return DataOwnerTerms.model_validate({**usual, **changes})


@dataclass(frozen=True, kw_only=True)
class SmallContract(Contract):
    """A contract under parameters without security, for speed."""

    @cached_property
    def schemes(self) -> dict[Role, Scheme]:
        """The testing parameters for whoever holds a key."""
        return dict.fromkeys(self._needs(), RlweScheme(parameters=TESTING_ONLY))


def contract_of(
    *,
    label: LabelOwnerTerms | None = None,
    data: DataOwnerTerms | None = None,
    production: bool = False,
) -> Contract:
    """Join two sides' terms, under production parameters or the testing ones."""
    kind = Contract if production else SmallContract
    return kind(label_owner=label or label_terms(), data_owner=data or data_terms())


def table_of(contract: Contract, *, name: str = "table") -> Features:
    """Draw a table of activations as wide and long as the contract says, over the whole range."""
    rows, columns = contract.label_owner.rows, contract.in_features
    words = words_of(name, rows * columns).reshape(rows, columns)
    activation_ND = ((words % np.uint64(2**16 - 1)).astype(np.int64) - (2**15 - 1)).astype(np.int16)
    return Features(activation_ND=activation_ND, digest_N=row_digests(activation_ND))


def gradient_of(handle: RowHandle, columns: int, *, name: str = "gradient") -> RingArray:
    """Draw dz' of a batch in ring integers, |dz'| < 1."""
    words = words_of(name, handle.rows * columns).reshape(handle.rows, columns)
    return (words >> np.uint64(37)) - np.uint64(2**26)


def training_handles(contract: Contract) -> list[RowHandle]:
    """Every training batch of a run, in order."""
    epochs = range(contract.label_owner.epochs)
    return [handle for epoch in epochs for handle in contract.schedule.batches(Split.TRAIN, epoch=epoch)]


def machines(
    contract: Contract,
    *,
    randomness: Randomness | None = None,
    charge: Charge = lambda *_: None,
    opened: bool = True,
) -> tuple[BlindLabelOwner, BlindDataOwner]:
    """Make both machines under the real scheme, with the initial share delivered where `opened`."""
    source = randomness or RecordedRandomness(b"machines")
    keys, evaluator = make_halves(contract, Role.LABEL_OWNER, randomness=source)
    label_owner = BlindLabelOwner(contract, keys=keys, randomness=source)
    data_owner = BlindDataOwner(
        contract,
        evaluator=evaluator,
        features=table_of(contract),
        state=None,
        charge=charge,
        randomness=source,
    )
    if opened:
        deliver(data_owner.open(Seed(bytes(32))), label_owner)
    return label_owner, data_owner


def deliver(blocks: Iterable[Block], label_owner: BlindLabelOwner) -> None:
    """Give blocks to the label owner."""
    for block in blocks:
        label_owner.receive(block)


def answers(blocks: Iterable[Block], data_owner: BlindDataOwner) -> list[Block]:
    """Give blocks to the data owner and return everything it says."""
    return [answer for block in blocks for answer in data_owner.receive(block)]


class TamperedChannel:
    """A channel whose outgoing frames pass a `Tamper`."""

    def __init__(self, channel: Channel, tamper: Tamper) -> None:
        self._channel = channel
        self._tamper = tamper
        self._number = 0

    @property
    def bytes_sent(self) -> int:
        """As the channel's."""
        return self._channel.bytes_sent

    @property
    def bytes_received(self) -> int:
        """As the channel's."""
        return self._channel.bytes_received

    def send(self, frame: bytes) -> None:
        """Send what the network makes of a frame."""
        number, self._number = self._number, self._number + 1
        for each in self._tamper(number, frame):
            self._channel.send(each)

    def receive(self, *, deadline_seconds: float) -> bytes:
        """As the channel's."""
        return self._channel.receive(deadline_seconds=deadline_seconds)

    def close(self) -> None:
        """As the channel's."""
        self._channel.close()


def intact(number: int, frame: bytes) -> Iterator[bytes]:
    """Leave every frame as it is."""
    del number
    yield frame


def drop(target: int) -> Tamper:
    """Lose one frame."""
    return lambda number, frame: [] if number == target else [frame]


def repeat(target: int) -> Tamper:
    """Deliver one frame twice."""
    return lambda number, frame: [frame, frame] if number == target else [frame]


def reorder(target: int) -> Tamper:
    """Deliver one frame after its successor."""
    held: list[bytes] = []

    def tamper(number: int, frame: bytes) -> list[bytes]:
        if number == target:
            held.append(frame)
            return []
        return [frame, held.pop()] if held else [frame]

    return tamper


def cut(target: int, *, size: int) -> Tamper:
    """Deliver only the first bytes of one frame."""
    return lambda number, frame: [frame[:size] if number == target else frame]


def flip(target: int, *, byte: int) -> Tamper:
    """Invert the bits of one byte of one frame."""

    def tamper(number: int, frame: bytes) -> list[bytes]:
        if number != target:
            return [frame]
        changed = bytearray(frame)
        changed[byte] ^= 0xFF
        return [bytes(changed)]

    return tamper


def grow(target: int) -> Tamper:
    """Make one frame longer than any frame may be; the channel that sends it refuses it."""
    return lambda number, frame: [frame.ljust(MAX_FRAME_BYTES + 1, b"\0") if number == target else frame]


def rewrite(target: int, change: Callable[[Frame], Frame]) -> Tamper:
    """Change fields of one frame."""

    def tamper(number: int, frame: bytes) -> list[bytes]:
        return [encode_frame(change(decode_frame(frame))) if number == target else frame]

    return tamper


def with_block(frame: Frame, **changes: object) -> Frame:
    """Change fields of a frame's block."""
    return replace(frame, block=replace(frame.block, **changes))  # type: ignore[arg-type]


class DataOwnerEnd:
    """The data owner's loop over its end of a memory channel; runs whenever the other end waits.

    Attributes:
        error: what stopped it.
        rho: the dither of each answer, in order.
    """

    def __init__(self, session: Session, machine: BlindDataOwner, inbox: Callable[[], int]) -> None:
        self.session = session
        self.machine = machine
        self.error: MoietyError | None = None
        self.rho: list[RingArray] = []
        self._inbox = inbox

    def pump(self) -> None:
        """Answer everything that lies in the inbox."""
        while self._inbox() and not self.session.closed:
            try:
                block = self.session.receive()
                self.session.send(self.machine.receive(block))
                if block.kind is Kind.REQUEST:
                    self.rho.append(recorded_dither(self.machine))
            except MoietyError as error:
                self.error = error
                self.session.abort(error)


def recorded_dither(machine: BlindDataOwner) -> RingArray:
    """Compute the dither of the request just accepted: the same function of the same state."""
    return dither(machine._dither_key, machine._share, machine._digest_N)


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Both parties after the handshake and the initial share, over one in-memory wire."""

    contract: Contract
    label_session: Session
    label_owner: BlindLabelOwner
    data_owner: DataOwnerEnd
    link: LabelOwnerLink

    def weights(self) -> RingArray:
        """Add the shares up, which neither party can."""
        return self.label_owner.share + self.data_owner.machine.state().share_DK

    def activations(self) -> NDArray[np.int16]:
        """The data owner's table."""
        features = self.data_owner.machine._features
        assert isinstance(features, Features)
        return features.activation_ND


def parties(
    contract: Contract,
    *,
    outgoing: Tamper = intact,
    incoming: Tamper = intact,
    randomness: Randomness | None = None,
    charge: Charge = lambda *_: None,
) -> Parties:
    """Join two parties; `outgoing` changes what the label owner sends, `incoming` what it gets.

    Frame 0 of the data owner is its first after the initial share, which passes unchanged.
    """
    label_owner, data_owner = machines(contract, randomness=randomness, charge=charge)
    label_end, data_end = memory_pair()
    sessions = [
        Session(TamperedChannel(end, tamper), role=role, deadline_seconds=DEADLINE_SECONDS)
        for end, tamper, role in (
            (label_end, outgoing, Role.LABEL_OWNER),
            (data_end, incoming, Role.DATA_OWNER),
        )
    ]
    for session in sessions:
        session.bind(contract=contract.digest, session=contract.session)
    peer = DataOwnerEnd(sessions[1], data_owner, lambda: len(data_end.inbox))
    data_end.pump = peer.pump
    return Parties(
        contract=contract,
        label_session=sessions[0],
        label_owner=label_owner,
        data_owner=peer,
        link=LabelOwnerLink(sessions[0], label_owner, rounding_seed=Seed(bytes([9]) * 32)),
    )
