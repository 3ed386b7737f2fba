"""The counting that enforces a data owner's policy, before anything is released.

What a policy limits is how much of z leaves per row (`config.policy` has the limits). The limits are part of
the handshake, so that the label owner knows them beforehand; they are enforced at the data owner, before an
answer leaves. Pure rules: the file the totals live in is the ledger's. Imported by contract and protocol.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from moiety.config import LIMITS, Policy, SchemeName, Totals, limit_label
from moiety.contract.schedule import RowIndices
from moiety.errors import PeerPolicyError, PolicyError

STEPS_AHEAD: Final = 64
"""Training steps recorded at once."""


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
        require(self._policy, "runs", asked=self._runs)
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
        require(self._policy, "released_z_per_row", asked=released)
        require(self._policy, "predictions", asked=predictions)
        require(self._policy, "steps", asked=steps)
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


def require(policy: Policy, limit: str, *, asked: int) -> None:
    """Refuse more than a limit allows; None allows everything.

    Raises:
        PolicyError: `asked` is above it.
    """
    allowed = getattr(policy, limit)
    if allowed is not None and asked > allowed:
        raise exceeded(limit, allowed=allowed, asked=asked)


def exceeded(limit: str, *, allowed: object, asked: object) -> PolicyError:
    """Return the error of a limit that would be exceeded, in the limit's words."""
    remedy = LIMITS[limit].remedy
    return PolicyError(limit=limit, allowed=allowed, asked=asked, meaning=limit_label(limit), remedy=remedy)


def limit_number(error: BaseException | None) -> int | None:
    """Return the number of the limit that an error names; None where it names none."""
    return LIMITS[error.limit].number if isinstance(error, PolicyError) else None


def exceeded_at_peer(number: int) -> PeerPolicyError | None:
    """Return the error of the limit that the peer stopped at; None for a number of no limit."""
    for limit, known in LIMITS.items():
        if known.number == number:
            return PeerPolicyError(limit=limit, meaning=limit_label(limit), remedy=known.remedy)
    return None


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
        wide = f"out_features {out_features} of in_features {in_features}"
        raise exceeded("wide_layer", allowed="false", asked=wide)


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
    released = before.released_z_per_row + out_features * asks.passes
    require(policy, "released_z_per_row", asked=released)
    require(policy, "steps", asked=before.steps + asks.steps)
    require(policy, "runs", asked=before.runs + asks.runs)


def check_choices(policy: Policy, *, protocol: str, scheme: SchemeName, reveals: str) -> None:
    """Refuse a message flow, a cryptosystem or a revealed quantity that is not allowed; both sides ask.

    Args:
        policy: the data owner's limits.
        protocol: the message flow agreed on.
        scheme: the cryptosystem agreed on.
        reveals: what both sides accept that the data owner is shown; "nothing" is always allowed.

    Raises:
        PolicyError: one of them is not in the policy.
    """
    _require_one(policy, "protocols", asked=protocol)
    _require_one(policy, "schemes", asked=scheme)
    if reveals != "nothing":
        _require_one(policy, "reveals", asked=reveals)


def _require_one(policy: Policy, limit: str, *, asked: str) -> None:
    allowed: tuple[str, ...] = getattr(policy, limit)
    if asked not in allowed:
        raise exceeded(limit, allowed=", ".join(allowed) or "nothing", asked=asked)


def check_batches(policy: Policy, *, smallest: int) -> None:
    """Refuse training batches smaller than the policy's.

    Raises:
        PolicyError: the smallest training batch has too few rows.
    """
    if smallest < policy.smallest_batch:
        raise exceeded("smallest_batch", allowed=policy.smallest_batch, asked=smallest)


def check_stopping(policy: Policy, *, may_stop: bool) -> None:
    """Refuse a training that may end before the agreed epochs, where the policy allows none.

    Raises:
        PolicyError: the data owner would learn when it stops, and does not want to.
    """
    if may_stop and not policy.early_stopping:
        raise exceeded("early_stopping", allowed="false", asked="true")
