"""The cryptosystems by name."""

import sys
from typing import get_args

import pytest

from moiety.config import SchemeName
from moiety.crypto.paillier.scheme import LEGACY, STANDARD
from moiety.crypto.parameters import LISTED, TESTING_ONLY
from moiety.crypto.rlwe import RlweEvaluator, RlweKeyHolder
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import ProductNeed, ProductShape
from moiety.crypto.schemes import RlweScheme, scheme_for
from moiety.errors import ConfigError, InsecureParameterError, MalformedMessageError, ParameterError
from tests.support.randomness import RecordedRandomness

SHAPE = ProductShape(rows=16, contraction=5, kept=3, multiplier_bits=15)
NEEDS = [ProductNeed(shape=SHAPE, spare_bits=40)]
SEED = Seed(bytes(32))


def test_every_name_gives_its_scheme() -> None:
    made = {name: scheme_for(name, NEEDS) for name in get_args(SchemeName)}
    assert made == {
        "rlwe": RlweScheme(parameters=LISTED[0]),
        "paillier": STANDARD,
        "paillier-legacy": LEGACY,
    }


def test_rlwe_takes_larger_parameters_where_a_product_needs_them() -> None:
    exact = ProductNeed(shape=SHAPE, spare_bits=64)
    assert scheme_for("rlwe", [*NEEDS, exact]).name != scheme_for("rlwe", NEEDS).name
    hopeless = ProductNeed(shape=SHAPE, spare_bits=500)
    with pytest.raises(ParameterError, match="no listed parameter set") as caught:
        scheme_for("rlwe", [hopeless])
    assert "smaller batches" in caught.value.hint


@pytest.mark.parametrize("name", ["paillier", "paillier-legacy"])
def test_paillier_without_its_library_says_what_to_install(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moiety.crypto.paillier.scheme", None)
    with pytest.raises(ConfigError, match="gmpy2") as caught:
        scheme_for("paillier" if name == "paillier" else "paillier-legacy", NEEDS)
    assert 'pip install "moiety[paillier]"' in caught.value.hint
    assert scheme_for("rlwe", NEEDS).name == LISTED[0].name


def test_rlwe_describes_its_parameters() -> None:
    scheme = RlweScheme(parameters=LISTED[0])
    assert scheme.name == "rlwe-8192-141"
    assert scheme.description == "rlwe-8192-141, log2 q = 141, N = 8192"


def test_rlwe_makes_both_roles_under_one_key() -> None:
    scheme = RlweScheme(parameters=TESTING_ONLY)
    keys = scheme.key_holder(public_seed=SEED, randomness=RecordedRandomness(b"keys"), threads=1)
    public = keys.public_key()
    assert len(public) == scheme.public_key_bytes == TESTING_ONLY.polynomial_bytes
    assert isinstance(keys, RlweKeyHolder)
    assert isinstance(scheme.evaluator(public_key=public, public_seed=SEED), RlweEvaluator)
    with pytest.raises(MalformedMessageError):
        scheme.evaluator(public_key=public[:-1], public_seed=SEED)


def test_rlwe_plans_with_the_spare_bits_asked_for() -> None:
    scheme = RlweScheme(parameters=LISTED[2])
    few, many = (scheme.plan(SHAPE, required_spare_bits=bits) for bits in (40, 64))
    assert few.spare_bits >= 40
    assert many.spare_bits >= 64
    with pytest.raises(ParameterError):
        RlweScheme(parameters=LISTED[0]).plan(SHAPE, required_spare_bits=96)


def test_rlwe_refuses_parameters_without_security() -> None:
    RlweScheme(parameters=LISTED[0]).require_secure()
    with pytest.raises(InsecureParameterError) as caught:
        RlweScheme(parameters=TESTING_ONLY).require_secure()
    assert (caught.value.bits_required, caught.value.bits_estimated < 128) == (128, True)
