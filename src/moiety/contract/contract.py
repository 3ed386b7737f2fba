"""What both sides agree on before anything private moves: the union of both parties' terms.

Its digest is in the header of every later frame; everything both compute alike follows from it. Imported by
the protocols; knows nothing of files or connections.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Final, Literal

from moiety.config.protocols import PROTOCOLS
from moiety.contract.assignment import Assignment
from moiety.contract.flow import Flow, Multiplication, When, flow_of
from moiety.contract.policy import (
    Asks,
    check_batches,
    check_budgets,
    check_choices,
    check_stopping,
    check_width,
)
from moiety.contract.products import LIMBS, SESSION_BYTES, Product, Role
from moiety.contract.schedule import Schedule, Split
from moiety.contract.terms import DataOwnerTerms, LabelOwnerTerms, encode_terms
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductNeed, ProductPlan, Scheme
from moiety.crypto.schemes import scheme_for
from moiety.errors import ConfigError

CANDIDATES_LIMIT: Final = 2**30
"""Bytes of all epochs' shares that the data owner keeps where the best one is saved."""
WORD_BYTES: Final = 8


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
        """The run's id: of its first session, also in those that resume it."""
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
    def flow(self) -> Flow:
        """The protocol, as a table."""
        return flow_of(self.label_owner.protocol)

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
        can = PROTOCOLS[self.label_owner.protocol].bottom != "never"
        return self.training and self.data_owner.activations == "trained" and can

    @property
    def keeps_best(self) -> bool:
        """Whether the training goes back to one of its epochs before it is tested and saved."""
        return self.training and self.label_owner.keep == "best"

    @property
    def hides_choice(self) -> bool:
        """Whether it goes back to an epoch without telling the data owner to which."""
        return self.keeps_best and self.flow.hides_choice

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
        return tuple(self.multiplications)

    @cached_property
    def multiplications(self) -> dict[Product, Multiplication]:
        """Those products with their matrices and keys; one that scores has the parameters of its training."""
        sends = list(self.flow.steps)
        if self.training:
            sends += self.flow.opening
        if self.keeps_best:
            sends += self.flow.choice
        counted = (send for send in sends if self.trains_bottom or send.when is not When.BOTTOM)
        found = {send.of.product: send.of for send in counted if send.of is not None}
        return {product: found[product] for product in Product if product in found}

    def sizes(self, rows: int) -> dict[str, int]:
        """Return what the axes of a flow's matrices stand for, for a batch of `rows`."""
        return {
            "N": rows,
            "D": self.in_features,
            "K": self.out_features,
            "E": self.label_owner.epochs,
            "L": LIMBS,
        }

    @cached_property
    def schemes(self) -> dict[Role, Scheme]:
        """The scheme of each party that holds a key: the smallest that holds every product under it."""
        return {role: scheme_for(self.label_owner.scheme, needs) for role, needs in self._needs().items()}

    @property
    def parameters(self) -> str:
        """The names of both parties' schemes: what both must have chosen alike."""
        return "+".join(sorted({scheme.name for scheme in self.schemes.values()}))

    def plan(self, product: Product, rows: int) -> ProductPlan:
        """Return the plan of a product over a batch of `rows`; each is made once."""
        of = self.multiplications[product]
        place = (product, rows if of.depends_on_rows else 0)
        if place not in self._plans:
            need, scheme = of.need(self.sizes(rows)), self.schemes[of.key_holder]
            self._plans[place] = scheme.plan(need.shape, required_spare_bits=need.spare_bits)
        return self._plans[place]

    def plan_ahead(self) -> None:
        """Make the plans of every batch of the schedule, so that no step waits for the planner."""
        trained = [Split.TRAIN] if self.training else []
        scored = [Split.VALIDATION, Split.TEST] if self.training else [Split.ALL]
        always = {send.of for send in self.flow.forward if send.when is When.ALWAYS}
        for product, of in self.multiplications.items():
            splits = trained + scored if of in always else trained
            sizes = {rows for split in splits for rows in self.schedule.sizes(split)}
            for rows in sizes if of.depends_on_rows else {0}:
                self.plan(product, rows)

    @cached_property
    def _plans(self) -> dict[tuple[Product, int], ProductPlan]:
        return {}

    def check(self) -> None:
        """Refuse what the data owner's policy does not cover; both sides ask.

        What is known from the proposal comes first: the data owner stops there, before it reads its table,
        and its answer then states no width.

        Raises:
            PolicyError: naming the limit.
            ConfigError: the data owner has a bottom model to train, and the protocol trains none.
        """
        self.check_proposal()
        check_width(self.data_owner.policy, in_features=self.in_features, out_features=self.out_features)
        check_candidates(self)

    def check_proposal(self) -> None:
        """Refuse what the policy does not cover whatever the width of the data owner's table.

        Raises:
            PolicyError: naming the limit.
            ConfigError: the data owner has a bottom model to train, and the protocol trains none.
        """
        policy, name = self.data_owner.policy, self.label_owner.protocol
        if PROTOCOLS[name].bottom == "never" and self.data_owner.activations == "trained":
            raise ConfigError(
                f'protocol "{name}" trains no bottom model',
                hint="write model.frozen = true at the data owner, or choose another protocol on both sides",
            )
        check_choices(
            policy,
            protocol=name,
            scheme=self.label_owner.scheme,
            reveals=self.label_owner.reveals,
        )
        check_budgets(policy, before=self.data_owner.before, out_features=self.out_features, asks=self.asks)
        check_stopping(policy, may_stop=self.label_owner.may_stop)
        if self.training:
            batches = self.schedule.batches(Split.TRAIN, epoch=0)
            check_batches(policy, smallest=min((each.rows for each in batches), default=0))

    @property
    def _largest_batch(self) -> int:
        return max(1, min(self.label_owner.batch, self.label_owner.rows))

    def _needs(self) -> dict[Role, list[ProductNeed]]:
        needs: dict[Role, list[ProductNeed]] = {}
        for product, of in self.multiplications.items():
            if product is Product.CHOICE:  # once a run: it takes what the steps take
                continue
            needs.setdefault(of.key_holder, []).append(of.need(self.sizes(self._largest_batch)))
        return needs


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
    """Draw the seed of the row order from both nonces; a resumed run has one already."""
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

    A ciphertext fixes which rows sit together: where activations that never change are encrypted once,
    their batches stay together too.
    """
    return Schedule(
        seed=seed,
        rows=label_owner.rows,
        validation=label_owner.validation,
        test=label_owner.test,
        batch=label_owner.batch,
        epochs=label_owner.epochs,
        whole_batches=flow_of(label_owner.protocol).reuses_activations and activations == "fixed",
        assignment=assignment,
    )
