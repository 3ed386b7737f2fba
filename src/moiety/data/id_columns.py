"""Id columns as they are read: with every digit, zero and blank that the source has.

An id is a name, also where it looks like a number: "000123" is not 123, and a floating-point number holds
no whole number above 2^53. Imported by table and by whoever opens one for a party.
"""

from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from moiety.config import DataOwnerRun, LabelOwnerRun
from moiety.data.columns import is_text_type

_Run: TypeAlias = LabelOwnerRun | DataOwnerRun


def exact_ids(settings: _Run) -> tuple[str, ...]:
    """Name the id columns of a run file that are nothing but ids.

    One that also splits the rows or is a feature is read as what it is there: as a date, or a number.
    """
    section = settings.table
    features = () if section.features == "all" else section.features
    return tuple(name for name in section.id if name not in (settings.split.by, *features))


def exact(column: Any) -> Any:
    """Give the values of an id column without loss: decimals as their digits, an empty text as missing.

    Args:
        column: a chunked Arrow array of a supported type.
    """
    if types.is_decimal(column.type):
        return pc.cast(column, pa.string())
    if is_text_type(column.type):
        return pc.if_else(pc.equal(column, ""), pa.scalar(None, column.type), column)
    return column
