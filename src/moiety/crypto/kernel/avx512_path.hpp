// The functions of the AVX-512 path.
#pragma once

#include "paths.hpp"

namespace moiety::avx512 {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
void product(u64* out, const u64* multipliers, const u64* ciphertexts, const PrimeTable& table,
             const ProductShape& shape, const ProductTask& task);

}  // namespace moiety::avx512
