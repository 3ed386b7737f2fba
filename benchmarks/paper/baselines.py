"""Measure both baselines on one core, print a table, and write benchmarks/paper/baselines.json.

Seconds are CPU time of both sides. A step of the all-layers baseline is run in full for one row, nothing left
out; the time of each operation, measured apart, times the number of operations must give the same figure, and
then serves for the flow that is too long to run.
"""

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from benchmarks.measure import use_one_core
from benchmarks.paper import python_paillier
from benchmarks.paper.all_layers import WEIGHT_BITS, dearer_counts, encrypt_layers, train_step
from benchmarks.paper.cost import Cost, Forecast, per_row, predicted
from benchmarks.paper.data import credit, mnist
from benchmarks.paper.elementwise import OPERATIONS, RANDOMISER, Elementwise
from benchmarks.paper.networks import NETWORKS, Network
from benchmarks.results import machine
from moiety.cli.text import table
from moiety.crypto.paillier.keys import PrivateKey
from moiety.crypto.sampling import SystemRandomness

RESULTS: Final = Path(__file__).with_name("baselines.json")
KEY_BITS: Final = (2048, 3072)
BATCH: Final = 256
COUNTED_ROWS: Final = 2
UNIT_RUNS: Final = 5
SYSTEM: Final = "all layers, gmpy2"
SAMPLED_WEIGHTS: Final = 4096
SAMPLED_NUMBERS: Final = 64


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper.baselines", description=__doc__)
    parser.add_argument("--key-bits", type=int, nargs="+", default=KEY_BITS)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options = parser.parse_args(arguments)
    use_one_core()
    costs: list[Cost] = []
    forecasts: list[Forecast] = []
    for key_bits in options.key_bits:
        key = PrivateKey.generate(key_bits, SystemRandomness())
        units = unit_seconds(key)
        for name in options.networks:
            sizes = (1, 2) if name.startswith("credit") else (1,)
            costs += [measure_network(name, key, units=units, rows=rows) for rows in sizes]
            forecasts.append(forecast_network(name, key_bits, units=units))
            _write(costs, forecasts)
        costs += _python_paillier(key_bits)
        _write(costs, forecasts)
    _print(costs, forecasts)


def measure_network(name: str, key: PrivateKey, *, units: dict[str, float], rows: int) -> Cost:
    """Run one step on a few rows of real data."""
    batch = _rows(NETWORKS[name], rows)
    clear, encrypted = (_joined(NETWORKS[name]) for _ in range(2))
    arithmetic = Elementwise(key, randomness=SystemRandomness())
    encrypt_layers(encrypted, arithmetic, encrypted_weight_gradient=False)
    found, expected = train_step(encrypted, *batch), train_step(clear, *batch)
    seconds, counts = per_row(arithmetic.seconds, rows), per_row(arithmetic.counts, rows)
    return Cost(
        system=SYSTEM,
        network=name,
        key_bits=int(key.public.modulus.bit_length()),
        rows=rows,
        seconds_per_row=sum(seconds[each] for each in OPERATIONS),
        ahead_per_row=seconds[RANDOMISER],
        seconds_per_batch=0.0,
        seconds=seconds,
        counts=counts,
        predicted_per_row=predicted(counts, units),
        largest_error=max(float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)),
    )


def forecast_network(name: str, key_bits: int, *, units: dict[str, float]) -> Forecast:
    """Forecast the step where the other side computes the weight gradient too."""
    counts = dearer_counts(_joined(NETWORKS[name]), *_rows(NETWORKS[name], COUNTED_ROWS), batch=BATCH)
    return Forecast(
        system=f"{SYSTEM}, encrypted weight gradient",
        network=name,
        key_bits=key_bits,
        batch=BATCH,
        seconds_per_row=predicted(counts, units),
        counts=counts,
    )


def unit_seconds(key: PrivateKey) -> dict[str, float]:
    """Measure each operation apart, on weights as fresh layers have them; medians of several runs."""
    runs = [_unit_run(key) for _ in range(UNIT_RUNS)]
    return {each: statistics.median(run[each] for run in runs) for each in OPERATIONS}


def _unit_run(key: PrivateKey) -> dict[str, float]:
    arithmetic = Elementwise(key, randomness=SystemRandomness())
    torch.manual_seed(2)
    layer = nn.Linear(SAMPLED_NUMBERS, SAMPLED_WEIGHTS // SAMPLED_NUMBERS)
    weights = layer.weight.detach().mul(2**WEIGHT_BITS).round().long()
    connections = [
        (source, target, int(weight))
        for target, row in enumerate(weights)
        for source, weight in enumerate(row)
    ]
    encrypted = arithmetic.encrypt(range(SAMPLED_NUMBERS))
    arithmetic.decrypt(arithmetic.sums(encrypted, connections, len(weights)))
    return {each: arithmetic.seconds[each] / arithmetic.counts[each] for each in OPERATIONS}


def _python_paillier(key_bits: int) -> Iterator[Cost]:
    """Two rows of a narrow layer give the time of each operation; the layers of the networks follow."""
    narrow = python_paillier.measure(key_bits=key_bits, rows=2, in_features=16, units=8, bottom=True)
    known = {stage: narrow.seconds[stage] / count for stage, count in narrow.counts.items()}
    yield narrow
    for in_features, bottom, rows in ((16, True, 6), (64, True, 2), (91, False, 2)):
        units = 8 if in_features == 16 else 32
        yield python_paillier.measure(
            key_bits=key_bits, rows=rows, in_features=in_features, units=units, bottom=bottom, known=known
        )


def _rows(network: Network, count: int) -> tuple[Tensor, Tensor]:
    data = mnist() if network.columns == 784 else credit()
    labels_N = torch.from_numpy(data.train_N[:count])
    target_NK = nn.functional.one_hot(labels_N, 10) if network.outputs > 1 else labels_N[:, None]
    return torch.from_numpy(data.train_NC[:count]), target_NK.float()


def _joined(network: Network) -> nn.Module:
    torch.manual_seed(1)
    return network.joined()


def _print(costs: list[Cost], forecasts: list[Forecast]) -> None:
    headings = ("system", "network", "key", "rows", "s per row", "predicted", "ahead", "s per batch", "error")
    rows: list[list[str]] = []
    for each in costs:
        guess = "" if each.predicted_per_row is None else f"{each.predicted_per_row:.4g}"
        figures = (f"{each.seconds_per_row:.4g}", guess, f"{each.ahead_per_row:.3g}")
        rest = (f"{each.seconds_per_batch:.4g}", f"{each.largest_error:.1e}")
        rows.append([each.system, each.network, str(each.key_bits), str(each.rows), *figures, *rest])
    for other in forecasts:
        size = f"batch {other.batch}"
        figure = f"{other.seconds_per_row:.4g}"
        rows.append([other.system, other.network, str(other.key_bits), size, "", figure, "", "", ""])
    print(*table(headings, rows, numbers=headings[4:]), sep="\n")


def _write(costs: list[Cost], forecasts: list[Forecast]) -> None:
    content = {
        "machine": machine(),
        "measured": [asdict(each) for each in costs],
        "forecast": [asdict(each) for each in forecasts],
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
