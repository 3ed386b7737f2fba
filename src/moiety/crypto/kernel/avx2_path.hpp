// The AVX2 path: transforms in floating point; all else is the portable path.
#pragma once

#include "paths.hpp"

namespace moiety::avx2 {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last);

}  // namespace moiety::avx2
