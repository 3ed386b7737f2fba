"""Paillier: shares that add up to the product exactly; sizes, seeds, keys, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import inf
from typing import Any

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from moiety.crypto.paillier import key_holder, packing
from moiety.crypto.paillier.evaluator import PaillierEvaluator
from moiety.crypto.paillier.key_holder import PaillierKeyHolder
from moiety.crypto.paillier.packing import PaillierPlan
from moiety.crypto.paillier.scheme import LEGACY, STANDARD, TESTING_ONLY, PaillierScheme
from moiety.crypto.ring import RingArray
from moiety.crypto.sampling import Seed
from moiety.crypto.scheme import BLOCK_BYTES, Evaluator, KeyHolder, ProductPlan, ProductShape, Scheme
from moiety.errors import InsecureParameterError, MalformedMessageError, ParameterError, RingOverflowError
from tests.support.randomness import RecordedRandomness, words_of

PUBLIC_SEED = Seed(bytes(range(32)))
WORDS = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]


@cache
def shared_pair(threads: int = 1) -> tuple[PaillierKeyHolder, PaillierEvaluator]:
    """One key of 1024 bits for the whole run, and an evaluator that has its public part."""
    randomness = RecordedRandomness(b"test of paillier")
    holder = TESTING_ONLY.key_holder(public_seed=PUBLIC_SEED, randomness=randomness, threads=threads)
    return holder, TESTING_ONLY.evaluator(
        public_key=holder.public_key(), public_seed=PUBLIC_SEED, threads=threads
    )


def plan_of(*, rows: int, contraction: int, kept: int, bits: int = 15) -> PaillierPlan:
    shape = ProductShape(rows=rows, contraction=contraction, kept=kept, multiplier_bits=bits)
    return TESTING_ONLY.plan(shape, required_spare_bits=40)


def multipliers(plan: PaillierPlan, name: str = "") -> NDArray[np.int64]:
    """Draw P over all of -2^bits .. 2^bits - 1, and set one entry to each end."""
    shape = plan.shape
    words = words_of(f"plain {name}", shape.rows * shape.contraction).view(np.int64)
    plain = words >> np.int64(63 - shape.multiplier_bits)
    plain[0] = -(2**shape.multiplier_bits)
    plain[-1] = min(2**shape.multiplier_bits, 2**63 - 1)
    return plain.reshape(shape.rows, shape.contraction)


def matrix(plan: PaillierPlan, name: str = "") -> RingArray:
    words = words_of(f"matrix {name}", plan.shape.contraction * plan.shape.kept)
    return words.reshape(plan.shape.contraction, plan.shape.kept)


def product_of(plain_ND: NDArray[Any], matrix_DK: RingArray) -> RingArray:
    return plain_ND.astype(np.int64).view(np.uint64) @ matrix_DK


class Exchange:
    """One product under the testing key, all seeds recorded."""

    def __init__(
        self,
        plan: PaillierPlan,
        plain_ND: NDArray[Any],
        matrix_DK: RingArray,
        *,
        seed: bytes = b"exchange",
        threads: int = 1,
    ) -> None:
        holder, evaluator = shared_pair(threads)
        self.randomness = RecordedRandomness(seed)
        self.request = list(holder.encrypt(matrix_DK, plan=plan, randomness=self.randomness))
        answers = list(evaluator.respond(plain_ND, self.request, plan=plan, randomness=self.randomness))
        self.response = [block for block, _ in answers]
        self.parts = [part for _, part in answers]
        self.evaluator_share = np.concatenate(self.parts)
        self.holder_share = holder.decrypt(self.response, plan=plan)

    @property
    def opened(self) -> RingArray:
        return self.holder_share + self.evaluator_share


def slots_seen(plan: PaillierPlan, response: list[bytes]) -> list[int]:
    """All that the key holder sees: every slot of every ciphertext, unused ones too, at full width."""
    private = shared_pair()[0]._private
    ciphertexts = private.public.read_ciphertexts(response, plan.response_ranges)
    plaintexts = [int(private.decrypt(each)) for each in ciphertexts]
    width = plan.slot_bits
    return [each >> width * k & (1 << width) - 1 for each in plaintexts for k in range(plan.slots)]


# --- products


@settings(max_examples=60)
@given(
    rows=st.integers(1, 6),
    contraction=st.integers(1, 12),
    kept=st.integers(1, 20),
    bits=st.sampled_from([1, 15, 30, 62, 63]),
    name=st.text(max_size=4),
)
def test_shares_add_up_random_shapes(*, rows: int, contraction: int, kept: int, bits: int, name: str) -> None:
    plan = plan_of(rows=rows, contraction=contraction, kept=kept, bits=bits)
    plain_ND, matrix_DK = multipliers(plan, name), matrix(plan, name)
    exchange = Exchange(plan, plain_ND, matrix_DK)
    assert exchange.holder_share.shape == exchange.evaluator_share.shape == (rows, kept)
    assert np.array_equal(exchange.opened, product_of(plain_ND, matrix_DK))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    ("bits", "multiplier"), [(15, 2**15), (15, -(2**15)), (15, 0), (63, -(2**63)), (63, 2**63 - 1)]
)
def test_shares_add_up_extreme_values(*, bits: int, multiplier: int, word: int) -> None:
    # 8 is a power of two: the largest sums reach the bound itself.
    plan = plan_of(rows=2, contraction=8, kept=2 * 6, bits=bits)
    plain_ND = np.full((2, 8), multiplier, dtype=np.int64)
    matrix_DK = np.full((8, 12), word, dtype=np.uint64)
    assert np.array_equal(Exchange(plan, plain_ND, matrix_DK).opened, product_of(plain_ND, matrix_DK))


@pytest.mark.parametrize("mask_bit", [0, 1])
@pytest.mark.parametrize("multiplier", [2**15, -(2**15)])
def test_slots_hold_extreme_sums_and_masks(
    monkeypatch: pytest.MonkeyPatch, *, mask_bit: int, multiplier: int
) -> None:
    def all_bits_equal(seed: Seed, purpose: bytes, *, index: int, bits: int) -> gmpy2.mpz:
        del seed, purpose, index
        return (gmpy2.mpz(1) << bits) - 1 if mask_bit else gmpy2.mpz(0)

    plan = plan_of(rows=1, contraction=8, kept=6)
    plain_ND = np.full((1, 8), multiplier, dtype=np.int64)
    matrix_DK = np.full((8, 6), 2**63, dtype=np.uint64)
    matrix_DK[:, ::2] = 0  # Neighbours of the extreme slots would show a carry.
    monkeypatch.setattr(packing, "random_integer", all_bits_equal)
    exchange = Exchange(plan, plain_ND, matrix_DK)
    bound = 8 * 2**15 * 2**63
    extreme = bound - multiplier * 2**63 * 8 + mask_bit * (2**plan.mask_bits - 1)
    seen = slots_seen(plan, exchange.response)
    assert seen[1] == extreme
    assert extreme in (0, 2 * bound, 2**plan.mask_bits - 1, 2**plan.mask_bits - 1 + 2 * bound)
    assert extreme < 2**plan.slot_bits
    assert seen[0] == bound + mask_bit * (2**plan.mask_bits - 1)
    assert np.array_equal(exchange.opened, product_of(plain_ND, matrix_DK))


@pytest.mark.parametrize("multiplier", [-32768, 32767, 0])
def test_shares_same_for_both_integer_types(multiplier: int) -> None:
    plan = plan_of(rows=3, contraction=4, kept=5)
    plain_ND = multipliers(plan).clip(-32768, 32767)
    plain_ND[1] = multiplier
    wide = Exchange(plan, plain_ND, matrix(plan))
    narrow = Exchange(plan, plain_ND.astype(np.int16), matrix(plan))
    assert wide.response == narrow.response
    assert np.array_equal(narrow.opened, product_of(plain_ND, matrix(plan)))


def test_shares_add_up_transposed_inputs() -> None:
    plan = plan_of(rows=3, contraction=4, kept=9)
    plain_ND = np.ascontiguousarray(multipliers(plan).T).T
    matrix_DK = np.ascontiguousarray(matrix(plan).T).T
    assert not plain_ND.flags.c_contiguous
    assert np.array_equal(Exchange(plan, plain_ND, matrix_DK).opened, product_of(plain_ND, matrix_DK))


def test_multipliers_above_their_bits_are_refused() -> None:
    plan = plan_of(rows=1, contraction=2, kept=1)
    holder, evaluator = shared_pair()
    randomness = RecordedRandomness(b"range")
    request = list(holder.encrypt(matrix(plan), plan=plan, randomness=randomness))
    for entry in (2**15 + 1, -(2**15) - 1, -(2**63)):
        plain_ND = np.array([[0, entry]])
        with pytest.raises(RingOverflowError) as caught:
            next(evaluator.respond(plain_ND, request, plan=plan, randomness=randomness))
        assert caught.value.limit_bits == 15
        assert caught.value.largest_magnitude_bits == abs(entry).bit_length()
        assert str(abs(entry)) not in str(caught.value)


# --- messages


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of nine testing ciphertexts."""
    monkeypatch.setattr(packing, "BLOCK_BYTES", 9 * 256 + 100)


@pytest.mark.usefixtures("small_blocks")
def test_messages_in_several_blocks() -> None:
    plan = plan_of(rows=11, contraction=7, kept=9)
    assert plan.groups == 2
    assert [len(each) for each in plan.request_ranges] == [9, 5]
    # Whole rows of two ciphertexts: four a block.
    assert [len(each) for each in plan.response_ranges] == [8, 8, 6]
    assert [plan.output_rows(each) for each in plan.response_ranges] == [
        slice(0, 4),
        slice(4, 8),
        slice(8, 11),
    ]
    plain_ND, matrix_DK = multipliers(plan), matrix(plan)
    exchange = Exchange(plan, plain_ND, matrix_DK)
    assert tuple(map(len, exchange.request)) == plan.request_sizes == (9 * 256, 5 * 256)
    assert tuple(map(len, exchange.response)) == plan.response_sizes == (8 * 256, 8 * 256, 6 * 256)
    assert [part.shape for part in exchange.parts] == [(4, 9), (4, 9), (3, 9)]
    assert np.array_equal(exchange.opened, product_of(plain_ND, matrix_DK))


@pytest.mark.parametrize("scheme", [STANDARD, LEGACY, TESTING_ONLY], ids=lambda each: each.name)
def test_blocks_within_the_limit(scheme: PaillierScheme) -> None:
    for kept in (1, 21, 32, 1024):
        for bits in (15, 63):
            shape = ProductShape(rows=20000, contraction=20000, kept=kept, multiplier_bits=bits)
            plan = scheme.plan(shape, required_spare_bits=40)
            assert max(*plan.request_sizes, *plan.response_sizes) <= BLOCK_BYTES
            assert min(*plan.request_sizes[:-1], *plan.response_sizes[:-1]) > BLOCK_BYTES / 2
            ciphertexts = 20000 * -(-kept // plan.slots)
            assert sum(plan.request_sizes) == sum(plan.response_sizes)
            assert sum(plan.request_sizes) == ciphertexts * scheme.key_bits // 4


def test_messages_same_for_same_seeds_and_any_threads() -> None:
    plan = plan_of(rows=5, contraction=3, kept=9)
    first = Exchange(plan, multipliers(plan), matrix(plan))
    second = Exchange(plan, multipliers(plan), matrix(plan), threads=2)
    other = Exchange(plan, multipliers(plan), matrix(plan), seed=b"other")
    assert first.request == second.request
    assert first.response == second.response
    assert np.array_equal(first.holder_share, second.holder_share)
    assert first.request != other.request
    assert first.response != other.response
    assert np.array_equal(other.opened, first.opened)


def test_decryption_uses_the_threads_given(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[tuple[int, bool]] = []

    def recorded(threads: int, **options: Any) -> ThreadPoolExecutor:
        pool = ThreadPoolExecutor(threads, **options)
        released = pool.submit(lambda: bool(gmpy2.get_context().allow_release_gil)).result()
        pools.append((threads, released))
        return pool

    monkeypatch.setattr(key_holder, "ThreadPoolExecutor", recorded)
    plan = plan_of(rows=4, contraction=1, kept=1)
    Exchange(plan, multipliers(plan), matrix(plan))
    assert pools == []
    Exchange(plan, multipliers(plan), matrix(plan), threads=2)
    assert pools == [(2, True)]
    assert not gmpy2.get_context().allow_release_gil


def test_every_message_takes_fresh_seeds() -> None:
    plan = plan_of(rows=2, contraction=2, kept=9)
    holder, evaluator = shared_pair()
    randomness = RecordedRandomness(b"fresh")
    ciphertexts: list[bytes] = []
    for _ in range(4):
        request = list(holder.encrypt(matrix(plan), plan=plan, randomness=randomness))
        answers = evaluator.respond(multipliers(plan), request, plan=plan, randomness=randomness)
        blocks = [*request, *(block for block, _ in answers)]
        ciphertexts += [block[at : at + 256] for block in blocks for at in range(0, len(block), 256)]
    assert len(set(randomness.given)) == len(randomness.given) == 4 * 3
    assert len(set(ciphertexts)) == len(ciphertexts) == 4 * 8


def test_response_masks_every_slot_of_every_ciphertext() -> None:
    # With nothing to hide but zeros, every slot must still differ, at the masks' full width.
    plan = plan_of(rows=40, contraction=1, kept=1)
    zeros = np.zeros((40, 1), dtype=np.int64)
    exchange = Exchange(plan, zeros, np.zeros((1, 1), dtype=np.uint64))
    seen = slots_seen(plan, exchange.response)
    assert len(set(seen)) == len(seen) == 40 * plan.slots
    assert plan.slots == 7
    assert 2 ** (plan.mask_bits - 20) < min(seen) < 2 ** (plan.mask_bits - 3)
    assert 2 ** (plan.mask_bits - 1) < max(seen) < 2**plan.mask_bits + 2**79
    assert len({each % 2**64 for each in seen}) == len(seen)


def _requests_and_plan() -> tuple[PaillierPlan, list[bytes], NDArray[np.int64]]:
    plan = plan_of(rows=3, contraction=7, kept=9)
    return plan, Exchange(plan, multipliers(plan), matrix(plan)).request, multipliers(plan)


def _with_ciphertext(blocks: list[bytes], ciphertext: int) -> list[bytes]:
    return [blocks[0][:256] + ciphertext.to_bytes(256, "little") + blocks[0][512:], *blocks[1:]]


def _bad_messages(blocks: list[bytes]) -> list[list[bytes]]:
    private = shared_pair()[0]._private
    square = int(private.public.modulus) ** 2
    return [
        [],
        blocks[:-1],
        [*blocks, blocks[-1]],
        [*blocks, b""],
        blocks[::-1],
        [blocks[0][:-1], *blocks[1:]],
        [*blocks[:-1], blocks[-1] + b"\0"],
        [b"".join(blocks)],
        _with_ciphertext(blocks, 0),
        _with_ciphertext(blocks, square),
        _with_ciphertext(blocks, square + 1),
        _with_ciphertext(blocks, 2**2048 - 1),
        _with_ciphertext(blocks, int(private.p)),
        _with_ciphertext(blocks, int(private.q) * 2),
        _with_ciphertext(blocks, int(private.public.modulus)),
    ]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("case", range(15))
def test_respond_malformed_request(case: int) -> None:
    plan, request, plain_ND = _requests_and_plan()
    evaluator = shared_pair()[1]
    bad = _bad_messages(request)[case]
    assert bad != request
    randomness = RecordedRandomness(b"malformed")
    with pytest.raises(MalformedMessageError):
        next(evaluator.respond(plain_ND, bad, plan=plan, randomness=randomness))
    assert randomness.given == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("case", range(15))
def test_decrypt_malformed_response(case: int) -> None:
    plan = plan_of(rows=7, contraction=1, kept=9)
    response = Exchange(plan, multipliers(plan), matrix(plan)).response
    assert len(response) == 2
    with pytest.raises(MalformedMessageError):
        shared_pair()[0].decrypt(_bad_messages(response)[case], plan=plan)


# --- the scheme


def test_schemes_say_what_they_are() -> None:
    assert PaillierScheme() == STANDARD
    assert [each.name for each in (STANDARD, LEGACY, TESTING_ONLY)] == [
        "paillier-3072",
        "paillier-2048-legacy",
        "testing-only-paillier-1024",
    ]
    assert STANDARD.description == "Paillier, 3072-bit modulus, 128-bit security"
    assert [each.security_bits for each in (STANDARD, LEGACY, TESTING_ONLY)] == [128, 112, 80]
    assert [each.randomiser_bits for each in (STANDARD, LEGACY)] == [512, 448]


def test_weak_keys_are_refused() -> None:
    STANDARD.require_secure()
    LEGACY.require_secure()
    with pytest.raises(InsecureParameterError) as caught:
        TESTING_ONLY.require_secure()
    assert (caught.value.bits_required, caught.value.bits_estimated) == (112, 80)
    for bits in (512, 1536, 3071):
        with pytest.raises(ParameterError):
            PaillierScheme(key_bits=bits)


def test_products_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ParameterError):
        plan_of(rows=1, contraction=1, kept=1, bits=64)
    # 4 MiB are 16384 testing ciphertexts of 7 slots.
    assert plan_of(rows=1, contraction=1, kept=7 * 16384).response_sizes == (BLOCK_BYTES,)
    with pytest.raises(ParameterError):
        plan_of(rows=1, contraction=1, kept=7 * 16384 + 1)


def test_scheme_fits_the_interface() -> None:
    plan = plan_of(rows=1, contraction=1, kept=1)
    interfaces: tuple[Scheme, ProductPlan, KeyHolder, Evaluator] = (STANDARD, plan, *shared_pair())
    assert interfaces[1].spare_bits == inf


@given(
    contraction=st.integers(1, 10**6),
    bits=st.integers(0, 63),
    key=st.sampled_from([STANDARD, LEGACY, TESTING_ONLY]),
)
def test_widths_hold_for_every_shape(*, contraction: int, bits: int, key: PaillierScheme) -> None:
    shape = ProductShape(rows=1, contraction=contraction, kept=1, multiplier_bits=bits)
    plan = key.plan(shape, required_spare_bits=40)
    largest = contraction * 2**bits * 2**63
    bound = 2 ** packing.product_bits(shape)
    assert largest <= bound < 2 * largest
    assert 2**plan.mask_bits == 2 * bound * 2**60
    assert 2 * bound + 2**plan.mask_bits - 1 < 2**plan.slot_bits
    assert 2 ** (plan.slot_bits * plan.slots) <= 2 ** (key.key_bits - 1)
    assert 2 ** (plan.slot_bits * (plan.slots + 1)) > 2 ** (key.key_bits - 1)
    combination = contraction * 2**bits * 2**key.randomiser_bits
    assert 2 * combination * 2**60 <= 2**plan.rerandomiser_bits < 4 * combination * 2**60
