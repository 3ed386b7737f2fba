"""The transform and the encryption of one ciphertext, beside Microsoft SEAL (through TenSEAL).

SEAL's figures are of the same ring and the same three primes, with the symmetric encryptor and the uniform
part expanded from a seed, as here. It does not offer what a product needs besides: a plaintext modulus of
2^64 (its limit is 60 bits), products of packed sub-rings, or responses that are re-randomised and masked.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from tenseal import sealapi

from benchmarks.measure import Record, measure
from moiety.crypto import kernel
from moiety.crypto.packing import plan as make_plan
from moiety.crypto.parameters import LISTED, transform
from moiety.crypto.rlwe import RlweKeyHolder
from moiety.crypto.sampling import Seed, SystemRandomness, expand_words
from moiety.crypto.scheme import ProductShape

PARAMETERS: Final = LISTED[0]
SEAL_SPECIAL_PRIME: Final = LISTED[2].primes[3]  # SEAL sets its last prime aside; no ciphertext uses it
SEAL_PLAIN_BITS: Final = 59
CIPHERTEXTS: Final = 16
RUNS: Final = 31


def primitive_records() -> Iterator[Record]:
    """Measure transforms and encryption, ours and SEAL's."""
    shape = f"N = {PARAMETERS.degree}"
    yield from _transform_records(shape)
    shape = f"N = {PARAMETERS.degree}, {len(PARAMETERS.primes)} primes"
    yield from _encryption_records(shape)
    yield from _seal_records(shape)


def _transform_records(shape: str) -> Iterator[Record]:
    tables = transform(PARAMETERS)
    primes = len(PARAMETERS.primes)
    count = CIPHERTEXTS * primes * (PARAMETERS.degree + 64)
    words = expand_words(Seed(bytes(32)), b"transform", index=0, count=count)
    polynomials = tables.uniform(words.reshape(CIPHERTEXTS, primes, -1), length=PARAMETERS.degree)
    for instructions in reversed(kernel.instruction_sets()):  # the fastest last: it stays in use
        kernel.use_instruction_set(instructions)
        for name, work in (("forward", tables.forward), ("inverse", tables.inverse)):
            times = measure(partial(work, polynomials), runs=RUNS).per(CIPHERTEXTS * primes)
            system = f"moiety, {instructions}"
            yield from times.records(f"{name} transform of one prime", shape=shape, system=system)


def _encryption_records(shape: str) -> Iterator[Record]:
    """Encrypt 16 ciphertexts: the time of one, with packing and serialisation."""
    randomness = SystemRandomness()
    holder = RlweKeyHolder(PARAMETERS, public_seed=randomness.seed(), randomness=randomness)
    product = ProductShape(rows=64, contraction=2 * CIPHERTEXTS, kept=64, multiplier_bits=15)
    plan = make_plan(PARAMETERS, product)
    matrix = expand_words(Seed(bytes(32)), b"matrix", index=0, count=product.contraction * product.kept)
    matrix_DK = matrix.reshape(product.contraction, product.kept)
    times = measure(lambda: list(holder.encrypt(matrix_DK, plan=plan, randomness=randomness)), runs=RUNS)
    yield from times.per(plan.requests).records("encryption of one ciphertext", shape=shape, system="moiety")


def _seal_records(shape: str) -> Iterator[Record]:
    context = _seal_context()
    encryptor = sealapi.Encryptor(context, sealapi.KeyGenerator(context).secret_key())
    terms = (
        f"{(place * 0x9E3779B97F4A7C15 + 1) % 2**SEAL_PLAIN_BITS:X}x^{place}"
        for place in reversed(range(PARAMETERS.degree))
    )
    plain, encrypted = sealapi.Plaintext(" + ".join(terms)), sealapi.Ciphertext()
    times = measure(lambda: encryptor.encrypt_symmetric(plain, encrypted), runs=RUNS, repeat=4)
    yield from times.records("encryption of one ciphertext", shape=shape, system="SEAL")
    evaluator = sealapi.Evaluator(context)
    directions = (evaluator.transform_to_ntt_inplace, evaluator.transform_from_ntt_inplace)
    both = measure(lambda: [each(encrypted) for each in directions], runs=RUNS, repeat=4)
    transforms = len(directions) * 2 * len(PARAMETERS.primes)  # of two polynomials
    yield from both.per(transforms).records(
        "mean transform of one prime", shape=f"N = {PARAMETERS.degree}", system="SEAL"
    )


def _seal_context() -> Any:
    terms = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    terms.set_poly_modulus_degree(PARAMETERS.degree)
    primes = (*PARAMETERS.primes, SEAL_SPECIAL_PRIME)
    terms.set_coeff_modulus([sealapi.Modulus(prime) for prime in primes])
    terms.set_plain_modulus(2**SEAL_PLAIN_BITS)
    return sealapi.SEALContext(terms, True, sealapi.SEC_LEVEL_TYPE.TC128)
