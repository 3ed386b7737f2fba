"""The tables of the protocols: whole, unambiguous, and the only place that knows a protocol by its name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import moiety
from moiety.config.protocols import DEFAULT_PROTOCOL, PROTOCOLS, KnownProtocol
from moiety.contract.flow import Form, Opened, Send, Serves, When, flow_of
from moiety.contract.products import Role
from moiety.contract.schedule import Split
from moiety.crypto.schemes import RlweScheme
from moiety.errors import LocalProtocolError
from moiety.protocol.simulate import Pair
from tests.protocol.test_joint import RecordedPair, contract_for
from tests.support.pair import contract_of as paired
from tests.support.pair import data_terms, gradient_of, label_terms, table_of, training_handles
from tests.support.randomness import RecordedRandomness

SOURCE = Path(moiety.__file__).parent
by_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


def every_send(protocol: str) -> tuple[Send, ...]:
    flow = flow_of(protocol)
    return (*flow.opening, *flow.steps, *flow.choice)


# --- nothing but the registry and a protocol's own module knows its name ---


def names_in(path: Path) -> Iterator[str]:
    """Yield where a protocol's name stands as a string, whatever is done with it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and node.value in PROTOCOLS:
            yield f"{path.relative_to(SOURCE)}:{node.lineno}: {node.value}"


def test_no_other_module_knows_a_protocol_by_its_name() -> None:
    own = {SOURCE / "config" / "protocols.py", *(SOURCE / "protocol" / f"{name}.py" for name in PROTOCOLS)}
    others = sorted(set(SOURCE.rglob("*.py")) - own)
    assert len(others) > 100
    assert [found for path in others for found in names_in(path)] == []
    assert len(list(names_in(SOURCE / "config" / "protocols.py"))) == len(PROTOCOLS) + 1  # and the default


def test_default_protocol_reveals_nothing() -> None:
    assert PROTOCOLS[DEFAULT_PROTOCOL] == KnownProtocol(module=PROTOCOLS[DEFAULT_PROTOCOL].module)


@pytest.mark.parametrize(
    ("module", "entry"),
    [
        ("joint", {}),
        ("joint", {"bottom": "always"}),
        ("joint", {"bottom": "never", "reveals_gradients": True}),
        ("blind", {"bottom": "optional", "reveals_gradients": True}),
    ],
)
def test_entry_that_says_otherwise_than_its_flow_is_refused(
    monkeypatch: pytest.MonkeyPatch, module: str, entry: dict[str, object]
) -> None:
    wrong = KnownProtocol(module=f"moiety.protocol.{module}", **entry)  # type: ignore[arg-type]
    monkeypatch.setitem(PROTOCOLS, "wrong", wrong)
    with pytest.raises(LocalProtocolError, match="protocol wrong shows the data owner gradients") as caught:
        flow_of("wrong")
    assert "reveals_gradients" in caught.value.hint


# --- a table is whole ---


@by_protocol
def test_every_response_has_a_request_before_it(protocol: str) -> None:
    flow = flow_of(protocol)
    for part in (flow.opening, flow.steps, flow.choice):
        asked = set()
        for send in part:
            if send.form is Form.REQUEST:
                asked.add(send.of)
            if send.form is Form.RESPONSE:
                assert send.of in asked
    products = {send.of for send in every_send(protocol) if send.of is not None}
    assert len(products) == len({of.product for of in products})


@by_protocol
def test_messages_of_a_part_have_names_of_their_own(protocol: str) -> None:
    kinds = [send.kind for send in every_send(protocol)]
    assert len(kinds) == len(set(kinds))


@by_protocol
def test_label_owner_is_shown_z_and_begins_the_update(protocol: str) -> None:
    flow = flow_of(protocol)
    opened = [(send.opens, send.sender) for send in every_send(protocol) if send.opens is not None]
    shown = [(Opened.INPUT_GRADIENT, Role.LABEL_OWNER)] if flow.trains_bottom else []
    assert opened == [(Opened.Z, Role.DATA_OWNER), *shown]
    assert flow.update[0].sender is Role.LABEL_OWNER
    assert all(send.when is When.ALWAYS for send in (*flow.opening, *flow.choice))


@by_protocol
def test_only_encrypted_matrices_serve_longer_than_their_answer(protocol: str) -> None:
    for send in every_send(protocol):
        assert send.form is Form.REQUEST or (send.serves is Serves.ANSWER and not send.says)


@by_protocol
def test_machines_know_what_each_of_their_messages_carries(protocol: str) -> None:
    activations = "fixed" if PROTOCOLS[protocol].bottom == "never" else "trained"
    pair = RecordedPair(contract_for(protocol, activations=activations))
    for machine in (pair.label_owner, pair.data_owner):
        own = {send.kind for send in every_send(protocol) if send.sender is machine.role}
        assert own <= machine._matrices().keys()


# --- plans ---


class Planner:
    """Counts what the planner is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        plan = RlweScheme.plan

        def counted(scheme: RlweScheme, *arguments: object, **options: object) -> object:
            self.asked += 1
            return plan(scheme, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(RlweScheme, "plan", counted)


@by_protocol
def test_no_step_waits_for_the_planner(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    planner = Planner(monkeypatch)
    activations = "fixed" if PROTOCOLS[protocol].bottom == "never" else "trained"
    contract = contract_for(protocol, activations=activations, rows=41, keep="best")
    pair = RecordedPair(contract)
    opened = planner.asked
    sizes = {rows for split in list(Split)[:3] for rows in contract.schedule.sizes(split)}
    assert opened <= len(sizes) * len(contract.products)
    last = pair.label_owner.share
    for number, handle in enumerate(training_handles(contract)):
        pair.step(handle, number=number)
        for split in (Split.VALIDATION, Split.TRAIN):
            pair.forward(contract.schedule.batches(split, epoch=0)[0], training=False)
        last = pair.label_owner.share
    pair.recorder.go_back = lambda *_: None  # type: ignore[method-assign]
    pair.choose(contract.label_owner.epochs - 1, last)
    pair.forward(contract.schedule.batches(Split.TEST, epoch=0)[0], training=False)
    assert planner.asked == opened


@pytest.mark.parametrize("purpose", ["train", "predict"])
def test_no_step_of_a_later_session_waits_for_the_planner(
    monkeypatch: pytest.MonkeyPatch, purpose: str
) -> None:
    first = paired()
    before = Pair(first, table_of(first), randomness=RecordedRandomness(b"first"))
    planner = Planner(monkeypatch)
    contract = paired(label=label_terms(purpose=purpose), data=data_terms(purpose=purpose))
    pair = Pair(contract, table_of(contract), randomness=RecordedRandomness(b"later"))
    randomness = RecordedRandomness(b"machines")
    label_owner = contract.flow.label_owner(
        contract,
        keys=pair.label_owner._own_keys,
        share_DK=before.label_owner.share,
        randomness=randomness,
    )
    data_owner = contract.flow.data_owner(
        contract,
        evaluator=pair.data_owner._own_evaluator,
        features=table_of(contract),
        state=before.data_owner.state(),
        charge=lambda *_: None,
        randomness=randomness,
    )
    pair.label_owner, pair.data_owner = label_owner, data_owner
    opened = planner.asked
    assert opened > 0
    split = Split.TRAIN if purpose == "train" else Split.ALL
    for handle in contract.schedule.batches(split, epoch=0):
        pair.forward(handle, training=purpose == "train")
        if purpose == "train":
            pair.update(gradient_of(handle, 3))
    assert planner.asked == opened


def test_plan_of_another_batch_is_made_when_it_is_asked_for() -> None:
    contract = paired()
    contract.plan_ahead()
    product = contract.products[0]
    assert contract.plan(product, 7) is contract.plan(product, 7)
    assert contract.plan(product, 7).shape.rows == 7
