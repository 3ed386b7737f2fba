// Maps from given random bytes to distributions. Rejections show in time, accepted values do not.
#pragma once

#include "transform.hpp"

namespace moiety {

// Each row of `given` words to `length` residues without bias; returns whether every row sufficed.
bool uniform(u64* out, const u64* words, const Tables& tables, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads);

// Each row of `given` bytes to `length` values in {-1, 0, 1}; returns whether every row sufficed.
bool ternary(i64* out, const unsigned char* bytes, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads);

// Low bit the sign, 63 bits against the cumulative table (entries at most 2^63): always every
// comparison.
void gaussian(i64* out, const u64* words, const u64* thresholds, std::size_t count,
              std::size_t entries, std::size_t threads);

}  // namespace moiety
