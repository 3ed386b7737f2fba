// Matrix products: modulo the primes at each frequency, and modulo 2^64.
#pragma once

#include "paths.hpp"

namespace moiety {

// out[g,c,p,f l + i] = sum over b of multipliers[g,b,p,f] ciphertexts[b,c,p,f l + i], with
// multipliers (groups, blocks, primes, M), ciphertexts (blocks, 2, primes, M l).
void subring_product(u64* out, const u64* multipliers, const u64* ciphertexts,
                     const Tables& tables, const ProductShape& shape, std::size_t threads);

// out (n, k) = left (n, d) right (d, k) modulo 2^64; T is i64 or std::int16_t.
template <typename T>
void matmul(u64* out, const T* left, const u64* right, std::size_t n, std::size_t d, std::size_t k,
            std::size_t threads);

}  // namespace moiety
