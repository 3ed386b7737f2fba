"""`ntt` and `encryption`: the transform, and one ciphertext, beside Microsoft SEAL (through TenSEAL).

SEAL's figures are of the same ring and the same primes, with the symmetric encryptor and the uniform part
expanded from a seed, as here. It does not offer what a product needs besides: a plaintext modulus of 2^64
(its limit is 60 bits), products of packed sub-rings, or responses that are re-randomised and masked.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tenseal import sealapi

from benchmarks.measure import Record, measure
from moiety.crypto import kernel
from moiety.crypto.packing import plan as make_plan
from moiety.crypto.parameters import LISTED, ParameterSet, transform
from moiety.crypto.rlwe import RlweKeyHolder
from moiety.crypto.sampling import Seed, SystemRandomness, expand_words
from moiety.crypto.scheme import ProductShape

SETS: Final = {47: LISTED[0], 40: LISTED[1]}
SPECIAL_PRIMES: Final = {47: LISTED[2].primes[3], 40: LISTED[0].primes[0]}
"""SEAL sets its last prime aside; no ciphertext uses it."""
SEAL_PLAIN_BITS: Final = 59
CIPHERTEXTS: Final = 16
RUNS: Final = 31


def primitive_records(*, runs: int = RUNS) -> Iterator[Record]:
    """Measure transforms and encryption, ours and SEAL's."""
    for bits, parameters in SETS.items():
        shape = f"N = {parameters.degree}, one {bits}-bit prime"
        yield from _transform_records(parameters, shape, runs=runs)
        yield from _seal_transform_records(bits, shape, runs=runs)
    parameters = SETS[47]
    shape = f"N = {parameters.degree}, {len(parameters.primes)} primes"
    yield from _encryption_records(parameters, shape, runs=runs)
    yield from _seal_encryption_records(shape, runs=runs)


def _transform_records(parameters: ParameterSet, shape: str, *, runs: int) -> Iterator[Record]:
    tables = transform(parameters)
    primes = len(parameters.primes)
    count = CIPHERTEXTS * primes * (parameters.degree + 64)
    words = expand_words(Seed(bytes(32)), b"transform", index=0, count=count)
    polynomials = tables.uniform(words.reshape(CIPHERTEXTS, primes, -1), length=parameters.degree)
    for instructions in reversed(kernel.instruction_sets()):  # the fastest last: it stays in use
        kernel.use_instruction_set(instructions)
        for direction, work in (("forward", tables.forward), ("inverse", tables.inverse)):
            times = measure(partial(work, polynomials), runs=runs).per(CIPHERTEXTS * primes)
            yield times.record(f"ntt, {direction}", shape=shape, system=f"moiety, {instructions}")


def _encryption_records(parameters: ParameterSet, shape: str, *, runs: int) -> Iterator[Record]:
    """Encrypt 16 ciphertexts: the time of one, with packing and serialisation."""
    randomness = SystemRandomness()
    holder = RlweKeyHolder(parameters, public_seed=randomness.seed(), randomness=randomness)
    product = ProductShape(rows=64, contraction=2 * CIPHERTEXTS, kept=64, multiplier_bits=15)
    plan = make_plan(parameters, product)
    matrix = expand_words(Seed(bytes(32)), b"matrix", index=0, count=product.contraction * product.kept)
    matrix_DK = matrix.reshape(product.contraction, product.kept)
    times = measure(lambda: list(holder.encrypt(matrix_DK, plan=plan, randomness=randomness)), runs=runs)
    yield times.per(plan.requests).record("encryption", shape=shape, system="moiety")


def _seal_transform_records(bits: int, shape: str, *, runs: int) -> Iterator[Record]:
    """Transform a ciphertext there and back: SEAL's interface does nothing smaller."""
    context, plain = _seal_context(bits), _seal_plaintext(SETS[bits].degree)
    encryptor, encrypted = _seal_encryptor(context), sealapi.Ciphertext()
    encryptor.encrypt_symmetric(plain, encrypted)
    evaluator = sealapi.Evaluator(context)
    directions = (evaluator.transform_to_ntt_inplace, evaluator.transform_from_ntt_inplace)
    both = measure(lambda: [each(encrypted) for each in directions], runs=runs, repeat=4)
    transforms = len(directions) * 2 * len(SETS[bits].primes)  # of two polynomials
    yield both.per(transforms).record("ntt, mean of both directions", shape=shape, system="SEAL")


def _seal_encryption_records(shape: str, *, runs: int) -> Iterator[Record]:
    context, plain = _seal_context(47), _seal_plaintext(SETS[47].degree)
    encryptor, encrypted = _seal_encryptor(context), sealapi.Ciphertext()
    times = measure(lambda: encryptor.encrypt_symmetric(plain, encrypted), runs=runs, repeat=4)
    yield times.record("encryption", shape=shape, system="SEAL")


def _seal_plaintext(degree: int) -> Any:
    terms = (
        f"{(place * 0x9E3779B97F4A7C15 + 1) % 2**SEAL_PLAIN_BITS:X}x^{place}"
        for place in reversed(range(degree))
    )
    return sealapi.Plaintext(" + ".join(terms))


def _seal_encryptor(context: Any) -> Any:
    return sealapi.Encryptor(context, sealapi.KeyGenerator(context).secret_key())


def _seal_context(bits: int) -> Any:
    parameters = SETS[bits]
    terms = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    terms.set_poly_modulus_degree(parameters.degree)
    primes = (*parameters.primes, SPECIAL_PRIMES[bits])
    terms.set_coeff_modulus([sealapi.Modulus(prime) for prime in primes])
    terms.set_plain_modulus(2**SEAL_PLAIN_BITS)
    return sealapi.SEALContext(terms, True, sealapi.SEC_LEVEL_TYPE.TC128)
