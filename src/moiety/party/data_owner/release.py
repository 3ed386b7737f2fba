"""Counts what a session releases, and records it before it leaves. Imported by the data owner's session."""

from moiety.config import Totals
from moiety.contract.contract import Contract
from moiety.contract.policy import Meter
from moiety.contract.schedule import RowIndices
from moiety.net.events import RELEASE_COUNTED, Log
from moiety.protocol.messages import Request
from moiety.store.ledger import Ledger


class Release:
    """Counts what one session releases, and records it before it leaves; called with each request.

    Args:
        contract: what was agreed: the policy, and what earlier sessions released.
        ledger: where totals are recorded; None where nothing leaves this process.
        log: told of each request.

    Attributes:
        totals: so far.
    """

    def __init__(self, contract: Contract, ledger: Ledger | None, *, log: Log | None = None) -> None:
        self._log = log or Log()
        self._contract = contract
        self._ledger = ledger
        self._meter = Meter(
            contract.data_owner.policy,
            before=contract.data_owner.before,
            rows=contract.label_owner.rows,
            asks=contract.asks,
        )
        self.totals = contract.data_owner.before

    def begin(self) -> None:
        """Count a run that begins.

        Raises:
            PolicyError: there were as many runs as the policy allows.
            CheckpointError: it cannot be recorded.
        """
        self._record(self._meter.begin())

    def __call__(self, request: Request, rows: RowIndices) -> None:
        """Count a request.

        Raises:
            PolicyError: it would exceed the policy.
            CheckpointError: it cannot be recorded.
        """
        totals = self._meter.charge(
            rows,
            out_features=self._contract.out_features,
            prediction=not self._contract.training,
            step=request.training,
        )
        self._record(totals)
        handle = request.handle
        self._log.emit(
            RELEASE_COUNTED,
            split=handle.split.name.lower(),
            epoch=handle.epoch,
            batch=handle.batch,
            rows=len(rows),
            training=request.training,
            **self.totals.model_dump(),
        )

    def _record(self, totals: Totals) -> None:
        self.totals = totals
        if self._ledger is not None:
            self._ledger.record(totals, run=self._contract.data_owner.run)
