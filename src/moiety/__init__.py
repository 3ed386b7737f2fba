"""Train a neural network between two organisations that may not show each other their data.

One holds the features (the data owner), the other the labels (the label owner); the layer between their
networks is computed under homomorphic encryption. Start with `open_run` (label owner) and `provide` (data
owner); `moiety.simulate` is the protocol in one file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moiety.label_owner import Batch, LabelOwnerRun, open_run
    from moiety.nn import InteractiveLinear
    from moiety.providing import provide

__all__ = ["Batch", "InteractiveLinear", "LabelOwnerRun", "open_run", "provide"]

_HOMES = {
    "provide": "moiety.providing",
    "open_run": "moiety.label_owner",
    "LabelOwnerRun": "moiety.label_owner",
    "Batch": "moiety.label_owner",
    "InteractiveLinear": "moiety.nn",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the cryptosystem can be imported without PyTorch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'moiety' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - lazy by intent

    return getattr(import_module(_HOMES[name]), name)
