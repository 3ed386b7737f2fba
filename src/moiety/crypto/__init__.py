"""Additively homomorphic encryption of matrices, and nothing else.

`scheme` is the interface, `rlwe` the construction behind it; `parameters`, `packing`, `sampling` and
`encoding` are its parts and `kernel` the C++ loops. Protocols import `scheme` and are handed objects.
"""
