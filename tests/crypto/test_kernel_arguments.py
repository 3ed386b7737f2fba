"""What the C++ loops refuse: every bad argument, one fault at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moiety.crypto.kernel import Transform, gaussian, matmul, ternary

PRIMES = (140737488125953, 140737487306753, 140737486716929)  # 1 modulo 32768
NINE_PRIMES = (
    *PRIMES,
    *(1125899904679937, 1125899903991809, 1125899903827969, 1125899903795201),
    *(1099510054913, 1099508121601),
)

# One fault each: with the check of that fault deleted, the constructor would accept them.
BAD_PARAMETERS = {
    "degree under 8": (4, PRIMES),
    "degree not a power of two": (24, (1048609,)),
    "degree over 16384": (32768, (140737487306753,)),
    "no primes": (8, ()),
    "nine primes": (8, NINE_PRIMES),
    "a prime twice": (8, (PRIMES[0], PRIMES[0])),
    "a prime under 2**20": (8, (1048433,)),
    "a prime over 2**50": (8, (1125899906842769,)),
    "1 modulo 16, not 32": (16, (1048721,)),
    "composite, a strong pseudoprime to base 2": (8, (1082401,)),
}


@pytest.mark.parametrize("fault", BAD_PARAMETERS)
def test_transform_refuses_bad_parameters(fault: str) -> None:
    degree, primes = BAD_PARAMETERS[fault]
    with pytest.raises(ValueError, match=r"degree|primes"):
        Transform(degree, primes)


def _zeros(*shape: int, dtype: Any = np.uint64) -> NDArray[Any]:
    return np.zeros(shape, dtype)


T8 = Transform(8, PRIMES)
X = _zeros(2, 3, 8)
WRONG_SHAPES: dict[str, Callable[[], object]] = {
    "forward: two axes": lambda: T8.forward(_zeros(3, 8)),
    "forward: primes": lambda: T8.forward(_zeros(2, 2, 8)),
    "forward: not a power of two": lambda: T8.forward(_zeros(2, 3, 6)),
    "forward: over the degree": lambda: T8.forward(_zeros(2, 3, 16)),
    "forward: length 0": lambda: T8.forward(_zeros(2, 3, 0)),
    "forward: not contiguous": lambda: T8.forward(_zeros(2, 3, 16)[:, :, ::2]),
    "forward: transposed": lambda: T8.forward(_zeros(8, 3, 2).T),
    "forward: first under 0": lambda: T8.forward(X.copy(), first=-1),
    "forward: first over last": lambda: T8.forward(X.copy(), first=2, last=1),
    "forward: last over the levels": lambda: T8.forward(X.copy(), last=4),
    "forward: no threads": lambda: T8.forward(X.copy(), threads=0),
    "forward: too many threads": lambda: T8.forward(X.copy(), threads=257),
    "inverse: primes": lambda: T8.inverse(_zeros(2, 4, 8)),
    "inverse: last over the levels": lambda: T8.inverse(X.copy(), last=4),
    "inverse: no threads": lambda: T8.inverse(X.copy(), threads=0),
    "accumulate: accumulator": lambda: T8.multiply_accumulate(_zeros(1, 3, 8), X, X[0]),
    "accumulate: left": lambda: T8.multiply_accumulate(X.copy(), _zeros(2, 3, 4), X[0]),
    "accumulate: right primes": lambda: T8.multiply_accumulate(X.copy(), X, _zeros(2, 8)),
    "accumulate: right length": lambda: T8.multiply_accumulate(X.copy(), X, _zeros(3, 4)),
    "accumulate: no threads": lambda: T8.multiply_accumulate(X.copy(), X, X[0], threads=0),
    "add: count": lambda: T8.add(X.copy(), _zeros(1, 3, 8)),
    "subtract: length": lambda: T8.subtract(X.copy(), _zeros(2, 3, 4)),
    "add_small: count": lambda: T8.add_small(X.copy(), _zeros(1, 8, dtype=np.int64)),
    "add_small: length": lambda: T8.add_small(X.copy(), _zeros(2, 4, dtype=np.int64)),
    "subring: multiplier primes": lambda: T8.subring_product(_zeros(1, 1, 2, 4), _zeros(1, 2, 3, 8)),
    "subring: M": lambda: T8.subring_product(_zeros(1, 1, 3, 3), _zeros(1, 2, 3, 8)),
    "subring: M over length": lambda: T8.subring_product(_zeros(1, 1, 3, 8), _zeros(1, 2, 3, 4)),
    "subring: blocks differ": lambda: T8.subring_product(_zeros(1, 2, 3, 4), _zeros(1, 2, 3, 8)),
    "subring: one side": lambda: T8.subring_product(_zeros(1, 1, 3, 4), _zeros(1, 1, 3, 8)),
    "subring: primes": lambda: T8.subring_product(_zeros(1, 1, 3, 4), _zeros(1, 2, 2, 8)),
    "subring: length": lambda: T8.subring_product(_zeros(1, 1, 3, 4), _zeros(1, 2, 3, 12)),
    "subring: no blocks": lambda: T8.subring_product(_zeros(1, 0, 3, 4), _zeros(0, 2, 3, 8)),
    "subring: blocks": lambda: T8.subring_product(_zeros(1, 8193, 3, 1), _zeros(8193, 2, 3, 1)),
    "lift: axes": lambda: T8.lift(_zeros(8, dtype=np.int64)),
    "encode: axes": lambda: T8.encode(_zeros(1, 1, 8)),
    "round: primes": lambda: T8.round_to_share(_zeros(2, 2, 8)),
    "pack: primes": lambda: T8.pack(_zeros(2, 2, 8)),
    "unpack: width": lambda: T8.unpack(_zeros(2, 3, 8, 5, dtype=np.uint8)),
    "unpack: primes": lambda: T8.unpack(_zeros(2, 2, 8, 6, dtype=np.uint8)),
    "unpack: length": lambda: T8.unpack(_zeros(2, 3, 7, 6, dtype=np.uint8)),
    "uniform: primes": lambda: T8.uniform(_zeros(2, 2, 9), length=8),
    "uniform: too few words": lambda: T8.uniform(_zeros(2, 3, 7), length=8),
    "uniform: no length": lambda: T8.uniform(_zeros(2, 3, 7), length=0),
    "ternary: axes": lambda: ternary(_zeros(9, dtype=np.uint8), length=8),
    "ternary: too few bytes": lambda: ternary(_zeros(1, 7, dtype=np.uint8), length=8),
    "ternary: no length": lambda: ternary(_zeros(1, 7, dtype=np.uint8), length=-1),
    "gaussian: axes": lambda: gaussian(_zeros(9), _zeros(3)),
    "gaussian: threshold axes": lambda: gaussian(_zeros(1, 9), _zeros(1, 3)),
    "gaussian: threshold": lambda: gaussian(_zeros(1, 9), np.array([2**63 + 1], np.uint64)),
    "matmul: inner": lambda: matmul(_zeros(2, 3, dtype=np.int64), _zeros(2, 3)),
    "matmul: order": lambda: matmul(_zeros(3, 2, dtype=np.int64).T, _zeros(3, 2)),
}


@pytest.mark.parametrize("fault", WRONG_SHAPES)
def test_wrong_shapes_and_numbers_are_refused(fault: str) -> None:
    with pytest.raises(ValueError, match=r"must|ran out"):
        WRONG_SHAPES[fault]()


WRONG_TYPES: dict[str, Callable[[], object]] = {
    "forward": lambda: T8.forward(_zeros(2, 3, 8, dtype=np.int64)),
    "big-endian": lambda: T8.forward(_zeros(2, 3, 8, dtype=">u8")),
    "not an array": lambda: T8.forward([[[0] * 8] * 3] * 2),  # type: ignore[arg-type]
    "accumulate": lambda: T8.multiply_accumulate(X.copy(), X, _zeros(3, 8, dtype=np.float64)),
    "add": lambda: T8.add(X.copy(), _zeros(2, 3, 8, dtype=np.uint32)),
    "add_small": lambda: T8.add_small(X.copy(), _zeros(2, 8)),
    "subring": lambda: T8.subring_product(_zeros(1, 1, 3, 4, dtype=np.int64), _zeros(1, 2, 3, 8)),
    "lift": lambda: T8.lift(_zeros(2, 8)),
    "encode": lambda: T8.encode(_zeros(2, 8, dtype=np.int64)),
    "unpack": lambda: T8.unpack(_zeros(2, 3, 8, 6)),
    "uniform": lambda: T8.uniform(_zeros(2, 3, 9, dtype=np.uint8), length=8),
    "ternary": lambda: ternary(_zeros(2, 9, dtype=np.int8), length=8),
    "gaussian": lambda: gaussian(_zeros(2, 9), _zeros(3, dtype=np.float64)),
    "matmul left": lambda: matmul(_zeros(2, 3, dtype=np.int32), _zeros(3, 2)),
    "matmul right": lambda: matmul(_zeros(2, 3, dtype=np.int16), _zeros(3, 2, dtype=np.int64)),
    "threads": lambda: T8.lift(_zeros(2, 8, dtype=np.int64), threads=1.5),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("fault", WRONG_TYPES)
def test_wrong_types_are_refused(fault: str) -> None:
    with pytest.raises(TypeError):
        WRONG_TYPES[fault]()


def test_wrong_type_message_names_the_argument() -> None:
    with pytest.raises(TypeError, match=r"polynomials must be a C-contiguous uint64 array of shape"):
        T8.forward(_zeros(2, 3, 8, dtype=np.int64))
