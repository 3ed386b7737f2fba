// Matrix products: modulo the primes at each frequency, and modulo 2^64.
#pragma once

#include "transform.hpp"

namespace moiety {

struct ProductShape {
  std::size_t groups = 0;         // rows of the left matrix
  std::size_t blocks = 0;         // length of the sum, at most kLongestSum
  std::size_t column_length = 0;  // frequencies M
  std::size_t length = 0;         // M l
};

// out[g,c,p,f l + i] = sum over b of multipliers[g,b,p,f] ciphertexts[b,c,p,f l + i], with
// multipliers (groups, blocks, primes, M), ciphertexts (blocks, 2, primes, M l).
void subring_product(u64* out, const u64* multipliers, const u64* ciphertexts,
                     const Tables& tables, const ProductShape& shape, std::size_t threads);

// out (n, k) = left (n, d) right (d, k) modulo 2^64; T is i64 or std::int16_t.
template <typename T>
void matmul(u64* out, const T* left, const u64* right, std::size_t n, std::size_t d, std::size_t k,
            std::size_t threads);

}  // namespace moiety
