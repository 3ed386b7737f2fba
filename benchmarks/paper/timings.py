"""CPU seconds and bytes of a training step, by protocol and scheme, both parties on one core.

The same run files as in earnest, both parties in one process, on as many rows as a few steps take. The first
step is left out: it makes tables. Medians.
"""

import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Final

from benchmarks.paper.parties import Training, folders, run
from moiety.crypto.sampling import SystemRandomness

STEPS: Final = {"rlwe": 9, "paillier": 4, "paillier-legacy": 4}
NETWORKS: Final = (
    Training(data="MNIST", network="dense_bottom", protocol="acml"),
    Training(data="MNIST", network="convolutional_bottom", protocol="acml"),
    Training(data="credit", network="narrow_bottom", protocol="acml"),
    Training(data="credit", network="", protocol="acml"),
)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A training step of a protocol under a scheme.

    Args:
        training: what was trained.
        seconds_per_batch: CPU time, median of a step, both parties.
        seconds_per_row: the same for one row.
        bytes_per_batch: both directions.
        steps: how many the median is of.
        first_epoch: activations that never change crossed in these steps; False: they had crossed before.
    """

    training: dict[str, object]
    seconds_per_batch: float
    seconds_per_row: float
    bytes_per_batch: float
    steps: int
    first_epoch: bool


def timings() -> Iterator[Timing]:
    """Measure every protocol under every scheme that it is for."""
    for network in NETWORKS:
        for protocol in ("acml", "joint", "blind"):
            for scheme in STEPS if protocol == "acml" else ("rlwe",):
                training = replace(network, protocol=protocol, scheme=scheme)
                if protocol == "blind":
                    training = replace(training, frozen=bool(network.network))
                if protocol == "joint" and not network.network:
                    continue
                yield from _measured(training)


def _measured(training: Training) -> Iterator[Timing]:
    steps = STEPS[training.scheme]
    fixed = training.protocol == "acml" and not training.network
    short = replace(training, rows=steps * training.batch, epochs=2 if fixed else 1)
    with folders(short) as places:
        _, watch = run(places, SystemRandomness())
    seconds, crossed = watch.seconds(), watch.bytes_per_step()
    for epoch in range(short.epochs):
        part = slice(epoch * steps + (epoch == 0), (epoch + 1) * steps)
        median = statistics.median(seconds[part])
        timing = Timing(
            training=asdict(training),
            seconds_per_batch=median,
            seconds_per_row=median / training.batch,
            bytes_per_batch=statistics.median(crossed[part]),
            steps=len(seconds[part]),
            first_epoch=epoch == 0,
        )
        print(
            f"{training.data}, {training.network or 'no bottom'}, {training.protocol}, {training.scheme}: "
            f"{median:.3f} s and {timing.bytes_per_batch / 1e6:.2f} MB a batch"
            + ("" if epoch == 0 else ", activations sent before"),
            flush=True,
        )
        yield timing
