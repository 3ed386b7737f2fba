"""Row 14: what a label owner that deviates can do with a data owner that decrypts. Shapes as in `acml`."""

from typing import Any

import numpy as np
import pytest

from moiety.contract.flow import Form, flow_of
from moiety.contract.products import Product, Role
from moiety.contract.schedule import Split
from moiety.crypto.packing import PackingPlan
from moiety.crypto.parameters import ParameterSet, transform
from moiety.crypto.ring import RingArray
from moiety.protocol.handshake import make_keys
from moiety.protocol.messages import Block, Kind, Request, encode_request
from moiety.protocol.product import read_matrix
from moiety.protocol.simulate import Pair
from tests.protocol.test_joint import RecordedPair, contract_for
from tests.support.attack_tools import join_residues
from tests.support.pair import contract_of, data_terms, label_terms, table_of, training_handles
from tests.support.randomness import RecordedRandomness

WORDS = {"protocol": "acml", "reveals": "gradients"}


class Oracle:
    """A data owner of `acml`, and a label owner that answers its activations with any ciphertext."""

    def __init__(self) -> None:
        self.contract = contract_of(label=label_terms(**WORDS), data=data_terms(**WORDS), production=True)
        self.pair = Pair(self.contract, table_of(self.contract), randomness=RecordedRandomness(b"row 14"))
        self.handle = self.contract.schedule.batches(Split.VALIDATION, epoch=0)[0]
        plan = self.contract.plan(Product.FORWARD, self.handle.rows)
        assert isinstance(plan, PackingPlan)
        self.plan = plan
        self.step = 0

    def share_of_z(self, c1: RingArray) -> RingArray:
        """Ask for a batch and answer Enc(x^T) with c1; return what the data owner sends back."""
        self.step += 1
        request = Request(handle=self.handle, training=False, updates=0)
        asked = Block(kind=Kind.REQUEST, step=self.step, payload=encode_request(request))
        list(self.pair.data_owner.receive(asked))
        block = Block(kind=Kind.MASKED_Z, step=self.step, payload=self._response(c1))
        (share,) = self.pair.data_owner.receive(block)
        return read_matrix([share.payload], self.contract.out_features)

    def _response(self, c1: RingArray) -> bytes:
        """The same c1' in every ciphertext."""
        plan = self.plan
        cut = transform(plan.parameters).cut(c1[None], width=plan.response_bytes)
        return plan.responses * cut.tobytes()

    def constant(self, value: int) -> RingArray:
        """The polynomial `value`, modulo each prime."""
        primes = np.array(self.plan.parameters.primes, dtype=object)
        out = np.zeros((len(primes), self.plan.parameters.degree), dtype=np.uint64)
        out[:, 0] = (value % primes).astype(np.uint64)
        return out


def secret_of(pair: Pair, parameters: ParameterSet) -> list[int]:
    keys: Any = pair.data_owner._own_keys
    secret = keys._secret[None].copy()
    tables = transform(parameters)
    tables.inverse(secret)
    whole = join_residues(secret, parameters.primes)[0]
    modulus = parameters.modulus
    return [int(value) - (modulus if value > modulus // 2 else 0) for value in whole]


def test_decryption_feedback_gives_the_key_from_two_answers() -> None:
    """A label owner of `acml` asks twice for one batch, and answers with c1' = 0 and with c1' = q / 4.

    The data owner decrypts both, adds the same x W_data + rho and sends the sums: their difference is
    s / 4 of the plaintext modulus, the secret key's coefficients at the product's places, all exact. This
    is why `acml` assumes a label owner that follows the protocol; SECURITY.md says so.
    """
    oracle = Oracle()
    nothing = oracle.share_of_z(oracle.constant(0))
    quarter = oracle.share_of_z(oracle.constant(oracle.plan.parameters.modulus // 4))
    found_NK = np.rint((quarter - nothing).view(np.int64).astype(np.float64) / 2.0**62)
    secret = np.array(secret_of(oracle.pair, oracle.plan.parameters))
    columns = secret.reshape(oracle.plan.column_length, oracle.plan.slots)
    places = columns[oracle.plan.contracted_per_ciphertext - 1 :: oracle.plan.contracted_per_ciphertext]
    true_KN = np.tile(places, (oracle.plan.responses, 1))[: found_NK.shape[1], : len(found_NK)]
    assert set(np.unique(secret)) == {-1, 0, 1}
    assert np.array_equal(found_NK.T, true_KN)
    assert found_NK.any()


class Unused:
    """A key that must not be needed."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"the data owner's key was asked to {name}")


def step_without_the_data_owners_key(protocol: str) -> None:
    """Run a training step, with a key at the data owner that nothing may touch."""
    contract = contract_for(protocol, activations="fixed" if protocol == "blind" else "trained")
    pair, handle = RecordedPair(contract), training_handles(contract)[0]
    pair.data_owner._own_keys = Unused()  # type: ignore[assignment]
    pair.step(handle)


@pytest.mark.parametrize("protocol", ["acml", "joint"])
def test_decryption_by_the_data_owner_is_seen(protocol: str) -> None:
    """Control of the next test: a data owner that decrypts what its peer made shows in table and key."""
    assert answered_to_the_data_owner(protocol)
    with pytest.raises(AssertionError, match="was asked to"):
        step_without_the_data_owners_key(protocol)


def answered_to_the_data_owner(protocol: str) -> list[Kind]:
    """The messages that the data owner would have to decrypt, in every part of a protocol."""
    flow = flow_of(protocol)
    sends = (*flow.opening, *flow.steps, *flow.choice)
    return [each.kind for each in sends if each.form is Form.RESPONSE and each.sender is Role.LABEL_OWNER]


def test_blind_has_no_decryption_by_the_data_owner() -> None:
    """By construction: in `blind` no answer under encryption goes to the data owner, and it has no key."""
    assert answered_to_the_data_owner("blind") == []
    step_without_the_data_owners_key("blind")
    contract = contract_of()
    assert set(contract.schemes) == {Role.LABEL_OWNER}
    assert make_keys(contract, Role.DATA_OWNER, randomness=RecordedRandomness(b"none")) is None
    pair = Pair(contract, table_of(contract), randomness=RecordedRandomness(b"blind"))
    assert pair.data_owner._own_keys is None
