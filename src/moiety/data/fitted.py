"""What all fitted rules have in common. Imported by the rules."""

from pydantic import BaseModel, ConfigDict


class FittedRule(BaseModel):
    """Immutable, checked, never quoting its content."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    def names(self, column: str) -> list[str]:
        """Name the inputs."""
        return [column]
