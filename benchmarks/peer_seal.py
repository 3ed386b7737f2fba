"""Microsoft SEAL (through TenSEAL's bindings) as a user would make it fast: BFV, N = 4096, two 36-bit primes.

E F with E encrypted, n rows, d contracted and k output columns to a ciphertext (n d k = N):

    E = sum_ij E[i, j] X^(i d k + d - 1 - j)       F = sum_jk F[j, k] X^(k d + j)
    (EF)[i, k] is the coefficient of X^(i d k + k d + d - 1)

With d = k = 1 a weight is a constant polynomial and SEAL multiplies by it without transforms; otherwise all
products are point by point. The cheapest geometry is taken, by the measured cost of each operation, with P or
the transpose of M encrypted. In the peer's favour: conversions between arrays and SEAL's plaintexts, and
serialisation, are not timed; encryption is symmetric; both sides have 12 bits and a sign, not 15 and 64.

Circuit privacy: SEAL gives none. Here each answer gets a fresh encryption of zero and a uniform mask modulo
t, which is what its interface allows; the noise that the key holder finds still depends on the other side's
matrix, and drowning it does not fit 72 bits.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

from benchmarks.measure import Stages
from benchmarks.shapes import Bytes, Size, powers_of_two, require_equal, signed

DEGREE: Final = 4096
PLAIN_BITS: Final = 12
ENCRYPTED_BITS: Final = 12
MODULUS_BITS: Final = 38
"""12 + 12 bits, 10 for the sum, a sign, and room; 72 - 38 bits are left for noise."""

# Microseconds of one operation on the machine of the first measurement: they only choose the geometry.
ENCRYPT, TRANSFORM, CONSTANT, POINTWISE, ADD, ENCODE, ANSWER = 630, 220, 26, 55, 14, 105, 1450

Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How E (rows x contraction) and F (contraction x columns) are cut; `swapped`: E is M's transpose."""

    rows: int
    contraction: int
    columns: int
    n: int
    d: int
    k: int
    swapped: bool

    @property
    def constant(self) -> bool:
        """Whether a weight is a constant polynomial."""
        return self.d == self.k == 1

    @property
    def counts(self) -> tuple[int, int, int]:
        """Ciphertexts along rows, contraction and columns."""
        return -(-self.rows // self.n), -(-self.contraction // self.d), -(-self.columns // self.k)

    @property
    def cost(self) -> float:
        """Microseconds, roughly."""
        a, b, c = self.counts
        if self.constant:
            return a * b * ENCRYPT + a * b * c * (CONSTANT + ADD) + a * c * ANSWER
        inputs = a * b * (ENCRYPT + TRANSFORM) + b * c * ENCODE
        return inputs + a * b * c * (POINTWISE + ADD) + a * c * (ANSWER + TRANSFORM)


def geometries(size: Size) -> list[Geometry]:
    """Return every way that fills a ciphertext."""
    found = []
    for swapped, n, d in product((False, True), powers_of_two(DEGREE), powers_of_two(DEGREE)):
        if n * d <= DEGREE:
            rows, columns = (size.kept, size.rows) if swapped else (size.rows, size.kept)
            sizes = {"rows": rows, "contraction": size.contraction, "columns": columns}
            found.append(Geometry(**sizes, n=n, d=d, k=DEGREE // n // d, swapped=swapped))
    return found


class SealProduct:
    """Both parties of one product in this process."""

    def __init__(self, size: Size, *, constant: bool) -> None:
        fitting = [each for each in geometries(size) if each.constant == constant]
        self.geometry = min(fitting, key=lambda each: each.cost)
        kind = "constant polynomials" if constant else "packed polynomials"
        self.name = f"SEAL BFV N = 4096, {kind}"
        self.size = size
        self._context = _context()
        keys = sealapi.KeyGenerator(self._context)
        public = sealapi.PublicKey()
        keys.create_public_key(public)
        self._encryptor = sealapi.Encryptor(self._context, public)
        self._encryptor.set_secret_key(keys.secret_key())
        self._evaluator = sealapi.Evaluator(self._context)
        self._decryptor = sealapi.Decryptor(self._context, keys.secret_key())
        self._plain_ND = signed(size.rows, size.contraction, b"plain", bits=PLAIN_BITS)
        self._matrix_DK = signed(size.contraction, size.kept, b"matrix", bits=ENCRYPTED_BITS)
        self._prepare()

    def _prepare(self) -> None:
        """Convert arrays to SEAL's plaintexts, and draw the masks: not timed."""
        shape = self.geometry
        pair = (self._plain_ND, self._matrix_DK)
        self._left, self._right = (pair[1].T, pair[0].T) if shape.swapped else pair
        a, b, c = (range(count) for count in shape.counts)
        self._inputs = [[_plaintext(self._input(i, j)) for j in b] for i in a]
        self._weights = [[_plaintext(self._weight(j, k)) for k in c] for j in b]
        masks = signed(len(a) * len(c), DEGREE, b"mask", bits=MODULUS_BITS - 1).reshape(
            len(a), len(c), DEGREE
        )
        self._masks = masks
        self._mask_plains = [[_plaintext(each) for each in row] for row in masks]

    def _input(self, i: int, j: int) -> Integers:
        g = self.geometry
        block = _block(self._left, i * g.n, g.n, j * g.d, g.d)
        polynomial = np.zeros((g.n, g.k, g.d), dtype=np.int64)
        polynomial[:, 0] = block[:, ::-1]
        return polynomial.reshape(-1)

    def _weight(self, j: int, k: int) -> Integers:
        g = self.geometry
        return _block(self._right, j * g.d, g.d, k * g.k, g.k).T.reshape(-1)

    def run(self, stages: Stages) -> Bytes:
        """Compute the product once, and check it."""
        encrypted = stages.time(
            "encrypt", lambda: [[self._encrypt(each) for each in row] for row in self._inputs]
        )
        answers = stages.time("respond", lambda: self._respond(encrypted))
        opened = stages.time("decrypt", lambda: [[self._decrypt(each) for each in row] for row in answers])
        result = np.vstack(
            [
                np.hstack([self._read(i, k, each) for k, each in enumerate(row)])
                for i, row in enumerate(opened)
            ]
        )
        result = result[: self.geometry.rows, : self.geometry.columns]
        require_equal(result, self._left @ self._right, f"{self.name}, {self.size.text}")
        residue_bytes = 2 * 5 * DEGREE  # two 36-bit residues a coefficient, in whole bytes
        inputs, outputs = sum(map(len, encrypted)), sum(map(len, answers))
        return Bytes(request=inputs * residue_bytes, response=outputs * 2 * residue_bytes)

    def _encrypt(self, plain: Any) -> Any:
        out = sealapi.Ciphertext()
        self._encryptor.encrypt_symmetric(plain, out)
        return out

    def _respond(self, encrypted: list[list[Any]]) -> list[list[Any]]:
        weights = self._weights
        if not self.geometry.constant:
            level = encrypted[0][0].parms_id()
            for each in (each for row in encrypted for each in row):
                self._evaluator.transform_to_ntt_inplace(each)
            weights = [[self._transformed(each, level) for each in row] for row in weights]
        return [
            [self._answer(row, [each[k] for each in weights], mask) for k, mask in enumerate(masks)]
            for row, masks in zip(encrypted, self._mask_plains, strict=True)
        ]

    def _transformed(self, plain: Any, level: Any) -> Any:
        out = sealapi.Plaintext()
        self._evaluator.transform_to_ntt(plain, level, out)
        return out

    def _answer(self, row: list[Any], weights: list[Any], mask: Any) -> Any:
        evaluator, total = self._evaluator, sealapi.Ciphertext()
        term, zero = sealapi.Ciphertext(), sealapi.Ciphertext()
        pairs = [each for each in zip(row, weights, strict=True) if not each[1].is_zero()]
        evaluator.multiply_plain(*pairs[0], total)
        for ciphertext, weight in pairs[1:]:
            evaluator.multiply_plain(ciphertext, weight, term)
            evaluator.add_inplace(total, term)
        if not self.geometry.constant:
            evaluator.transform_from_ntt_inplace(total)
        self._encryptor.encrypt_zero(zero)
        evaluator.add_inplace(total, zero)
        evaluator.add_plain_inplace(total, mask)
        return total

    def _decrypt(self, ciphertext: Any) -> Any:
        out = sealapi.Plaintext()
        self._decryptor.decrypt(ciphertext, out)
        return out

    def _read(self, i: int, k: int, opened: Any) -> Integers:
        g = self.geometry
        words = np.zeros(DEGREE, dtype=np.uint64)
        words[: opened.coeff_count()] = [opened.data(place) for place in range(opened.coeff_count())]
        unmasked = (words - self._masks[i, k].view(np.uint64)) << np.uint64(64 - MODULUS_BITS)
        signed_words: Integers = unmasked.view(np.int64) >> (64 - MODULUS_BITS)
        return signed_words.reshape(g.n, g.k, g.d)[:, :, g.d - 1]


def _context() -> Any:
    terms = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.BFV)
    terms.set_poly_modulus_degree(DEGREE)
    level = sealapi.SEC_LEVEL_TYPE.TC128
    terms.set_coeff_modulus(sealapi.CoeffModulus.BFVDefault(DEGREE, level))
    terms.set_plain_modulus(2**MODULUS_BITS)
    return sealapi.SEALContext(terms, True, level)


def _block(matrix: Integers, row: int, rows: int, column: int, columns: int) -> Integers:
    out = np.zeros((rows, columns), dtype=np.int64)
    part = matrix[row : row + rows, column : column + columns]
    out[: part.shape[0], : part.shape[1]] = part
    return out


def _plaintext(coefficients: Integers) -> Any:
    values = (coefficients.view(np.uint64) & np.uint64(2**MODULUS_BITS - 1)).tolist()
    terms = [f"{value:X}x^{place}" for place, value in enumerate(values) if value]
    return sealapi.Plaintext(" + ".join(reversed(terms)) or "0")
