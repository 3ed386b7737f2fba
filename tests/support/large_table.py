"""A large table, and a process that prepares it and measures its own memory.

`python -m tests.support.large_table SOURCE FOLDER PIECE_VALUES HOW`, for a file, folder or query, HOW being
"read", "profile", "prepare", or "whole" to prepare in memory as well. Prints JSON: MB of memory before and at
most, seconds, and with "whole" the most after the table was prepared in memory. It reads VmHWM, since
a child's ru_maxrss begins with what its parent had when it started it.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from moiety.config.source import Query, Source
from moiety.data import prepared_column
from moiety.data.preparation import Preparation, Unfitted
from moiety.data.profile import profile_table
from moiety.data.table import Table, read_table
from moiety.data.table_pass import TablePass
from moiety.party.data_owner import activations
from moiety.party.data_owner.activations import ActivationTable
from tests.support.randomness import words_of

ROOT = Path(__file__).parents[2]
GROUP_ROWS = 20_000
BATCH = 8192

Measured = dict[str, float]
How = Literal["read", "profile", "prepare", "whole"]


def write_folder(folder: Path, rows: int, columns: int, *, files: int) -> Path:
    """Write the same table as several files of a folder."""
    folder.mkdir()
    for number in range(files):
        first = number * rows // files
        write(folder / f"part{number:03}.parquet", (number + 1) * rows // files, columns, first=first)
    return folder


def write(path: Path, rows: int, columns: int, *, first: int = 0) -> None:
    """Write a table of numbers, uniform in [-1, 1), a part at a time; from its first row to `rows`."""
    names = [f"f{number}" for number in range(columns)]
    schema = pa.schema([("customer", pa.int64()), *((name, pa.float64()) for name in names)])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(first, rows, GROUP_ROWS):
            ids = np.arange(start, min(start + GROUP_ROWS, rows))
            words = words_of(f"rows from {start}", columns * len(ids)).reshape(columns, len(ids))
            values = np.ldexp(words.astype(np.float64), -63) - 1
            writer.write_table(
                pa.Table.from_arrays([pa.array(each) for each in (ids, *values)], schema=schema)
            )


def query_of(rows: int, columns: int) -> Query:
    """Ask for a table of that size, made by the database."""
    features = ", ".join(f"(i % 1000 + {number})::float8 as f{number}" for number in range(columns))
    return Query(postgresql=f"select i as customer, {features} from generate_series(1, {rows}) i")  # noqa: S608


def measured(source: Source, folder: Path, *, piece_values: int, how: How = "prepare") -> Measured:
    """Measure in a process of its own."""
    named = source.postgresql if isinstance(source, Query) else str(source)
    arguments = [named, str(folder), str(piece_values), how]
    command = [sys.executable, "-m", "tests.support.large_table", *arguments]
    finished = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    figures: Measured = json.loads(finished.stdout)
    return figures


def main(source: Source, folder: Path, piece_values: int, *, how: str) -> Measured:
    """Read all columns of a table, or prepare it and read its rows in a shuffled order.

    Pieces of 2**20 values go with the limits of the product; with smaller ones the others are smaller too.
    """
    prepared_column._PIECE_VALUES = activations._CHUNK_VALUES = piece_values  # type: ignore[misc]
    activations.MEMORY_BYTES = 256 * piece_values  # type: ignore[misc]
    write(folder / "small.parquet", 100, 3)
    prepare(read_table(folder / "small.parquet", columns=None), folder)  # what only the first use loads
    if isinstance(source, Query):
        read_table(query_of(100, 3), columns=None, scratch=folder)
    before, begin = memory("VmRSS"), time.perf_counter()
    table = read_table(source, columns=None, scratch=folder)
    if how == "read":
        for name in table.names:
            table.column(name)
    elif how == "profile":
        features = [name for name in table.names if name != "customer"]
        profile_table(table, Unfitted(features=features, rules={}), ids=["customer"])
    else:
        fitted = prepare(table, folder)
    figures = {"before": before, "peak": memory("VmHWM"), "seconds": time.perf_counter() - begin}
    if how == "whole":
        fitted.transform(table)
        figures["whole"] = memory("VmHWM")
    return figures


def prepare(table: Table, folder: Path) -> Preparation:
    """Do what a session does before and between its products."""
    table.id_digest(())
    shuffled_N = np.argsort(words_of("order", table.rows))
    features = [name for name in table.names if name != "customer"]
    wanted = Unfitted(features=features, rules={})
    passed = TablePass(table, wanted, training=np.sort(shuffled_N[table.rows // 3 :]))
    kept = ActivationTable(folder, passed, rows=table.rows)
    for start in range(0, table.rows, BATCH):
        kept.batch(shuffled_N[start : start + BATCH], training=True)
    return passed.preparation


def memory(name: str) -> float:
    """Return a figure of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name))


if __name__ == "__main__":
    given = sys.argv[1:]
    named = Query(postgresql=given[0]) if given[0].startswith("select") else Path(given[0])
    found = main(named, Path(given[1]), int(given[2]), how=given[3])
    sys.stdout.write(json.dumps(found))
