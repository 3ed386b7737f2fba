"""The data owner's side of a saved model: its share of W, and what prediction needs besides.

Imported by the session's script.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moiety.contract.contract import Contract
from moiety.crypto.sampling import Seed
from moiety.data.preparation import Preparation
from moiety.errors import CheckpointMismatchError
from moiety.party.data_owner.prepared import Prepared
from moiety.party.data_owner.start import Start
from moiety.protocol.state import DataOwnerState
from moiety.store.model import load_model, save_model


@dataclass(frozen=True, kw_only=True, repr=False)
class SavedModel(Start):
    """A session that predicts starts from a model.

    Args:
        model: its name, the same on both sides.
        state: the share.
    """

    model: str
    state: DataOwnerState


def load_own_side(folder: Path) -> SavedModel:
    """Read this side of the model in a run's folder.

    Raises:
        CheckpointCorruptError: there is none, or it is damaged.
        CheckpointMismatchError: it is the label owner's.
    """
    arrays, facts = load_model(folder)
    try:
        state = DataOwnerState(
            share_DK=arrays["share"],
            dither_key=Seed(arrays["dither_key"].tobytes()),
            updates=int(facts["updates"]),
        )
        return SavedModel(
            weight_seed=Seed(arrays["weight_seed"].tobytes()),
            preparation=Preparation.from_json(facts["preparation"]),
            arrays=arrays,
            model=str(facts["model"]),
            state=state,
        )
    except KeyError as error:
        raise CheckpointMismatchError(
            f"{folder} holds no data owner's side of a model",
            hint="give each party a folder of its own",
        ) from error


def save_own_side(
    folder: Path, contract: Contract, state: DataOwnerState, *, prepared: Prepared, weight_seed: Seed
) -> None:
    """Write this side of a trained model.

    Raises:
        CheckpointError: it cannot be written.
    """
    save_model(
        folder,
        arrays={
            "share": state.share_DK,
            "dither_key": np.frombuffer(state.dither_key, dtype=np.uint8),
            "weight_seed": np.frombuffer(weight_seed, dtype=np.uint8),
            **prepared.arrays(),
        },
        facts={
            "model": contract.session.hex(),
            "run_id": contract.run_id,
            "updates": state.updates,
            "preparation": prepared.preparation.to_json(),
        },
    )
