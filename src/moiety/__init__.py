"""Train a neural network between two organisations that may not show each other their data.

One holds the features (the data owner), the other the labels (the label owner); the layer between their
networks is computed under homomorphic encryption. Start with `open_run` (label owner) and `provide` (data
owner); `moiety.protocol.simulate` is the protocol in one file.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moiety.nn.fit import Batch
    from moiety.nn.layer import InteractiveLinear
    from moiety.party.data_owner.provide import provide
    from moiety.party.label_owner.run import LabelOwnerRun, open_run

    __version__: str

__all__ = ["Batch", "InteractiveLinear", "LabelOwnerRun", "__version__", "open_run", "provide"]

_HOMES = {
    "provide": "moiety.party.data_owner.provide",
    "open_run": "moiety.party.label_owner.run",
    "LabelOwnerRun": "moiety.party.label_owner.run",
    "Batch": "moiety.nn.fit",
    "InteractiveLinear": "moiety.nn.layer",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that the cryptosystem can be imported without PyTorch."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - slower than all the rest of this file

        return version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module 'moiety' has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - lazy by intent

    return getattr(import_module(_HOMES[name]), name)
