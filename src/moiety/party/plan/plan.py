"""`moiety plan`: what a training will cost and release, before anything starts.

Opens no connection; reads the table where its rows or columns are not given, and runs a few batches of zeros
to measure this machine. Imported by the command line.
"""

from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Final

from moiety.config import load_run
from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.contract.schedule import Split
from moiety.crypto.ring import (
    ACTIVATION_BITS,
    ACTIVATION_MULTIPLIER_BITS,
    GRADIENT_LIMIT,
    Z_BITS,
    Z_LIMIT_BITS,
)
from moiety.crypto.sampling import Randomness, SystemRandomness
from moiety.errors import PolicyError
from moiety.party.plan.cost import Forecast, Line, forecast, measure_here
from moiety.party.plan.options import Options, contract_of, training_of
from moiety.party.threads import available_threads

LARGEST_ACTIVATION: Final[int] = 2 ** (ACTIVATION_MULTIPLIER_BITS - ACTIVATION_BITS)
LARGEST_STEP: Final = LARGEST_ACTIVATION * int(GRADIENT_LIMIT)
Z_LIMIT: Final = 2**Z_LIMIT_BITS
Z_WRAP: Final = 2 ** (63 - Z_BITS)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is known of a run before it starts.

    Args:
        role: whose run file it was made from.
        contract: what the parties would agree on.
        forecast: bytes, seconds and memory.
        line: the connection that seconds are for.
        threads: of each party.
        assumed: what had to be assumed, in sentences.
        warnings: what may stop the run, in sentences.
    """

    role: str
    contract: Contract
    forecast: Forecast
    line: Line
    threads: int
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def released_z_per_row(self) -> int:
        """Values of z that this run releases for each training row."""
        return self.contract.out_features * self.contract.label_owner.epochs

    @property
    def steps(self) -> int:
        """Training steps of the run."""
        batches = self.contract.schedule.batches(Split.TRAIN, epoch=0)
        return len(batches) * self.contract.label_owner.epochs

    @property
    def largest_z(self) -> int:
        """How far |z| can move in one step."""
        return largest_z(self.contract.in_features)

    @property
    def parameters(self) -> list[str]:
        """Encryption under each key."""
        return sorted({scheme.description for scheme in self.contract.schemes.values()})

    @property
    def spare_bits(self) -> dict[Product, float | None]:
        """The fewest spare bits of each product over all batches; None where it is exact."""
        return {product: _fewest_spare_bits(self.contract, product) for product in self.contract.products}

    def rows_of(self, split: Split) -> int:
        """Return the rows of a split."""
        return len(self.contract.schedule.split_rows(split))


def plan(
    path: Path,
    options: Options,
    *,
    line: Line,
    timed: bool = True,
    randomness: Randomness | None = None,
) -> Plan:
    """Forecast the training that a run file describes.

    Args:
        path: the run file of either role.
        options: what the peer decides, and what is to be tried out.
        line: the connection that is planned for.
        timed: measure this machine; otherwise seconds are left out.
        randomness: where the seeds of the measurement come from; the operating system when left out.

    Raises:
        ConfigError: an option is missing or not usable, or the run file is not.
        DataError: the table cannot be used.
        ParameterError: no parameters hold the products.

    Leaks:
        Nothing: no connection is made.
    """
    settings = load_run(path)
    training = training_of(settings, options)
    contract, threads = contract_of(settings, training), available_threads()
    measure, assumed = None, [*training.assumed]
    if timed and contract.label_owner.scheme == "rlwe":
        measure = measure_here(contract, randomness=randomness or SystemRandomness(), threads=threads)
        assumed.append(f"both machines are like this one with {threads} threads; networks take no time")
    elif timed:
        assumed.append("seconds are not forecast: only those of rlwe are measured")
    return Plan(
        role=settings.role,
        contract=contract,
        forecast=forecast(contract, measure),
        line=line,
        threads=threads,
        assumed=tuple(assumed),
        warnings=(*_refusals(contract, role=settings.role), *_range_warnings(contract)),
    )


def largest_z(in_features: int) -> int:
    """Bound how far z moves while every activation is at its limit and every weight moves by that of dz'.

    >>> largest_z(91)
    11648
    """
    return in_features * LARGEST_STEP


def _refusals(contract: Contract, *, role: str) -> list[str]:
    """Ask what both parties will ask; the label owner does not know the policy, only the usual one."""
    try:
        contract.check()
    except PolicyError as error:
        whose = "" if role == "data-owner" else " under the usual policy"
        return [f"this run would be refused{whose}: {error.message}"]
    return []


def _range_warnings(contract: Contract) -> list[str]:
    largest = largest_z(contract.in_features)
    if largest <= Z_LIMIT:
        return []
    sentence = (
        f"z can move by {largest} in a step (in_features x {LARGEST_ACTIVATION} x {GRADIENT_LIMIT:g}: every "
        "activation at its limit, every weight moved by the limit of dz'); a run stops where |z| is "
        f"{Z_LIMIT}, and does not notice a jump past {Z_WRAP}"
    )
    return [sentence]


def _fewest_spare_bits(contract: Contract, product: Product) -> float | None:
    splits = (Split.TRAIN, Split.VALIDATION, Split.TEST) if product is Product.FORWARD else (Split.TRAIN,)
    sizes = {each.rows for split in splits for each in contract.schedule.batches(split, epoch=0)}
    fewest = min(contract.plan(product, rows).spare_bits for rows in sizes)
    return None if isinf(fewest) else fewest
