"""What every table of a run file is built on. Imported by `config` only."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of every table of a run file: no unknown keys, no conversion of types, immutable."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True
    )
