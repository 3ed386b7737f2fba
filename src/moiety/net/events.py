"""What the package logs: one vocabulary of events, each with a level and its fields.

    from moiety.events import MODEL_SAVED, Log
    log.emit(MODEL_SAVED, step=410)

Events go to the standard library's logger "moiety", as its message the event's name and as the attribute
`fields` everything else; who uses the package decides where they go, the command line formats them with
structlog. A field is a number, a truth value or a short printable text: anything else is replaced by the
name of its type, so that no array, key or secret can be written by mistake. What depends on labels (losses,
metrics) is in no event: logs are read by more people than results are. Reference: docs/logs.md, ADR 0022.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from moiety.config import Totals
from moiety.contract.agreement import content_digest, content_of
from moiety.contract.contract import Contract

LOGGER: Final = logging.getLogger("moiety")
LOGGER.addHandler(logging.NullHandler())

LONGEST_TEXT: Final = 300
CONTEXT: Final = ("role", "run", "peer", "session", "sent", "received")
"""Fields that any event may have: whose, in which run and session, and the place in its transcript."""

Place = Callable[[], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that can happen.

    Args:
        name: how it is logged.
        level: of the standard library.
        fields: what it says besides the context.
        meaning: in words.
    """

    name: str
    level: int
    fields: tuple[str, ...]
    meaning: str


EVENTS: Final[dict[str, Event]] = {}


def _event(name: str, level: int, *fields: str, meaning: str) -> Event:
    event = Event(name=name, level=level, fields=fields, meaning=meaning)
    EVENTS[name] = event
    return event


COMMAND_STARTED: Final = _event(
    "command_started", logging.INFO, "command", "software", meaning="a command begins"
)
COMMAND_ENDED: Final = _event("command_ended", logging.INFO, "command", meaning="a command has done its work")
COMMAND_FAILED: Final = _event(
    "command_failed",
    logging.ERROR,
    "error",
    "exit_code",
    meaning="a command ends with an error; its sentence is on the standard error stream",
)
CONNECTED: Final = _event("connected", logging.INFO, meaning="the peer is connected")
CONNECTION_LOST: Final = _event(
    "connection_lost", logging.WARNING, "error", meaning="the connection failed; another one is tried"
)
CONNECTION_REPLACED: Final = _event(
    "connection_replaced", logging.INFO, meaning="another connection carries the session on"
)
CONTRACT_AGREED: Final = _event(
    "contract_agreed",
    logging.INFO,
    "contract",
    "purpose",
    "rows",
    "in_features",
    "out_features",
    "protocol",
    "parameters",
    meaning="both sides stated the same; `contract` is the digest that is signed off",
)
FRAME_SENT: Final = _event(
    "frame_sent", logging.DEBUG, "kind", "step", "block", "blocks", "bytes", meaning="a block left"
)
FRAME_RECEIVED: Final = _event(
    "frame_received", logging.DEBUG, "kind", "step", "block", "blocks", "bytes", meaning="a block came"
)
FRAME_REFUSED: Final = _event(
    "frame_refused", logging.WARNING, "error", meaning="a frame does not fit; the session is over"
)
RELEASE_COUNTED: Final = _event(
    "release_counted",
    logging.DEBUG,
    "split",
    "epoch",
    "batch",
    "rows",
    "training",
    *Totals.model_fields,
    meaning="the data owner counted a request and recorded the totals, before anything of it left",
)
STEP_DONE: Final = _event(
    "step_done", logging.DEBUG, "epoch", "step", "rows", meaning="the label owner has made a training step"
)
EPOCH_DONE: Final = _event("epoch_done", logging.INFO, "epoch", "step", meaning="a pass is over")
CHECKPOINT_WRITTEN: Final = _event(
    "checkpoint_written", logging.INFO, "step", meaning="this side's checkpoint is on disk"
)
RUN_RESUMED: Final = _event("run_resumed", logging.INFO, "step", meaning="an unfinished run is resumed")
MODEL_SAVED: Final = _event("model_saved", logging.INFO, "step", meaning="this side's model is on disk")
ROWS_SCORED: Final = _event("rows_scored", logging.INFO, "rows", meaning="the label owner has its scores")
SESSION_ABORTED: Final = _event(
    "session_aborted",
    logging.WARNING,
    "error",
    "code",
    "limit",
    meaning="this side stops the session; `limit` where the policy stops it",
)
PEER_ABORTED: Final = _event(
    "peer_aborted",
    logging.WARNING,
    "error",
    "limit",
    meaning="the peer stopped the session; `limit` where it named one of the policy",
)
SESSION_CLOSED: Final = _event(
    "session_closed", logging.INFO, "bytes_sent", "bytes_received", meaning="a session is over"
)


class Log:
    """Emits events with the context of one session.

    Args:
        context: fields of `CONTEXT` that are known from the start.
    """

    def __init__(self, **context: str) -> None:
        self._context: dict[str, str] = {}
        self._place: Place | None = None
        self.bind(**context)

    def bind(self, **context: str) -> None:
        """Add to the context of every later event."""
        _require_known(context, CONTEXT)
        self._context |= context

    def locate(self, place: Place) -> None:
        """Let every later event say how many frames went each way: the place in the transcript."""
        self._place = place

    def emit(self, event: Event, **fields: Any) -> None:
        """Log an event, if anybody listens at its level."""
        if not LOGGER.isEnabledFor(event.level):
            return
        _require_known(fields, event.fields)
        place = {} if self._place is None else dict(zip(("sent", "received"), self._place(), strict=True))
        said = {name: plain(value) for name, value in {**self._context, **place, **fields}.items()}
        LOGGER.log(event.level, event.name, extra={"fields": said})


def plain(value: Any) -> Any:
    """Return a value as a log may have it; of anything but numbers and short texts only its type.

    >>> plain(3), plain("blind"), plain(b"secret")
    (3, 'blind', '<bytes>')
    """
    if value is None or type(value) in {bool, int, float}:
        return value
    if type(value) is str and len(value) <= LONGEST_TEXT and value.isprintable():
        return value
    return f"<{type(value).__name__}>"


def _require_known(given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    unknown = set(given) - set(known)
    assert not unknown, f"not in the vocabulary: {sorted(unknown)}"


def log_agreed(log: Log, contract: Contract) -> None:
    """Log that the parties agree, with the digest that is signed off."""
    log.emit(
        CONTRACT_AGREED,
        contract=content_digest(content_of(contract)),
        purpose=contract.label_owner.purpose,
        rows=contract.label_owner.rows,
        in_features=contract.in_features,
        out_features=contract.out_features,
        protocol=contract.label_owner.protocol,
        parameters=contract.parameters,
    )
