"""The demo's data set, shipped with the package: its columns and how they are prepared.

Where the data comes from and its licence are in data/README.md. Imported by the demo.
"""

from pathlib import Path

CREDIT_ID = "customer"
CREDIT_TARGET = "default"

_AMOUNTS = (
    "LIMIT_BAL",
    "AGE",
    *(f"BILL_AMT{month}" for month in range(1, 7)),
    *(f"PAY_AMT{month}" for month in range(1, 7)),
)
_CATEGORIES = ("SEX", "EDUCATION", "MARRIAGE", "PAY_0", *(f"PAY_{month}" for month in range(2, 7)))

# Amounts have heavy tails: by quantile they stay within 5.2, and none is ever clipped at 8.
CREDIT_RULES: dict[str, str] = dict.fromkeys(_AMOUNTS, "quantile") | dict.fromkeys(_CATEGORIES, "one-hot")
CREDIT_FEATURES = tuple(CREDIT_RULES)


def credit_path() -> Path:
    """Give the path of the demo's table in the installed package."""
    return Path(__file__).parent / "data" / "credit.parquet"
