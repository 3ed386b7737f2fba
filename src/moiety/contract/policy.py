"""What the data owner allows, and the counting that enforces it.

z leaks: a label owner that knows some rows fits a linear map to it, so what a policy limits is how much of
z leaves per row. The limits are part of the handshake, so that the label owner knows them beforehand; they
are enforced at the data owner, before an answer leaves. Pure rules: the file the totals live in is
`checkpoint`'s. Imported by contract and protocol.
"""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from moiety.contract.products import ProtocolName
from moiety.contract.schedule import RowIndices
from moiety.crypto.schemes import SchemeName
from moiety.errors import PolicyError

Revealed = Literal["gradients"]

STEPS_AHEAD: Final = 64
"""Training steps recorded at once."""

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
    """Limits for one peer on one table, over all runs. None sets no limit of its own.

    Args:
        released_z_per_row: values of z released for any one row: out_features x passes.
        predictions: rows scored by `predict`.
        steps: training steps; those that a resumed run makes again count again.
        runs: trainings that were begun; one that is resumed counts once.
        smallest_batch: rows of the smallest training batch.
        wide_layer: allow out_features >= in_features, which lets the label owner solve for the features.
        early_stopping: allow a training to end before the agreed epochs.
        protocols: message flows.
        schemes: cryptosystems.
        reveals: what may be shown to the data owner beyond what is public; "gradients", which give the
            labels away, is the only such quantity.
    """

    released_z_per_row: int = 640
    predictions: int = 100_000
    steps: int | None = None
    runs: int | None = None
    smallest_batch: int = 256
    wide_layer: bool = False
    early_stopping: bool = True
    protocols: tuple[ProtocolName, ...] = get_args(ProtocolName)
    schemes: tuple[SchemeName, ...] = get_args(SchemeName)
    reveals: tuple[Revealed, ...] = get_args(Revealed)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What has been released so far; only ever grows.

    Args:
        released_z_per_row: the largest number of values of z released for any one row.
        predictions: rows scored.
        steps: training steps, or a few more: see `Meter`.
        runs: trainings that were begun.
    """

    released_z_per_row: int = 0
    predictions: int = 0
    steps: int = 0
    runs: int = 0


@dataclass(frozen=True, kw_only=True)
class Asks:
    """What a session will ask for, as far as it is known beforehand.

    Args:
        passes: how often one row's z is released.
        steps: training steps.
        runs: 1 where a training begins; 0 where one goes on, or rows are scored.
    """

    passes: int
    steps: int = 0
    runs: int = 0


class Meter:
    """Counts what leaves, per row, and refuses what would exceed the policy.

    Steps are recorded ahead, `STEPS_AHEAD` at a time and never beyond what is asked for, so that not each of
    them waits for a disk: a session that ends early counts up to that many too much, and none too little.

    Args:
        policy: the limits.
        before: totals of earlier sessions. Each row counts as having released the largest of them: never
            too little.
        rows: rows of this table.
        asks: what this session will ask for.
    """

    def __init__(self, policy: Policy, *, before: Totals, rows: int, asks: Asks) -> None:
        self._policy = policy
        self._released = np.full(rows, before.released_z_per_row, dtype=np.int64)
        self._predictions = before.predictions
        self._steps = before.steps
        self._recorded_steps = before.steps
        self._planned_steps = before.steps + asks.steps
        self._runs = before.runs + asks.runs

    def begin(self) -> Totals:
        """Count the run that begins, if one does, and return the totals, to be recorded before it does.

        Counted here and not with its first request: what is resumed from a checkpoint before that request
        would never be counted.

        Raises:
            PolicyError: there were as many runs as the policy allows.
        """
        require("runs", allowed=self._policy.runs, asked=self._runs)
        return self._totals()

    def charge(self, rows: RowIndices, *, out_features: int, prediction: bool, step: bool) -> Totals:
        """Count a release of z for `rows` and return the new totals, to be recorded before it leaves.

        Args:
            rows: whose z is released.
            out_features: values of each.
            prediction: the session scores rows.
            step: an update of the weights follows.

        Raises:
            PolicyError: a limit would be exceeded; nothing is counted then.
        """
        released = int(self._released[rows].max(initial=0)) + out_features
        predictions = self._predictions + (len(rows) if prediction else 0)
        steps = self._steps + step
        require("released_z_per_row", allowed=self._policy.released_z_per_row, asked=released)
        require("predictions", allowed=self._policy.predictions, asked=predictions)
        require("steps", allowed=self._policy.steps, asked=steps)
        self._released[rows] += out_features
        self._predictions, self._steps = predictions, steps
        if steps > self._recorded_steps:
            self._recorded_steps = max(steps, min(steps - 1 + STEPS_AHEAD, self._planned_steps))
        return self._totals()

    def _totals(self) -> Totals:
        return Totals(
            released_z_per_row=int(self._released.max(initial=0)),
            predictions=self._predictions,
            steps=self._recorded_steps,
            runs=self._runs,
        )


def require(limit: str, *, allowed: int | None, asked: int) -> None:
    """Refuse more than a limit allows; None allows everything.

    Raises:
        PolicyError: `asked` is above `allowed`.
    """
    if allowed is not None and asked > allowed:
        raise PolicyError(limit=limit, allowed=allowed, asked=asked)


def check_width(policy: Policy, *, in_features: int, out_features: int) -> None:
    """Refuse a layer as wide as the data owner's prepared table; both sides ask.

    Args:
        policy: the data owner's limits.
        in_features: columns of the data owner's prepared table.
        out_features: units of the interactive layer.

    Raises:
        PolicyError: the label owner could solve for the features.
    """
    if out_features >= in_features and not policy.wide_layer:
        raise PolicyError(limit="out_features", allowed=in_features - 1, asked=out_features)


def check_budgets(policy: Policy, *, before: Totals, out_features: int, asks: Asks) -> None:
    """Refuse a run that could not be finished, before anything private moves; both sides ask.

    Args:
        policy: the data owner's limits.
        before: what earlier runs released.
        out_features: units of the interactive layer.
        asks: what the run will ask for.

    Raises:
        PolicyError: a budget does not cover the asks.
    """
    asked = before.released_z_per_row + out_features * asks.passes
    require("released_z_per_row", allowed=policy.released_z_per_row, asked=asked)
    require("steps", allowed=policy.steps, asked=before.steps + asks.steps)
    require("runs", allowed=policy.runs, asked=before.runs + asks.runs)


def check_choices(policy: Policy, *, protocol: ProtocolName, scheme: SchemeName, reveals: str) -> None:
    """Refuse a message flow, a cryptosystem or a revealed quantity that is not allowed; both sides ask.

    Args:
        policy: the data owner's limits.
        protocol: the message flow agreed on.
        scheme: the cryptosystem agreed on.
        reveals: what both sides accept that the data owner is shown; "nothing" is always allowed.

    Raises:
        PolicyError: one of them is not in the policy.
    """
    _require_one("protocols", allowed=policy.protocols, asked=protocol)
    _require_one("schemes", allowed=policy.schemes, asked=scheme)
    if reveals != "nothing":
        _require_one("reveals", allowed=policy.reveals, asked=reveals)


def _require_one(limit: str, *, allowed: tuple[str, ...], asked: str) -> None:
    if asked not in allowed:
        raise PolicyError(limit=limit, allowed=", ".join(allowed) or "nothing", asked=asked)


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
