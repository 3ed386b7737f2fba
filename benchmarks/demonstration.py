"""`demo`: two processes train ten epochs on real data, and the same training in the clear."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks.measure import Record
from benchmarks.results import single
from benchmarks.two_processes import Used, free_port, train
from moiety.demo.compare import Comparison, compare
from moiety.demo.demo import Example, set_up

EPOCHS: Final = 10
SHAPE: Final = "{rows:,} aligned rows, 90 or 91 inputs, 32 units, {epochs} epochs"


def demonstration_records(*, epochs: int = EPOCHS) -> Iterator[Record]:
    """Train in two processes over loopback with mutual TLS, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{free_port()}"
        parties = set_up(Path(folder) / "demo", Example(epochs=epochs), address=address)
        used = train(parties)
        comparison = compare(parties.label_owner, parties.data_owner)
    shape = SHAPE.format(rows=comparison.encrypted.rows, epochs=epochs)
    yield from _comparison_records(comparison, shape)
    for name, each in used.items():
        yield from _used_records(name, each, shape)


def _comparison_records(comparison: Comparison, shape: str) -> Iterator[Record]:
    encrypted = comparison.rows["encrypted"].seconds
    for name, row in comparison.rows.items():
        yield single("demo", shape=shape, system=name, value=row.seconds, unit="s")
        yield single("demo, ratio", shape=shape, system=name, value=row.seconds / encrypted, unit="times")
        for metric in ("AUC", "KS"):
            value = row.metrics[metric]
            yield single(f"demo, test {metric}", shape=shape, system=name, value=value, unit="")
    result = comparison.encrypted
    for direction, count in (("sent", result.bytes_sent), ("received", result.bytes_received)):
        name = f"demo, {direction} by the label owner"
        yield single(name, shape=shape, system="encrypted", value=count / 1e6, unit="MB")


def _used_records(name: str, used: Used, shape: str) -> Iterator[Record]:
    yield single("demo, CPU", shape=shape, system=name, value=used.cpu, unit="s of CPU")
    yield single("demo, peak memory", shape=shape, system=name, value=used.peak / 1e6, unit="MB")
