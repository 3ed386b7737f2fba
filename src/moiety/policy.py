"""What the data owner allows, and the counting that enforces it.

z leaks: a label owner that knows some rows fits a linear map to it, so what a policy limits is how much of
z leaves per row. The limits are part of the handshake, so that the label owner knows them beforehand; they
are enforced at the data owner, before an answer leaves. Pure rules: the file the totals live in is
`checkpoint`'s. Imported by contract and protocol.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from moiety.errors import PolicyError
from moiety.schedule import RowIndices

LIMITS: Final = (
    "released_z_per_row",
    "predictions",
    "smallest_batch",
    "out_features",
    "steps",
    "runs",
    "protocols",
    "schemes",
    "reveals",
    "early_stopping",
)
"""Every limit a `PolicyError` can name. Messages carry the number: append only."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Limits for one peer on one table, over all runs.

    Args:
        released_z_per_row: values of z released for any one row: out_features x passes.
        predictions: rows scored by `predict`.
        smallest_batch: rows of the smallest training batch.
        wide_layer: allow out_features >= in_features, which lets the label owner solve for the features.
        early_stopping: allow a training to end before the agreed epochs.
    """

    released_z_per_row: int = 640
    predictions: int = 100_000
    smallest_batch: int = 256
    wide_layer: bool = False
    early_stopping: bool = True


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What has been released so far; only ever grows.

    Args:
        released_z_per_row: the largest number of values of z released for any one row.
        predictions: rows scored.
    """

    released_z_per_row: int = 0
    predictions: int = 0


class Meter:
    """Counts what leaves, per row, and refuses what would exceed the policy.

    Args:
        policy: the limits.
        before: totals of earlier sessions. Each row counts as having released the largest of them: never
            too little.
        rows: rows of this table.
    """

    def __init__(self, policy: Policy, *, before: Totals, rows: int) -> None:
        self._policy = policy
        self._released = np.full(rows, before.released_z_per_row, dtype=np.int64)
        self._predictions = before.predictions

    def charge(self, rows: RowIndices, *, out_features: int, prediction: bool) -> Totals:
        """Count a release of z for `rows` and return the new totals, to be recorded before it leaves.

        Raises:
            PolicyError: a limit would be exceeded; nothing is counted then.
        """
        released = int(self._released[rows].max(initial=0)) + out_features
        require("released_z_per_row", allowed=self._policy.released_z_per_row, asked=released)
        predictions = self._predictions + (len(rows) if prediction else 0)
        require("predictions", allowed=self._policy.predictions, asked=predictions)
        self._released[rows] += out_features
        self._predictions = predictions
        return Totals(released_z_per_row=int(self._released.max(initial=0)), predictions=predictions)


def require(limit: str, *, allowed: int, asked: int) -> None:
    """Refuse more than a limit allows.

    Raises:
        PolicyError: `asked` is above `allowed`.
    """
    if asked > allowed:
        raise PolicyError(limit=limit, allowed=allowed, asked=asked)


def check_run(policy: Policy, *, before: Totals, in_features: int, out_features: int, passes: int) -> None:
    """Refuse a run that could not be finished, before anything private moves; both sides ask.

    Args:
        policy: the data owner's limits.
        before: what earlier runs released.
        in_features: columns of the data owner's prepared table.
        out_features: units of the interactive layer.
        passes: how often one row's z is released in this run.

    Raises:
        PolicyError: the layer is as wide as the table, or the budget does not cover the passes.
    """
    if out_features >= in_features and not policy.wide_layer:
        raise PolicyError(limit="out_features", allowed=in_features - 1, asked=out_features)
    asked = before.released_z_per_row + out_features * passes
    require("released_z_per_row", allowed=policy.released_z_per_row, asked=asked)


def check_batches(policy: Policy, *, smallest: int) -> None:
    """Refuse training batches smaller than the policy's.

    Raises:
        PolicyError: the smallest training batch has too few rows.
    """
    if smallest < policy.smallest_batch:
        raise PolicyError(limit="smallest_batch", allowed=policy.smallest_batch, asked=smallest)


def check_stopping(policy: Policy, *, may_stop: bool) -> None:
    """Refuse a training that may end before the agreed epochs, where the policy allows none.

    Raises:
        PolicyError: the data owner would learn when it stops, and does not want to.
    """
    if may_stop and not policy.early_stopping:
        raise PolicyError(limit="early_stopping", allowed="false", asked="true")
