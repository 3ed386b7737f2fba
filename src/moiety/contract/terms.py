"""What each party states in the handshake, and must state alike: the codec and its limits.

Each party sends its terms: what it was configured with and what only it can know. Fields that both have
must be equal; the first that differs is named with both values, on both sides, because each side receives
the other's terms. Imported by the contract.
"""

import json
from collections.abc import Mapping
from enum import Enum, auto
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from moiety import __version__
from moiety.config import Policy, ProtocolName, Revealed, SchemeName, SplitBy, Totals, limit_label
from moiety.contract.assignment import Assignment
from moiety.errors import ContractMismatchError, MalformedMessageError

WIRE_VERSION: Final = 5

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


class Lasts(Enum):
    """How long a field states the same: for the whole run, where a field says nothing of it."""

    SESSION = auto()
    """Fresh in each session: no part of what is signed."""
    AGREEMENT = auto()
    """Signed; a session that resumes the run may state another value."""


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


NONCE: Final = Field(description="random number of the session")
SOFTWARE: Final = Field(description="version of moiety")
ASSIGNED: Final = Field(description="rows of each split")
_NESTED: Final = ("policy", "before")


class Terms(BaseModel):
    """What both parties state, and must state alike."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    wire_version: Annotated[
        int, Field(ge=0, le=2**16, description="version of the messages"), Lasts.AGREEMENT
    ] = WIRE_VERSION
    run: Annotated[Name, Field(description="name of the run")]
    purpose: Annotated[Literal["train", "predict"], Field(description="what for")]
    protocol: Annotated[ProtocolName, Field(description="message flow")]
    scheme: Annotated[SchemeName, Field(description="encryption")]
    reveals: Annotated[
        Literal["nothing"] | Revealed, Field(description="shown to the data owner besides")
    ] = "nothing"
    id_columns: Annotated[int, Field(ge=0, le=64, description="columns it is aligned by")] = 0
    rows: Annotated[Count, Field(description="rows of the table")]
    # Of the aligned ids in their order; of the row count where there are no ids.
    order_digest: Annotated[Hex32, Field(description="order of the rows")]
    # Which saved model a prediction uses; empty when training.
    model: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{8,})?$", description="saved model")] = ""
    split: Annotated[SplitBy, Field(description="split decided by")] = "drawn"
    # The id of the run that is resumed, and the seed of its row order; a new run draws one from both nonces.
    resumes: Annotated[
        str, Field(pattern=r"^([0-9a-f]{32})?$", description="run that is resumed"), Lasts.SESSION
    ] = ""
    order: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$", description="its row order"), Lasts.SESSION] = (
        ""
    )


class LabelOwnerTerms(Terms):
    """The label owner's side: it proposes the shape and the schedule of the training.

    A run that is resumed states how many epochs are done, so that its policy is asked about the rest. The
    software's version need not be the peer's, since wire versions are equal.
    """

    nonce: Annotated[Hex32, NONCE, Lasts.SESSION]
    software: Annotated[Software, SOFTWARE, Lasts.AGREEMENT] = __version__
    epochs_done: Annotated[int, Field(ge=0, le=10_000, description="epochs done before"), Lasts.SESSION] = 0
    out_features: Annotated[int, Field(ge=1, le=4096, description="units of the layer")]
    epochs: Annotated[int, Field(ge=1, le=10_000, description="passes over the training rows, at most")]
    batch: Annotated[int, Field(ge=1, le=2**20, description="rows of a batch")]
    validation: Annotated[Fraction, Field(description="share of rows to validate")]
    test: Annotated[Fraction, Field(description="share of rows to test")]
    may_stop: Annotated[bool, Field(description="may end before all epochs")] = False
    keep: Annotated[Literal["last", "best"], Field(description="epoch that is saved")] = "last"
    assigned: Annotated[Assigned | None, ASSIGNED] = None


class DataOwnerTerms(Terms):
    """The data owner's side: the width of its activations, its policy, and what it released before."""

    nonce: Annotated[Hex32, NONCE, Lasts.SESSION]
    software: Annotated[Software, SOFTWARE, Lasts.AGREEMENT] = __version__
    in_features: Annotated[int, Field(ge=0, le=FEATURES_LIMIT, description="inputs of the layer")]
    activations: Annotated[Literal["fixed", "trained"], Field(description="inputs are")] = "fixed"
    parameters: Annotated[
        str, Field(max_length=128, pattern=r"^[a-z0-9+-]*$", description="parameters of the encryption")
    ] = ""
    policy: Annotated[Policy, Field(description="allowed"), Lasts.AGREEMENT]
    before: Annotated[Totals, Field(description="so far"), Lasts.SESSION]
    assigned: Annotated[Assigned | None, ASSIGNED] = None


STATED: Final[Mapping[str, FieldInfo]] = {**LabelOwnerTerms.model_fields, **DataOwnerTerms.model_fields}
"""Every field that either party states."""


def fields_lasting(*spans: Lasts) -> frozenset[str]:
    """Return the fields that last so long."""
    return frozenset(name for name, field in STATED.items() if set(spans) & set(field.metadata))


def field_label(name: str) -> str:
    """Say in words what a field states; of a limit and its total, which are nested, by "policy.steps".

    >>> field_label("rows"), field_label("policy.steps"), field_label("before.steps")
    ('rows of the table', 'allowed: training, in steps', 'so far: training, in steps')
    """
    outer, _, inner = name.partition(".")
    described = STATED[outer].description or outer
    return f"{described}: {limit_label(inner)}" if inner else described


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Put limits and totals beside the other fields, as "policy.steps" and "before.steps".

    >>> flat({"rows": 9, "policy": {"steps": None}})
    {'rows': 9, 'policy.steps': None}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        nested = name in _NESTED and isinstance(value, Mapping)
        found |= {f"{name}.{inner}": each for inner, each in value.items()} if nested else {name: value}
    return found


AnyTerms = TypeVar("AnyTerms", bound=BaseModel)


def encode_terms(terms: BaseModel) -> bytes:
    """Encode terms as canonical JSON: sorted keys, no spaces."""
    return json.dumps(terms.model_dump(), sort_keys=True, separators=(",", ":")).encode()


def decode_terms(payload: bytes, kind: type[AnyTerms]) -> AnyTerms:
    """Decode and validate the peer's terms.

    Raises:
        ContractMismatchError: not terms of that kind, but of another wire version.
        MalformedMessageError: not terms of that kind, naming the field.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError as error:
        _require_version(payload)
        first = error.errors()[0]
        # The name of an unknown field is the peer's choice: repr() keeps control characters out of logs.
        field = repr(".".join(str(part) for part in first["loc"]) or "terms")[:64]
        raise MalformedMessageError(
            f"the peer's terms are not acceptable: {field}: {first['msg']}",
            hint="install the same version of moiety on both sides",
        ) from error


class _Version(BaseModel):
    """The field by which terms of all versions can be told apart."""

    model_config = ConfigDict(extra="ignore", strict=True)

    wire_version: Annotated[int, Field(ge=0, le=2**16)] = WIRE_VERSION


def _require_version(payload: bytes) -> None:
    try:
        stated = _Version.model_validate_json(payload).wire_version
    except ValidationError:
        return
    if stated != WIRE_VERSION:
        field = "wire_version"
        raise ContractMismatchError(field=field, own=WIRE_VERSION, peer=stated, hint=_HINTS[field])


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
