"""The encrypted product of both parties on one core, beside the same product in the clear."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Record, Stages, Times, measure
from moiety.crypto.kernel import matmul
from moiety.crypto.packing import PackingPlan, choose
from moiety.crypto.packing import plan as make_plan
from moiety.crypto.parameters import DITHERED_SPARE_BITS
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed, SystemRandomness, expand_words
from moiety.crypto.scheme import ProductNeed, ProductShape
from moiety.ring import RingArray

MULTIPLIER_BITS: Final = 15  # activations: 16-bit signed
CLEAR_RUNS: Final = 15
STAGES: Final = ("encrypt", "respond", "decrypt")


@dataclass(frozen=True, kw_only=True)
class Size:
    """One product (rows x contraction)(contraction x kept), and how often it is measured."""

    rows: int
    contraction: int
    kept: int
    runs: int

    @property
    def text(self) -> str:
        """The shape as it is printed."""
        return f"({self.rows} x {self.contraction})({self.contraction} x {self.kept})"


SIZES: Final = (
    Size(rows=1024, contraction=64, kept=64, runs=81),
    Size(rows=8192, contraction=300, kept=32, runs=11),
    Size(rows=256, contraction=784, kept=128, runs=15),
)


class Product:
    """Both parties of one product in this process, each with one thread."""

    def __init__(self, size: Size) -> None:
        shape = ProductShape(
            rows=size.rows, contraction=size.contraction, kept=size.kept, multiplier_bits=MULTIPLIER_BITS
        )
        parameters = choose([ProductNeed(shape=shape, spare_bits=DITHERED_SPARE_BITS)])
        self.size = size
        self.plan: PackingPlan = make_plan(parameters, shape)
        self._randomness = SystemRandomness()
        seed = self._randomness.seed()
        self._holder = RlweKeyHolder(parameters, public_seed=seed, randomness=self._randomness)
        self._evaluator = RlweEvaluator(parameters, public_key=self._holder.public_key(), public_seed=seed)
        self.plain_ND = _words(size.rows, size.contraction, b"plain").astype(np.int16)
        self.matrix_DK = _words(size.contraction, size.kept, b"matrix")

    def run(self, stages: Stages) -> tuple[int, int]:
        """Compute the product once, check the shares, and return the bytes of request and response."""
        holder, evaluator, plan, randomness = self._holder, self._evaluator, self.plan, self._randomness
        request = stages.time(
            "encrypt", lambda: list(holder.encrypt(self.matrix_DK, plan=plan, randomness=randomness))
        )
        response = stages.time(
            "respond",
            lambda: list(evaluator.respond(self.plain_ND, request, plan=plan, randomness=randomness)),
        )
        blocks = [block for block, _ in response]
        own = stages.time("decrypt", lambda: holder.decrypt(blocks, plan=plan))
        self._check(own + np.concatenate([share for _, share in response]))
        return sum(map(len, request)), sum(map(len, blocks))

    def _check(self, result_NK: RingArray) -> None:
        """Refuse to give the speed of a wrong product."""
        if not np.array_equal(result_NK, matmul(self.plain_ND, self.matrix_DK)):
            raise AssertionError(f"{self.size.text}: the shares do not add up to the product")


def product_records(size: Size) -> Iterator[Record]:
    """Measure one size: the stages, their sum, bytes, and the product in the clear."""
    product, stages = Product(size), Stages()
    for _ in range(size.runs + 2):
        sent, returned = product.run(stages)
    parts = {name: stages.times(name, warm_up=2) for name in STAGES}
    total = parts["encrypt"] + parts["respond"] + parts["decrypt"]
    for name, times in {**parts, "total": total}.items():
        yield from times.records(f"product {name}", shape=size.text, system="moiety")
    yield _single("product request", size, sent / 1e6, "MB")
    yield _single("product response", size, returned / 1e6, "MB")
    yield from _clear_records(product, total)
    yield from _plan_records(product)


def _clear_records(product: Product, total: Times) -> Iterator[Record]:
    left = product.plain_ND.astype(np.float64)
    right = product.matrix_DK.astype(np.float64)
    clear = {
        "NumPy float64, in the clear": measure(lambda: left @ right, runs=CLEAR_RUNS, repeat=4),
        "kernel matmul mod 2^64, in the clear": measure(
            lambda: matmul(product.plain_ND, product.matrix_DK), runs=CLEAR_RUNS, repeat=2
        ),
    }
    for system, times in clear.items():
        yield from times.records("product total", shape=product.size.text, system=system)
        ratio = statistics.median(total.cpu) / statistics.median(times.cpu)
        yield _single(f"CPU time of moiety over {system}", product.size, ratio, "times")


def _plan_records(product: Product) -> Iterator[Record]:
    plan = product.plan
    figures = {
        "ring degree N": (plan.parameters.degree, "coefficients"),
        "log2 q": (plan.parameters.modulus.bit_length(), "bits"),
        "estimated security": (plan.parameters.security_bits, "bits"),
        "spare": (plan.spare_bits, "bits"),
        "request ciphertexts": (plan.requests, "ciphertexts"),
        "response ciphertexts": (plan.responses, "ciphertexts"),
    }
    for name, (value, unit) in figures.items():
        yield _single(name, product.size, value, unit)


def _single(name: str, size: Size, value: float, unit: str) -> Record:
    return Record(name=name, shape=size.text, system="moiety", value=value, least=value, unit=unit, runs=1)


def _words(rows: int, columns: int, purpose: bytes) -> NDArray[np.uint64]:
    """Return uniform words that are the same in each run."""
    return expand_words(Seed(bytes(32)), purpose, index=0, count=rows * columns).reshape(rows, columns)
