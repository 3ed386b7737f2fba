"""Which products a protocol computes, over which shapes, under whose key; and the contract made of them."""

import pytest

from moiety.config.protocols import PROTOCOLS
from moiety.contract.contract import Contract
from moiety.contract.flow import flow_of
from moiety.contract.products import Product, Role
from moiety.crypto.parameters import LISTED
from moiety.crypto.ring import (
    ACTIVATION_BITS,
    ACTIVATION_MULTIPLIER_BITS,
    GRADIENT_MULTIPLIER_BITS,
    INPUT_GRADIENT_MULTIPLIER_BITS,
    SHARE_MULTIPLIER_BITS,
)
from moiety.crypto.scheme import ProductShape
from moiety.errors import ConfigError, ParameterError
from tests.support.pair import data_terms, label_terms

DATA, LABEL = Role.DATA_OWNER, Role.LABEL_OWNER
N, D, K = 7, 5, 3

# protocol, product, key holder, rows, contraction and kept columns of P M, bits of P's entries
TABLE: list[tuple[str, Product, Role, tuple[int, int, int], int]] = [
    ("blind", Product.FORWARD, LABEL, (N, D, K), ACTIVATION_MULTIPLIER_BITS),
    ("blind", Product.UPDATE, LABEL, (D, N, K), ACTIVATION_MULTIPLIER_BITS),
    ("joint", Product.FORWARD, LABEL, (N, D, K), ACTIVATION_MULTIPLIER_BITS),
    ("joint", Product.UPDATE, LABEL, (D, N, K), ACTIVATION_MULTIPLIER_BITS),
    ("joint", Product.INPUT_GRADIENT, DATA, (N, K, D), INPUT_GRADIENT_MULTIPLIER_BITS),
    ("joint", Product.INITIAL, LABEL, (D, D, K), ACTIVATION_BITS),
    ("acml", Product.FORWARD, DATA, (K, D, N), SHARE_MULTIPLIER_BITS),
    ("acml", Product.UPDATE, DATA, (K, N, D), GRADIENT_MULTIPLIER_BITS),
    ("acml", Product.INPUT_GRADIENT, DATA, (N, K, D), INPUT_GRADIENT_MULTIPLIER_BITS),
    ("acml", Product.INITIAL, DATA, (D, D, K), ACTIVATION_BITS),
]


@pytest.mark.parametrize(("protocol", "product", "key_holder", "sizes", "bits"), TABLE)
def test_product_has_the_shape_and_the_key_of_the_table(
    protocol: str, product: Product, key_holder: Role, sizes: tuple[int, int, int], bits: int
) -> None:
    rows, contraction, kept = sizes
    of = flow_of(protocol).request_of(product).of
    assert of is not None
    shape = of.need({"N": N, "D": D, "K": K}).shape
    assert shape == ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)
    assert of.key_holder is key_holder


def test_multiplier_bits_hold_what_is_multiplied() -> None:
    # |a| 2^12 < 2^15, |dz'| 2^26 <= 16 x 2^26, |dz''| 2^18 <= 8 x 2^18, a share, and L in +-1 with 12 bits.
    assert (ACTIVATION_MULTIPLIER_BITS, GRADIENT_MULTIPLIER_BITS) == (15, 30)
    assert (INPUT_GRADIENT_MULTIPLIER_BITS, SHARE_MULTIPLIER_BITS, ACTIVATION_BITS) == (21, 63, 12)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_da_is_opened_exactly(protocol: str) -> None:
    flow = flow_of(protocol)
    for send in (*flow.opening, *flow.steps, *flow.choice):
        if send.of is not None:
            assert send.of.spare_bits == (64 if send.of.product is Product.INPUT_GRADIENT else 40)


BOTH = (Product.FORWARD, Product.UPDATE)


@pytest.mark.parametrize(
    ("protocol", "training", "trains_bottom", "expected"),
    [
        ("blind", True, False, BOTH),
        ("blind", False, False, BOTH),
        ("joint", True, True, (*BOTH, Product.INPUT_GRADIENT, Product.INITIAL)),
        ("joint", True, False, (*BOTH, Product.INITIAL)),
        ("joint", False, False, BOTH),
        ("acml", True, True, (*BOTH, Product.INPUT_GRADIENT, Product.INITIAL)),
        ("acml", True, False, (*BOTH, Product.INITIAL)),
        ("acml", False, False, BOTH),
    ],
)
def test_products_of_a_session(
    *, protocol: str, training: bool, trains_bottom: bool, expected: tuple[Product, ...]
) -> None:
    activations = "trained" if trains_bottom else "fixed"
    agreed = contract(protocol, activations=activations, purpose="train" if training else "predict")
    assert agreed.products == expected


# --- the contract ---


def contract(
    protocol: str,
    *,
    activations: str = "fixed",
    purpose: str = "train",
    scheme: str = "rlwe",
    **label: object,
) -> Contract:
    both = {"protocol": protocol, "purpose": purpose, "scheme": scheme}
    both |= {"reveals": "nothing" if protocol == "blind" else "gradients"}
    return Contract(
        label_owner=label_terms(**both, **label), data_owner=data_terms(**both, activations=activations)
    )


@pytest.mark.parametrize(
    ("protocol", "activations", "purpose", "roles", "parameters"),
    [
        ("blind", "fixed", "train", {LABEL}, "rlwe-8192-141"),
        ("blind", "fixed", "predict", {LABEL}, "rlwe-8192-141"),
        ("joint", "trained", "train", {LABEL, DATA}, "rlwe-8192-141+rlwe-8192-160"),
        ("joint", "fixed", "predict", {LABEL}, "rlwe-8192-141"),
        ("acml", "trained", "train", {DATA}, "rlwe-8192-188"),
        ("acml", "fixed", "train", {DATA}, "rlwe-8192-188"),
        ("acml", "fixed", "predict", {DATA}, "rlwe-8192-188"),
    ],
)
def test_contract_has_a_scheme_for_whoever_holds_a_key(
    protocol: str, activations: str, purpose: str, roles: set[Role], parameters: str
) -> None:
    agreed = contract(protocol, activations=activations, purpose=purpose)
    assert set(agreed.schemes) == roles
    assert agreed.parameters == parameters
    assert agreed.trains_bottom is (activations == "trained")


@pytest.mark.parametrize(
    ("scheme", "name"), [("paillier", "paillier-3072"), ("paillier-legacy", "paillier-2048-legacy")]
)
def test_contract_over_paillier_names_its_size(scheme: str, name: str) -> None:
    assert contract("acml", scheme=scheme).parameters == name
    assert contract("joint", activations="trained", scheme=scheme).parameters == name


@pytest.mark.parametrize("rows", [1, 16])
@pytest.mark.parametrize("protocol", ["joint", "acml"])
def test_plans_of_a_contract_have_room_for_their_noise(protocol: str, rows: int) -> None:
    agreed = contract(protocol, activations="trained")
    for product in agreed.products:
        plan = agreed.plan(product, rows)
        need = agreed.multiplications[product].need({"N": rows, "D": 5, "K": 3})
        assert plan.shape == need.shape
        assert plan.spare_bits >= need.spare_bits


def test_parameters_are_chosen_for_the_largest_batch_there_is() -> None:
    agreed = contract("blind", batch=2**20)
    # No batch is larger than the table.
    assert max(need.shape.rows for need in agreed._needs()[LABEL]) == 40
    small, wide = contract("acml", batch=16), contract("acml", batch=2**14, rows=2**15)
    assert (small.parameters, wide.parameters) == (LISTED[2].name, LISTED[3].name)


def test_batch_of_acml_that_fits_no_ciphertext_is_refused() -> None:
    # The rows of a batch are the columns of x^T, which one ciphertext must hold.
    with pytest.raises(ParameterError, match="no listed parameter set") as caught:
        _ = contract("acml", batch=2**14 + 1, rows=2**15).schemes
    assert "smaller batches" in caught.value.hint


def test_both_keys_of_a_session_have_public_seeds_of_their_own() -> None:
    agreed = contract("joint", activations="trained")
    seeds = {agreed.public_seed(role) for role in Role}
    assert len(seeds) == 2
    assert agreed.digest not in seeds


def test_blind_refuses_a_bottom_model_that_is_trained() -> None:
    agreed = contract("blind", activations="trained")
    assert not agreed.trains_bottom
    with pytest.raises(ConfigError, match="trains no bottom model") as caught:
        agreed.check()
    assert "model.frozen = true" in caught.value.hint
    contract("blind").check()
    contract("joint", activations="trained").check()


@pytest.mark.parametrize(
    ("protocol", "activations", "reuses"),
    [
        ("acml", "fixed", True),
        ("acml", "trained", False),
        ("joint", "trained", False),
        ("blind", "fixed", False),
    ],
)
def test_only_fixed_activations_of_acml_are_reused(*, protocol: str, activations: str, reuses: bool) -> None:
    agreed = contract(protocol, activations=activations)
    assert agreed.reuses_activations is agreed.schedule.whole_batches is reuses


def test_prediction_trains_no_bottom_model() -> None:
    agreed = contract("joint", activations="trained", purpose="predict")
    assert not agreed.trains_bottom
    assert agreed.products == BOTH
