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
from typing import Annotated, Any, Final, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moiety.assignment import Assignment
from moiety.config import SplitBy
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductNeed, ProductPlan, Scheme
from moiety.crypto.schemes import SchemeName, scheme_for
from moiety.errors import ConfigError, ContractMismatchError, MalformedMessageError
from moiety.messages import SESSION_BYTES, WIRE_VERSION, Role
from moiety.policy import (
    Asks,
    Policy,
    Revealed,
    Totals,
    check_batches,
    check_choices,
    check_run,
    check_stopping,
)
from moiety.products import SPARE_BITS, Product, ProtocolName, key_holder_of, products_of, shape_of
from moiety.schedule import Schedule, Split

ROWS_LIMIT: Final = 2**32
FEATURES_LIMIT: Final = 2**16
CANDIDATES_LIMIT: Final = 2**30
"""Bytes of all epochs' shares that the data owner keeps where the best one is saved."""
WORD_BYTES: Final = 8

# Fields that no run file holds.
_HINTS: Final = {
    "wire_version": "the same wire_version comes with the same version of moiety on both sides",
    "rows": "both tables must have the same rows in the same order",
    "order_digest": "order_digest covers the id columns: bring both tables into the same rows and order",
    "resumes": "one side holds no checkpoint of the run: restore its folder, or train a new model",
    "split": 'the owner of the column writes by = ... and reveals = "periods" under [split], the other side '
    'reveals = "periods" alone',
    "model": "train a new model, or restore both run folders from the same run",
}

Count = Annotated[int, Field(ge=0, le=ROWS_LIMIT)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
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
        may_stop: the training may end at any epoch's end; otherwise after all epochs.
        keep: which epoch's weights are the model.
    """

    nonce: Hex32
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
    protocols: tuple[ProtocolName, ...] = get_args(ProtocolName)
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
    assignment: Assignment | None = None

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
    def run_id(self) -> str:
        """The run's id: of its first session, also in those that go on with it."""
        return self.label_owner.resumes or self.session.hex()

    def public_seed(self, key_holder: Role) -> Seed:
        """Return the seed of pk1 of a party's key, which neither party can choose."""
        return Seed(sha256(b"pk1 " + key_holder.name.encode() + self.digest).digest())

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
        seed = order_seed(self.label_owner, self.data_owner.nonce)
        return schedule_of(
            self.label_owner, seed, activations=self.data_owner.activations, assignment=self.assignment
        )

    @property
    def trains_bottom(self) -> bool:
        """Whether this session trains the data owner's bottom model: then it is shown da."""
        return self.training and self.data_owner.activations == "trained" and not self._blind

    @property
    def keeps_best(self) -> bool:
        """Whether the training goes back to one of its epochs before it is tested and saved."""
        return self.training and self.label_owner.keep == "best"

    @property
    def hides_choice(self) -> bool:
        """Whether it goes back to an epoch without telling the data owner to which."""
        return self.keeps_best and self._blind

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one pass."""
        return len(self.schedule.batches(Split.TRAIN, epoch=0))

    @property
    def asks(self) -> Asks:
        """What this session will ask the data owner's policy for."""
        if not self.training:
            return Asks(passes=1)
        epochs = max(self.label_owner.epochs - self.label_owner.epochs_done, 0)
        return Asks(
            passes=epochs, steps=epochs * self.steps_per_epoch, runs=0 if self.label_owner.resumes else 1
        )

    @property
    def reuses_activations(self) -> bool:
        """Whether encrypted activations are kept for the whole session."""
        return self.schedule.whole_batches

    @property
    def products(self) -> tuple[Product, ...]:
        """What this session computes under encryption."""
        return products_of(
            self.label_owner.protocol,
            training=self.training,
            trains_bottom=self.trains_bottom,
            hides_choice=self.hides_choice,
        )

    @cached_property
    def schemes(self) -> dict[Role, Scheme]:
        """The scheme of each party that holds a key: the smallest that holds every product under it."""
        return {role: scheme_for(self.label_owner.scheme, needs) for role, needs in self._needs().items()}

    @property
    def parameters(self) -> str:
        """The names of both parties' schemes: what both must have chosen alike."""
        return "+".join(sorted({scheme.name for scheme in self.schemes.values()}))

    def plan(self, product: Product, rows: int) -> ProductPlan:
        """Plan a product over a batch of `rows`."""
        need = self._need(product, rows)
        scheme = self.schemes[key_holder_of(self.label_owner.protocol, product)]
        return scheme.plan(need.shape, required_spare_bits=need.spare_bits)

    def check(self) -> None:
        """Refuse what the data owner's policy does not cover; both sides ask.

        Raises:
            PolicyError: naming the limit.
            ConfigError: the data owner has a bottom model to train, and the protocol trains none.
        """
        if self._blind and self.data_owner.activations == "trained":
            raise ConfigError(
                'protocol "blind" trains no bottom model',
                hint="the data owner writes model.frozen = true, or both choose another protocol",
            )
        check_choices(
            self.data_owner.policy,
            protocol=self.label_owner.protocol,
            scheme=self.label_owner.scheme,
            reveals=self.label_owner.reveals,
        )
        check_run(
            self.data_owner.policy,
            before=self.data_owner.before,
            in_features=self.in_features,
            out_features=self.out_features,
            asks=self.asks,
        )
        check_stopping(self.data_owner.policy, may_stop=self.label_owner.may_stop)
        check_candidates(self)
        if self.training:
            batches = self.schedule.batches(Split.TRAIN, epoch=0)
            check_batches(self.data_owner.policy, smallest=min((each.rows for each in batches), default=0))

    @property
    def _blind(self) -> bool:
        return self.label_owner.protocol == "blind"

    @property
    def _largest_batch(self) -> int:
        return max(1, min(self.label_owner.batch, self.label_owner.rows))

    def _needs(self) -> dict[Role, list[ProductNeed]]:
        needs: dict[Role, list[ProductNeed]] = {}
        protocol = self.label_owner.protocol
        for product in self.products:
            if product is Product.CHOICE:  # once a run: it takes what the steps take
                continue
            role = key_holder_of(protocol, product)
            needs.setdefault(role, []).append(self._need(product, self._largest_batch))
        return needs

    def _need(self, product: Product, rows: int) -> ProductNeed:
        shape = shape_of(
            self.label_owner.protocol,
            product,
            rows=rows,
            in_features=self.in_features,
            out_features=self.out_features,
            epochs=self.label_owner.epochs,
        )
        return ProductNeed(shape=shape, spare_bits=SPARE_BITS[product])


def check_candidates(contract: Contract) -> None:
    """Refuse to keep the weights of more epochs than the data owner can hold.

    Raises:
        ConfigError: fewer epochs or `keep = "last"` are needed.
    """
    if not contract.keeps_best:
        return
    epochs = contract.label_owner.epochs
    size = epochs * contract.in_features * contract.out_features * WORD_BYTES
    if size > CANDIDATES_LIMIT:
        raise ConfigError(
            f"the best of {epochs} epochs would be chosen from {size} bytes of weights, and "
            f"{CANDIDATES_LIMIT} are allowed",
            hint='lower train.epochs, or write keep = "last"',
        )


def order_seed(label_owner: LabelOwnerTerms, data_owner_nonce: str) -> Seed:
    """Draw the seed of the row order from both nonces; a run that goes on has one already."""
    if label_owner.order:
        return Seed(bytes.fromhex(label_owner.order))
    both = bytes.fromhex(label_owner.nonce) + bytes.fromhex(data_owner_nonce)
    return Seed(sha256(b"row order" + both).digest())


def schedule_of(
    label_owner: LabelOwnerTerms,
    seed: Seed,
    *,
    activations: Literal["fixed", "trained"],
    assignment: Assignment | None = None,
) -> Schedule:
    """Return the schedule that the label owner's terms and a jointly drawn seed give.

    In `acml` a ciphertext fixes which rows sit together; activations that never change are encrypted
    once, so their batches stay together too.
    """
    return Schedule(
        seed=seed,
        rows=label_owner.rows,
        validation=label_owner.validation,
        test=label_owner.test,
        batch=label_owner.batch,
        epochs=label_owner.epochs,
        whole_batches=label_owner.protocol == "acml" and activations == "fixed",
        assignment=assignment,
    )
