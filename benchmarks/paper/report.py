"""The paper's claims as tables: accuracy beside the twin, time and bytes of a step, ratios."""

import statistics
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.table import Table

BATCH: Final = 256
_NETWORKS: Final = {
    ("MNIST", "dense_bottom"): "images, dense",
    ("MNIST", "convolutional_bottom"): "images, convolutional",
    ("credit", "narrow_bottom"): "credit, bottom",
    ("credit", ""): "credit, no bottom",
}

Records = list[dict[str, Any]]


def print_report(results: dict[str, Any], baselines: dict[str, Any], console: Console) -> None:
    """Print what there is."""
    console.print(accuracy_table(results.get("accuracy", [])))
    console.print(timing_table(results.get("timings", [])))
    console.print(ratio_table(results.get("timings", []), baselines))


def accuracy_table(records: Records) -> Table:
    """Means over the seeds, and the largest gap between an encrypted training and its twin."""
    grid = Table(
        "data", "bottom", "protocol", "metric", "encrypted", "twin", "gap, mean", "largest", "plaintext"
    )
    order = sorted(records, key=_variant)
    for variant, group in groupby(order, key=_variant):
        runs = list(group)
        gaps = [each["encrypted"] - each["twin"] for each in runs]
        grid.add_row(
            *variant,
            runs[0]["metric"],
            f"{_mean(each['encrypted'] for each in runs):.4f}",
            f"{_mean(each['twin'] for each in runs):.4f}",
            f"{_mean(gaps):+.4f}",
            f"{max(abs(gap) for gap in gaps):.4f}",
            f"{_mean(each['plaintext'] for each in runs):.4f}",
        )
    return grid


def timing_table(records: Records) -> Table:
    """Median seconds and bytes of a step."""
    grid = Table("data", "bottom", "protocol", "scheme", "s per batch", "ms per row", "kB per row", "")
    for each in records:
        training = each["training"]
        note = "" if each["first_epoch"] else "activations sent before"
        grid.add_row(
            *_variant(each),
            training["scheme"],
            f"{each['seconds_per_batch']:.3f}",
            f"{1e3 * each['seconds_per_row']:.3f}",
            f"{each['bytes_per_batch'] / training['batch'] / 1e3:.2f}",
            note,
        )
    return grid


def ratio_table(records: Records, baselines: dict[str, Any]) -> Table:
    """How many times faster a row is than with each baseline of the same key size."""
    grid = Table("network", "key", "baseline", "s per row", "to our Paillier", "to our RLWE")
    for (data, bottom), name in _NETWORKS.items():
        lattice = _per_row(records, data, bottom, "rlwe")
        for scheme, bits in (("paillier-legacy", 2048), ("paillier", 3072)):
            ours = _per_row(records, data, bottom, scheme)
            if ours is None or lattice is None:
                continue
            grid.add_row(name, str(bits), "our Paillier", f"{ours:.4g}", "1", f"{ours / lattice:.0f}")
            for system, seconds in _baseline_rows(baselines, name, bits):
                figures = (f"{seconds:.4g}", f"{seconds / ours:.0f}", f"{seconds / lattice:.0f}")
                grid.add_row(name, str(bits), system, *figures)
    return grid


def _baseline_rows(baselines: dict[str, Any], network: str, bits: int) -> Iterable[tuple[str, float]]:
    for each in baselines.get("measured", []):
        if each["network"] == network and each["key_bits"] == bits:
            yield each["system"], each["seconds_per_row"] + each["seconds_per_batch"] / BATCH


def _per_row(records: Records, data: str, bottom: str, scheme: str) -> float | None:
    wanted = {"data": data, "network": bottom, "protocol": "acml", "scheme": scheme}
    found = [each for each in records if wanted.items() <= each["training"].items() and each["first_epoch"]]
    return found[0]["seconds_per_row"] if found else None


def _variant(record: dict[str, Any]) -> tuple[str, str, str]:
    training = record["training"]
    frozen = ", frozen" if training["frozen"] else ""
    return training["data"], (training["network"] or "none") + frozen, training["protocol"]


def _mean(values: Iterable[float]) -> float:
    return statistics.fmean(values)
