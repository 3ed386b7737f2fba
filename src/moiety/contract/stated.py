"""What a run file makes its party state: fields of the terms, by name, for either purpose.

What only a table, a saved model or a session can tell (rows, order, model, nonce) is added by whoever opens
the session. Imported by the parties' sessions, and by what says beforehand what they will state.
"""

from typing import Any, Literal

from moiety.config import AnyRun, DataOwnerRun, LabelOwnerRun

Purpose = Literal["train", "predict"]


def common(settings: AnyRun, *, purpose: Purpose) -> dict[str, Any]:
    """Return what both run files have to say alike."""
    return {
        "run": settings.run,
        "purpose": purpose,
        "protocol": settings.protocol.name,
        "scheme": settings.protocol.scheme,
        "reveals": settings.protocol.reveals or "nothing",
        "id_columns": len(settings.table.id),
        "split": settings.split.decided_by if purpose == "train" else "drawn",
    }


def proposed(settings: LabelOwnerRun, *, purpose: Purpose) -> dict[str, Any]:
    """Return what a label owner adds: the shape and the schedule of the training."""
    train, split = settings.train, settings.split
    training = purpose == "train"
    drawn = not training or split.decided_by == "drawn"
    return {
        "out_features": settings.model.units,
        "epochs": train.epochs if training else 1,
        "batch": train.batch,
        "validation": split.validation if drawn else 0.0,
        "test": split.test if drawn else 0.0,
        "may_stop": train.may_stop and training,
        "keep": "best" if train.keeps_best and training else "last",
    }


def answered(settings: DataOwnerRun, *, purpose: Purpose) -> dict[str, Any]:
    """Return what a data owner adds: whether it trains a bottom model, and its policy."""
    trained = purpose == "train" and settings.trains_bottom
    return {"activations": "trained" if trained else "fixed", "policy": settings.limits}
