"""W_0 of `joint` and `acml`: a product that neither party knows.

    key holder -> evaluator   INITIAL_FACTOR   Enc(R)
    evaluator -> key holder   MASKED_INITIAL   masked L R

W_0 = L R with L (in_features, in_features) of the evaluator's and R (in_features, out_features) of the key
holder's own draw; both keep their shares. Knowing one factor says nothing about an entry of W_0: its
expectation given either factor is 0. Were each party to add a summand instead, the label owner's would
let it regress the features from the first batch (correlation 0.64 and more where out_features is as large
as in_features), and were the data owner to know W_0, as in `blind`, it could solve da = dz W^T for dz.

Reference: docs/adr/0010-initial-weights-that-nobody-knows.md.
"""

import numpy as np
from numpy.typing import NDArray

from moiety.contract.flow import Multiplication, Send, request, response
from moiety.contract.products import Product, Role
from moiety.crypto.ring import ACTIVATION_BITS, GRADIENT_BITS, RingArray, encode
from moiety.crypto.sampling import Seed, expand_words
from moiety.protocol.machine import Machine, Matrices
from moiety.protocol.messages import Kind


def initial_product(key_holder: Role) -> tuple[Send, ...]:
    """Return the opening of a flow in which W_0 is a product of both parties' factors."""
    of = Multiplication(
        product=Product.INITIAL,
        plain=("D", "D"),
        encrypted=("D", "K"),
        multiplier_bits=ACTIVATION_BITS,
        key_holder=key_holder,
    )
    return (request(Kind.INITIAL_FACTOR, of), response(Kind.MASKED_INITIAL, of))


class DrawsFactor(Machine):
    """A party that draws one factor of W_0, R where it holds the key and L where not."""

    def _matrices(self) -> Matrices:
        return super()._matrices() | {
            Kind.INITIAL_FACTOR: lambda: right_factor(
                self._own_weight_seed,
                in_features=self._contract.in_features,
                out_features=self._contract.out_features,
            ),
            Kind.MASKED_INITIAL: lambda: left_factor(
                self._own_weight_seed, in_features=self._contract.in_features
            ),
        }

    def _initial(self) -> RingArray:
        return self._product(Product.INITIAL)


def left_factor(seed: Seed, *, in_features: int) -> NDArray[np.int16]:
    """Draw L uniform in +-1 with 12 fractional bits, int16 (in_features, in_features)."""
    reals = _uniform(seed, b"left factor", rows=in_features, columns=in_features)
    return np.rint(np.ldexp(reals, ACTIVATION_BITS)).astype(np.int16)


def right_factor(seed: Seed, *, in_features: int, out_features: int) -> RingArray:
    """Draw R uniform in +-sqrt(3) / in_features with 26 fractional bits, (in_features, out_features).

    An entry of L R then has the variance in_features x 1/3 x 1/in_features^2 = 1 / (3 in_features), which is
    that of `torch.nn.Linear`, uniform in +-1 / sqrt(in_features).
    """
    # Neither factor alone says anything of L R in expectation; a summand of W_0 did (ADR 0010).
    reals = _uniform(seed, b"right factor", rows=in_features, columns=out_features)
    return encode(reals * np.sqrt(3) / in_features, scale_bits=GRADIENT_BITS)


def _uniform(seed: Seed, purpose: bytes, *, rows: int, columns: int) -> NDArray[np.float64]:
    """Draw reals uniform in [-1, 1), (rows, columns)."""
    words = expand_words(seed, purpose, index=0, count=rows * columns)
    uniform = np.ldexp((words >> np.uint64(11)).astype(np.float64), -52) - 1.0
    return uniform.reshape(rows, columns)
