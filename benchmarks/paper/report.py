"""The paper's claims as tables: accuracy beside the twin, time and bytes of a step, ratios."""

import statistics
from collections.abc import Iterable
from itertools import groupby
from typing import Any, Final

from moiety.cli.text import table

BATCH: Final = 256
_NETWORKS: Final = {
    ("MNIST", "dense_bottom"): "images, dense",
    ("MNIST", "convolutional_bottom"): "images, convolutional",
    ("credit", "narrow_bottom"): "credit, bottom",
    ("credit", ""): "credit, no bottom",
}

Records = list[dict[str, Any]]


def print_report(results: dict[str, Any], baselines: dict[str, Any]) -> None:
    """Print what there is."""
    accuracy, timings = results.get("accuracy", []), results.get("timings", [])
    for lines in (accuracy_table(accuracy), timing_table(timings), ratio_table(timings, baselines)):
        print(*lines, "", sep="\n")


def accuracy_table(records: Records) -> list[str]:
    """Means over the seeds, and the largest gap between an encrypted training and its twin."""
    figures = ("encrypted", "twin", "gap, mean", "largest", "plaintext")
    rows: list[list[str]] = []
    order = sorted(records, key=_variant)
    for variant, group in groupby(order, key=_variant):
        runs = list(group)
        gaps = [each["encrypted"] - each["twin"] for each in runs]
        encrypted, twin, plain = (
            _mean(each[name] for each in runs) for name in ("encrypted", "twin", "plaintext")
        )
        gap = [f"{_mean(gaps):+.4f}", f"{max(map(abs, gaps)):.4f}"]
        rows.append([*variant, runs[0]["metric"], f"{encrypted:.4f}", f"{twin:.4f}", *gap, f"{plain:.4f}"])
    return table(("data", "bottom", "protocol", "metric", *figures), rows, numbers=figures)


def timing_table(records: Records) -> list[str]:
    """Median seconds and bytes of a step."""
    figures = ("s per batch", "ms per row", "kB per row")
    rows: list[list[str]] = []
    for each in records:
        training = each["training"]
        note = "" if each["first_epoch"] else "activations sent before"
        times = (f"{each['seconds_per_batch']:.3f}", f"{1e3 * each['seconds_per_row']:.3f}")
        size = f"{each['bytes_per_batch'] / training['batch'] / 1e3:.2f}"
        rows.append([*_variant(each), training["scheme"], *times, size, note])
    return table(("data", "bottom", "protocol", "scheme", *figures, ""), rows, numbers=figures)


def ratio_table(records: Records, baselines: dict[str, Any]) -> list[str]:
    """How many times faster a row is than with each baseline of the same key size."""
    headings = ("network", "key", "baseline", "s per row", "to our Paillier", "to our RLWE")
    rows: list[list[str]] = []
    for (data, bottom), name in _NETWORKS.items():
        lattice = _per_row(records, data, bottom, "rlwe")
        for scheme, bits in (("paillier-legacy", 2048), ("paillier", 3072)):
            ours = _per_row(records, data, bottom, scheme)
            if ours is None or lattice is None:
                continue
            rows.append([name, str(bits), "our Paillier", f"{ours:.4g}", "1", f"{ours / lattice:.0f}"])
            for system, seconds in _baseline_rows(baselines, name, bits):
                figures = (f"{seconds:.4g}", f"{seconds / ours:.0f}", f"{seconds / lattice:.0f}")
                rows.append([name, str(bits), system, *figures])
    return table(headings, rows, numbers=headings[3:])


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
