"""da = dz W^T for the data owner's bottom model: the product that both `joint` and `acml` add.

    data owner -> label owner   DATA_WEIGHTS                Enc(W_data^T), the data owner's key
    label owner -> data owner   MASKED_INPUT_GRADIENT,      masked dz'' W_data^T
                                SHARE_OF_INPUT_GRADIENT     mask share + dz'' W_label^T

The data owner adds up and has da x rows: one gradient for each row. From it the labels can be read
(measured: AUC 1.0), which is why a contract that computes it says `reveals = "gradients"`.
Shapes: N rows, D in_features, K out_features.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moiety.contract.contract import Contract
from moiety.contract.products import Product
from moiety.crypto.ring import RingArray, decode_input_gradient
from moiety.crypto.sampling import Randomness
from moiety.crypto.scheme import Evaluator, KeyHolder
from moiety.protocol.messages import Block, Kind
from moiety.protocol.product import (
    Collector,
    Messages,
    blocks_of,
    masked_blocks,
    matrix_blocks,
    matrix_sizes,
    read_matrix,
)


def weights_due(contract: Contract, *, rows: int, step: int) -> Collector:
    """Return what the label owner waits for."""
    plan = contract.plan(Product.INPUT_GRADIENT, rows)
    return Collector(Kind.DATA_WEIGHTS, step=step, sizes=plan.request_sizes)


def gradient_due(contract: Contract, *, rows: int, step: int) -> list[Collector]:
    """Return what the data owner waits for."""
    plan = contract.plan(Product.INPUT_GRADIENT, rows)
    return [
        Collector(Kind.MASKED_INPUT_GRADIENT, step=step, sizes=plan.response_sizes),
        Collector(Kind.SHARE_OF_INPUT_GRADIENT, step=step, sizes=matrix_sizes(rows, contract.in_features)),
    ]


def encrypted_weights(
    contract: Contract,
    keys: KeyHolder,
    share_DK: RingArray,
    *,
    rows: int,
    step: int,
    randomness: Randomness,
) -> Iterator[Block]:
    """Send Enc(W_data^T).

    Leaks:
        Nothing to the label owner: encrypted under the data owner's key.
    """
    plan = contract.plan(Product.INPUT_GRADIENT, rows)
    payloads = keys.encrypt(np.ascontiguousarray(share_DK.T), plan=plan, randomness=randomness)
    return blocks_of(Kind.DATA_WEIGHTS, payloads, step=step, count=len(plan.request_sizes))


def masked_gradient(
    contract: Contract,
    evaluator: Evaluator,
    share_DK: RingArray,
    input_NK: NDArray[np.int64],
    payloads: Sequence[bytes],
    *,
    step: int,
    randomness: Randomness,
) -> Iterator[Block]:
    """Answer Enc(W_data^T) with both parts of da.

    Leaks:
        da of every row of the batch to the data owner: labels can be read from it.
    """
    shares: list[RingArray] = []
    yield from masked_blocks(
        Kind.MASKED_INPUT_GRADIENT,
        evaluator,
        input_NK,
        payloads,
        plan=contract.plan(Product.INPUT_GRADIENT, len(input_NK)),
        step=step,
        randomness=randomness,
        shares=shares,
    )
    own_ND = np.concatenate(shares) + input_NK.view(np.uint64) @ share_DK.T
    yield from matrix_blocks(Kind.SHARE_OF_INPUT_GRADIENT, own_ND, step=step)


def read_gradient(
    contract: Contract, keys: KeyHolder, messages: Messages, *, rows: int
) -> NDArray[np.float64]:
    """Add both parts up to da, float64 (rows, in_features).

    Raises:
        MalformedMessageError: a block is not a ciphertext.
        RingOverflowError: da x rows left its range.
    """
    plan = contract.plan(Product.INPUT_GRADIENT, rows)
    share_ND = keys.decrypt(messages[0], plan=plan)
    return decode_input_gradient(share_ND + read_matrix(messages[1], contract.in_features))
