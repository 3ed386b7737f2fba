#include "portable.hpp"

namespace moiety {
namespace {

// Cooley-Tukey butterflies that never reduce between levels. The product is below 2p whatever its
// operand, so a level adds less than 2p to every value: after at most 14 levels all are below 29p,
// which is below 2^55 and one call of reduce away from [0, p).
void forward_butterfly(u64& left, u64& right, const Factor& w, const Modulus& modulus) {
  const u64 product = modulus.multiply_lazy(right, w);  // below 2p
  right = left + 2 * modulus.p - product;
  left += product;
}

void forward_level(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length, int level) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t half = length >> (level + 1);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    u64* left = x + 2 * half * block;
    for (std::size_t i = 0; i < half; ++i) forward_butterfly(left[i], left[half + i], w, modulus);
  }
}

// Two levels in one pass: four values are loaded and stored once for four butterflies. Unrolled, the
// multiplications of one quadruple fill the waits of the other.
void forward_two_levels(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length,
                        int level) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t quarter = length >> (level + 2);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    const Factor low = twiddles[2 * (blocks + block)];
    const Factor high = twiddles[2 * (blocks + block) + 1];
    u64* first = x + 4 * quarter * block;
#pragma GCC unroll 2
    for (u64* end = first + quarter; first != end; ++first) {
      u64 a = first[0], b = first[quarter], c = first[2 * quarter], d = first[3 * quarter];
      forward_butterfly(a, c, w, modulus);
      forward_butterfly(b, d, w, modulus);
      forward_butterfly(a, b, low, modulus);
      forward_butterfly(c, d, high, modulus);
      first[0] = a;
      first[quarter] = b;
      first[2 * quarter] = c;
      first[3 * quarter] = d;
    }
  }
}

// Gentleman-Sande butterflies, lazy as well. A sum at most doubles the bound and a product is below
// 2p: after k levels all values are below 2^k p, at most 2^14 p < 2^64, so nothing wraps. The last
// multiplication takes any 64-bit value and reduces. `bound` is of the values that enter.
void inverse_butterfly(u64& left, u64& right, const Factor& w, u64 bound, const Modulus& modulus) {
  const u64 difference = left + bound - right;
  left += right;
  right = modulus.multiply_lazy(difference, w);
}

void inverse_level(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length, int level,
                   u64 bound) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t half = length >> (level + 1);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    u64* left = x + 2 * half * block;
    for (std::size_t i = 0; i < half; ++i) {
      inverse_butterfly(left[i], left[half + i], w, bound, modulus);
    }
  }
}

// Level + 1, then level, in one pass.
void inverse_two_levels(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length,
                        int level, u64 bound) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t quarter = length >> (level + 2);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    const Factor low = twiddles[2 * (blocks + block)];
    const Factor high = twiddles[2 * (blocks + block) + 1];
    u64* first = x + 4 * quarter * block;
#pragma GCC unroll 2
    for (u64* end = first + quarter; first != end; ++first) {
      u64 a = first[0], b = first[quarter], c = first[2 * quarter], d = first[3 * quarter];
      inverse_butterfly(a, b, low, bound, modulus);
      inverse_butterfly(c, d, high, bound, modulus);
      inverse_butterfly(a, c, w, 2 * bound, modulus);
      inverse_butterfly(b, d, w, 2 * bound, modulus);
      first[0] = a;
      first[quarter] = b;
      first[2 * quarter] = c;
      first[3 * quarter] = d;
    }
  }
}

// Rows are functions of their own, with arguments by value: a store of 64-bit words could otherwise
// change what a reference leads to, and the compiler would load it again each time.
void accumulate_row(u64* sum, const u64* left, const u64* right, std::size_t length,
                    Modulus modulus) {
  for (std::size_t i = 0; i < length; ++i) {
    sum[i] = modulus.reduce_wide(static_cast<u128>(left[i]) * right[i] + sum[i]);
  }
}

}  // namespace

namespace portable {

void add(u64* sum, const u64* other, std::size_t length, u64 p) {
  for (std::size_t i = 0; i < length; ++i) sum[i] = reduce_once(sum[i] + other[i], p);
}

void subtract(u64* sum, const u64* other, std::size_t length, u64 p) {
  for (std::size_t i = 0; i < length; ++i) sum[i] = reduce_once(sum[i] + p - other[i], p);
}

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const Modulus modulus = table.modulus;
  const Factor* twiddles = table.forward.data();
  int level = first;
  if ((last - first) % 2 != 0) forward_level(x, twiddles, modulus, length, level++);
  for (; level < last; level += 2) forward_two_levels(x, twiddles, modulus, length, level);
  for (std::size_t i = 0; i < length; ++i) x[i] = modulus.reduce(x[i]);
}

void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const Modulus modulus = table.modulus;
  const Factor* twiddles = table.inverse.data();
  u64 bound = modulus.p;
  int level = last;
  for (; level - first >= 2; bound *= 4) {
    level -= 2;
    inverse_two_levels(x, twiddles, modulus, length, level, bound);
  }
  if (level > first) inverse_level(x, twiddles, modulus, length, first, bound);
  const Factor scale = table.halves[static_cast<std::size_t>(last - first)];
  for (std::size_t i = 0; i < length; ++i) x[i] = modulus.multiply(x[i], scale);
}

// Values of at most 2^20 in magnitude, which is below every prime: a negative one needs one p.
void add_small(u64* sum, const i64* values, std::size_t length, u64 p) {
  for (std::size_t i = 0; i < length; ++i) {
    const u64 value = static_cast<u64>(values[i]);
    const u64 lifted = value + (p & (u64{0} - (value >> 63)));
    sum[i] = reduce_once(sum[i] + lifted, p);
  }
}

void accumulate(u64* sum, const u64* left, const u64* right, std::size_t length,
                const PrimeTable& table) {
  accumulate_row(sum, left, right, length, table.modulus);
}

}  // namespace portable
}  // namespace moiety
