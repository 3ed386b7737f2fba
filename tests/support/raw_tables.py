"""Two raw CSV files with the dirt of the census-income table, and what scikit-learn makes of them.

Texts begin with a blank, "?" and empty fields stand for what is not known, codes look like numbers, amounts
are mostly zero, one column never differs, and some categories are rare. Nothing here uses moiety's own
preparation.
"""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from moiety.party.setup import initialise
from tests.support.parties import Files
from tests.support.randomness import words_of

ROWS: Final = 700

RUN: Final = """\
version = 1
role = "{role}"
run = "raw"
own = {{ key = "own.key", certificate = "own.crt" }}
[[peer]]
name = "{peer}"
certificate = "{peer}.crt"
dial = "127.0.0.1:1"
"""

LABEL_OWNER: Final = (
    RUN.format(role="label-owner", peer="bureau")
    + """\
[table]
source = "labels.csv"
id = ["person"]
target = "income"
features = "all"
[model]
units = 4
hidden = [8]
[train]
epochs = 3
batch = 256
learning_rate = 0.02
"""
)

DATA_OWNER: Final = (
    RUN.format(role="data-owner", peer="bank")
    + """\
[table]
source = "features.csv"
id = ["person"]
[prepare]
gains = "log"
state = { rule = "one-hot", max_inputs = 6 }
[policy]
smallest_batch = 64
"""
)


def two_parties(folder: Path, *, label_owner: str, data_owner: str) -> Files:
    """Make both folders: keys, pinned certificates and run files; the tables are still to come."""
    bank, bureau = folder / "bank", folder / "bureau"
    initialise(bank, role="label-owner", name="bank", run="raw")
    initialise(bureau, role="data-owner", name="bureau", run="raw")
    (bank / "bureau.crt").write_bytes((bureau / "own.crt").read_bytes())
    (bureau / "bank.crt").write_bytes((bank / "own.crt").read_bytes())
    (bank / "run.toml").write_text(label_owner, encoding="utf-8")
    (bureau / "run.toml").write_text(data_owner, encoding="utf-8")
    return Files(label_owner=bank / "run.toml", data_owner=bureau / "run.toml")


def uniform(name: str) -> NDArray[np.float64]:
    """Draw numbers of [0, 1) by name."""
    return words_of(name, ROWS).astype(np.float64) * 2.0**-64


def chosen(name: str, words: list[str], *, power: float = 1.0) -> list[str]:
    """Draw words by name, the first ones more often with a larger power."""
    return [words[int(len(words) * value)] for value in uniform(name) ** power]


def write_features(path: Path) -> None:
    """Write the data owner's file."""
    weeks = [f" {int(52 * value)}" for value in uniform("weeks")]
    industry = [f" {int(51 * value)}" if value < 0.9 else "" for value in uniform("industry")]
    gains = [f" {int(np.exp(12 * value))}" if value > 0.8 else " 0" for value in uniform("gains")]
    columns = {
        "weeks": weeks,
        "industry": industry,
        "gains": gains,
        "class": chosen("class", [" Private", " Not in universe", " ?", " Self-employed"]),
        "state": chosen("state", [f" s{number}" for number in range(15)], power=2),
        "migration": chosen("migration", [" ?", " MSA to MSA", ""]),
        "year": [" 94"] * ROWS,
    }
    _write(path, columns)


def write_labels(path: Path) -> None:
    """Write the label owner's file: the target, and a few columns of its own."""
    age = [f"{int(18 + 70 * value)}" if value < 0.95 else "" for value in uniform("age")]
    sex = chosen("sex", [" Female", " Male"])
    value_N = uniform("weeks") + uniform("age") + (np.array(sex) == " Male") + 0.5 * uniform("noise")
    income = [" 50000+." if value > 1.6 else " - 50000." for value in value_N]
    _write(path, {"income": income, "age": age, "sex": sex})


def _write(path: Path, columns: dict[str, list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["person", *columns])
        writer.writerows([number, *row] for number, row in enumerate(zip(*columns.values(), strict=True)))


def read(path: Path, names: Iterable[str]) -> NDArray[Any]:
    """Read columns of a file with the standard library: text, with None where a field is blank."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = [[row[name] if row[name].strip() else None for row in rows] for name in names]
    return np.array(columns, dtype=np.object_).T


def _numbers(*, log: bool = False) -> Any:
    """Impute the median and standardise; with an indicator where training rows are missing."""
    numbers = FunctionTransformer(_as_numbers)
    logarithm = [FunctionTransformer(_logarithm)] if log else []
    values = make_pipeline(SimpleImputer(strategy="median"), *logarithm, StandardScaler())
    return make_pipeline(numbers, make_union(values, MissingIndicator(features="missing-only")))


def _as_numbers(text_N1: NDArray[Any]) -> NDArray[np.float64]:
    return np.array([[np.nan if value is None else float(value)] for (value,) in text_N1])


def _logarithm(values_N1: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithm_N1: NDArray[np.float64] = np.sign(values_N1) * np.log1p(np.abs(values_N1))
    return logarithm_N1


def _categories(**options: Any) -> OneHotEncoder:
    return OneHotEncoder(sparse_output=False, handle_unknown="infrequent_if_exist", **options)


FEATURES: Final = ("weeks", "industry", "gains", "class", "state", "migration")
OWN: Final = ("age", "sex")


def features_by_scikit_learn(path: Path, training: NDArray[np.int64]) -> NDArray[np.float64]:
    """Prepare the data owner's columns, in the order of the file, fitted on the training rows."""
    steps = [_numbers(), _numbers(), _numbers(log=True), _categories(), _categories(max_categories=6)]
    return _prepared(path, FEATURES, [*steps, _categories()], training)


def own_by_scikit_learn(path: Path, training: NDArray[np.int64]) -> NDArray[np.float64]:
    """Prepare the label owner's own columns."""
    return _prepared(path, OWN, [_numbers(), _categories()], training)


def _prepared(
    path: Path, names: tuple[str, ...], steps: list[Any], training: NDArray[np.int64]
) -> NDArray[np.float64]:
    table = read(path, names)
    named = [(name, step, [place]) for place, (name, step) in enumerate(zip(names, steps, strict=True))]
    prepared_ND: NDArray[np.float64] = ColumnTransformer(named).fit(table[training]).transform(table)
    return prepared_ND
