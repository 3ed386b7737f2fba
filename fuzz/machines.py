"""Byte strings as what a hostile peer sends: blocks of a machine, terms of a handshake, frames of a session.

A string that libFuzzer or hypothesis made becomes a sequence of small decisions, so that a flipped byte is
another message and not another refusal of the same first check. Imported by `targets`.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from moiety.contract.flow import matrix_sizes
from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, encode_terms
from moiety.net.channel import memory_pair
from moiety.net.frame import Frame, encode_frame
from moiety.net.session import Session
from moiety.protocol.blind import BlindLabelOwner
from moiety.protocol.handshake import DataOwnerHandshake, LabelOwnerHandshake
from moiety.protocol.messages import Block, Kind, Request, encode_request
from tests.support.pair import contract_of, data_terms, label_terms, machines, training_handles

MOST_BLOCKS: Final = 64
_BLOCK: Final = struct.Struct("<BBBBBB")
_KINDS: Final = list(Kind)
_CONTRACT: Final = contract_of()
_SIZES: Final = sorted(
    {
        size
        for product in (Product.FORWARD, Product.UPDATE)
        for rows in (4, 8, 14, 16)
        for plan in [_CONTRACT.plan(product, rows)]
        for size in (*plan.request_sizes, *plan.response_sizes)
    }
    | {size for rows in (4, 5, 8, 14, 16) for size in matrix_sizes(rows, _CONTRACT.out_features)}
)
"""Sizes of payloads that are expected somewhere: a machine looks at nothing of another size."""

_NASTY: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    40,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64,
    10**400,
    0.0,
    0.1,
    -0.5,
    0.999999,
    1.0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "a",
    "blind",
    "joint",
    "acml",
    "rlwe",
    "paillier",
    "paillier-legacy",
    "trained",
    "fixed",
    "gradients",
    "nothing",
    "predict",
    "train",
    "ab" * 32,
    "\0",
    "\u202e",
    "\ud800",
    "x" * 5000,
    [],
    [1],
    ["blind"],
    ["rlwe", "rlwe"],
    {},
    {"run": "a"},
)
"""Values that a field of the terms may come with."""


def blocks_from(data: bytes) -> Iterator[Block]:
    """Read a byte string as blocks: kind, step, index, count, how the payload is made, its filling."""
    for _ in range(MOST_BLOCKS):
        if len(data) < _BLOCK.size:
            return
        kind, step, index, count, how, filling = _BLOCK.unpack_from(data)
        data = data[_BLOCK.size :]
        size = _SIZES[how % len(_SIZES)]
        if how & 0x80:  # the bytes that follow are the payload
            payload, data = data[:filling], data[filling:]
        elif kind % len(_KINDS) == Kind.REQUEST - 1:
            payload = _request(index, count, filling)
            index, count = 0, 1
        else:
            payload = bytes([filling]) * size
        yield Block(kind=_KINDS[kind % len(_KINDS)], step=step, payload=payload, index=index, count=count)


def _request(split: int, batch: int, updates: int) -> bytes:
    handles = _CONTRACT.schedule.batches(Split(split % 4), epoch=split // 4 % 2)
    handle = handles[batch % len(handles)]
    return encode_request(Request(handle=handle, training=bool(split & 8), updates=updates % 4))


def give_data_owner(data: bytes) -> None:
    """Give a data owner's machine blocks, until it refuses one."""
    _, machine = machines(_CONTRACT)
    for block in blocks_from(data):
        for _ in machine.receive(block):
            pass


def give_label_owner(data: bytes) -> None:
    """Give a label owner's machine blocks between its own requests and updates, until it refuses one."""
    machine, _ = machines(_CONTRACT)
    acts = _training(machine)
    for block in blocks_from(data):
        if not machine.waiting and next(acts, None) is None:
            return
        for _ in machine.receive(block):
            pass


def _training(machine: BlindLabelOwner) -> Iterator[int]:
    """Ask for z of each training batch and send its update, one after the other."""
    for handle in training_handles(_CONTRACT):
        yield _drain(machine.request(handle, training=True))
        machine.z()
        scaled_NK = np.zeros((handle.rows, _CONTRACT.out_features), dtype=np.uint64)
        yield _drain(machine.update(scaled_NK, None))


def _drain(blocks: Iterable[Block]) -> int:
    return sum(1 for _ in blocks)


def give_session(data: bytes) -> None:
    """Give a session frames of any content: the first byte of each piece says what is changed."""
    own, peer = memory_pair()
    session = Session(own, role=Role.DATA_OWNER, deadline_seconds=1.0)
    if data[:1] == b"b":
        session.bind(contract=bytes(32), session=bytes(16))
    for number in range(MOST_BLOCKS):
        start, data = data[:2], data[2:]
        if len(start) < len(b"hs"):
            return
        how, size = start
        piece, data = data[:size], data[size:]
        peer.send(piece if how & 1 else _frame(number, how, piece))
        session.receive()


def _frame(number: int, how: int, piece: bytes) -> bytes:
    frame = Frame(
        role=Role.LABEL_OWNER if how & 2 else Role.DATA_OWNER,
        contract=bytes(32) if how & 4 else piece[:32].ljust(32, b"\0"),
        session=bytes(16),
        sequence=number + (how >> 6),
        acknowledged=0 if how & 8 else 1,
        block=Block(kind=_KINDS[how % len(_KINDS)], step=0, payload=piece),
    )
    return encode_frame(frame)


def give_data_owner_terms(data: bytes) -> None:
    """Answer a label owner's terms of any content as a data owner with 40 rows does, and compare."""
    handshake = DataOwnerHandshake()
    proposal = handshake.receive(_hello(data, label_terms()))
    assert proposal is not None  # none but a data owner that wants an assignment waits for more
    own = data_terms(purpose=proposal.purpose)
    handshake.answer(own)
    contract = handshake.agree(own)
    contract.schedule.batches(Split.TRAIN, epoch=0)


def give_label_owner_terms(data: bytes) -> None:
    """Take a data owner's terms of any content as a label owner with 40 rows does, and compare."""
    LabelOwnerHandshake(label_terms()).receive(_hello(data, data_terms()))


def _hello(data: bytes, usual: LabelOwnerTerms | DataOwnerTerms) -> Block:
    """Return terms with fields changed, or the bytes themselves where the first one says so."""
    if data[:1] == b"\xff":
        return Block(kind=Kind.HELLO, step=0, payload=data[1:])
    terms = json.loads(encode_terms(usual))
    nested = [part for part in terms.values() if isinstance(part, dict)]
    places = [(part, name) for part in (terms, *nested) for name in (*part, "unknown")]
    for at in range(0, min(len(data) - 1, 16), 2):
        part, name = places[data[at] % len(places)]
        part[name] = _NASTY[data[at + 1] % len(_NASTY)]
    return Block(kind=Kind.HELLO, step=0, payload=json.dumps(terms).encode())
