"""What is fuzzed: each target takes any bytes and may end in a value or in a `MoietyError`, in nothing else.

The same functions run under hypothesis in `make test` and under atheris in `make fuzz`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Final
from zlib import crc32

from fuzz import files, machines
from moiety.contract.assignment import Assignment
from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, Split
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, decode_terms, encode_terms
from moiety.errors import MoietyError
from moiety.net.frame import HEADER_BYTES, Frame, decode_frame, encode_frame
from moiety.protocol.messages import (
    MARK_BYTES,
    MARKS_LIMIT,
    Block,
    Kind,
    Request,
    decode_request,
    encode_request,
)
from moiety.protocol.resume import Mark, mark_block, read_mark, read_resume, read_resumed, resume_block
from tests.support.pair import data_terms, label_terms


@dataclass(frozen=True, kw_only=True)
class Target:
    """One thing that reads bytes.

    Args:
        read: takes any bytes; or where it is, as "module:function", to be imported when it is needed.
        examples: bytes that are read to their end, or deep: where a fuzzer starts from.
        longest: bytes of the longest string that is tried.
        megabytes: resident memory allowed: the interpreter with its libraries takes 80, with PyTorch 350.
    """

    read: Callable[[bytes], object] | str
    examples: list[bytes]
    longest: int = 4096
    megabytes: int = 512

    @cached_property
    def reader(self) -> Callable[[bytes], object]:
        """The function that reads."""
        if not isinstance(self.read, str):
            return self.read
        module, _, name = self.read.partition(":")
        found: Callable[[bytes], object] = getattr(import_module(module), name)
        return found

    def __call__(self, data: bytes) -> None:
        """Read bytes; a `MoietyError` is an answer, anything else is a finding."""
        try:
            self.reader(data)
        except MoietyError as error:
            check_refusal(error)


def check_refusal(error: MoietyError) -> None:
    """Check that a refusal is one sentence that a terminal and a log can show."""
    text = error.message + error.hint
    assert error.message
    assert len(text) < LONGEST_REFUSAL
    assert text.isprintable(), "a control character of the peer's would reach a log"


LONGEST_REFUSAL: Final = 2000
CHECKSUM_BYTES: Final = 4
_FRAME: Final = Frame(
    role=Role.LABEL_OWNER,
    contract=bytes(32),
    session=bytes(16),
    sequence=3,
    acknowledged=2,
    block=Block(kind=Kind.WEIGHTS, step=7, payload=b"payload", index=1, count=2),
)
_REQUEST: Final = Request(
    handle=RowHandle(split=Split.TRAIN, epoch=1, batch=2, rows=3), training=True, updates=4
)


def _read_frame(data: bytes) -> None:
    """Read a frame with its checksum repaired, so that a changed byte is more than damage; then as it is."""
    at = HEADER_BYTES - CHECKSUM_BYTES
    whole = crc32(data[HEADER_BYTES:], crc32(data[:at])).to_bytes(CHECKSUM_BYTES, "little")
    repaired = data[:at] + whole + data[HEADER_BYTES:]
    try:
        assert encode_frame(decode_frame(repaired)) == repaired
    except MoietyError as error:
        check_refusal(error)
    assert encode_frame(decode_frame(data)) == data


def _read_marks(data: bytes) -> None:
    kind = (Kind.CHECKPOINT, Kind.RESUME, Kind.RESUMED)[len(data) and data[0] % 3]
    block = Block(kind=kind, step=0, payload=data[1:])
    if kind is Kind.CHECKPOINT:
        assert mark_block(kind, read_mark(block, kind)) == block
    elif kind is Kind.RESUME:
        assert resume_block(read_resume(block)) == block
    else:
        read_resumed(block, [Mark(updates=0, transcript=bytes(32))])


def _read_assignment(data: bytes) -> None:
    rows = max(0, 4 * len(data[1:]) - (data[0] % 4 if data else 0))
    assignment = Assignment.from_payloads([data[1:]], rows=rows)
    assert b"".join(assignment.payloads()) == data[1:]
    assert sum(assignment.counts) == assignment.rows


def _read_request(data: bytes) -> None:
    assert encode_request(decode_request(data)) == data


def _read_label_owner_terms(data: bytes) -> None:
    terms = decode_terms(data, LabelOwnerTerms)
    assert decode_terms(encode_terms(terms), LabelOwnerTerms) == terms


def _read_data_owner_terms(data: bytes) -> None:
    terms = decode_terms(data, DataOwnerTerms)
    assert decode_terms(encode_terms(terms), DataOwnerTerms) == terms


_HONEST: Final = bytes([Kind.REQUEST - 1, 1, 8, 0, 0, 0])
_RUN_FILE: Final = b"""\
version = 1
role = "%s"
run = "a"
own = { key = "k", certificate = "c" }
[[peer]]
name = "b"
certificate = "p"
dial = "h:1"
[table]
source = "t.csv"
%s
"""

TARGETS: Final[dict[str, Target]] = {
    "frame": Target(read=_read_frame, examples=[encode_frame(_FRAME)]),
    "marks": Target(
        read=_read_marks,
        examples=[b"\0" + bytes(40), b"\1" + bytes(80), b"\2" + bytes(40)],
        longest=1 + MARKS_LIMIT * MARK_BYTES,
    ),
    "assignment": Target(read=_read_assignment, examples=[b"\3\x12\x01", b"\0"], longest=64),
    "request": Target(read=_read_request, examples=[encode_request(_REQUEST)], longest=64),
    "label-owner-terms": Target(read=_read_label_owner_terms, examples=[encode_terms(label_terms())]),
    "data-owner-terms": Target(read=_read_data_owner_terms, examples=[encode_terms(data_terms())]),
    "label-owner-handshake": Target(
        read=machines.give_label_owner_terms, examples=[b"-", bytes([3, 3])], longest=64
    ),
    "data-owner-handshake": Target(
        read=machines.give_data_owner_terms, examples=[b"-", bytes([3, 3])], longest=64
    ),
    "session": Target(
        read=machines.give_session, examples=[bytes([2, 8]) + b"hello---", bytes([1, 3]) + b"abc"]
    ),
    "data-owner-machine": Target(read=machines.give_data_owner, examples=[_HONEST, 2 * _HONEST]),
    "label-owner-machine": Target(
        read=machines.give_label_owner, examples=[bytes([Kind.MASKED_Z - 1, 1, 0, 1, 0, 7])]
    ),
    "data-owner-party": Target(
        read="fuzz.parties:give_data_owner_party",  # imports PyTorch
        examples=[b"\0", b"\0" + bytes([Kind.PUBLIC_KEY - 1, 0, 0, 1, 0x80, 0]), b"\1" + _HONEST],
        longest=256,
        megabytes=2048,
    ),
    "run-file": Target(
        read=files.load_run_file,
        examples=[_RUN_FILE % (b"label-owner", b'target = "y"'), _RUN_FILE % (b"data-owner", b"[policy]")],
    ),
    "model": Target(
        read=files.load_model_file,
        examples=[
            b"f{}",
            b'F{"model": 1}',
            b"a" + (2).to_bytes(8, "little") + b"{}",
            b'A\x40\0\0\0\0\0\0\0{"share":{"dtype":"U64","shape":[1,1],"data_offsets":[0,8]}}    ' + bytes(8),
        ],
    ),
    "checkpoint": Target(
        read=files.load_checkpoint,
        examples=[b"r" + files.checkpoint_example(), b'F{"mark": "1-ab"}'],
    ),
    "contract": Target(
        read=files.load_contract,
        examples=[b"r" + files.contract_example(), b"s" + files.contract_example()],
    ),
    "ledger": Target(
        read=files.load_ledger,
        examples=[b"", b'{"released_z_per_row": 4, "predictions": 0}\n'],
    ),
}
