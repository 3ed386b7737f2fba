"""Attacks on the cryptosystem: each reaches its figure on a broken build, and fails on ours.

Sizes are chosen for seconds; the full ones are in tests/campaign.
"""

from collections import Counter
from collections.abc import Callable
from hashlib import blake2b
from math import log2
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.contract.products import Role
from moiety.crypto import rlwe, schemes
from moiety.crypto.packing import PackingPlan, read_rows
from moiety.crypto.parameters import (
    DITHERED_SPARE_BITS,
    LISTED,
    REQUIRED_SECURITY_BITS,
    TESTING_ONLY,
    ParameterSet,
    deviation,
    require_secure,
    transform,
)
from moiety.crypto.ring import RingArray
from moiety.crypto.rlwe import RlweKeyHolder
from moiety.crypto.sampling import Seed, SystemRandomness, derive
from moiety.errors import InsecureParameterError
from moiety.protocol.simulate import handshake
from tests.support.attack_tools import (
    PUBLIC_SEED,
    Integers,
    Transcript,
    chi_square_p,
    correlation,
    join_residues,
    kolmogorov_p,
    nearest_secret,
    negacyclic,
    primes_near,
    product_plan,
    small_multipliers,
    solve_by_one_column,
    unpack,
)
from tests.support.pair import contract_of, data_terms, label_terms
from tests.support.randomness import RecordedRandomness, words_of

P_THRESHOLD = 1e-6
Sampler = Callable[..., NDArray[Any]]


def break_sampler(
    monkeypatch: pytest.MonkeyPatch, name: str, purposes: set[bytes], change: Callable[[Any], Any]
) -> None:
    """Break the product: what a sampler returns for some purposes is changed."""
    sample: Sampler = getattr(rlwe, name)

    def broken(
        parameters: ParameterSet, seed: Seed, purpose: bytes, index: int, *length: int
    ) -> NDArray[Any]:
        values = sample(parameters, seed, purpose, index, *length)
        return change(values) if purpose in purposes else values

    monkeypatch.setattr(rlwe, name, broken)


def without_rerandomisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Break the product: u = e1 = 0."""
    break_sampler(monkeypatch, "_ternary", {b"u"}, np.zeros_like)
    break_sampler(monkeypatch, "_gaussian", {b"e1"}, np.zeros_like)


# --- row 5


def signs(name: str, rows: int, columns: int) -> NDArray[np.int64]:
    """Features of +-1."""
    bits = words_of(name, rows * columns).reshape(rows, columns) & np.uint64(1)
    return bits.astype(np.int64) * 2 - 1


def uniforms(name: str, rows: int, columns: int) -> NDArray[np.float64]:
    """Numbers uniform in [-1, 1)."""
    words = words_of(name, rows * columns).reshape(rows, columns)
    return np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0


def normals(name: str, rows: int, columns: int) -> NDArray[np.float64]:
    """Numbers of mean 0 and deviation 1 (Box and Muller)."""
    radius = np.sqrt(-2 * np.log((1 - uniforms(f"{name} radius", rows, columns)) / 2))
    drawn: NDArray[np.float64] = radius * np.cos(np.pi * uniforms(f"{name} angle", rows, columns))
    return drawn


def averaged(signs_ND: NDArray[np.int64], answers_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """The attack: over rows of +-1, the mean of x z is W, and masks of mean zero vanish."""
    means: NDArray[np.float64] = signs_ND.T.astype(np.float64) @ answers_NK / len(signs_ND)
    return means


@pytest.mark.parametrize(
    ("mask", "rows", "reached"),
    [
        ("normal", 10**4, 0.999),
        ("one", 10**4, 0.999),
        pytest.param("wide", 2**20, 0.5, marks=pytest.mark.slow),
    ],
)
def test_float_mask_averaging_papers_masks(mask: str, rows: int, reached: float) -> None:
    """Rows of +-1 go through the layer; every z comes back plus a float mask; the attacker averages x z.

    Control: masks N(0, 1) and U(+-1) give W with correlation 0.999 at 10^4 rows, U(+-1024) with over 0.5 at
    2^20. Ours is the next test.
    """
    signs_ND = signs("averaging", rows, 8)
    weights = normals("weights", 8, 8)
    masks = {
        "normal": lambda: normals("mask", rows, 8),
        "one": lambda: uniforms("mask", rows, 8),
        "wide": lambda: 1024 * uniforms("mask", rows, 8),
    }
    answers = signs_ND @ weights + masks[mask]()
    assert correlation(averaged(signs_ND, answers), weights) > reached


def test_float_mask_averaging_ring_masks() -> None:
    """The same on our response: 4096 rows of +-1, the key holder's shares averaged against them.

    Control, an evaluator that sends its share along: the key holder opens the product, its bytes are not
    uniform (p < 1e-6) and averaging gives M. Ours: every byte of every share uniform (p > 1e-6), correlation
    with M at chance.
    """
    plan = product_plan(LISTED[0], rows=4096, contraction=16, kept=16, contracted=4)
    signs_ND = signs("ring masks", 4096, 16)

    # |M| < 2^47: a bare product of 16 terms does not wrap, so that the control can be averaged.
    matrix_DK = words_of("row 5", 16 * 16).reshape(16, 16) >> np.uint64(17)

    transcript = Transcript(plan, [signs_ND], randomness=RecordedRandomness(b"row 5"), matrix_DK=matrix_DK)

    def attack(share_NK: RingArray) -> tuple[float, float]:
        matrix = transcript.matrix_DK.view(np.int64).astype(np.float64)
        seen = averaged(signs_ND, share_NK.view(np.int64).astype(np.float64))
        by_place = share_NK.view(np.uint8).reshape(-1, 8)
        return min(chi_square_p(by_place[:, k]) for k in range(8)), abs(correlation(seen, matrix))

    p_value, found = attack(transcript.share())
    assert p_value > P_THRESHOLD
    assert found <= 4 / 16

    p_value, found = attack(transcript.share() + transcript.evaluator_shares[0])
    assert p_value < P_THRESHOLD
    assert found > 0.95


# --- rows 6 and 8

ROWS_SOLVED = 44  # 44 x 63 columns x 128 x 3 primes: over 2^20 residuals


def solvable() -> PackingPlan:
    """A product whose response is one request ciphertext times one unknown polynomial per row."""
    return product_plan(LISTED[0], rows=ROWS_SOLVED, contraction=128, kept=64, contracted=128)


def test_bare_response_linear_solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key holder knows its c1 and sees c1' = sum p c1 + pk1 u + e1; it solves for p by one column.

    Control, u = e = 0: P exactly from one response, and the other 63 columns agree with it exactly.
    Ours: no entry of P; what the other columns leave is uniform (Kolmogorov-Smirnov, over 2^20 residuals).
    """
    plain_ND = small_multipliers("row 6", ROWS_SOLVED, 128)
    ours = Transcript(solvable(), [plain_ND], randomness=RecordedRandomness(b"row 6"))
    solved, left = solve_by_one_column(ours, ours.response())
    assert not (solved == plain_ND).any()
    assert left.size >= 2**20
    assert kolmogorov_p(left) > P_THRESHOLD

    without_rerandomisation(monkeypatch)
    bare = Transcript(solvable(), [plain_ND], randomness=RecordedRandomness(b"row 6"))
    solved, left = solve_by_one_column(bare, bare.response())
    assert np.array_equal(solved, plain_ND)
    assert not left.any()


class RepeatedRandomness:
    """A broken source: the same seeds for every response."""

    def __init__(self) -> None:
        self._calls = 0

    def seed(self) -> Seed:
        self._calls += 1
        return Seed(bytes([self._calls]) * 32)


def test_reused_zero_difference_of_responses() -> None:
    """Two responses with different P to one request: the key holder subtracts c1' from c1' and solves.

    Control, the same seeds twice: the encryptions of zero cancel and P - P' is exact. Ours, fresh seeds for
    each: no entry.
    """
    plains = [small_multipliers(name, ROWS_SOLVED, 128) for name in ("first", "second")]
    difference = plains[0] - plains[1]

    def attack(transcript: Transcript) -> NDArray[np.bool_]:
        c1 = transcript.response(0)
        transcript.tables.subtract(c1, transcript.response(1))
        hits: NDArray[np.bool_] = solve_by_one_column(transcript, c1)[0] == difference
        return hits

    source = RecordedRandomness(b"row 8")
    assert not attack(Transcript(solvable(), plains, randomness=source)).any()
    reused = [RepeatedRandomness(), RepeatedRandomness()]
    assert attack(Transcript(solvable(), plains, randomness=source, responder=[*reused])).all()


def repeated(monkeypatch: pytest.MonkeyPatch, responder: Callable[[], Any], responses: int) -> int:
    """How many of the drawn u and e1 were drawn before, over responses to one request."""
    drawn: Counter[bytes] = Counter()
    with monkeypatch.context() as patch:
        for name in ("_ternary", "_gaussian"):
            sample: Sampler = getattr(rlwe, name)

            def recorded(
                parameters: ParameterSet,
                seed: Seed,
                purpose: bytes,
                index: int,
                *length: int,
                sample: Sampler = sample,
            ) -> NDArray[Any]:
                values = sample(parameters, seed, purpose, index, *length)
                if purpose in {b"u", b"e1"}:
                    drawn[blake2b(values.tobytes(), digest_size=16).digest()] += 1
                return values

            patch.setattr(rlwe, name, recorded)
        plan = product_plan(TESTING_ONLY, rows=4, contraction=8, kept=16, contracted=8)
        plain_ND = small_multipliers("row 8", 4, 8)
        sources = [responder() for _ in range(responses)]
        Transcript(plan, [plain_ND] * responses, randomness=SystemRandomness(), responder=sources)
    assert drawn.total() == responses * 2 * plan.responses
    return drawn.total() - len(drawn)


def test_reused_zero_over_many_responses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key holder compares all encryptions of zero of 2^10 responses.

    Control, seeds that repeat: all but the first response's. Ours: none is ever drawn twice.
    """
    assert repeated(monkeypatch, SystemRandomness, 2**10) == 0
    assert repeated(monkeypatch, RepeatedRandomness, 8) == 7 * 2 * 2


@pytest.mark.slow
def test_reused_stream_key_at_the_sampler() -> None:
    """2^20 draws: 2^17 seeds with two purposes and four numbers each; an equal key repeats a stream.

    Control, a seed that repeats: equal keys. Ours: 2^20 different keys. (Each key's counter starts at zero
    and is used for one stream, so different keys are different (key, counter) pairs.)
    """

    def keys(randomness: Any, seeds: int) -> set[bytes]:
        return {
            derive(seed, purpose, number.to_bytes(8, "little"))
            for seed in (randomness.seed() for _ in range(seeds))
            for purpose in (b"u", b"e1")
            for number in range(4)
        }

    class Stuck:
        def seed(self) -> Seed:
            return PUBLIC_SEED

    assert len(keys(SystemRandomness(), 2**17)) == 2**20
    assert len(keys(Stuck(), 4)) == 8


# --- row 7


def fractions_of(phases: Integers, modulus: int) -> Integers:
    """What of a phase is not message: centred, modulo q / 2^64, times 2^64 for exactness."""
    scaled = (phases << 64) % modulus
    centred: Integers = np.where(scaled > modulus // 2, scaled - modulus, scaled)
    return centred


def noise_of(phases: Integers, modulus: int) -> NDArray[np.float64]:
    """The noise of a phase, in units of q."""
    return fractions_of(phases, modulus).astype(np.float64) / 2.0**64


def known_bits(transcript: Transcript, response_NK: Integers, plain_N: NDArray[np.int64]) -> float:
    """The attack: least squares of the response's noise on the request's, bits known per 64-bit weight.

    For plans of one entry per request ciphertext: then all of c0' carries rows, and the equations are most.
    """
    modulus = transcript.plan.parameters.modulus
    request_MK = transcript.request_phase()
    noise_MK = noise_of(request_MK, modulus)
    design = np.concatenate([negacyclic(column.astype(object)).astype(np.float64) for column in noise_MK.T])
    inverse = np.linalg.inv(design.T @ design) @ design.T
    guess: Integers = np.zeros(len(plain_N), dtype=object)
    for _ in range(3):  # each pass takes off the bits that float64 could hold
        left = noise_of((response_NK - negacyclic(guess) @ request_MK) % modulus, modulus)
        guess = guess + np.array([round(value) for value in inverse @ left.T.ravel()], dtype=object)
    error = (guess - plain_N.astype(object)).astype(np.float64)
    return max(0.0, 64 - log2(1 + 2 * float(np.sqrt(np.mean(np.square(error))))))


@pytest.mark.slow
def test_noise_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Re-randomised, but is the noise hidden? The key holder knows its errors e; a phase has sum p e in it.

    Weights of 64 bits, as a multiplier of `acml` has, and a response that loses nothing by cutting. Control,
    c0' sent beside c1', re-randomised as it is: 62 to 64 of 64 bits of each weight. Ours, where the key
    holder is even told the product, and makes of it the phase that it would open: at most one bit.
    """
    plan = product_plan(LISTED[0], rows=128, contraction=1, kept=64, contracted=1, multiplier_bits=63)
    plain_ND = words_of("row 7", 128).view(np.int64).reshape(128, 1)

    kept = own_parts(monkeypatch)
    transcript = Transcript(plan, [plain_ND], randomness=RecordedRandomness(b"row 7"))
    product_NK = transcript.share() + transcript.evaluator_shares[0]
    told = np.vectorize(
        lambda value: (2 * int(value) * plan.parameters.modulus + 2**64) >> 65, otypes=[object]
    )
    assert known_bits(transcript, told(product_NK), plain_ND[:, 0]) <= 1
    sent = np.concatenate(kept, axis=-1)
    assert known_bits(transcript, transcript.response_phases(sent), plain_ND[:, 0]) >= 62


def own_parts(monkeypatch: pytest.MonkeyPatch) -> list[rlwe.Polynomials]:
    """Record c0' where rows lie, as the evaluator keeps it, in the order of its rows."""
    kept: list[rlwe.Polynomials] = []
    respond = rlwe._respond_piece

    def recorded(plan: PackingPlan, sums: Any, products: Any, errors: Any, numbers: range) -> Any:
        answer = respond(plan, sums, products, errors, numbers)
        kept.append(read_rows(plan, sums[:, 0], numbers))
        return answer

    monkeypatch.setattr(rlwe, "_respond_piece", recorded)
    return kept


# --- row 18


def key_from_public_key(parameters: ParameterSet) -> tuple[list[int], list[int]]:
    """Attack pk0 = e - pk1 s by lattice reduction; returns the key found and the key."""
    holder = RlweKeyHolder(parameters, public_seed=PUBLIC_SEED, randomness=RecordedRandomness(b"row 18"))
    tables = transform(parameters)
    polynomials = [
        unpack(parameters, holder.public_key(), 1),
        rlwe._uniform(parameters, PUBLIC_SEED, b"pk1", 0),
        holder._secret[None].copy(),
    ]
    for each in polynomials:
        tables.inverse(each)
    pk0, pk1, secret = (join_residues(each, parameters.primes)[0] for each in polynomials)
    found = nearest_secret(-negacyclic(pk1), pk0, modulus=parameters.modulus, secret_bits=1, error_bits=1)
    modulus = parameters.modulus
    return found, [int(value) - modulus * (value > modulus // 2) for value in secret]


def test_weak_parameters_by_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user takes a small ring for speed; the evaluator reduces a lattice made of the public key.

    Control, N = 32 with 47 bits, unchecked: the whole secret key in a second. Ours: that ring, the testing
    ring and a modulus too large are refused with bits required and bits estimated; a handshake under the
    testing ring stops; every listed set passes.
    """
    weak = ParameterSet(name="weak", degree=32, primes=LISTED[0].primes[:1])
    found, secret = key_from_public_key(weak)
    assert found == secret

    wide = ParameterSet(name="wide", degree=8192, primes=LISTED[3].primes[:5])
    for refused in (weak, TESTING_ONLY, wide):
        with pytest.raises(InsecureParameterError) as caught:
            require_secure(refused)
        assert caught.value.bits_required == REQUIRED_SECURITY_BITS == 128
        assert caught.value.bits_estimated == refused.security_bits < 128
    for listed in LISTED:
        require_secure(listed)

    monkeypatch.setattr(schemes, "choose", lambda _: TESTING_ONLY)
    with pytest.raises(InsecureParameterError):
        handshake(label_terms(), data_terms(parameters=TESTING_ONLY.name))


# --- row 27


def recover_from_c1(transcript: Transcript) -> list[int]:
    """Attack c1' = p c1 + e1 (what remains when pk1 = 0) by lattice reduction, from two columns."""
    plan, primes = transcript.plan, transcript.plan.parameters.primes
    requests = transcript.uniform_part()
    transcript.tables.inverse(requests)
    known = join_residues(requests, primes)[0].reshape(plan.column_length, plan.slots)
    seen = join_residues(transcript.response(), primes)[0].reshape(known.shape)
    equations = np.concatenate([negacyclic(known[:, column]) for column in range(2)])
    values = np.concatenate([seen[:, column] for column in range(2)])
    found = nearest_secret(equations, values, modulus=plan.parameters.modulus, secret_bits=15, error_bits=2)
    return found[::-1]


@pytest.mark.slow
def test_chosen_public_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key holder takes pk1 = 0: then c1' is its own c1 times p plus a small error, solved by LLL.

    Control: all of a row of P, exactly. Ours: nothing, and pk1 is not its to choose: the seed covers the
    data owner's nonce, which comes after its own, and differs from session to session.
    """
    plan = product_plan(LISTED[0], rows=1, contraction=16, kept=512, contracted=16)
    plain_ND = small_multipliers("row 27", 1, 16)
    ours = Transcript(plan, [plain_ND], randomness=RecordedRandomness(b"row 27"))
    assert not (np.array(recover_from_c1(ours), dtype=object) == plain_ND[0]).any()

    break_sampler(monkeypatch, "_uniform", {b"pk1"}, np.zeros_like)
    control = Transcript(plan, [plain_ND], randomness=RecordedRandomness(b"row 27"))
    assert recover_from_c1(control) == plain_ND[0].tolist()


def test_chosen_public_key_seed_depends_on_both_nonces() -> None:
    """The key holder fixes everything of its own and hopes for the pk1 of an earlier session.

    Control: with the data owner's nonce fixed too, the seed repeats. Ours: 256 nonces of the data owner give
    256 seeds of pk1, and so do 256 of the label owner.
    """

    def seeds(**nonces: str) -> bytes:
        label = label_terms(**({"nonce": nonces["label"]} if "label" in nonces else {}))
        data = data_terms(**({"nonce": nonces["data"]} if "data" in nonces else {}))
        return contract_of(label=label, data=data).public_seed(Role.LABEL_OWNER)

    assert seeds() == seeds()
    many = [f"{number:064x}" for number in range(256)]
    assert len({seeds(data=each) for each in many} | {seeds(label=each) for each in many}) == 512


# --- row 28


def errors_at(spare: float, *, rows_counted: int = 64) -> NDArray[np.int64]:
    """Errors of a product in units, at the most rows and extreme multipliers, at a modulus for that spare.

    The modulus is chosen as if a slot collected the noise of `rows_counted` rows.
    """
    shape = product_plan(TESTING_ONLY, rows=64, contraction=16, kept=4, contracted=1).shape
    noise = TESTING_ONLY.modulus * deviation(TESTING_ONLY, shape, rows_per_ciphertext=rows_counted)
    primes = primes_near((65 + log2(noise) + spare) / 3, degree=256, count=3)
    parameters = ParameterSet(name="bound", degree=256, primes=primes, testing_only=True)
    plan = product_plan(parameters, rows=64, contraction=16, kept=4, contracted=1)
    assert plan.rows_per_ciphertext == 64
    plain_ND = np.full((64, 16), 2**15 - 1, dtype=np.int64)
    transcript = Transcript(plan, [plain_ND], randomness=RecordedRandomness(b"row 28"))
    got = transcript.share() + transcript.evaluator_shares[0]
    error: NDArray[np.int64] = (got - plain_ND.view(np.uint64) @ transcript.matrix_DK).view(np.int64)
    return error


def test_noise_bound_at_most_rows() -> None:
    """64 rows in a ciphertext and every multiplier 2^15 - 1, at a modulus with few bits to spare.

    Control, a modulus chosen as if a slot collected the noise of one row: its 3 spare bits are gone, many
    values are off, some by more than one unit. Ours: off by one unit at most, one value in eight at most.
    """
    ours, forgetful = errors_at(3), errors_at(3, rows_counted=1)
    assert np.abs(ours).max() == 1
    assert 1 / 40 < np.mean(ours != 0) <= 1 / 8
    assert np.abs(forgetful).max() > 1
    assert np.mean(forgetful != 0) > 3 / 8


def test_noise_of_one_sign_at_the_spare_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every error at the sampler's cut of 19, which no sampler draws: the sum is 6 sqrt(terms) deviations.

    Control, 3 bits to spare: errors of many units. Ours, 40 bits: none.
    """
    break_sampler(
        monkeypatch,
        "_gaussian",
        {b"error", b"public key error", b"e1"},
        lambda values: np.full_like(values, 19),
    )
    assert not errors_at(DITHERED_SPARE_BITS).any()
    assert np.abs(errors_at(3)).max() > 8
