"""Paillier: python-paillier (phe, GPL: measured, never shipped), and this project's packed one.

python-paillier encrypts M element by element, multiplies and adds as its users write it, with integers of 15
bits and a sign (floats cost it several times more), and adds an encryption of a mask to each result: fresh
randomness, so its circuit privacy is that of Paillier. Both are scaled from parts of the product.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import numpy as np

from benchmarks.measure import Record, Stages
from benchmarks.products import Product, total_of
from benchmarks.scaling import Counts, Scaled, counted, linear, scaled_records
from benchmarks.shapes import MULTIPLIER_BITS, Bytes, Size, require_equal, signed
from moiety.config import SchemeName

KEY_BITS: Final = (2048, 3072)
OWN: Final[tuple[SchemeName, ...]] = ("paillier-legacy", "paillier")
SMALL: Final = Size(rows=4, contraction=8, kept=4)
LARGE: Final = Size(rows=8, contraction=16, kept=8)
ROWS: Final = (32, 64, 96)
MASK_BITS: Final = 160


class PheProduct:
    """Both parties of one product with python-paillier in this process."""

    def __init__(self, size: Size, *, key_bits: int) -> None:
        self.size = size
        self.name = f"python-paillier, {key_bits} bits"
        self._public, self._private = import_module("phe").generate_paillier_keypair(n_length=key_bits)
        self._plain_ND = signed(size.rows, size.contraction, b"plain", bits=MULTIPLIER_BITS).astype(object)
        self._matrix_DK = signed(size.contraction, size.kept, b"matrix", bits=63)
        words = signed(size.rows, size.kept, b"mask", bits=63).astype(object)
        self._mask_NK = words + (1 << MASK_BITS)

    def run(self, stages: Stages) -> Bytes:
        """Compute the product once, and check it."""
        encrypt = np.vectorize(lambda value: self._public.encrypt(int(value)), otypes=[object])
        encrypted_DK = stages.time("encrypt", lambda: encrypt(self._matrix_DK))
        sums_NK = stages.time("respond", lambda: self._plain_ND.dot(encrypted_DK))
        answer_NK = stages.time("mask", lambda: sums_NK + encrypt(self._mask_NK))
        decrypt = np.vectorize(self._private.decrypt, otypes=[object])
        opened_NK = stages.time("decrypt", lambda: decrypt(answer_NK))
        expected_NK = self._plain_ND.dot(self._matrix_DK.astype(object))
        require_equal(opened_NK - self._mask_NK, expected_NK, self.name)
        bytes_of_one = self._public.n.bit_length() // 4
        return Bytes(request=encrypted_DK.size * bytes_of_one, response=answer_NK.size * bytes_of_one)


def operations(size: Size) -> Counts:
    """Count encryptions, multiplications, masks and decryptions."""
    results = size.rows * size.kept
    return {
        "encrypt": size.contraction * size.kept,
        "respond": size.multiplications,
        "mask": results,
        "decrypt": results,
    }


def phe_units(key_bits: int) -> dict[Size, Counts]:
    """Return the seconds of each stage of the two small products."""
    found: dict[Size, Counts] = {}
    for size in (SMALL, LARGE):
        stages = Stages()
        PheProduct(size, key_bits=key_bits).run(stages)
        found[size] = {stage: stages.times(stage).cpu[0] for stage in operations(size)}
    return found


def phe_scaled(size: Size, units: dict[Size, Counts]) -> Scaled:
    """Scale by counted operations."""
    small, large = ((units[each], operations(each)) for each in (SMALL, LARGE))
    return counted(LARGE.text, small=small, large=large, full=operations(size))


def own_scaled(size: Size, scheme: SchemeName) -> tuple[str, Scaled]:
    """Measure this project's Paillier on few rows, and follow the line."""
    names: list[Any] = []

    def seconds(rows: int) -> float:
        product, stages = Product(size.with_rows(rows), scheme=scheme), Stages()
        product.run(stages)
        names.append(product.name)
        return total_of(stages, warm_up=0).cpu[0]

    scaled = linear("rows", ROWS, size.rows, seconds)
    return str(names[0]), scaled


def paillier_records(sizes: tuple[Size, ...]) -> Iterator[Record]:
    """Measure both on every size."""
    for bits in KEY_BITS:
        units = phe_units(bits)
        for size in sizes:
            yield from scaled_records(phe_scaled(size, units), size, f"python-paillier, {bits} bits")
    for size in sizes:
        for scheme in OWN:
            name, scaled = own_scaled(size, scheme)
            yield from scaled_records(scaled, size, name)
