"""What each party states in the handshake, and must state alike: the codec and its limits.

Each party sends its terms: what it was configured with and what only it can know. Fields that both have
must be equal; the first that differs is named with both values, on both sides, because each side receives
the other's terms. Imported by the contract.
"""

import json
from importlib.metadata import version
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moiety.config import SplitBy
from moiety.config.protocols import ProtocolName, protocol_names
from moiety.contract.assignment import Assignment
from moiety.contract.policy import Policy, Revealed, Totals
from moiety.crypto.schemes import SchemeName
from moiety.errors import ContractMismatchError, MalformedMessageError

WIRE_VERSION: Final = 4

SOFTWARE_VERSION: Final = version("moiety")

ROWS_LIMIT: Final = 2**32
FEATURES_LIMIT: Final = 2**16

# Fields that no run file holds.
_HINTS: Final = {
    "wire_version": "the same wire_version comes with the same version of moiety on both sides",
    "id_columns": "name as many id columns under [table] on both sides, or none on either",
    "rows": "both tables must have the same rows in the same order; id under [table] aligns them",
    "order_digest": "order_digest is of the aligned rows: one side's table has changed; start again",
    "resumes": "one side holds no checkpoint of the run: restore its folder, or train a new model",
    "split": 'the owner of the column writes by = ... and reveals = "periods" under [split], the other side '
    'reveals = "periods" alone',
    "model": "train a new model, or restore both run folders from the same run",
}

Count = Annotated[int, Field(ge=0, le=ROWS_LIMIT)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Software = Annotated[str, Field(max_length=32, pattern=r"^[0-9A-Za-z.+!-]+$")]
Name = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Assigned(BaseModel):
    """What the owner of the column states of an assignment of rows to splits, before it sends it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    digest: Hex32
    training: Count
    validation: Count
    test: Count

    @classmethod
    def of(cls, assignment: Assignment) -> "Assigned":
        """Return digest and counts."""
        training, validation, test = assignment.counts
        return cls(digest=assignment.digest.hex(), training=training, validation=validation, test=test)


class Terms(BaseModel):
    """What both parties state, and must state alike.

    Args:
        wire_version: of the message format.
        purpose: train a model, or predict with a saved one.
        run: the run's name in both run files.
        protocol: the message flow.
        scheme: the cryptosystem.
        reveals: what the data owner is shown beyond what is public.
        id_columns: by how many columns the tables were aligned; 0 where they are in the same order.
        rows: rows of the aligned table.
        order_digest: digest of the aligned ids in their order; of the row count where there are no ids.
        model: which saved model a prediction uses; empty when training.
        split: who says which rows are in which split.
        resumes: id of the run that goes on; empty for a new one.
        order: the seed of its row order; empty for a new run, which draws one from both nonces.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    wire_version: int = WIRE_VERSION
    run: Name
    purpose: Literal["train", "predict"]
    protocol: ProtocolName
    scheme: SchemeName
    reveals: Literal["nothing", "gradients"] = "nothing"
    id_columns: Annotated[int, Field(ge=0, le=64)] = 0
    rows: Count
    order_digest: Hex32
    model: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{8,})?$")] = ""
    split: SplitBy = "drawn"
    resumes: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    order: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""


class LabelOwnerTerms(Terms):
    """The label owner's side: it proposes the shape and the schedule of the training.

    A run that goes on states how many epochs are done, so that its policy is asked about the rest.

    Args:
        software: version of moiety; need not be the peer's, since wire versions are equal.
        may_stop: the training may end at any epoch's end; otherwise after all epochs.
        keep: which epoch's weights are the model.
    """

    nonce: Hex32
    software: Software = SOFTWARE_VERSION
    epochs_done: Annotated[int, Field(ge=0, le=10_000)] = 0
    out_features: Annotated[int, Field(ge=1, le=4096)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch: Annotated[int, Field(ge=1, le=2**20)]
    validation: Fraction
    test: Fraction
    may_stop: bool = False
    keep: Literal["last", "best"] = "last"
    assigned: Assigned | None = None


class DataOwnerTerms(Terms):
    """The data owner's side: the width of its activations, its policy, and what it released before."""

    nonce: Hex32
    software: Software = SOFTWARE_VERSION
    in_features: Annotated[int, Field(ge=0, le=FEATURES_LIMIT)]
    activations: Literal["fixed", "trained"] = "fixed"
    parameters: Annotated[str, Field(max_length=128, pattern=r"^[a-z0-9+-]*$")] = ""
    released_z_per_row_limit: int
    released_z_per_row_before: int
    predictions_limit: int
    predictions_before: int
    steps_limit: int | None = None
    steps_before: int = 0
    runs_limit: int | None = None
    runs_before: int = 0
    smallest_batch: int
    wide_layer: bool
    early_stopping: bool = True
    assigned: Assigned | None = None
    protocols: tuple[ProtocolName, ...] = Field(default_factory=protocol_names)
    schemes: tuple[SchemeName, ...] = get_args(SchemeName)
    may_reveal: tuple[Revealed, ...] = get_args(Revealed)

    @property
    def policy(self) -> Policy:
        """The limits."""
        return Policy(
            released_z_per_row=self.released_z_per_row_limit,
            predictions=self.predictions_limit,
            steps=self.steps_limit,
            runs=self.runs_limit,
            smallest_batch=self.smallest_batch,
            wide_layer=self.wide_layer,
            early_stopping=self.early_stopping,
            protocols=self.protocols,
            schemes=self.schemes,
            reveals=self.may_reveal,
        )

    @property
    def before(self) -> Totals:
        """What earlier runs released."""
        return Totals(
            released_z_per_row=self.released_z_per_row_before,
            predictions=self.predictions_before,
            steps=self.steps_before,
            runs=self.runs_before,
        )


def policy_terms(policy: Policy, before: Totals) -> dict[str, Any]:
    """Return the fields of a data owner's terms that state its policy, and what it released before."""
    totals = ("released_z_per_row", "predictions", "steps", "runs")
    return {
        **{f"{name}_limit": getattr(policy, name) for name in totals},
        **{f"{name}_before": getattr(before, name) for name in totals},
        "smallest_batch": policy.smallest_batch,
        "wide_layer": policy.wide_layer,
        "early_stopping": policy.early_stopping,
        "protocols": policy.protocols,
        "schemes": policy.schemes,
        "may_reveal": policy.reveals,
    }


AnyTerms = TypeVar("AnyTerms", bound=BaseModel)


def encode_terms(terms: BaseModel) -> bytes:
    """Encode terms as canonical JSON: sorted keys, no spaces."""
    return json.dumps(terms.model_dump(), sort_keys=True, separators=(",", ":")).encode()


def decode_terms(payload: bytes, kind: type[AnyTerms]) -> AnyTerms:
    """Decode and validate the peer's terms.

    Raises:
        MalformedMessageError: not terms of that kind, naming the field.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors()[0]
        # The name of an unknown field is the peer's choice: repr() keeps control characters out of logs.
        field = repr(".".join(str(part) for part in first["loc"]) or "terms")[:64]
        raise MalformedMessageError(
            f"the peer's terms are not acceptable: {field}: {first['msg']}",
            hint="install the same version of moiety on both sides",
        ) from error


def require_equal(own: Terms, peer: Terms) -> None:
    """Compare what both parties state.

    Raises:
        ContractMismatchError: with the first field that differs and both values.
    """
    for field in Terms.model_fields:
        if getattr(own, field) != getattr(peer, field):
            raise ContractMismatchError(
                field=field,
                own=getattr(own, field),
                peer=getattr(peer, field),
                hint=_HINTS.get(field, ""),
            )
