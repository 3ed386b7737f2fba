"""What a run saves: arrays as safetensors, facts as JSON, each with a digest, written atomically.

`model.json` names the model, holds the SHA-256 of `model.safetensors` and its own; the two are replaced by
rename after fsync, so that a crash leaves the old or the new pair, or a pair that is seen not to belong
together. No code is ever loaded. HE keys and masks never come here.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from moiety.errors import CheckpointCorruptError
from moiety.store.files import Arrays, Facts, read, replace, writing
from moiety.store.record import read_record, write_record

_ARRAYS: Final = "model.safetensors"
_FACTS: Final = "model.json"


def save_model(folder: Path, *, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write one side of a model, readable by its owner only.

    Args:
        folder: the run's folder; made if missing.
        arrays: shares and network weights.
        facts: plain JSON values.

    Raises:
        CheckpointError: the folder cannot be written to.
    """
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    with writing(folder, then="train again"):
        replace(folder / _ARRAYS, data)
        write_record(folder / _FACTS, {**facts, "sha256": sha256(data).hexdigest()})


def load_model(folder: Path) -> tuple[Arrays, Facts]:
    """Read one side of a model back and check its digests.

    Raises:
        CheckpointCorruptError: missing, damaged, or of another version.
    """
    facts = read_record(folder / _FACTS)
    data = read(folder / _ARRAYS)
    if sha256(data).hexdigest() != facts.get("sha256"):
        raise CheckpointCorruptError(
            f"{folder / _ARRAYS} does not match its digest",
            hint="restore the folder from a backup, or train again",
        )
    try:
        return load(data), facts
    except (SafetensorError, KeyError, ValueError) as error:  # the latter for types and shapes NumPy has not
        raise CheckpointCorruptError(f"{folder / _ARRAYS} is not a safetensors file") from error
