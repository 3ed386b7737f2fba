"""Whether a session goes on with the run that it says it goes on with: terms then and terms now.

Everything that shapes the training must be what it was. What belongs to one session is not compared (nonces,
what was released before), and neither are the data owner's limits: they are its to change, and the contract
asks them anew. Imported by both parties' loops; pure.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from moiety.contract import Contract
from moiety.errors import CheckpointCorruptError, CheckpointMismatchError
from moiety.terms import DataOwnerTerms, LabelOwnerTerms, Terms

_OF_A_SESSION: Final = frozenset({"nonce", "resumes", "order", "epochs_done"})
_WIDTH: Final = frozenset({"in_features", "activations", "parameters", "assigned"})
_OF_A_POLICY: Final = frozenset(DataOwnerTerms.model_fields) - frozenset(Terms.model_fields) - _WIDTH

SavedTerms = Mapping[str, Any]


def terms_to_save(contract: Contract) -> dict[str, Any]:
    """Return both parties' terms as plain JSON."""
    return {
        "label_owner": contract.label_owner.model_dump(mode="json"),
        "data_owner": contract.data_owner.model_dump(mode="json"),
    }


def require_same(saved: SavedTerms, now: LabelOwnerTerms | DataOwnerTerms, *, whose: str) -> None:
    """Compare a party's terms with those the run began with.

    Args:
        saved: from `terms_to_save`.
        now: what that party states in this session.
        whose: "own" or "peer", for the error.

    Raises:
        CheckpointMismatchError: naming the first field that differs, and both values.
        CheckpointCorruptError: no terms were saved.
    """
    role = "label_owner" if isinstance(now, LabelOwnerTerms) else "data_owner"
    try:
        then = dict(saved[role])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointCorruptError(
            "a checkpoint holds no terms", hint="restore it from a backup"
        ) from error
    present = now.model_dump(mode="json")
    for field in present:
        if field not in _OF_A_SESSION | _OF_A_POLICY and then.get(field) != present[field]:
            raise CheckpointMismatchError(
                f"the run began with {field} = {then.get(field)}, and the {whose} terms now say "
                f"{present[field]}",
                hint=f"set {field} back to go on, or train a new model without --resume",
            )


def digest_of(*arrays: NDArray[Any]) -> str:
    """Digest what a training uses of a table, so that a run that goes on can tell whether it is the same."""
    digest = sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def require_same_table(saved: Mapping[str, Any], now: str) -> None:
    """Compare a party's own table with the one that the run began with.

    The ids in their order are compared by the contract; this compares the values under them.

    Args:
        saved: facts of a checkpoint, with the digest then as "table".
        now: the digest of what this session uses.

    Raises:
        CheckpointMismatchError: the values differ.
    """
    if saved.get("table") != now:
        raise CheckpointMismatchError(
            "the values of this side's table are others than those the run began with",
            hint="bring the table back to what it was to go on, or train a new model without --resume",
        )
