"""`moiety contract`: what a run file commits its side to, and what was agreed, for signing off.

Imported by the command line; nothing is sent.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from moiety.config import AnyRun, DataOwnerRun, LabelOwnerRun, load_run
from moiety.contract.agreement import Content, common_of, content_digest, grouped
from moiety.contract.stated import answered, proposed
from moiety.contract.terms import field_label, flat
from moiety.party.alignment import in_order
from moiety.party.data_owner.features import open_features
from moiety.party.label_owner.features import read_labels
from moiety.store.contract import Kept, kept_contract

_FOLLOWS: Final = {
    "training_rows": "training rows",
    "validation_rows": "validation rows",
    "test_rows": "test rows",
    "scored_rows": "rows scored",
    "steps": "training steps",
    "values_of_z_for_a_row": "values of z for any one row",
    "encryption": "encryption",
}
"""What follows from the terms, in words."""
_EARLIER: Final = {
    "released_z_per_row_limit": "policy.released_z_per_row",
    "predictions_limit": "policy.predictions",
    "steps_limit": "policy.steps",
    "runs_limit": "policy.runs",
    "smallest_batch": "policy.smallest_batch",
    "wide_layer": "policy.wide_layer",
    "early_stopping": "policy.early_stopping",
    "protocols": "policy.protocols",
    "schemes": "policy.schemes",
    "may_reveal": "policy.reveals",
}
"""Limits in contracts of wire version 4, where they stood beside the other fields."""
_SIDES: Final = {
    "both": "both sides",
    "label_owner": "the label owner",
    "data_owner": "the data owner",
    "follows": "what follows from it",
}
_WIDTH: Final = 42


def contract_values(path: Path) -> dict[str, Any]:
    """Return everything for `--json`.

    Returns:
        `common`, which both run files must say alike, with its digest; `own`, what this side adds; `agreed`
        and `agreed_prediction`, what was agreed last, each with its digest; null before that.

    Raises:
        ConfigError, DataError: the run file or the table cannot be used.
        CheckpointCorruptError: a contract that was kept is damaged.
    """
    settings = load_run(path)
    common = _common(settings)
    return {
        "run": settings.run,
        "role": settings.role,
        "peer": settings.peer[0].name,
        "common": common,
        "common_digest": content_digest(common),
        "own": _own(settings),
        "agreed": _values(kept_contract(settings.folder)),
        "agreed_prediction": _values(kept_contract(settings.folder, purpose="predict")),
    }


def contract_lines(path: Path) -> list[str]:
    """Return the same in words.

    Raises:
        ConfigError, DataError, CheckpointCorruptError: see `contract_values`.
    """
    values = contract_values(path)
    role, peer = values["role"].replace("-", " "), values["peer"]
    return [
        f"run {values['run']}, from the {role}'s run file",
        "",
        "both run files have to say the same:",
        *_rows(values["common"]),
        f"  digest to compare with {peer} before the run:",
        f"  {grouped(values['common_digest'])}",
        "",
        f"the {role} adds:",
        *_rows(values["own"]),
        "",
        *_agreed(values, "agreed", "training"),
        *_agreed(values, "agreed_prediction", "prediction"),
    ]


_DRAWN: Final = frozenset({"assigned"})
_BY_A_COLUMN: Final = frozenset({"validation", "test"})
"""Fields that say nothing where a seed, or a column, decides the split."""


def _common(settings: AnyRun) -> Content:
    if settings.table.id:  # which rows both have is found when the parties meet
        return common_of(settings)
    table = open_features(settings) if isinstance(settings, DataOwnerRun) else read_labels(settings)
    aligned = in_order(table)
    return common_of(settings, rows=aligned.table.rows, order_digest=aligned.order_digest)


def _own(settings: AnyRun) -> Content:
    if isinstance(settings, DataOwnerRun):
        own = answered(settings, purpose="train")
        return {**own, "policy": own["policy"].model_dump(mode="json")}
    return _proposed(settings)


def _proposed(settings: LabelOwnerRun) -> Content:
    own = proposed(settings, purpose="train")
    if settings.split.decided_by != "drawn":
        own = {name: value for name, value in own.items() if name not in _BY_A_COLUMN}
    return {**own, "values_of_z_for_a_row": own["out_features"] * own["epochs"]}


def _values(kept: Kept | None) -> dict[str, Any] | None:
    return None if kept is None else vars(kept)


def _agreed(values: Mapping[str, Any], name: str, what: str) -> Iterator[str]:
    kept = values[name]
    if kept is None:
        if name == "agreed":
            yield f"nothing was agreed with {values['peer']} yet: after the first session, it stands here"
        return
    yield f"agreed with {values['peer']} for a {what}, last at {kept['at']}:"
    for part, who in _SIDES.items():
        yield f"  {who}:"
        yield from (f"  {line}" for line in _rows(kept["content"][part]))
    if name == "agreed":
        yield from _changed(values["common"], kept["content"]["both"])
    yield f"  digest to compare with {values['peer']}:"
    yield f"  {grouped(kept['digest'])}"


def _changed(now: Content, agreed: Content) -> Iterator[str]:
    """Say where the run file or the table has moved on since."""
    for name, value in now.items():
        if name in agreed and agreed[name] != value:
            yield f"  changed since: {_label(name)} is {said(value)} now"


def _rows(content: Mapping[str, Any]) -> list[str]:
    left_out = _BY_A_COLUMN if content.get("assigned") is not None else _DRAWN
    shown = (
        (_label(name), value)
        for name, value in flat(content).items()
        if value != "" and not (name in left_out and not value)
    )
    return [f"  {label:<{_WIDTH}}{said(value)}" for label, value in shown]


def _label(name: str) -> str:
    try:
        return _FOLLOWS.get(name) or field_label(_EARLIER.get(name, name))
    except KeyError:
        return name  # of another version


def said(value: Any) -> str:
    """Say a value of the terms in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return "no limit" if value is None else str(value)
