"""Paillier's keys: their conditions, what of them crosses, and the exponents that hide."""

import copy
import pickle  # noqa: TID251 - what must fail

import gmpy2
import numpy as np
import pytest

from moiety.crypto.paillier import evaluator, key_holder, packing
from moiety.crypto.paillier.key_holder import PaillierKeyHolder
from moiety.crypto.paillier.scheme import LEGACY, STANDARD, TESTING_ONLY, PaillierScheme
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductShape
from moiety.errors import MalformedMessageError
from tests.crypto.test_paillier import (
    PUBLIC_SEED,
    Exchange,
    matrix,
    multipliers,
    plan_of,
    product_of,
    shared_pair,
)
from tests.support.randomness import RecordedRandomness


def _public_key(n: int, h_s: int) -> bytes:
    return n.to_bytes(128, "little") + h_s.to_bytes(256, "little")


def test_public_key_malformed() -> None:
    private = shared_pair()[0]._private
    n, h_s, p = int(private.public.modulus), int(private.public.residue), int(private.p)
    good = _public_key(n, h_s)
    assert good == shared_pair()[0].public_key()
    TESTING_ONLY.evaluator(public_key=_public_key(n, h_s + 1), public_seed=PUBLIC_SEED)
    bad = [
        b"",
        good[:-1],
        good + b"\0",
        _public_key(n - 1, 1),
        _public_key(n ^ 1 << 1023, 1),
        _public_key(n, 0),
        _public_key(n, n * n),
        _public_key(n, n * n + h_s % 5 + 1),
        _public_key(n, p),
        _public_key(n, n),
    ]
    for message in bad:
        with pytest.raises(MalformedMessageError):
            TESTING_ONLY.evaluator(public_key=message, public_seed=PUBLIC_SEED)


def _check_key(scheme: PaillierScheme, holder: PaillierKeyHolder) -> None:
    private = holder._private
    p, q, n = private.p, private.q, private.public.modulus
    assert n == p * q
    assert n.bit_length() == scheme.key_bits
    assert p.bit_length() == q.bit_length() == scheme.key_bits // 2
    for prime in (p, q):
        assert gmpy2.is_prime(prime, 40)
        assert prime % 4 == 3
    assert gmpy2.gcd(p - 1, q - 1) == 2
    # h_s is an n-th power (it encrypts 0), and of no small order.
    assert private.decrypt(private.public.residue) == 0
    assert gmpy2.powmod(private.public.residue, (p - 1) * (q - 1), n * n) == 1
    assert all(gmpy2.powmod(private.public.residue, small, n * n) != 1 for small in range(1, 100))
    assert len(holder.public_key()) == scheme.public_key_bytes == 3 * scheme.key_bits // 8


def test_keys_meet_their_conditions() -> None:
    moduli = set()
    for number in range(6):
        randomness = RecordedRandomness(b"keys %d" % number)
        holder = TESTING_ONLY.key_holder(public_seed=PUBLIC_SEED, randomness=randomness)
        assert len(randomness.given) == 1
        _check_key(TESTING_ONLY, holder)
        moduli.add(int(holder._private.public.modulus))
    assert len(moduli) == 6


@pytest.mark.parametrize("scheme", [STANDARD, LEGACY], ids=lambda each: each.name)
@pytest.mark.slow
def test_production_keys(scheme: PaillierScheme) -> None:
    randomness = RecordedRandomness(b"production")
    holder = scheme.key_holder(public_seed=PUBLIC_SEED, randomness=randomness)
    _check_key(scheme, holder)
    evaluator = scheme.evaluator(public_key=holder.public_key(), public_seed=PUBLIC_SEED)
    shape = ProductShape(rows=2, contraction=3, kept=17, multiplier_bits=63)
    plan = scheme.plan(shape, required_spare_bits=64)
    plain_ND, matrix_DK = multipliers(plan), matrix(plan)
    request = list(holder.encrypt(matrix_DK, plan=plan, randomness=randomness))
    answers = list(evaluator.respond(plain_ND, request, plan=plan, randomness=randomness))
    assert tuple(map(len, request)) == plan.request_sizes
    assert tuple(len(block) for block, _ in answers) == plan.response_sizes
    share = holder.decrypt([block for block, _ in answers], plan=plan)
    own = np.concatenate([part for _, part in answers])
    assert np.array_equal(share + own, product_of(plain_ND, matrix_DK))


def test_exponents_have_their_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[bytes, list[tuple[int, int]]] = {b"alpha": [], b"beta": []}

    def recorded(seed: Seed, purpose: bytes, *, index: int, bits: int) -> gmpy2.mpz:
        value = packing.random_integer(seed, purpose, index=index, bits=bits)
        drawn[purpose].append((bits, int(value)))
        return value

    monkeypatch.setattr(key_holder, "random_integer", recorded)
    monkeypatch.setattr(evaluator, "random_integer", recorded)
    plan = plan_of(rows=60, contraction=60, kept=1, bits=15)
    Exchange(plan, multipliers(plan), matrix(plan))
    combination = 60 * 2**15 * (2**320 - 1)
    for purpose, limit in ((b"alpha", 2**320), (b"beta", 2**402)):
        values = [value for _, value in drawn[purpose]]
        assert {bits for bits, _ in drawn[purpose]} == {limit.bit_length() - 1}
        assert len(set(values)) == len(values) == 60
        assert limit > max(values) > limit * 7 // 8
        assert limit // 8 > min(values)
    assert 2 * combination * 2**60 <= 2**402
    assert plan.rerandomiser_bits == 402


@pytest.mark.parametrize("secret", ["holder", "private key"])
def test_secrets_are_not_shown_or_copied(secret: str) -> None:
    holder = shared_pair()[0]
    private = holder._private
    thing: object = {"holder": holder, "private key": private}[secret]
    text = f"{thing} {thing!r} {[thing]}"
    assert repr(thing) == f"<{type(thing).__name__}: redacted>"
    assert not [number for number in (private.p, private.q) if str(number) in text]
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(thing)
