"""`python -m benchmarks.instructions`: instructions of the hot loops, counted by valgrind's callgrind.

A count is the same on a busy machine and an idle one: a change of it is a change of the code or of the
compiler. Prints each count beside the recorded one; `--record` writes instructions.json. Valgrind knows no
AVX-512, so the portable path and the AVX2 path are counted, and the AVX-512 path only by the clock (`ntt`,
`paths`).

Counting is switched on around each loop by a library of two functions that is compiled on the spot: requests
to valgrind are instructions, and Python cannot write them. Needs valgrind and a C compiler.
"""

import argparse
import ctypes
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from moiety.crypto import kernel
from moiety.crypto.parameters import LISTED, transform
from moiety.crypto.sampling import Seed, expand, expand_words, gaussian_thresholds

RECORDED: Final = Path(__file__).with_name("instructions.json")
TOLERANCE: Final = 0.01
"""Counts of two runs differ by the interpreter's own work around a loop, far below this fraction."""
REPEATS: Final = 2
POLYNOMIALS: Final = 4
GROUPS, BLOCKS, COLUMN = 16, 32, 128
SUMMARY: Final = re.compile(r"^summary: (\d+)", re.MULTILINE)
NAME: Final = re.compile(r"^desc: Trigger: Client Request: (.+)$", re.MULTILINE)

_REQUESTS: Final = """\
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(const char *name) { CALLGRIND_DUMP_STATS_AT(name); CALLGRIND_STOP_INSTRUMENTATION; }
"""

Words = NDArray[np.uint64]
Counts = dict[str, dict[str, float]]


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One hot loop on fixed arrays.

    Args:
        name: what it does, and what it is counted for.
        work: one call.
        elements: how many of what it is counted for a call treats.
    """

    name: str
    work: Callable[[], object]
    elements: int


def loops() -> Iterator[Loop]:
    """Yield the transform, the sub-ring product, encoding and sampling, on the smallest listed set."""
    parameters = LISTED[0]
    tables, primes, degree = transform(parameters), len(parameters.primes), parameters.degree
    count = POLYNOMIALS * primes * (degree + 64)
    stream = _words(b"words", count)
    residues = tables.uniform(stream.reshape(POLYNOMIALS, primes, -1), length=degree)
    transforms = POLYNOMIALS * primes
    yield Loop(
        name="forward transform, a polynomial", work=lambda: tables.forward(residues), elements=transforms
    )
    yield Loop(
        name="inverse transform, a polynomial", work=lambda: tables.inverse(residues), elements=transforms
    )
    ciphertexts = np.concatenate([residues] * (2 * BLOCKS // POLYNOMIALS)).reshape(BLOCKS, 2, primes, degree)
    multipliers = np.ascontiguousarray(ciphertexts[:GROUPS, :1, :, :COLUMN].repeat(BLOCKS, axis=1))
    yield Loop(
        name="sub-ring product, a modular multiply-accumulate",
        work=lambda: tables.subring_product(multipliers, ciphertexts),
        elements=GROUPS * BLOCKS * 2 * primes * degree,
    )
    size = POLYNOMIALS * degree
    messages = _words(b"messages", size).reshape(POLYNOMIALS, degree)
    yield Loop(name="encode, a coefficient", work=lambda: tables.encode(messages), elements=size)
    yield Loop(
        name="round to share, a coefficient", work=lambda: tables.round_to_share(residues), elements=size
    )
    yield from _sampling(size, stream)


def _sampling(size: int, stream: Words) -> Iterator[Loop]:
    tables, primes, degree = transform(LISTED[0]), len(LISTED[0].primes), LISTED[0].degree
    words = stream.reshape(POLYNOMIALS, primes, -1)
    normal, thresholds = _words(b"normal", size).reshape(POLYNOMIALS, degree), gaussian_thresholds()
    octets = expand(Seed(bytes(32)), b"ternary", index=0, size=POLYNOMIALS * (degree + 512))
    octets = octets.reshape(POLYNOMIALS, -1)
    yield Loop(
        name="uniform, a residue", work=lambda: tables.uniform(words, length=degree), elements=size * primes
    )
    yield Loop(
        name="gaussian, a coefficient", work=lambda: kernel.gaussian(normal, thresholds), elements=size
    )
    yield Loop(
        name="ternary, a coefficient", work=lambda: kernel.ternary(octets, length=degree), elements=size
    )


def count() -> Counts:
    """Return instructions for each element, by path and loop: the worker runs under valgrind."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "requests.c", Path(folder) / "requests.so"
        source.write_text(_REQUESTS, encoding="ascii")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)  # noqa: S607
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/out"]
        command += [sys.executable, "-m", "benchmarks.instructions", "--worker", str(library)]
        subprocess.run(command, check=True, capture_output=True)
        dumps = [path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("out.*"), key=_number)]
    return read_dumps(dumps)


def read_dumps(dumps: list[str]) -> Counts:
    """Read each dump's name, "path: elements: loop", and its count.

    >>> read_dumps(["desc: Trigger: Client Request: portable: 8: encode\\nsummary: 24\\n"])
    {'portable': {'encode': 3.0}}
    """
    found: Counts = {}
    for dump in dumps:
        name, summary = NAME.search(dump), SUMMARY.search(dump)
        if name and summary:
            path, elements, loop = name[1].split(": ", 2)
            found.setdefault(path, {})[loop] = round(int(summary[1]) / int(elements), 3)
    return found


def work(library: Path) -> None:
    """Run every loop on every path that this processor, or valgrind's, has; inside valgrind."""
    requests = ctypes.CDLL(str(library))
    for path in kernel.instruction_sets():
        kernel.use_instruction_set(path)
        for loop in loops():
            loop.work()  # what is done once only
            name = f"{path}: {REPEATS * loop.elements}: {loop.name}".encode()
            requests.begin()
            for _ in range(REPEATS):
                loop.work()
            requests.end(name)


def changes(recorded: Mapping[str, Mapping[str, float]], now: Counts) -> Iterator[str]:
    """Yield a line for each count, with the change where it is above the tolerance.

    >>> list(changes({"portable": {"encode": 2.0}}, {"portable": {"encode": 3.0}}))
    ['portable: encode: 3 instructions, was 2: +50.0 %']
    """
    for path, counts in now.items():
        for loop, value in counts.items():
            before = recorded.get(path, {}).get(loop)
            line = f"{path}: {loop}: {value:g} instructions"
            if before is not None and abs(value - before) > TOLERANCE * before:
                line += f", was {before:g}: {100 * (value - before) / before:+.1f} %"
            yield line


def main() -> None:
    """Count, compare, and record if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write instructions.json")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker is not None:
        work(given.worker)
        return
    now = count()
    file = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    print(*changes(file.get("counts", {}), now), sep="\n")
    if given.record:
        text = json.dumps({"compiler": _compiler(), "counts": now}, indent=1)
        RECORDED.write_text(text + "\n", encoding="utf-8")


def _compiler() -> str:
    done = subprocess.run(["cc", "--version"], check=True, capture_output=True, text=True)  # noqa: S607
    return done.stdout.splitlines()[0]


def _number(path: Path) -> int:
    """Return the number of a dump; the last one, without a loop, has none."""
    return int(path.suffix[1:]) if path.suffix[1:].isdigit() else 0


def _words(purpose: bytes, count: int) -> Words:
    return expand_words(Seed(bytes(32)), purpose, index=0, count=count)


if __name__ == "__main__":
    main()
