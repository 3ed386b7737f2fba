"""Going back to the best epoch: exact weights, in `blind` without naming the epoch."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.config import Policy
from moiety.contract import contract as contract_module
from moiety.contract.contract import Contract
from moiety.contract.policy import check_stopping
from moiety.contract.products import LIMBS, Product
from moiety.contract.schedule import Split
from moiety.crypto.ring import RingArray
from moiety.errors import ConfigError, LocalProtocolError, PolicyError, RemoteProtocolError
from moiety.protocol.choice import Candidates, decode_epoch, encode_epoch, limbs_of, selector
from moiety.protocol.messages import Block, Kind
from moiety.protocol.simulate import Pair
from tests.protocol.test_joint import contract_for
from tests.support.no_choice import NeverGoesBack
from tests.support.pair import contract_of, data_terms, gradient_of, label_terms, table_of
from tests.support.randomness import RecordedRandomness, words_of

EPOCHS = 3


class Training:
    """A pair trained to the end of some epochs, with W and the label owner's share at each end."""

    def __init__(self, contract: Contract, *, epochs: int = EPOCHS, activations: Any = None) -> None:
        self.seen: list[Block] = []
        self.contract = contract
        features = table_of(contract) if activations is None else activations
        self.pair = Pair(
            contract, features, randomness=RecordedRandomness(b"choice"), observe=self.seen.append
        )
        self.weights: list[RingArray] = []
        self.shares: list[RingArray] = []
        for epoch in range(epochs):
            for handle in contract.schedule.batches(Split.TRAIN, epoch=epoch):
                self.step(handle)
            self.weights.append(self.pair.weights())
            self.shares.append(self.pair.label_owner.share)

    def step(self, handle: Any) -> None:
        self.pair.forward(handle, training=True)
        dz_NK = gradient_of(handle, self.contract.out_features, name=f"{handle.epoch} {handle.batch}")
        trained = self.contract.trains_bottom
        self.pair.update(dz_NK, dz_NK.view(np.int64) >> 10 if trained else None)

    def choose(self, epoch: int) -> None:
        self.pair.choose(epoch, self.shares[epoch])


def blind(**changes: Any) -> Contract:
    return contract_of(label=label_terms(**{"epochs": EPOCHS, "keep": "best", **changes}))


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_choice_returns_exactly_to_the_weights_of_that_epoch(epoch: int) -> None:
    training = Training(blind())
    before = training.pair.data_owner.state().share_DK
    training.choose(epoch)
    np.testing.assert_array_equal(training.pair.weights(), training.weights[epoch])
    assert not np.array_equal(training.pair.data_owner.state().share_DK, before)


@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_choice_by_name_returns_weights_and_activations_to_that_epoch(protocol: str) -> None:
    class Kept(NeverGoesBack):
        def __init__(self, contract: Contract) -> None:
            self._table = table_of(contract)
            self.epochs: list[int] = []
            self.batch = self._table.batch

        def backward(self, gradient_ND: NDArray[np.float64]) -> None:
            """Take da and change nothing."""

        def go_back(self, epoch: int, share_DK: RingArray | None = None) -> None:
            del share_DK
            self.epochs.append(epoch)

    contract = contract_for(protocol, epochs=EPOCHS, keep="best")
    kept = Kept(contract)
    training = Training(contract, activations=kept)
    training.choose(1)
    np.testing.assert_array_equal(training.pair.weights(), training.weights[1])
    assert kept.epochs == [1]
    named = [block for block in training.seen if block.kind is Kind.CHOICE]
    assert [block.payload for block in named] == [encode_epoch(1)]


def test_choice_shows_z_of_the_chosen_weights_and_trains_no_more() -> None:
    training = Training(blind())
    handle = training.contract.schedule.batches(Split.VALIDATION, epoch=0)[0]
    late_NK = training.pair.forward(handle, training=False)
    training.choose(0)
    early_NK = training.pair.forward(handle, training=False)
    rows = training.contract.schedule.rows_of(handle)
    activation_ND = table_of(training.contract).activation_ND[rows].astype(np.int64)
    exact_NK = np.ldexp((activation_ND.view(np.uint64) @ training.weights[0]).view(np.int64), -50)
    assert np.abs(early_NK - exact_NK).max() <= 2**-6
    assert np.abs(late_NK - early_NK).max() > 2**-5
    with pytest.raises(LocalProtocolError, match="is over"):
        list(training.pair.label_owner.request(handle, training=True))


def outline(training: Training) -> list[tuple[Kind, int, int, int, int]]:
    return [(each.kind, each.step, each.index, each.count, len(each.payload)) for each in training.seen]


def test_choice_of_any_epoch_has_the_same_messages() -> None:
    """What the data owner sees of a choice in `blind` is one outline, whichever epoch was best.

    Control: by name, the payload is another one for each epoch.
    """
    outlines = []
    for epoch in range(EPOCHS):
        training = Training(blind())
        training.choose(epoch)
        outlines.append(outline(training))
    assert outlines[0] == outlines[1] == outlines[2]
    assert outlines[0][-1][0] is Kind.MASKED_CHOICE
    assert len({encode_epoch(epoch) for epoch in range(EPOCHS)}) == EPOCHS


def test_choice_gives_the_data_owner_a_share_that_no_epoch_had() -> None:
    """The new share is a fresh mask: equal to none it kept, so that nothing tells which epoch came back."""
    training = Training(blind())
    kept = [training.pair.data_owner.candidates[epoch] for epoch in range(EPOCHS)]
    training.choose(2)
    share_DK = training.pair.data_owner.state().share_DK
    assert all(np.count_nonzero(share_DK == each) == 0 for each in kept)
    assert len(training.pair.data_owner.candidates) == 0


def test_choice_after_an_early_stop_is_among_the_epochs_that_ended() -> None:
    training = Training(blind(may_stop=True), epochs=2)
    training.choose(1)
    np.testing.assert_array_equal(training.pair.weights(), training.weights[1])


def test_choice_before_the_agreed_end_is_refused_where_no_stop_was_declared() -> None:
    training = Training(blind(), epochs=2)
    with pytest.raises(RemoteProtocolError, match="the contract does not allow"):
        training.choose(1)


def test_choice_within_an_epoch_is_refused() -> None:
    training = Training(blind(may_stop=True), epochs=1)
    training.step(training.contract.schedule.batches(Split.TRAIN, epoch=1)[0])
    with pytest.raises(RemoteProtocolError, match="after epoch 1, batch 1"):
        training.choose(0)


def test_choice_that_was_not_agreed_on_is_refused_on_both_sides() -> None:
    training = Training(blind(keep="last"))
    with pytest.raises(LocalProtocolError, match="no best epoch"):
        training.choose(0)
    assert len(training.pair.data_owner.candidates) == 0
    step = training.pair.label_owner._step + 1
    with pytest.raises(RemoteProtocolError, match="none was expected"):
        list(training.pair.data_owner.receive(Block(kind=Kind.CHOICE, step=step, payload=b"")))


def test_choice_a_second_time_is_refused() -> None:
    training = Training(blind())
    training.choose(0)
    with pytest.raises(LocalProtocolError, match="already"):
        training.choose(0)
    step = training.pair.label_owner._step + 1
    with pytest.raises(RemoteProtocolError, match="none was expected"):
        list(training.pair.data_owner.receive(Block(kind=Kind.CHOICE, step=step, payload=b"")))


def test_training_after_the_choice_is_refused_by_the_data_owner() -> None:
    training = Training(blind(may_stop=True), epochs=2)
    training.choose(0)
    handle = training.contract.schedule.batches(Split.TRAIN, epoch=2)[0]
    training.pair.label_owner._chosen = False
    with pytest.raises(RemoteProtocolError, match="after the best epoch was chosen"):
        training.step(handle)


@pytest.mark.parametrize("payload", [encode_epoch(3), b"\xff\xff\xff\xff"])
def test_choice_of_an_epoch_that_never_ended_is_refused(payload: bytes) -> None:
    assert decode_epoch(encode_epoch(2), ended=3) == 2
    with pytest.raises(RemoteProtocolError, match="and 3 have ended"):
        decode_epoch(payload, ended=3)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_limbs_add_up_to_the_word(words: list[int]) -> None:
    word_N = np.array(words, dtype=np.uint64)
    limb_NL = limbs_of(word_N).astype(np.int64)
    total = sum(limb_NL[:, i].view(np.uint64) << np.uint64(16 * i) for i in range(LIMBS))
    np.testing.assert_array_equal(total, word_N)


def test_selector_takes_one_candidate_out_of_the_matrix() -> None:
    candidates = Candidates()
    shares = [words_of(f"share {number}", 6).reshape(2, 3) for number in range(2)]
    for share_DK in shares:
        candidates.keep(share_DK)
    matrix = candidates.matrix(epochs=5).astype(np.int64).view(np.uint64)
    for epoch, share_DK in enumerate(shares):
        np.testing.assert_array_equal((matrix @ selector(epoch, epochs=5)).reshape(2, 3), share_DK)


def test_candidates_survive_a_saved_state() -> None:
    candidates, again = Candidates(), Candidates()
    again.load(candidates.state())
    assert len(again) == 0
    candidates.keep(words_of("share", 6).reshape(2, 3))
    again.load(candidates.state())
    np.testing.assert_array_equal(again[0], candidates[0])


def test_contract_refuses_more_candidates_than_can_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = contract_of(label=label_terms(epochs=EPOCHS, keep="best"), data=data_terms(), production=True)
    agreed.check()
    assert Product.CHOICE in agreed.products
    monkeypatch.setattr(contract_module, "CANDIDATES_LIMIT", EPOCHS * 5 * 3 * 8 - 1)
    with pytest.raises(ConfigError, match="the best of 3 epochs") as caught:
        agreed.check()
    assert "train.epochs" in caught.value.hint
    contract_of(label=label_terms(epochs=EPOCHS), production=True).check()


def test_choice_fits_the_most_epochs_there_can_be() -> None:
    agreed = contract_of(
        label=label_terms(epochs=10_000, keep="best"),
        data=data_terms(policy={"released_z_per_row": 10**6}),
        production=True,
    )
    assert agreed.plan(Product.CHOICE, 0).spare_bits >= 40


def test_choice_takes_the_parameters_of_the_steps() -> None:
    with_choice = contract_of(label=label_terms(epochs=200, keep="best"), production=True)
    assert with_choice.parameters == contract_of(label=label_terms(), production=True).parameters


def test_policy_can_refuse_early_stopping() -> None:
    check_stopping(Policy(early_stopping=False), may_stop=False)
    check_stopping(Policy(), may_stop=True)
    with pytest.raises(PolicyError) as caught:
        check_stopping(Policy(early_stopping=False), may_stop=True)
    assert caught.value.limit == "early_stopping"
    data = data_terms(policy={"early_stopping": False})
    with pytest.raises(PolicyError):
        contract_of(label=label_terms(may_stop=True), data=data).check()
    contract_of(label=label_terms(), data=data).check()
