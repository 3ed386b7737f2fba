"""The demonstration's two tables: what a bank and a telecom company really have.

Of the customers in the data set each party knows most, not all, and lists them in an order of its own under
ids of its own form: " tw-0001234" at the bank, 1234 at the telecom company. Some ids are missing, some rows
come twice. Everything follows from one fixed seed. Imported by the demo.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from moiety.crypto.sampling import SEED_BYTES, Seed, expand_words
from moiety.demo.credit import CREDIT_FEATURES, CREDIT_ID, CREDIT_TARGET, credit_path

BANK_ID: Final = "customer"
TELCO_ID: Final = "subscriber"
NORMALISE: Final = ("digits", "integer")
"""Rules that give both parties' ids one form."""

_SEED: Final = Seed(bytes(SEED_BYTES))
_UNKNOWN: Final = 20  # one customer in so many is not known to a party
_REPEATED: Final = 100  # one row in so many comes twice
_BLANK: Final = 200  # one id in so many is missing, by chance
_FORMS: Final = (
    "TW-{:07}",
    "TW-{:07}",
    "TW-{:07}",
    "tw-{:07}",
    "Tw-{:07}",
    " TW-{:07}",
    "TW-{:07} ",
    "TW {:07}",
)

_Rows = NDArray[np.int64]


def write_labels(path: Path, *, rows: int | None) -> None:
    """Write the bank's CSV file: an id and the default, a line for each customer it knows.

    Args:
        path: of the new file.
        rows: how many customers there are in all; None: all of the data set.
    """
    table = _customers(rows)
    known = _listed(_shuffled(b"customers", table.num_rows)[table.num_rows // _UNKNOWN :], purpose=b"bank")
    ids, targets = (table.column(name).to_numpy()[known] for name in (CREDIT_ID, CREDIT_TARGET))
    forms = (_words(b"forms", len(known)) % len(_FORMS)).tolist()
    texts = [
        "" if blank else _FORMS[form].format(number)
        for number, form, blank in zip(ids.tolist(), forms, _blank(b"bank blanks", len(known)), strict=True)
    ]
    lines = [f"{text},{target}\n" for text, target in zip(texts, targets.tolist(), strict=True)]
    path.write_text(f"{BANK_ID},{CREDIT_TARGET}\n" + "".join(lines), encoding="utf-8")


def write_features(path: Path, *, rows: int | None) -> None:
    """Write the telecom company's Parquet file: an id and 23 features; arguments as `write_labels`."""
    table = _customers(rows)
    count = table.num_rows
    known = _listed(_shuffled(b"customers", count)[: count - count // _UNKNOWN], purpose=b"telco")
    numbers = table.column(CREDIT_ID).to_numpy()[known].astype(np.int64)
    ids = pa.array(numbers, mask=_blank(b"telco blanks", len(known)))
    features = table.select(list(CREDIT_FEATURES)).take(pa.array(known))
    parquet.write_table(features.add_column(0, TELCO_ID, ids), path)


def _customers(rows: int | None) -> pa.Table:
    return parquet.read_table(credit_path()).slice(0, rows)


def _listed(known: _Rows, *, purpose: bytes) -> _Rows:
    """Put the rows that a party knows into its order, some of them twice."""
    listed = np.concatenate([known, known[::_REPEATED]])
    return listed[_shuffled(purpose, len(listed))]


def _shuffled(purpose: bytes, count: int) -> _Rows:
    return np.argsort(_words(purpose, count), kind="stable").astype(np.int64)


def _blank(purpose: bytes, count: int) -> NDArray[np.bool_]:
    return np.equal(_words(purpose, count) % _BLANK, 0)


def _words(purpose: bytes, count: int) -> NDArray[np.uint64]:
    return expand_words(_SEED, b"demo " + purpose, index=0, count=count)
