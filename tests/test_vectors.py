"""Known-answer vectors against `moiety`, and the oracle against its own files and definitions."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moiety import errors
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import LISTED, TESTING_ONLY, ParameterSet
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductShape
from tests import make_vectors, oracle
from tests.randomness import ListedRandomness

FOLDER = Path(__file__).parent / "vectors"
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
