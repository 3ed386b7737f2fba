"""The transcript: equal on both sides at the same point, and nowhere else."""

from dataclasses import replace

import pytest

from moiety.contract.products import Role
from moiety.net.transcript import Transcript
from moiety.protocol.messages import ABOUT_CHECKPOINTS, Block, Kind

REQUEST = Block(kind=Kind.REQUEST, step=3, payload=bytes(range(22)))
ANSWER = Block(kind=Kind.MASKED_Z, step=3, payload=bytes(200), index=1, count=2)


def both() -> tuple[Transcript, Transcript]:
    return Transcript(Role.LABEL_OWNER), Transcript(Role.DATA_OWNER)


def test_transcripts_agree_where_directions_overtake_each_other() -> None:
    label_owner, data_owner = both()
    label_owner.sent(REQUEST)
    label_owner.sent(REQUEST)
    label_owner.received(ANSWER)
    data_owner.received(REQUEST)
    data_owner.sent(ANSWER)
    assert label_owner.digest() != data_owner.digest()
    data_owner.received(REQUEST)
    assert label_owner.digest() == data_owner.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": Kind.SHARE_OF_Z},
        {"step": 4},
        {"index": 0},
        {"count": 3},
        {"payload": bytes(199)},
        {"payload": b"\1" + bytes(199)},
        {"payload": bytes(199) + b"\1"},
    ],
)
def test_transcripts_differ_with_any_part_of_a_block(change: dict[str, object]) -> None:
    label_owner, data_owner = both()
    label_owner.received(ANSWER)
    data_owner.sent(replace(ANSWER, **change))  # type: ignore[arg-type]
    assert label_owner.digest() != data_owner.digest()


def test_transcript_tells_directions_apart() -> None:
    one, other = both()
    one.sent(REQUEST)
    other.sent(REQUEST)
    assert one.digest() != other.digest()


@pytest.mark.parametrize("kind", sorted(ABOUT_CHECKPOINTS))
def test_transcript_leaves_out_blocks_about_checkpoints(kind: Kind) -> None:
    transcript, fresh = both()[0], both()[0]
    transcript.sent(Block(kind=kind, step=0, payload=b"mark"))
    transcript.received(Block(kind=kind, step=0, payload=b"mark"))
    assert transcript.digest() == fresh.digest()


def test_transcript_chains_to_an_earlier_one() -> None:
    label_owner, data_owner = both()
    label_owner.continue_from(b"earlier")
    assert label_owner.digest() != data_owner.digest()
    data_owner.continue_from(b"earlier")
    assert label_owner.digest() == data_owner.digest()
