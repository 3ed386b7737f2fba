"""Whatever bytes come from a peer or a disk: a value or a typed refusal, never another error.

The short version of `make fuzz`: the same targets under hypothesis, and what fuzzing found, one by one.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.run import outcome_of
from fuzz.targets import TARGETS, check_refusal
from moiety.errors import MoietyError, RemoteProtocolError

DEEP = 100_000


@st.composite
def damaged(draw: st.DrawFn, examples: list[bytes]) -> bytes:
    """Bytes of an example with a few stretches replaced, cut out or put in."""
    data = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=8)) + data[at + draw(st.integers(0, 8)) :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_reader_of_any_bytes_answers_or_refuses(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=80)
    @given(data=st.binary(max_size=200) | damaged(target.examples))
    def read(data: bytes) -> None:
        target(data)

    read()


def arrays_file(header: dict[str, Any], data: bytes = b"") -> bytes:
    """A model's arrays as the target takes them: "A", then a safetensors file."""
    text = json.dumps(header).encode()
    return b"A" + len(text).to_bytes(8, "little") + text + data


def array_of(kind: str, shape: list[int], size: int) -> bytes:
    header = {"share": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}
    return arrays_file(header, bytes(size))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param("run-file", b"a = " + b"[" * DEEP, id="run file with deep lists"),
        pytest.param("run-file", b"a = " + b"{a=" * DEEP, id="run file with deep tables"),
        pytest.param("run-file", b"a = " + b"9" * 5000, id="run file with a long number"),
        pytest.param("run-file", b"#" * (2**20 + 1), id="run file that is too long"),
        pytest.param("ledger", b"[" * DEEP + b"\n", id="ledger with deep lists"),
        pytest.param("contract", b"r1", id="contract that is a number"),
        pytest.param("model", b"f" + b"[" * DEEP, id="facts with deep lists"),
        pytest.param("model", array_of("BF16", [1], 2), id="arrays of a type NumPy has not"),
        pytest.param("model", array_of("U64", [2**62, 0], 0), id="arrays of a shape too large"),
        pytest.param("model", array_of("U64", [1] * 70, 8), id="arrays of too many dimensions"),
    ],
)
def test_what_fuzzing_found_is_refused(name: str, data: bytes) -> None:
    with pytest.raises(MoietyError) as caught:
        TARGETS[name].reader(data)
    check_refusal(caught.value)


def test_frame_that_acknowledges_too_much_is_told_from_one_out_of_order() -> None:
    """Fuzzing found the sentence "frame 0 came where frame 0 was expected"."""
    with pytest.raises(RemoteProtocolError, match="acknowledges 1 frames, and 0 were sent"):
        TARGETS["session"].reader(bytes([0b0110, 0]))


def test_target_reports_what_is_no_refusal() -> None:
    """Control: a target does not swallow other errors, nor a refusal that would write to a terminal."""
    target = TARGETS["frame"].__class__
    with pytest.raises(ZeroDivisionError):
        target(read=lambda data: 1 // len(data), examples=[])(b"")

    def refuse(data: bytes) -> None:
        raise MoietyError(f"no {data.decode()}")

    with pytest.raises(AssertionError, match="control character"):
        target(read=refuse, examples=[])(b"\x1b[2J")


def test_outcome_of_a_process_that_ended_early_is_a_finding() -> None:
    assert outcome_of("frame", "== libFuzzer: timeout", code=0).found
    assert outcome_of("frame", "Done 7 runs in 2 second(s)", code=77).found
    assert not outcome_of("frame", "Done 7 runs in 2 second(s)", code=0).found
