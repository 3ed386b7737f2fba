"""Two tables of many rows to align: other rows, orders and forms of id, and who is in which row.

Customer n is "TW-%09d" with stray blanks at the label owner and n itself at the data owner; a column beside
it says who it really is, so that rows that do not belong together can be counted.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from moiety.config import load_data_owner_run, load_label_owner_run
from moiety.crypto.sampling import SEED_BYTES, Seed, expand_words
from moiety.party.alignment import kept_table
from moiety.party.data_owner.features import open_features
from moiety.party.label_owner.features import read_labels
from tests.support.parties import Files, configure, make_parties

Numbers = NDArray[np.int64]


def write_tables(folder: Path, *, rows: int) -> Files:
    """Make two parties of that many rows each, nine of ten of them common."""
    files = make_parties(folder, ids=True)
    label_N = _shuffled(b"labels", rows)
    # What the other side lacks is not at one end: every tenth customer of each.
    label_N, feature_N = label_N + label_N // 9, _shuffled(b"features", rows)
    feature_N = feature_N + (feature_N + 8) // 9
    forms = pa.array(["TW-{}", "tw-{}", " TW-{}", "TW-{} "])
    digits = pc.utf8_lpad(pc.cast(pa.array(label_N), pa.string()), width=9, padding="0")
    texts = pc.replace_substring(forms.take(pa.array(label_N % 4)), "{}", "")
    blanks = pa.array(["", "", "", " "]).take(pa.array(label_N % 4))
    ids = pc.binary_join_element_wise(pc.utf8_rtrim(texts, " "), digits, blanks, "")
    labels = {"customer": ids, "target": (label_N % 2).astype(np.int8), "who": label_N}
    features = {"customer": feature_N, "who": feature_N}
    parquet.write_table(pa.table(labels), files.label_owner.with_name("labels.parquet"))
    parquet.write_table(pa.table(features), files.data_owner.with_name("features.parquet"))
    for path in (files.label_owner, files.data_owner):
        configure(path, {"table.normalise": [["digits", "integer"]], "table.features": ["who"]})
    return files


def who_is_where(files: Files) -> tuple[Numbers, Numbers]:
    """Return the customers of both aligned tables, row by row."""
    own, peer = load_label_owner_run(files.label_owner), load_data_owner_run(files.data_owner)
    aligned = kept_table(own, read_labels(own)), kept_table(peer, open_features(peer))
    assert aligned[0].order_digest == aligned[1].order_digest
    mine, theirs = (each.table.read("who").to_numpy() for each in aligned)
    return mine, theirs


def common(files: Files) -> int:
    """Count the customers that both tables have."""
    sources = files.label_owner.with_name("labels.parquet"), files.data_owner.with_name("features.parquet")
    mine, theirs = (parquet.read_table(source).column("who").to_numpy() for source in sources)
    return len(np.intersect1d(mine, theirs, assume_unique=True))


def _shuffled(purpose: bytes, rows: int) -> Numbers:
    words = expand_words(Seed(bytes(SEED_BYTES)), purpose, index=0, count=rows)
    return np.argsort(words, kind="stable").astype(np.int64)
