"""Attacks on Paillier: each reaches its figure on a broken build, and fails on ours.

The attacker is the key holder: it has the private key, its own matrix M, the exponents it encrypted with, and
one response. It wants the evaluator's matrix P.
"""

from math import sqrt

import gmpy2
import numpy as np
import pytest
from gmpy2 import mpz
from numpy.typing import NDArray

from moiety.crypto.paillier import PaillierPlan, evaluator, key_holder, packing
from moiety.crypto.sampling import Seed
from tests.crypto.test_paillier import Exchange, plan_of, shared_pair, slots_seen
from tests.support.attack_tools import correlation
from tests.support.randomness import words_of

SCALE_BITS = 200
LARGEST = 2**8
Integers = NDArray[np.object_]


# --- row 9: masks narrower than the product


def activations(rows: int, columns: int) -> NDArray[np.int64]:
    """Multipliers of 16 bits, |P| < 2^15."""
    words = words_of("activations", rows * columns).reshape(rows, columns)
    return (words % np.uint64(2**16 - 1)).astype(np.int64) - (2**15 - 1)


def with_masks_of(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    """Break the product: masks set no more than the low bits of each slot."""

    def narrow(plan: PaillierPlan) -> mpz:
        return plan._in_every_slot((mpz(1) << bits) - 1)

    monkeypatch.setattr(PaillierPlan, "mask_pattern", property(narrow))


def read_inputs(exchange: Exchange, plan: PaillierPlan, matrix_DK: NDArray[np.uint64]) -> Integers:
    """The attack: whole slots, less their mean over the rows, solved for P by least squares with M.

    Slots are exact integers, and so is the solution, in units of 2^-SCALE_BITS: float64 would lose the sums
    below the masks, and the attack would fail for that.
    """
    seen = np.array(slots_seen(plan, exchange.response), dtype=object)
    seen_NK = seen.reshape(plan.shape.rows, plan.groups * plan.slots)[:, : plan.shape.kept]
    centred_NK = seen_NK - seen_NK.sum(axis=0) // plan.shape.rows
    solver_KD = np.linalg.pinv(matrix_DK.view(np.int64).astype(np.float64))
    mantissas, places = np.frexp(solver_KD)
    shifts = (places.astype(object) + (SCALE_BITS - 53)).astype(object)
    integers_KD = np.ldexp(mantissas, 53).astype(np.int64).astype(object) * (1 << shifts)
    read: Integers = centred_NK @ integers_KD
    return read


def inputs_read(
    plan: PaillierPlan, plain_ND: NDArray[np.int64], matrix_DK: NDArray[np.uint64]
) -> tuple[float, float]:
    """Run the attack; return the largest error in units in the last place, and the correlation with P."""
    read = read_inputs(Exchange(plan, plain_ND, matrix_DK), plan, matrix_DK)
    read_ND = (read / 2.0**SCALE_BITS).astype(np.float64)
    centred_ND = plain_ND - plain_ND.mean(axis=0)
    return float(np.abs(read_ND - centred_ND).max()), correlation(read_ND, centred_ND)


@pytest.mark.slow
def test_narrow_masks_give_the_inputs_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of activations is multiplied by the key holder's M; it decrypts and reads whole slots.

    Control: masks of 60 bits, below the products' 80: every activation to 1 unit in the last place. Masks as
    wide as the products, 0 bits to spare: correlation over 0.15. Ours, 61 bits wider than the bound:
    correlation at chance, 4 / sqrt(n).
    """
    plan = plan_of(rows=1000, contraction=4, kept=7)
    plain_ND = activations(1000, 4)
    matrix_DK = words_of("known to the key holder", 4 * 7).reshape(4, 7)
    with monkeypatch.context() as broken:
        with_masks_of(broken, 60)
        largest_error, seen = inputs_read(plan, plain_ND, matrix_DK)
    assert largest_error <= 1
    assert seen > 0.999999
    with monkeypatch.context() as broken:
        with_masks_of(broken, packing.product_bits(plan.shape))
        assert inputs_read(plan, plain_ND, matrix_DK)[1] > 0.15
    largest_error, seen = inputs_read(plan, plain_ND, matrix_DK)
    assert abs(seen) <= 4 / sqrt(plain_ND.size)
    assert largest_error > 2**50


# --- rows 6 and 7 for this scheme: how the ciphertexts were combined


def exponents_of(exchange: Exchange, plan: PaillierPlan) -> list[mpz]:
    """What the key holder encrypted with: its own seed."""
    seed = exchange.randomness.given[0]
    numbers = range(plan.shape.contraction * plan.groups)
    return [packing.random_integer(seed, b"alpha", index=i, bits=plan.randomiser_bits) for i in numbers]


def read_exponents(exchange: Exchange, plan: PaillierPlan, *, beta_bits: int) -> list[int | None]:
    """The attack: strip the message, then search h_s^(P alpha + beta) for |P| up to 2^8 and small beta.

    Stands for a discrete logarithm modulo p and q, which at 1536 bits is hard but easier than promised.
    """
    private = shared_pair()[0]._private
    public, square = private.public, private.public.modulus_squared
    (alpha,) = exponents_of(exchange, plan)
    small = {gmpy2.powmod(public.residue, beta, square) for beta in range(2**beta_bits)}
    step = gmpy2.powmod(public.residue, -alpha, square)
    found: list[int | None] = []
    for ciphertext in public.read_ciphertexts(exchange.response, plan.response_ranges):
        message = private.decrypt(ciphertext)
        bare = ciphertext * (1 - public.modulus * message) % square
        left, hits = bare * gmpy2.powmod(step, -LARGEST, square) % square, []
        for guess in range(-LARGEST, LARGEST + 1):
            hits += [guess] if left in small else []
            left = left * step % square
        found.append(hits[0] if len(hits) == 1 else None)
    return found


@pytest.mark.parametrize("beta_bits", [0, 6])
def test_narrow_exponents_give_the_inputs_away(monkeypatch: pytest.MonkeyPatch, beta_bits: int) -> None:
    """One column is multiplied by activations of 8 bits; masks are ours, so the message says nothing.

    Control: no re-randomisation, or an exponent beta narrower than the combination of the key holder's own:
    every activation is found. Ours: none.
    """
    plan = plan_of(rows=12, contraction=1, kept=1, bits=8)
    plain_ND = activations(12, 1) >> 8
    matrix_DK = words_of("known to the key holder", 1).reshape(1, 1)

    def narrow(seed: Seed, purpose: bytes, *, index: int, bits: int) -> mpz:
        del bits
        return packing.random_integer(seed, purpose, index=index, bits=beta_bits)

    with monkeypatch.context() as broken:
        broken.setattr(evaluator, "random_integer", narrow)
        exchange = Exchange(plan, plain_ND, matrix_DK)
    assert read_exponents(exchange, plan, beta_bits=beta_bits) == plain_ND[:, 0].tolist()
    exchange = Exchange(plan, plain_ND, matrix_DK)
    assert read_exponents(exchange, plan, beta_bits=beta_bits) == [None] * 12


def test_same_product_twice_shares_nothing() -> None:
    """The evaluator answers one request twice with one matrix; the key holder divides the answers.

    Control: with the same exponent seed, the quotient encrypts the masks' difference with exponent 0.
    Ours: the quotient is not of that form, and no two ciphertexts are equal.
    """
    holder, responder = shared_pair()
    public = holder._private.public
    plan = plan_of(rows=10, contraction=3, kept=1)
    plain_ND = activations(10, 3)
    exchange = Exchange(plan, plain_ND, words_of("M", 3).reshape(3, 1))

    class Repeated:
        """Gives one seed for the exponents every time, and fresh ones for the masks."""

        def __init__(self, exponents: Seed, masks: Seed) -> None:
            self._seeds = iter([exponents, masks])

        def seed(self) -> Seed:
            return next(self._seeds)

    def answer(exponents: int, masks: int) -> list[mpz]:
        seeds = Repeated(Seed(bytes([exponents]) * 32), Seed(bytes([masks]) * 32))
        answers = responder.respond(plain_ND, exchange.request, plan=plan, randomness=seeds)
        return public.read_ciphertexts([block for block, _ in answers], plan.response_ranges)

    def bare_quotients(left: list[mpz], right: list[mpz]) -> int:
        square, n = public.modulus_squared, public.modulus
        quotients = [a * gmpy2.invert(b, square) % square for a, b in zip(left, right, strict=True)]
        return sum(bool(quotient % n == 1) for quotient in quotients)

    assert bare_quotients(answer(1, 2), answer(1, 3)) == 10
    first, second = answer(1, 2), answer(4, 2)
    assert bare_quotients(first, second) == 0
    assert len({*first, *second}) == 20


# --- row 10: what lengths and zero patterns show


def zero_rows_seen(request: list[bytes]) -> list[bool]:
    """The attack: which ciphertexts are short numbers, by their leading zero bytes."""
    data = b"".join(request)
    ciphertexts = [data[at : at + 256] for at in range(0, len(data), 256)]
    return [len(each.rstrip(b"\0")) < 100 for each in ciphertexts]


def test_lengths_and_zeros_show_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half the rows of M are zero, as behind a ReLU; the evaluator and the network look at the numbers sent.

    Control: without randomisation, a row of zeros is the number 1, and the pattern is seen whole. Ours: no
    ciphertext is short, and messages are of one length for any data.
    """

    def nothing(seed: Seed, purpose: bytes, *, index: int, bits: int) -> mpz:
        del seed, purpose, index, bits
        return mpz(0)

    plan = plan_of(rows=2, contraction=64, kept=3)
    matrix_DK = words_of("half zero", 64 * 3).reshape(64, 3)
    zero_D = words_of("pattern", 64) % np.uint64(2) == 0
    matrix_DK[zero_D] = 0
    plain_ND = activations(2, 64)
    with monkeypatch.context() as broken:
        broken.setattr(key_holder, "random_integer", nothing)
        exchange = Exchange(plan, plain_ND, matrix_DK)
    assert zero_rows_seen(exchange.request) == zero_D.tolist()
    for number in range(20):
        scaled_DK = matrix_DK * np.uint64(number % 3)
        exchange = Exchange(plan, plain_ND * (number % 2), scaled_DK, seed=b"%d" % number)
        assert not any(zero_rows_seen([*exchange.request, *exchange.response]))
        assert tuple(map(len, exchange.request)) == plan.request_sizes
        assert tuple(map(len, exchange.response)) == plan.response_sizes
