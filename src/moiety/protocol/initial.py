"""W_0 of `joint` and `acml`: a product that neither party knows.

    key holder -> evaluator   INITIAL_FACTOR   Enc(R)
    evaluator -> key holder   MASKED_INITIAL   masked L R

W_0 = L R with L (in_features, in_features) of the evaluator's and R (in_features, out_features) of the key
holder's own draw; both keep their shares. Knowing one factor says nothing about an entry of W_0: its
expectation given either factor is 0. Were each party to add a half instead, the label owner's half would
let it regress the features from the first batch (correlation 0.64 and more where out_features is as large
as in_features), and were the data owner to know W_0, as in `blind`, it could solve da = dz W^T for dz.

Reference: docs/adr/0010-initial-weights-that-nobody-knows.md.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.crypto.ring import ACTIVATION_BITS, GRADIENT_BITS, RingArray, encode
from moiety.crypto.sampling import Randomness, Seed, expand_words
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import Collector, blocks_of, masked_blocks


def factor_due(contract: Contract) -> Collector:
    """Return what the evaluator waits for."""
    return Collector(Kind.INITIAL_FACTOR, step=0, sizes=contract.plan(Product.INITIAL, 0).request_sizes)


def masked_due(contract: Contract) -> Collector:
    """Return what the key holder waits for."""
    return Collector(Kind.MASKED_INITIAL, step=0, sizes=contract.plan(Product.INITIAL, 0).response_sizes)


def left_factor(seed: Seed, *, in_features: int) -> NDArray[np.int16]:
    """Draw L uniform in +-1 with 12 fractional bits, int16 (in_features, in_features)."""
    reals = _uniform(seed, b"left factor", rows=in_features, columns=in_features)
    return np.rint(np.ldexp(reals, ACTIVATION_BITS)).astype(np.int16)


def right_factor(seed: Seed, *, in_features: int, out_features: int) -> RingArray:
    """Draw R uniform in +-sqrt(3) / in_features with 26 fractional bits, (in_features, out_features).

    An entry of L R then has the variance in_features x 1/3 x 1/in_features^2 = 1 / (3 in_features), which is
    that of `torch.nn.Linear`, uniform in +-1 / sqrt(in_features).
    """
    reals = _uniform(seed, b"right factor", rows=in_features, columns=out_features)
    return encode(reals * np.sqrt(3) / in_features, scale_bits=GRADIENT_BITS)


def encrypted_factor(
    contract: Contract, keys: KeyHolder, seed: Seed, *, randomness: Randomness
) -> Iterator[Block]:
    """Send Enc(R).

    Leaks:
        Nothing: encrypted under own key.
    """
    factor_DK = right_factor(seed, in_features=contract.in_features, out_features=contract.out_features)
    plan = contract.plan(Product.INITIAL, 0)
    payloads = keys.encrypt(factor_DK, plan=plan, randomness=randomness)
    return blocks_of(Kind.INITIAL_FACTOR, payloads, step=0, count=len(plan.request_sizes))


def masked_weights(
    contract: Contract,
    evaluator: Evaluator,
    seed: Seed,
    payloads: Sequence[bytes],
    *,
    randomness: Randomness,
    shares: list[RingArray],
) -> Iterator[Block]:
    """Answer Enc(R) with masked L R; own share of W_0 is appended to `shares`.

    Leaks:
        Nothing to the key holder but the shape.
    """
    return masked_blocks(
        Kind.MASKED_INITIAL,
        evaluator,
        left_factor(seed, in_features=contract.in_features),
        payloads,
        plan=contract.plan(Product.INITIAL, 0),
        step=0,
        randomness=randomness,
        shares=shares,
    )


def _uniform(seed: Seed, purpose: bytes, *, rows: int, columns: int) -> NDArray[np.float64]:
    """Draw reals uniform in [-1, 1), (rows, columns)."""
    words = expand_words(seed, purpose, index=0, count=rows * columns)
    uniform = np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0
    return uniform.reshape(rows, columns)
