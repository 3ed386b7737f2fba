"""Known-answer vectors against `moiety`, and the oracle against its own files and definitions."""

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety import errors
from moiety.crypto import kernel
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import LISTED, TESTING_ONLY, ParameterSet
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductShape
from tests.support import make_vectors, oracle
from tests.support.randomness import ListedRandomness, words_of

PRODUCTION = LISTED[0]
FOLDER = Path(__file__).parents[1] / "vectors"
GOOD = {each["name"]: each for each in json.loads((FOLDER / "good.json").read_text("utf-8"))}
BAD = {each["name"]: each for each in json.loads((FOLDER / "bad.json").read_text("utf-8"))}
SMALL = [name for name, each in GOOD.items() if each["degree"] < 1000]


class Exchange:
    """Both sides of one vector, run by `moiety`."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.plan = _plan(vector)
        self.public_seed = Seed(bytes.fromhex(vector["public_seed"]))
        self.randomness = ListedRandomness(
            bytes.fromhex(vector["seeds"][name]) for name in make_vectors.SEEDS
        )
        self.holder = RlweKeyHolder(
            self.plan.parameters, public_seed=self.public_seed, randomness=self.randomness
        )
        shape = self.plan.shape
        matrix = np.frombuffer(bytes.fromhex(vector["matrix"]), dtype="<u8").astype(np.uint64)
        self.matrix_DK = matrix.reshape(shape.contraction, shape.kept)
        plain = np.frombuffer(bytes.fromhex(vector["plain"]), dtype="<i8").astype(np.int64)
        self.plain_ND = plain.reshape(shape.rows, shape.contraction)

    def requests(self) -> list[bytes]:
        return list(self.holder.encrypt(self.matrix_DK, plan=self.plan, randomness=self.randomness))

    def evaluator(self, public_key: bytes) -> RlweEvaluator:
        return RlweEvaluator(self.plan.parameters, public_key=public_key, public_seed=self.public_seed)

    def responses(self, requests: list[bytes]) -> list[tuple[bytes, Any]]:
        evaluator = self.evaluator(self.holder.public_key())
        return list(evaluator.respond(self.plain_ND, requests, plan=self.plan, randomness=self.randomness))


def _plan(vector: dict[str, Any]) -> PackingPlan:
    sets: dict[int, ParameterSet] = {each.degree: each for each in (TESTING_ONLY, LISTED[0])}
    parameters = sets[vector["degree"]]
    assert list(parameters.primes) == vector["primes"]
    shape = ProductShape(
        rows=vector["rows"],
        contraction=vector["contraction"],
        kept=vector["kept"],
        multiplier_bits=15,
    )
    return PackingPlan(
        parameters=parameters,
        shape=shape,
        slots=vector["slots"],
        contracted_per_ciphertext=vector["contracted"],
        request_bytes=vector["request_bytes"],
        response_bytes=vector["response_bytes"],
    )


def _digests(blocks: list[bytes]) -> list[str]:
    return [sha256(block).hexdigest() for block in blocks]


@pytest.mark.parametrize("name", GOOD)
def test_scheme_good_vector(name: str) -> None:
    vector, expected = GOOD[name], GOOD[name]["expect"]
    exchange = Exchange(vector)
    requests = exchange.requests()
    responses = exchange.responses(requests)
    blocks = [block for block, _ in responses]
    share_evaluator = np.concatenate([share for _, share in responses])
    share_holder = exchange.holder.decrypt(blocks, plan=exchange.plan)
    assert sha256(exchange.holder.public_key()).hexdigest() == expected["public_key"]
    assert _digests(requests) == expected["requests"]
    assert _digests(blocks) == expected["responses"]
    assert share_evaluator.astype("<u8").tobytes().hex() == expected["share_evaluator"]
    assert share_holder.astype("<u8").tobytes().hex() == expected["share_key_holder"]
    product = exchange.plain_ND.astype(np.uint64) @ exchange.matrix_DK
    assert np.array_equal(share_holder + share_evaluator, product)


@pytest.mark.parametrize("name", SMALL)
def test_oracle_good_vector(name: str) -> None:
    vector = dict(GOOD[name])
    expected = vector.pop("expect")
    assert vector == make_vectors.inputs(name)
    assert make_vectors.answers(vector) == expected


def _edited(data: bytes, edit: dict[str, Any], *, header: int) -> bytes:
    if "write" in edit:
        patch = bytes.fromhex(edit["write"])
        at = len(data) - len(patch) if edit.get("at_end") else header
        return data[:at] + patch + data[at + len(patch) :]
    if "append" in edit:
        return data + bytes.fromhex(edit["append"])
    return data[: edit["cut_to"]] if "cut_to" in edit else data[: -edit["cut"]]


def _edited_blocks(blocks: list[bytes], edit: dict[str, Any], *, header: int) -> list[bytes]:
    if "blocks" in edit:
        return [blocks[0]] * int(edit["blocks"])
    return [_edited(blocks[0], edit, header=header), *blocks[1:]]


@pytest.mark.parametrize("name", BAD)
def test_scheme_bad_vector(name: str) -> None:
    vector = BAD[name]
    exchange, edit = Exchange(GOOD[vector["of"]]), vector["edit"]
    requests = exchange.requests()
    responses = [block for block, _ in exchange.responses(requests)]
    key = exchange.holder.public_key()
    checks: dict[str, Callable[[], object]] = {
        "public-key": lambda: exchange.evaluator(_edited(key, edit, header=0)),
        "request": lambda: exchange.responses(_edited_blocks(requests, edit, header=32)),
        "cut-request": lambda: exchange.responses(_edited_blocks(requests, edit, header=32)),
        "response": lambda: exchange.holder.decrypt(
            _edited_blocks(responses, edit, header=0), plan=exchange.plan
        ),
    }
    with pytest.raises(getattr(errors, vector["expect"])):
        checks[vector["target"]]()


@pytest.mark.parametrize("name", BAD)
def test_oracle_bad_vector(name: str) -> None:
    vector, good = BAD[name], GOOD[BAD[name]["of"]]
    exchange, layout, edit = Exchange(good), make_vectors.layout_of(good), vector["edit"]
    requests = exchange.requests()
    responses = [block for block, _ in exchange.responses(requests)]
    key, seed = exchange.holder.public_key(), bytes(32)
    holder = oracle.KeyHolder(layout.ring, public_seed=exchange.public_seed, seed=seed)
    evaluator = oracle.Evaluator(layout.ring, public_key=key, public_seed=seed)
    checks: dict[str, Callable[[], object]] = {
        "public-key": lambda: oracle.Evaluator(
            layout.ring, public_key=_edited(key, edit, header=0), public_seed=seed
        ),
        "request": lambda: evaluator.read_requests(layout, _edited_blocks(requests, edit, header=32)),
        "cut-request": lambda: evaluator.read_requests(layout, _edited_blocks(requests, edit, header=32)),
        "response": lambda: holder.decrypt(layout, _edited_blocks(responses, edit, header=0)),
    }
    with pytest.raises(ValueError, match=r"residue|sizes"):
        checks[vector["target"]]()


def test_oracle_transform_is_evaluation_at_the_stated_points() -> None:
    ring = oracle.Ring(degree=16, primes=(140737488125953, 140737487306753))
    polynomial = [int.from_bytes(bytes([7, 3, place]), "big") ** 5 for place in range(16)]
    values = oracle.to_values(ring, polynomial)
    for prime, row in zip(ring.primes, values, strict=True):
        psi = oracle.primitive_root(prime, 32)
        points = [pow(psi, 2 * int(f"{place:04b}"[::-1], 2) + 1, prime) for place in range(16)]
        expected = [sum(c * pow(x, k, prime) for k, c in enumerate(polynomial)) for x in points]
        assert row == [each % prime for each in expected]
    assert oracle.from_values(ring, values) == [each % ring.modulus for each in polynomial]


def test_oracle_product_is_schoolbook_with_signs() -> None:
    ring = oracle.Ring(degree=8, primes=(140737488125953,))
    left = [ring.modulus - 1, 0, 5, ring.modulus - 1, 1, 2, 3, ring.modulus - 1]
    right = [-1, 1, 0, -1, 7, 0, -32767, 1]
    expected = [0] * 8
    for i, a in enumerate(left):
        for j, b in enumerate(right):
            expected[(i + j) % 8] += a * b * (-1) ** ((i + j) // 8)
    assert oracle.multiply(ring, left, right) == [each % ring.modulus for each in expected]


CUT_PRIMES = [
    (1769473,),
    PRODUCTION.primes,
    LISTED[1].primes,
    LISTED[3].primes,
    (1125899904679937, 1125899903991809, 562949954142209),
]


def _as_integers(ring: oracle.Ring, residues: NDArray[np.uint64]) -> oracle.Polynomial:
    return oracle.from_residues(ring, residues.tolist())


@pytest.fixture(params=kernel.instruction_sets())
def instruction_set(request: pytest.FixtureRequest) -> Iterator[None]:
    kernel.use_instruction_set(request.param)
    yield
    kernel.use_instruction_set(kernel.instruction_sets()[0])


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("primes", CUT_PRIMES, ids=len)
@pytest.mark.parametrize("width", range(8, 20))
def test_cut_and_restore_equal_the_oracle(primes: tuple[int, ...], width: int) -> None:
    ring = oracle.Ring(degree=256, primes=primes)
    tables, moduli = kernel.Transform(256, primes), np.array(primes, dtype=np.uint64)[:, None]
    for length in (1, 7, 77):
        residues = words_of(f"cut {length}", len(primes) * length).reshape(1, len(primes), length) % moduli
        residues[..., 0] = moduli[:, 0] - np.uint64(1)  # q - 1, which rounds to 0
        cut = tables.cut(residues, width=width)
        assert cut.shape == (1, length, width)
        values = _as_integers(ring, residues[0])
        assert cut.tobytes() == oracle.cut(ring, values, width)
        numbers = words_of(f"restore {length}", 3 * length).view(np.uint8)[: length * width].copy()
        numbers[:width] = 255
        restored = tables.restore(numbers.reshape(1, length, width))
        expected = oracle.restore(ring, numbers.tobytes(), width)
        assert restored.shape == residues.shape
        assert _as_integers(ring, restored[0]) == [each % ring.modulus for each in expected]


@pytest.mark.parametrize("primes", CUT_PRIMES, ids=len)
@pytest.mark.parametrize("width", [9, 15, 19])
def test_oracle_cut_is_off_by_what_the_bound_says(primes: tuple[int, ...], width: int) -> None:
    # Values whose rounding is hard: next to where two neighbouring numbers meet, and at both ends.
    ring = oracle.Ring(degree=256, primes=primes)
    meeting = [(2 * k + 1) * ring.modulus // 2 ** (8 * width + 1) for k in (0, 1, 2**40, 2**63 - 1)]
    values = [(each + step) % ring.modulus for each in (*meeting, 0) for step in (-1, 0, 1)]
    allowed = Fraction(ring.modulus, 2 ** (8 * width + 1)) + Fraction(1, 2)
    allowed += Fraction(len(primes) * 2**50, 2**208) * ring.modulus
    for value, found in zip(
        values, oracle.restore(ring, oracle.cut(ring, values, width), width), strict=True
    ):
        off = (found - value) % ring.modulus
        assert min(off, ring.modulus - off) <= allowed


@pytest.mark.parametrize("width", [7, 20])
def test_cut_and_restore_refuse_other_widths(width: int) -> None:
    tables = kernel.Transform(256, PRODUCTION.primes)
    with pytest.raises(ValueError, match="width must be from 8 to 19"):
        tables.cut(np.zeros((1, 3, 8), dtype=np.uint64), width=width)
    with pytest.raises(ValueError, match="width must be from 8 to 19"):
        tables.restore(np.zeros((1, 8, width), dtype=np.uint8))
    with pytest.raises(ValueError, match="one row for each prime"):
        tables.cut(np.zeros((1, 2, 8), dtype=np.uint64), width=15)


def test_cut_and_restore_do_not_depend_on_threads() -> None:
    tables = kernel.Transform(8192, PRODUCTION.primes)
    moduli = np.array(PRODUCTION.primes, dtype=np.uint64)[:, None]
    residues = words_of("threads", 2 * 3 * 5000).reshape(2, 3, 5000) % moduli
    cut = tables.cut(residues, width=15)
    assert np.array_equal(tables.cut(residues, width=15, threads=3), cut)
    assert np.array_equal(tables.restore(cut, threads=3), tables.restore(cut))
