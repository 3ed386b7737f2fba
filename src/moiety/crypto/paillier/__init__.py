"""Paillier's cryptosystem behind the scheme interface: standard, slower than `rlwe`, and exact.

For whoever may use nothing but a standardised scheme. It needs gmpy2 (the extra `paillier`), so it is
imported only when a run chooses it.

With n = p q, a message m of Z_n is encrypted as (1 + n m) h_s^alpha mod n^2, where h_s = (-x^2)^n and alpha
is short (Damgard, Jurik and Nielsen). Rows of M lie in slots of one integer (`packing`); the evaluator raises
the key holder's ciphertexts to its own entries (`powers`) and answers, for a row of P and a group of columns,

    c' = prod_d c_d^P[d] (1 + n R) h_s^beta

with R a mask 60 bits wider than any sum it hides, in every slot, the unused ones too, and beta 60 bits wider
than any sum_d P[d] alpha_d. Both are fresh for every ciphertext. The key holder's share is a slot modulo 2^64
and the evaluator's minus its mask: they add up to P M without any error.

Security against the evaluator is the decisional composite residuosity assumption, and that h_s^alpha with
alpha of four times the security bits looks like a random element of its group (DJN assume it of half the bits
of n). Against the key holder it is statistical: it chose alpha and knows p and q, and discrete logarithms
modulo p and q, of half the bits of n, are easier than n is to factor. So it must be thought to read
sum_d P[d] alpha_d + beta as an integer: only the width of beta keeps P secret, not the size of n.

Leaks:
    To the evaluator, nothing but the shape, under the two assumptions. To the key holder, nothing but the
    shape, up to a statistical distance of 2^-60 for each slot and 2^-60 for each ciphertext. A key holder
    that deviates (a malformed key, messages outside their slots) is not covered.

Reference: ISO/IEC 18033-6; Paillier, Eurocrypt 1999; Damgard, Jurik and Nielsen, "A generalization of
Paillier's public-key system with applications to electronic voting", 2010; NIST SP 800-57 part 1 (key sizes).
"""
