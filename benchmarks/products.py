"""`product`: the encrypted product of both parties on one core, beside the same product in the clear."""

import statistics
from collections.abc import Iterator
from typing import Final

import numpy as np

from benchmarks.measure import Record, Stages, Times, measure
from benchmarks.results import single
from benchmarks.shapes import MULTIPLIER_BITS, STAGES, Bytes, Size, require_equal, words
from moiety.config import SchemeName
from moiety.crypto.kernel import matmul
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import DITHERED_SPARE_BITS
from moiety.crypto.sampling import SystemRandomness
from moiety.crypto.scheme import ProductNeed, ProductShape
from moiety.crypto.schemes import scheme_for

CLEAR_RUNS: Final = 15
WARM_UP: Final = 2


class Product:
    """Both parties of one product in this process.

    Args:
        size: the product.
        scheme: the cryptosystem.
        threads: of the kernel, for either party.
    """

    def __init__(self, size: Size, *, scheme: SchemeName = "rlwe", threads: int = 1) -> None:
        shape = ProductShape(
            rows=size.rows, contraction=size.contraction, kept=size.kept, multiplier_bits=MULTIPLIER_BITS
        )
        chosen = scheme_for(scheme, [ProductNeed(shape=shape, spare_bits=DITHERED_SPARE_BITS)])
        self.size = size
        self.name = "moiety" if scheme == "rlwe" else f"moiety, {chosen.name}"
        self.plan = chosen.plan(shape, required_spare_bits=DITHERED_SPARE_BITS)
        self._randomness = SystemRandomness()
        seed = self._randomness.seed()
        self._holder = chosen.key_holder(public_seed=seed, randomness=self._randomness, threads=threads)
        key = self._holder.public_key()
        self._evaluator = chosen.evaluator(public_key=key, public_seed=seed, threads=threads)
        self.plain_ND = words(size.rows, size.contraction, b"plain").astype(np.int16)
        self.matrix_DK = words(size.contraction, size.kept, b"matrix")

    def run(self, stages: Stages) -> Bytes:
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
        result_NK = own + np.concatenate([share for _, share in response])
        require_equal(result_NK, matmul(self.plain_ND, self.matrix_DK), f"{self.name}, {self.size.text}")
        return Bytes(request=sum(map(len, request)), response=sum(map(len, blocks)))


def total_of(stages: Stages, *, warm_up: int = WARM_UP) -> Times:
    """Add the stages up, run by run."""
    first, *others = (stages.times(name, warm_up=warm_up) for name in STAGES)
    return sum(others, start=first)


def product_records(size: Size) -> Iterator[Record]:
    """Measure one size: the stages, their sum, bytes, and the product in the clear."""
    product, stages = Product(size), Stages()
    for _ in range(size.runs + WARM_UP):
        crossed = product.run(stages)
    total = total_of(stages)
    yield from total.records("product", shape=size.text, system=product.name)
    for name in STAGES:
        times = stages.times(name, warm_up=WARM_UP)
        yield times.record(f"product, {name}", shape=size.text, system=product.name)
    yield each_record(total, size, product.name)
    yield from bytes_records(size, product.name, crossed)
    yield from _clear_records(product, total)
    assert isinstance(product.plan, PackingPlan)
    yield from _plan_records(product.plan, size)


def each_record(total: Times, size: Size, system: str) -> Record:
    """Return the time of one multiply-accumulate, both parties' work together, in nanoseconds."""
    value, least = (
        1e9 * each / size.multiplications for each in (statistics.median(total.cpu), min(total.cpu))
    )
    return Record(
        name="product, each multiply-accumulate",
        shape=size.text,
        system=system,
        value=value,
        least=least,
        unit="ns of CPU",
        runs=len(total.cpu),
    )


def bytes_records(size: Size, system: str, crossed: Bytes) -> Iterator[Record]:
    """Return what crosses in each direction."""
    for direction, count in (("request", crossed.request), ("response", crossed.response)):
        yield single(f"bytes, {direction}", shape=size.text, system=system, value=count / 1e6, unit="MB")


def _clear_records(product: Product, total: Times) -> Iterator[Record]:
    left, right = product.plain_ND.astype(np.float64), product.matrix_DK.astype(np.float64)
    clear = {
        "in the clear, NumPy float64": measure(lambda: left @ right, runs=CLEAR_RUNS, repeat=4),
        "in the clear, kernel modulo 2^64": measure(
            lambda: matmul(product.plain_ND, product.matrix_DK), runs=CLEAR_RUNS, repeat=4
        ),
    }
    shape = product.size.text
    for system, times in clear.items():
        yield times.record("product", shape=shape, system=system)
        ratio = statistics.median(total.cpu) / statistics.median(times.cpu)
        yield single("product, ratio", shape=shape, system=f"moiety over {system}", value=ratio, unit="times")


def _plan_records(plan: PackingPlan, size: Size) -> Iterator[Record]:
    figures = {
        "ring degree N": (plan.parameters.degree, "coefficients"),
        "log2 q": (plan.parameters.modulus.bit_length(), "bits"),
        "estimated security": (plan.parameters.security_bits, "bits"),
        "spare": (plan.spare_bits, "bits"),
        "request ciphertexts": (plan.requests, "ciphertexts"),
        "response ciphertexts": (plan.responses, "ciphertexts"),
    }
    for name, (value, unit) in figures.items():
        yield single(f"product, {name}", shape=size.text, system="moiety", value=value, unit=unit)
