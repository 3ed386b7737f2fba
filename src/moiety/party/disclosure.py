"""What the peer will get to know, said before anything is sent; from the run file and the table alone.

The first part is what the handshake states, field by field, taken from the terms themselves; the second what
a session sends after it, by role and protocol; the third what stays. Imported by the check of a run file.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from moiety.config import AnyRun, DataOwnerRun, LabelOwnerRun, Totals
from moiety.contract import stated
from moiety.contract.assignment import Assignment
from moiety.contract.flow import Form, Send, When, flow_of
from moiety.contract.products import Role
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, Terms
from moiety.data.profile import TableProfile

_FRESH: Final = "a random number, fresh each time"
_ORDER: Final = "a digest of the common rows in an order that says nothing of ids"
_NO_ORDER: Final = "a digest of the number of rows only: no ids are named"
_ALIGNED: Final = (
    "under a number that only this side has, in an order of its drawing: the peer learns how many there are, "
    "and which of its own are among them"
)
_GRADIENTS: Final = "one gradient for each training row, from which the data owner can tell the labels"
_DECIDED: Final = {
    "drawn": "a seed that both draw",
    "data-owner": "a column of the data owner's",
    "label-owner": "a column of the label owner's",
}
_OTHER_SIDES: Final = "as the peer proposes"


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """What the peer gets to know.

    Args:
        peer: what this side calls it.
        stated: fields of the handshake and their values.
        sent: what a session sends after it.
        kept: what never leaves.
    """

    peer: str
    stated: Mapping[str, Any]
    sent: Mapping[str, str]
    kept: tuple[str, ...] = field(default=())


Finding: TypeAlias = str | TableProfile | Disclosure
"""What a check yields: a sentence for what is in order, what the table is like, what the peer will know."""


def of_data_owner(
    settings: DataOwnerRun,
    *,
    rows: int,
    inputs: int,
    before: Totals,
    assignment: Assignment | None = None,
) -> Disclosure:
    """Say what a data owner shows.

    Args:
        settings: the run file.
        rows: of the table.
        inputs: prepared columns, or outputs of the bottom model.
        before: what earlier runs released.
        assignment: of rows to splits, where an own column decides it.
    """
    known = {
        **_common(settings, rows=rows),
        **stated.answered(settings, purpose="train"),
        "in_features": inputs,
        "parameters": "follow from the rest",
        "policy": {name: _said(value) for name, value in settings.limits},
        "before": before.model_dump(),
        "assigned": _assigned(assignment),
    }
    return Disclosure(
        peer=settings.peer[0].name,
        stated=_stated(DataOwnerTerms, known),
        sent=_sent_by_data_owner(settings),
        kept=(
            "columns: their names, types and values",
            "how they are prepared, and every statistic of them",
            "ids, beyond which of them the peer has too",
        ),
    )


def of_label_owner(
    settings: LabelOwnerRun, terms: LabelOwnerTerms, *, assignment: Assignment | None = None
) -> Disclosure:
    """Say what a label owner shows.

    Args:
        settings: the run file.
        terms: what it would propose now.
        assignment: of rows to splits, where an own column decides it.
    """
    known = {
        **terms.model_dump(),
        **_common(settings, rows=terms.rows),
        "assigned": _assigned(assignment),
    }
    if terms.split != "drawn":
        known |= dict.fromkeys(("validation", "test"), "as the column says")
    return Disclosure(
        peer=settings.peer[0].name,
        stated=_stated(LabelOwnerTerms, known),
        sent=_sent_by_label_owner(settings, terms),
        kept=(
            "the target: its name, classes and values",
            "own columns, and how many there are",
            "the top model, the loss, every metric and score",
            "ids, beyond which of them the peer has too",
        ),
    )


def _common(settings: AnyRun, *, rows: int) -> dict[str, Any]:
    return {
        **stated.common(settings, purpose="train"),
        "purpose": "train or predict",
        "rows": f"those of the {rows} that the peer has too" if settings.table.id else rows,
        "order_digest": _ORDER if settings.table.id else _NO_ORDER,
        "model": "when predicting, the number of the saved training",
        "nonce": _FRESH,
        "resumes": "of a training that is resumed: the number of its first session",
        "order": "of a training that is resumed: the seed of its row order",
        "split": _DECIDED[settings.split.decided_by],
    }


def _assigned(assignment: Assignment | None) -> str:
    if assignment is None:
        return "nothing: no own column decides it"
    training, validation, test = assignment.counts
    return f"{training} training, {validation} validation and {test} test rows, and a digest of which"


def _said(value: Any) -> Any:
    """Say a list in words, and that a limit is not set."""
    if isinstance(value, tuple):
        return ", ".join(value) or "nothing"
    return "no limit" if value is None else value


def _stated(kind: type[Terms], known: Mapping[str, Any]) -> dict[str, Any]:
    """Take every field of the terms, in their order, so that none can be left out."""
    usual = {name: each.default for name, each in kind.model_fields.items() if not each.is_required()}
    return {name: known.get(name, usual.get(name, _OTHER_SIDES)) for name in kind.model_fields}


def _sent_by_data_owner(settings: DataOwnerRun) -> dict[str, str]:
    most = settings.policy.released_z_per_row
    sent = {
        **({"ids, blinded": _ALIGNED} if settings.table.id else {}),
        "z, dithered": "of every row that is trained on, evaluated or scored: as many numbers as the layer "
        f"has units, each time; at most {most} for any one row, over all runs with this peer. From rows "
        "that it knows, the label owner can estimate the features of the others",
    }
    flow = flow_of(settings.protocol.name)
    sent |= _encrypted(flow.steps, Role.DATA_OWNER, bottom=settings.trains_bottom)
    sent |= _periods(settings)
    sent |= _masked(flow.steps, Role.DATA_OWNER)
    sent["timing"] = "when answers are ready, and that the run has finished or stopped"
    return sent


def _sent_by_label_owner(settings: LabelOwnerRun, terms: LabelOwnerTerms) -> dict[str, str]:
    sent: dict[str, str] = {"ids, blinded": _ALIGNED} if settings.table.id else {}
    flow = flow_of(settings.protocol.name)
    sent |= _encrypted(flow.steps, Role.LABEL_OWNER, bottom=False)
    if flow.trains_bottom:
        sent["gradients"] = f"if the data owner trains a bottom model: {_GRADIENTS}"
    sent |= _masked(flow.steps, Role.LABEL_OWNER)
    sent |= _periods(settings)
    sent |= _about_the_end(terms)
    sent["checkpoints"] = "when they are taken; when a training is resumed, after which steps they were"
    sent["requests"] = "which batches of the agreed order are trained on, evaluated or scored"
    sent["timing"] = "when requests come, and that the run has finished or stopped"
    return sent


def _encrypted(sends: Iterable[Send], role: Role, *, bottom: bool) -> dict[str, str]:
    """Say what this side encrypts in a training step, under its own key."""
    own = [send for send in sends if send.sender is role and send.says]
    always = [send.says for send in own if send.when is not When.BOTTOM]
    rest = [send.says for send in own if send.when is When.BOTTOM and bottom]
    spoken = (" and ".join(dict.fromkeys(says)) for says in (always, rest) if says)
    return {f"{words}, encrypted": "under a key that only this side has" for words in spoken}


def _masked(sends: Iterable[Send], role: Role) -> dict[str, str]:
    """Say that this side sends answers and shares, where it does."""
    if not any(send.sender is role and send.form in (Form.RESPONSE, Form.WORDS) for send in sends):
        return {}
    return {"masked products and weights": "uniformly random numbers to whoever sees them"}


def _periods(settings: AnyRun) -> dict[str, str]:
    """Say what a column that splits the rows shows; one of the peer's shows this side nothing of its own."""
    if settings.split.by is None:
        return {}
    return {"the split": f"which rows lie in which period of column {settings.split.by}: two bits for each"}


def _about_the_end(terms: LabelOwnerTerms) -> dict[str, str]:
    sent: dict[str, str] = {}
    if terms.may_stop:
        sent["the last epoch"] = "how many epochs are trained, which depends on the labels"
    if terms.keep == "best":
        hidden = flow_of(terms.protocol).hides_choice
        sent["the best epoch"] = "encrypted: not which one it is" if hidden else "which one it is"
    return sent
