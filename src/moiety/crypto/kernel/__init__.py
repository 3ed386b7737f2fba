"""The C++ loops: transforms, modular products, sampling maps, the ring's matrix product.

NumPy arrays at the boundary, the GIL released inside, threads as an argument, results independent of
their number. No branch or index depends on a secret. Loops that have a path for special instructions take
it where the processor has them; every path gives the same integers. Imported by `crypto` and, for
`matmul`, by protocols.
"""

import numpy as np

from moiety.crypto.kernel._native import (
    Transform,
    gaussian,
    instruction_sets,
    matmul,
    ternary,
    use_instruction_set,
)

# A product takes and frees the same megabytes at each step. The C library of Linux gives freed memory back
# to the system, which fills it with zeros page by page when it is taken again, until it has seen a large
# block freed: blocks up to that size, and twice as much in all, it keeps from then on. It learns up to
# 32 MiB. This block is never written, so it costs no memory.
np.empty(2**25 - 2**16, dtype=np.uint8)

__all__ = ["Transform", "gaussian", "instruction_sets", "matmul", "ternary", "use_instruction_set"]
