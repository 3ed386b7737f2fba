"""What both sides agree on before anything private moves, compared field by field.

Each party sends its terms: what it was configured with and what only it can know. Fields that both have
must be equal; the first that differs is named with both values, on both sides, because each side receives
the other's terms. The union of both is the contract; its digest is in the header of every later frame.

Imported by the protocols; knows nothing of files or connections.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moiety.crypto.packing import PackingPlan, plan
from moiety.crypto.parameters import LISTED, ParameterSet, choose
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductShape
from moiety.errors import ContractMismatchError, MalformedMessageError
from moiety.messages import SESSION_BYTES, WIRE_VERSION
from moiety.policy import Policy, Totals, check_batches, check_run
from moiety.ring import ACTIVATION_MULTIPLIER_BITS
from moiety.schedule import Schedule, Split

ROWS_LIMIT: Final = 2**32
FEATURES_LIMIT: Final = 2**16

# Fields that no run file holds.
_HINTS: Final = {
    "wire_version": "the same wire_version comes with the same version of moiety on both sides",
    "rows": "both tables must have the same rows in the same order",
    "order_digest": "order_digest covers the id columns: bring both tables into the same rows and order",
    "model": "train a new model, or restore both run folders from the same run",
}

Count = Annotated[int, Field(ge=0, le=ROWS_LIMIT)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Terms(BaseModel):
    """What both parties state, and must state alike.

    Args:
        wire_version: of the message format.
        purpose: train a model, or predict with a saved one.
        run: the run's name in both run files.
        protocol: the message flow.
        scheme: the cryptosystem.
        rows: rows of the aligned table.
        order_digest: digest of the aligned ids in their order; of the row count where there are no ids.
        model: which saved model a prediction uses; empty when training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    wire_version: int = WIRE_VERSION
    run: Name
    purpose: Literal["train", "predict"]
    protocol: Literal["blind"]
    scheme: Literal["rlwe"]
    rows: Count
    order_digest: Hex32
    model: Annotated[str, Field(max_length=64, pattern=r"^([0-9a-f]{8,})?$")] = ""


class LabelOwnerTerms(Terms):
    """The label owner's side: it proposes the shape and the schedule of the training."""

    nonce: Hex32
    out_features: Annotated[int, Field(ge=1, le=4096)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    batch: Annotated[int, Field(ge=1, le=2**20)]
    validation: Fraction
    test: Fraction


class DataOwnerTerms(Terms):
    """The data owner's side: the width of its table, its policy, and what it released before."""

    nonce: Hex32
    in_features: Annotated[int, Field(ge=0, le=FEATURES_LIMIT)]
    parameters: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9-]*$")] = ""
    released_z_per_row_limit: int
    released_z_per_row_before: int
    predictions_limit: int
    predictions_before: int
    smallest_batch: int
    wide_layer: bool

    @property
    def policy(self) -> Policy:
        """The limits."""
        return Policy(
            released_z_per_row=self.released_z_per_row_limit,
            predictions=self.predictions_limit,
            smallest_batch=self.smallest_batch,
            wide_layer=self.wide_layer,
        )

    @property
    def before(self) -> Totals:
        """What earlier runs released."""
        return Totals(released_z_per_row=self.released_z_per_row_before, predictions=self.predictions_before)


AnyTerms = TypeVar("AnyTerms", LabelOwnerTerms, DataOwnerTerms)


def encode_terms(terms: Terms) -> bytes:
    """Encode terms as canonical JSON: sorted keys, no spaces."""
    return json.dumps(terms.model_dump(), sort_keys=True, separators=(",", ":")).encode()


def decode_terms(payload: bytes, kind: type[AnyTerms]) -> AnyTerms:
    """Decode and validate the peer's terms.

    Raises:
        MalformedMessageError: not the terms of that role, naming the field.
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


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What both agreed on, and everything that follows from it alone."""

    label_owner: LabelOwnerTerms
    data_owner: DataOwnerTerms

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 over both parties' terms; in the header of every frame after the handshake."""
        both = [encode_terms(self.label_owner), encode_terms(self.data_owner)]
        return sha256(b"".join(len(part).to_bytes(4, "little") + part for part in both)).digest()

    @property
    def session(self) -> bytes:
        """The session's id: fresh, because the digest covers both nonces."""
        return sha256(b"session" + self.digest).digest()[:SESSION_BYTES]

    @property
    def public_seed(self) -> Seed:
        """The seed of pk1, which neither party can choose."""
        return Seed(sha256(b"pk1" + self.digest).digest())

    @property
    def in_features(self) -> int:
        """Inputs of the interactive layer."""
        return self.data_owner.in_features

    @property
    def out_features(self) -> int:
        """Outputs of the interactive layer."""
        return self.label_owner.out_features

    @property
    def training(self) -> bool:
        """Whether this session trains; otherwise it predicts."""
        return self.label_owner.purpose == "train"

    @cached_property
    def schedule(self) -> Schedule:
        """Splits and batches."""
        return schedule_of(self.label_owner, order_seed(self.label_owner, self.data_owner.nonce))

    @cached_property
    def parameters(self) -> ParameterSet:
        """The smallest listed parameter set that holds every product of the run."""
        return choose([self._forward_shape(self._largest_batch), self._update_shape()])

    def forward_plan(self, rows: int) -> PackingPlan:
        """Plan x W for a batch of `rows`."""
        return plan(self.parameters, self._forward_shape(rows))

    def update_plan(self, rows: int) -> PackingPlan:
        """Plan x^T dz' for a batch of `rows`."""
        return plan(self.parameters, self._update_shape(rows))

    def check(self) -> None:
        """Refuse what the data owner's policy does not cover; both sides ask.

        Raises:
            PolicyError: naming the limit.
        """
        passes = self.label_owner.epochs if self.training else 1
        check_run(
            self.data_owner.policy,
            before=self.data_owner.before,
            in_features=self.in_features,
            out_features=self.out_features,
            passes=passes,
        )
        if self.training:
            batches = self.schedule.batches(Split.TRAIN, epoch=0)
            check_batches(self.data_owner.policy, smallest=min((each.rows for each in batches), default=0))

    @property
    def _largest_batch(self) -> int:
        return max(1, min(self.label_owner.batch, self.label_owner.rows))

    def _forward_shape(self, rows: int) -> ProductShape:
        return ProductShape(
            rows=rows,
            contraction=self.in_features,
            kept=self.out_features,
            multiplier_bits=ACTIVATION_MULTIPLIER_BITS,
        )

    def _update_shape(self, rows: int | None = None) -> ProductShape:
        return ProductShape(
            rows=self.in_features,
            contraction=rows or self._largest_batch,
            kept=self.out_features,
            multiplier_bits=ACTIVATION_MULTIPLIER_BITS,
        )


def order_seed(label_owner: LabelOwnerTerms, data_owner_nonce: str) -> Seed:
    """Draw the seed of the row order from both nonces."""
    both = bytes.fromhex(label_owner.nonce) + bytes.fromhex(data_owner_nonce)
    return Seed(sha256(b"row order" + both).digest())


def schedule_of(label_owner: LabelOwnerTerms, seed: Seed) -> Schedule:
    """Return the schedule that the label owner's terms and a jointly drawn seed give."""
    return Schedule(
        seed=seed,
        rows=label_owner.rows,
        validation=label_owner.validation,
        test=label_owner.test,
        batch=label_owner.batch,
        epochs=label_owner.epochs,
    )


def parameter_set(name: str) -> ParameterSet | None:
    """Return the listed parameter set of that name, if there is one."""
    return next((each for each in LISTED if each.name == name), None)
