"""What a session of the data owner starts from: nothing, or one of the kinds that build on `Start`.

Imported by what they are read from, and by the session's script.
"""

from dataclasses import dataclass, field

from moiety.crypto.sampling import Seed
from moiety.crypto.secret import Secret
from moiety.data.preparation import Preparation
from moiety.store.files import Arrays


@dataclass(frozen=True, kw_only=True, repr=False)
class Start(Secret):
    """A new training; a saved model and a resumed run say more.

    Args:
        weight_seed: of own part of W_0, and of the bottom model.
        preparation: as it was fitted; None fits it on this training's rows.
        arrays: with the bottom model's weights; empty draws them.
    """

    weight_seed: Seed
    preparation: Preparation | None = None
    arrays: Arrays = field(default_factory=dict)
