"""What the attacks share: goodness of fit, modular linear algebra, lattices, the demo's features.

Nothing here is of the product: an attacker's tools, over the product's public byte formats.
"""

from functools import cache
from math import ceil, erfc, exp, prod, sqrt

import numpy as np
from fpylll import CVP, LLL, IntegerMatrix
from numpy.typing import NDArray

from moiety.crypto import packing, rlwe
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import ParameterSet, transform
from moiety.crypto.ring import RingArray, encode_activations
from moiety.crypto.rlwe import Polynomials, RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import SEED_BYTES, Randomness, Seed
from moiety.crypto.scheme import ProductShape
from moiety.data.preparation import Preparation
from moiety.data.table import read_table
from moiety.demo.credit import CREDIT_FEATURES, CREDIT_RULES, credit_path
from tests.support.randomness import words_of

Integers = NDArray[np.object_]
PUBLIC_SEED = Seed(bytes(range(32)))


# --- statistics


def chi_square_p(bytes_N: NDArray[np.uint8]) -> float:
    """p of "these bytes are uniform": 255 degrees of freedom, Wilson and Hilferty's approximation."""
    counts = np.bincount(bytes_N.ravel(), minlength=256)
    expected = bytes_N.size / 256
    statistic = float(np.square(counts - expected).sum() / expected)
    spread = 2 / (9 * 255)
    deviation = ((statistic / 255) ** (1 / 3) - (1 - spread)) / sqrt(spread)
    return erfc(abs(deviation) / sqrt(2))


def kolmogorov_p(fractions_N: NDArray[np.float64]) -> float:
    """p of "these numbers are uniform in [0, 1)", by Kolmogorov's limit."""
    ordered = np.sort(fractions_N.ravel())
    count = ordered.size
    steps = np.arange(count + 1) / count
    distance = max(float((steps[1:] - ordered).max()), float((ordered - steps[:-1]).max()))
    return min(1.0, 2 * exp(-2 * count * distance**2))


def correlation(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Pearson's correlation of all entries."""
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def folded_auc(scores_N: NDArray[np.float64], labels_N: NDArray[np.int64]) -> float:
    """Area under the ROC curve, ties counting one half, folded to at least 0.5."""
    values, inverse, counts = np.unique(scores_N, return_inverse=True, return_counts=True)
    del values
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positive = labels_N == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    area = (float(ranks[positive].sum()) - ones * (ones + 1) / 2) / (ones * zeros)
    return max(area, 1 - area)


# --- the scheme as the key holder sees it


def product_plan(
    parameters: ParameterSet,
    *,
    rows: int,
    contraction: int,
    kept: int,
    contracted: int,
    multiplier_bits: int = 15,
) -> PackingPlan:
    """Fix the packing by hand, whatever the planner would choose."""
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=multiplier_bits)
    slots = 1 << (kept - 1).bit_length()
    return PackingPlan(parameters=parameters, shape=shape, slots=slots, contracted_per_ciphertext=contracted)


def small_multipliers(name: str, rows: int, columns: int) -> NDArray[np.int64]:
    """Draw 16-bit multipliers, |P| < 2^15."""
    words = words_of(name, rows * columns).reshape(rows, columns)
    return (words % np.uint64(2**16 - 1)).astype(np.int64) - (2**15 - 1)


def unpack(parameters: ParameterSet, block: bytes, count: int) -> Polynomials:
    """Read the polynomials of a block, (count, primes, degree)."""
    shape = (count, len(parameters.primes), parameters.degree, parameters.residue_bytes)
    return transform(parameters).unpack(np.frombuffer(block, dtype=np.uint8).reshape(shape))


class Transcript:
    """One product under one key: what the key holder has afterwards.

    Args:
        plan: the product.
        plains: P of each response in turn; all answer the same request.
        randomness: seeds of both parties.
        responder: seeds of each response; None continues with `randomness`.
        matrix_DK: M; None draws it over all 64 bits.
    """

    def __init__(
        self,
        plan: PackingPlan,
        plains: list[NDArray[np.int64]],
        *,
        randomness: Randomness,
        responder: list[Randomness] | None = None,
        matrix_DK: RingArray | None = None,
    ) -> None:
        self.plan = plan
        self.tables = transform(plan.parameters)
        self.holder = RlweKeyHolder(plan.parameters, public_seed=PUBLIC_SEED, randomness=randomness)
        self.evaluator = RlweEvaluator(
            plan.parameters, public_key=self.holder.public_key(), public_seed=PUBLIC_SEED
        )
        shape = plan.shape
        drawn = words_of("matrix", shape.contraction * shape.kept).reshape(-1, shape.kept)
        self.matrix_DK = drawn if matrix_DK is None else matrix_DK
        self.request = list(self.holder.encrypt(self.matrix_DK, plan=plan, randomness=randomness))
        sources = responder or [randomness] * len(plains)
        answers = [
            list(self.evaluator.respond(plain, self.request, plan=plan, randomness=source))
            for plain, source in zip(plains, sources, strict=True)
        ]
        self.blocks = [[block for block, _ in answer] for answer in answers]
        self.evaluator_shares = [np.concatenate([part for _, part in answer]) for answer in answers]

    def share(self, number: int = 0) -> RingArray:
        """The key holder's share of a product."""
        return self.holder.decrypt(self.blocks[number], plan=self.plan)

    def response(self, number: int = 0) -> Polynomials:
        """What a response says: c1' of each ciphertext, in coefficients."""
        data = np.frombuffer(b"".join(self.blocks[number]), dtype=np.uint8)
        return self.tables.restore(data.reshape(-1, self.plan.parameters.degree, self.plan.response_bytes))

    def uniform_part(self) -> Polynomials:
        """The request's first c1, transformed."""
        return rlwe._uniform(self.plan.parameters, Seed(self.request[0][:SEED_BYTES]), b"uniform part", 0)

    def request_phase(self) -> Integers:
        """Decrypt the own request: error and rounding included, integers modulo q (column length, slots)."""
        packed = self.request[0][SEED_BYTES:]
        phase = unpack(self.plan.parameters, packed, self.plan.requests)[:1].copy()
        self.tables.multiply_accumulate(phase, self.uniform_part(), self.holder._secret)
        self.tables.inverse(phase)
        joined = join_residues(phase, self.plan.parameters.primes)
        return joined.reshape(self.plan.column_length, self.plan.slots)

    def response_phases(self, c0: Polynomials) -> Integers:
        """Decrypt a response without rounding, given c0' where rows lie: (rows, kept) modulo q."""
        phase, c1 = c0.copy(), self.response()
        self.tables.forward(c1)
        product = np.zeros_like(c1)
        self.tables.multiply_accumulate(product, c1, self.holder._secret)
        self.tables.inverse(product)
        self.tables.add(phase, packing.read_rows(self.plan, product, range(self.plan.responses)))
        joined = join_residues(phase, self.plan.parameters.primes)
        return joined.reshape(self.plan.shape.rows, self.plan.shape.kept)


def join_residues(residues: Polynomials, primes: tuple[int, ...]) -> Integers:
    """Chinese remainders: (count, primes, length) to integers in [0, q), (count, length)."""
    modulus = prod(primes)
    total: Integers = np.zeros((residues.shape[0], residues.shape[2]), dtype=object)
    for place, prime in enumerate(primes):
        others = modulus // prime
        total = total + residues[:, place].astype(object) * (others * pow(others, -1, prime))
    joined: Integers = total % modulus
    return joined


def negacyclic(polynomial_M: Integers) -> Integers:
    """The matrix that multiplies by a polynomial modulo Y^M + 1, (M, M)."""
    length = len(polynomial_M)
    rows, columns = np.indices((length, length))
    entries: Integers = polynomial_M[(rows - columns) % length]
    signed: Integers = np.where(rows >= columns, entries, -entries)
    return signed


def solve_by_one_column(
    transcript: Transcript, c1: Polynomials
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Solve c1' = p c1 for the multipliers by the first column, and test the others with the result.

    For plans of one request ciphertext and one row per response. Returns P, and what the equations of the
    other columns leave, as fractions of their prime.
    """
    plan, tables = transcript.plan, transcript.tables
    primes = np.array(plan.parameters.primes, dtype=object)[:, None]
    requests = transcript.uniform_part()
    tables.inverse(requests, first=plan.column_levels)
    seen = c1.copy()
    tables.forward(seen, last=plan.column_levels)
    known = requests.reshape(len(primes), plan.column_length, plan.slots)
    values = seen.reshape(-1, len(primes), plan.column_length, plan.slots)
    inverses = np.vectorize(lambda value, prime: pow(value, -1, prime), otypes=[object])(
        known[..., 0].astype(object), primes
    )
    solved = (values[..., 0].astype(object) * inverses % primes).astype(np.uint64)
    spread = np.repeat(solved, plan.slots, axis=-1)
    predicted = np.zeros_like(seen)
    for row in range(len(seen)):
        part = predicted[row : row + 1]
        tables.multiply_accumulate(part, np.ascontiguousarray(spread[row : row + 1]), requests[0])
    tables.subtract(seen, predicted)
    left = seen.reshape(values.shape)[..., 1:] / primes[..., None].astype(np.float64)
    tables.inverse(solved)
    first = plan.parameters.primes[0]
    residues = solved[:, 0].astype(np.int64)
    plain = np.where(residues > first // 2, residues - first, residues)
    return plain[:, ::-1], left


# --- lattices


def nearest_secret(
    equations: Integers, values: Integers, *, modulus: int, secret_bits: int, error_bits: int
) -> list[int]:
    """Solve values = equations @ secret + error modulo `modulus` by LLL and Babai's nearest plane."""
    count, unknown = equations.shape
    weight = 2 ** max(0, secret_bits - error_bits)
    size = unknown + count
    basis = [[0] * size for _ in range(size)]
    for row in range(unknown):
        basis[row][row] = 1
        basis[row][unknown:] = [int(entry) * weight for entry in equations[:, row]]
    for row in range(count):
        basis[unknown + row][unknown + row] = modulus * weight
    matrix = IntegerMatrix.from_matrix(basis)
    LLL.reduction(matrix)
    target = [0] * unknown + [int(value) * weight for value in values]
    return [int(entry) for entry in CVP.babai(matrix, target)[:unknown]]


# --- parameters


def primes_near(bits: float, *, degree: int, count: int) -> tuple[int, ...]:
    """The smallest primes above 2^bits that are 1 modulo twice the degree."""
    step = 2 * degree
    found: list[int] = []
    candidate = ceil(2.0**bits / step) * step + 1
    while len(found) < count:
        if _is_prime(candidate):
            found.append(candidate)
        candidate += step
    return tuple(found)


def _is_prime(number: int) -> bool:
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
        value = pow(base, odd, number)
        passes = value == 1 or any(pow(value, 2**k, number) == number - 1 for k in range(twos))
        if not passes:
            return False
    return True


# --- data


@cache
def credit_activations() -> NDArray[np.int16]:
    """UCI credit as the data owner prepares it: int16 (30000, 91)."""
    table = read_table(credit_path(), columns=CREDIT_FEATURES)
    rows = np.arange(table.rows, dtype=np.int64)
    preparation = Preparation.fit(table, features=CREDIT_FEATURES, rules=CREDIT_RULES, rows=rows)
    activation_ND, _ = encode_activations(preparation.transform(table))
    return activation_ND
