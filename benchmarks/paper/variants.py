"""The accuracy of every encrypted variant beside its twin in the clear, over several seeds.

Each training is run from run files with both parties in one process, then its twin (same split, batches,
weights and rounding, no encryption and no dither) and an ordinary network with Adam.
"""

import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks.paper.parties import Training, folders, run
from moiety.crypto.sampling import Seed, derive
from moiety.demo.compare import join, train_adam, train_twin

SEEDS: Final = 3


def _plain(data: str, *, units: int = 64, **changes: int) -> Training:
    """No bottom model, in `blind`: the interactive layer is the first layer of the network."""
    usual = {"epochs": 5, "batch": 256} | changes
    return Training(data=data, network="", protocol="blind", units=units, **usual)


def _of(data: str, network: str, **changes: int) -> list[Training]:
    """Trained in `acml` and `joint`, frozen in `blind`."""
    usual = {"epochs": 5, "batch": 256} | changes
    trained = [Training(data=data, network=network, protocol=each, **usual) for each in ("acml", "joint")]
    name = network if data == "credit" else f"random_{network}"
    return [*trained, Training(data=data, network=name, protocol="blind", frozen=True, **usual)]


VARIANTS: Final = (
    *_of("MNIST", "dense_bottom", epochs=10),
    *_of("MNIST", "convolutional_bottom", epochs=10),
    _plain("MNIST", epochs=10),
    *_of("credit", "narrow_bottom", batch=1024),
    *(Training(data="credit", network="", protocol=each, batch=1024) for each in ("blind", "acml")),
    *_of("Fashion-MNIST", "dense_bottom", epochs=3, batch=512),
    *_of("Fashion-MNIST", "convolutional_bottom", epochs=3, batch=512),
    _plain("Fashion-MNIST", epochs=3, batch=512),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One training of one seed.

    Args:
        training: what was trained.
        metric: name of the figure below.
        encrypted: of the encrypted training, on the test rows.
        twin: of the same training in the clear.
        plaintext: of an ordinary network with Adam, bottom model trained.
        leakage: AUC of the attacks on labels from what the data owner was shown.
        seconds: of the encrypted training.
        seed: of everything that is drawn.
    """

    training: dict[str, object]
    seed: int
    metric: str
    encrypted: float
    twin: float
    plaintext: float
    leakage: dict[str, float]
    seconds: float


class SeededRandomness:
    """Seeds that follow from one number, so that a run can be repeated; never for real data."""

    def __init__(self, number: int) -> None:
        self._root = Seed(number.to_bytes(32, "little"))
        self._count = 0

    def seed(self) -> Seed:
        """Return the next seed."""
        self._count += 1
        return derive(self._root, b"benchmark", self._count.to_bytes(8, "little"))


def outcomes(*, data: list[str], known: list[tuple[dict[str, object], int]]) -> Iterator[Outcome]:
    """Train every variant on the named data sets, but for those of which a result is known."""
    for training in VARIANTS:
        if training.data not in data:
            continue
        for seed in range(SEEDS):
            if (asdict(training), seed) in known:
                continue
            outcome = train(training, seed)
            gc.collect()  # the two parties of one process hold each other, and gigabytes with them
            print(
                f"{training.data}, {training.network or 'no bottom'}, {training.protocol}, seed {seed}: "
                f"{outcome.metric} {outcome.encrypted:.4f}, twin {outcome.twin:.4f}, "
                f"plaintext {outcome.plaintext:.4f}, {outcome.seconds:.0f} s",
                flush=True,
            )
            yield outcome


def train(training: Training, seed: int) -> Outcome:
    """Train one variant with one seed, and its twins in the clear."""
    with folders(training) as places:
        result, _ = run(places, SeededRandomness(seed))
        both = join(places.label_owner, places.data_owner)
        metric = "AUC" if "AUC" in result.test else "accuracy"
        return Outcome(
            training=asdict(training),
            seed=seed,
            metric=metric,
            encrypted=result.test[metric],
            twin=train_twin(both)[metric],
            plaintext=train_adam(both)[metric],
            leakage=result.label_leakage,
            seconds=result.seconds,
        )
