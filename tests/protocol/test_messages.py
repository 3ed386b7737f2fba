"""The codec: every field at and over its limit, and nothing but a typed error for anything else."""

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moiety.contract.products import Role
from moiety.contract.schedule import RowHandle, Split
from moiety.contract.terms import WIRE_VERSION
from moiety.errors import MalformedMessageError
from moiety.net.frame import HEADER_BYTES, NO_CONTRACT, NO_SESSION, Frame, decode_frame, encode_frame
from moiety.protocol.messages import (
    BLOCKS_LIMIT,
    PAYLOAD_LIMIT,
    Block,
    Kind,
    Request,
    decode_request,
    encode_request,
)
from tests.support.pair import with_block

# Where fields of the header begin: see the table at the top of `moiety.net.frame`.
VERSION_AT, ROLE_AT, KIND_AT, INDEX_AT, COUNT_AT, LENGTH_AT, CHECKSUM_AT = 4, 6, 7, 80, 84, 88, 92

FRAME = Frame(
    role=Role.LABEL_OWNER,
    contract=NO_CONTRACT,
    session=NO_SESSION,
    sequence=3,
    acknowledged=2,
    block=Block(kind=Kind.WEIGHTS, step=7, payload=b"payload", index=1, count=2),
)
REQUEST = Request(handle=RowHandle(split=Split.TRAIN, epoch=1, batch=2, rows=3), training=True, updates=4)
SHORT = {Kind.FINISH, Kind.ABORT, Kind.REQUEST, Kind.RECONNECT, Kind.ACKNOWLEDGE}
LONG = 2**64 - 1
WORD = 2**32 - 1


def patched(frame: Frame, *, at: int, value: bytes) -> bytes:
    """Change bytes of a frame, and its checksum with them."""
    data = encode_frame(frame)
    header = (data[:at] + value + data[at + len(value) :])[:CHECKSUM_AT]
    payload = data[HEADER_BYTES:]
    return header + zlib.crc32(header + payload).to_bytes(4, "little") + payload


@given(
    role=st.sampled_from(Role),
    kind=st.sampled_from([kind for kind in Kind if kind not in SHORT]),
    contract=st.binary(min_size=32, max_size=32),
    session=st.binary(min_size=16, max_size=16),
    numbers=st.tuples(*[st.integers(0, LONG)] * 3),
    place=st.integers(1, BLOCKS_LIMIT).flatmap(
        lambda count: st.tuples(st.integers(0, count - 1), st.just(count))
    ),
    payload=st.binary(max_size=200),
)
def test_frame_round_trip(
    role: Role,
    kind: Kind,
    contract: bytes,
    session: bytes,
    numbers: tuple[int, int, int],
    place: tuple[int, int],
    payload: bytes,
) -> None:
    block = Block(kind=kind, step=numbers[2], payload=payload, index=place[0], count=place[1])
    frame = Frame(
        role=role,
        contract=contract,
        session=session,
        sequence=numbers[0],
        acknowledged=numbers[1],
        block=block,
    )
    assert decode_frame(encode_frame(frame)) == frame


@given(
    split=st.sampled_from(Split),
    numbers=st.tuples(*[st.integers(0, WORD)] * 3),
    training=st.booleans(),
    updates=st.integers(0, LONG),
)
def test_request_round_trip(
    *, split: Split, numbers: tuple[int, int, int], training: bool, updates: int
) -> None:
    handle = RowHandle(split=split, epoch=numbers[0], batch=numbers[1], rows=numbers[2])
    request = Request(handle=handle, training=training, updates=updates)
    assert decode_request(encode_request(request)) == request


def test_frame_layout_is_the_documented_one() -> None:
    assert HEADER_BYTES == 4 + 2 + 1 + 1 + 32 + 16 + 3 * 8 + 3 * 4 + 4
    data = encode_frame(FRAME)
    assert data[:4] == b"moty"
    assert data[VERSION_AT : VERSION_AT + 2] == WIRE_VERSION.to_bytes(2, "little")
    assert (data[ROLE_AT], data[KIND_AT]) == (2, 5)
    assert data[56:64] == (3).to_bytes(8, "little")
    assert data[INDEX_AT : INDEX_AT + 4] == (1).to_bytes(4, "little")
    assert data[LENGTH_AT:CHECKSUM_AT] == (7).to_bytes(4, "little")
    assert data[CHECKSUM_AT:HEADER_BYTES] == zlib.crc32(data[:92] + b"payload").to_bytes(4, "little")
    assert data[HEADER_BYTES:] == b"payload"


@pytest.mark.parametrize("at", [ROLE_AT, 8, 56, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 6])
def test_frame_with_a_damaged_byte(at: int) -> None:
    data = bytearray(encode_frame(FRAME))
    data[at] ^= 0x10
    with pytest.raises(MalformedMessageError, match="damaged on its way"):
        decode_frame(bytes(data))


def test_frame_truncated_at_every_length() -> None:
    data = encode_frame(FRAME)
    for size in range(len(data)):
        with pytest.raises(MalformedMessageError):
            decode_frame(data[:size])


def test_frame_with_bytes_behind_it() -> None:
    with pytest.raises(MalformedMessageError, match="announces 7 bytes and carries 8"):
        decode_frame(encode_frame(FRAME) + b"\0")


def test_frame_of_another_protocol() -> None:
    with pytest.raises(MalformedMessageError, match="does not speak"):
        decode_frame(patched(FRAME, at=0, value=b"http"))


@pytest.mark.parametrize("version", [0, WIRE_VERSION + 1, 2**16 - 1])
def test_frame_of_another_version_names_both(version: int) -> None:
    with pytest.raises(MalformedMessageError, match=f"own {WIRE_VERSION}, peer {version}") as caught:
        decode_frame(patched(FRAME, at=VERSION_AT, value=version.to_bytes(2, "little")))
    assert "same version" in caught.value.hint


@pytest.mark.parametrize("role", [0, 3, 255])
def test_frame_of_unknown_role(role: int) -> None:
    with pytest.raises(MalformedMessageError, match=f"unknown role {role}"):
        decode_frame(patched(FRAME, at=ROLE_AT, value=bytes([role])))


@pytest.mark.parametrize("kind", [0, 200, 255])
def test_frame_of_unknown_kind(kind: int) -> None:
    with pytest.raises(MalformedMessageError, match=f"kind {kind}"):
        decode_frame(patched(FRAME, at=KIND_AT, value=bytes([kind])))


SMALL = {
    Kind.HELLO: 2**14,
    Kind.ALIGNMENT: 2**14,
    Kind.ALIGNED: 32,
    Kind.REQUEST: 22,
    Kind.FINISH: 1,
    Kind.ABORT: 2,
    Kind.CHECKPOINT: 40,
    Kind.CHECKPOINTED: 40,
    Kind.RESUME: 64 * 40,
    Kind.RESUMED: 40,
    Kind.RECONNECT: 0,
    Kind.ACKNOWLEDGE: 0,
}
LIMITS = [(kind, SMALL.get(kind)) for kind in Kind]


@pytest.mark.parametrize(("kind", "limit"), LIMITS)
def test_payload_at_and_over_the_limit_of_its_kind(kind: Kind, limit: int | None) -> None:
    size = PAYLOAD_LIMIT if limit is None else limit
    largest = with_block(FRAME, kind=kind, payload=bytes(size))
    assert len(decode_frame(encode_frame(largest)).block.payload) == size
    with pytest.raises(MalformedMessageError, match=f"{size} are allowed"):
        decode_frame(encode_frame(with_block(FRAME, kind=kind, payload=bytes(size + 1))))


@pytest.mark.parametrize(
    ("index", "count"), [(0, 0), (1, 1), (2, 1), (WORD, 1), (0, BLOCKS_LIMIT + 1), (WORD, WORD)]
)
def test_block_number_outside_its_message(index: int, count: int) -> None:
    with pytest.raises(MalformedMessageError, match=f"number {index} of {count}"):
        decode_frame(encode_frame(with_block(FRAME, index=index, count=count)))


def test_block_number_at_its_limit() -> None:
    frame = with_block(FRAME, index=BLOCKS_LIMIT - 1, count=BLOCKS_LIMIT)
    assert decode_frame(encode_frame(frame)) == frame


def test_numbers_at_their_limits() -> None:
    frame = replace(with_block(FRAME, step=LONG), sequence=LONG, acknowledged=LONG)
    assert decode_frame(encode_frame(frame)) == frame


def test_request_truncated_or_extended() -> None:
    data = encode_request(REQUEST)
    for payload in [*(data[:size] for size in range(len(data))), data + b"\0"]:
        with pytest.raises(MalformedMessageError, match="instead of 22"):
            decode_request(payload)


@pytest.mark.parametrize(("at", "value"), [(0, 2), (0, 255), (1, 4), (1, 255)])
def test_request_of_unknown_purpose_or_split(at: int, value: int) -> None:
    data = bytearray(encode_request(REQUEST))
    data[at] = value
    with pytest.raises(MalformedMessageError, match="no known purpose or split"):
        decode_request(bytes(data))


@given(st.binary(max_size=300))
def test_decoding_random_bytes_raises_nothing_else(data: bytes) -> None:
    for decode in (decode_frame, decode_request):
        try:
            decode(data)
        except MalformedMessageError:
            continue


@given(position=st.integers(0, HEADER_BYTES - 1), value=st.integers(0, 255))
def test_decoding_a_frame_with_one_byte_changed_raises_nothing_else(position: int, value: int) -> None:
    data = patched(FRAME, at=position, value=bytes([value]))
    try:
        assert encode_frame(decode_frame(data)) == data
    except MalformedMessageError:
        assert data != encode_frame(FRAME)
