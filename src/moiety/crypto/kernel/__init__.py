"""The C++ loops: transforms, modular products, sampling maps, the ring's matrix product.

NumPy arrays at the boundary, the GIL released inside, threads as an argument, results independent of
their number. No branch or index depends on a secret. Imported by `crypto` and, for `matmul`, by protocols.
"""

from moiety.crypto.kernel._native import Transform, gaussian, matmul, ternary

__all__ = ["Transform", "gaussian", "matmul", "ternary"]
