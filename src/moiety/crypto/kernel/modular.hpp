// Arithmetic modulo one prime below 2^50. No branch and no index depends on a value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moiety {

using u64 = std::uint64_t;
using i64 = std::int64_t;
using u128 = unsigned __int128;

// Products of two residues that one 128-bit sum may hold: see Modulus::reduce_wide.
constexpr std::size_t kLongestSum = std::size_t{1} << 13;

inline u64 high(u64 a, u64 b) { return static_cast<u64>((static_cast<u128>(a) * b) >> 64); }

// a - bound if a >= bound, else a; for a < 2^63 and bound < 2^63.
inline u64 reduce_once(u64 a, u64 bound) {
  const u64 difference = a - bound;
  return difference + (bound & (u64{0} - (difference >> 63)));
}

// A constant factor w < p with floor(w 2^64 / p): Shoup's multiplication.
struct Factor {
  u64 value = 0;
  u64 quotient = 0;
};

struct Modulus {
  u64 p = 0;
  u64 barrett = 0;       // floor(2^64 / p)
  unsigned shift = 0;    // 2^shift < p < 2^(shift + 1)
  u64 wide_barrett = 0;  // floor(2^(64 + shift) / p), below 2^64 because p > 2^shift
  Factor inverse64;      // 2^-64 mod p

  // Any 64-bit a, result below p. The estimate floor(a barrett / 2^64) is at most 1 too small,
  // because a / p - a barrett / 2^64 < a / 2^64 < 1: the difference is below 2p.
  u64 reduce(u64 a) const { return reduce_once(a - high(a, barrett) * p, p); }

  // a w mod p in [0, 2p) for any 64-bit a, reduced or not.
  u64 multiply_lazy(u64 a, const Factor& w) const { return a * w.value - high(a, w.quotient) * p; }

  u64 multiply(u64 a, const Factor& w) const { return reduce_once(multiply_lazy(a, w), p); }

  // A sum of at most kLongestSum products of residues and one residue, result below p.
  // It is below 2^13 * 2^(2 shift + 2), so a >> shift < 2^(15 + shift) <= 2^64 as shift <= 49.
  // The estimate of a / p loses less than 2^shift / p < 1 by the shift, less than 1 by the floor in
  // wide_barrett and less than 1 by its own floor: the difference is below 3p < 2^52.
  u64 reduce_wide(u128 a) const {
    // Two shifts of words: a 128-bit shift would also allow for 64 and more. Here 20 <= shift <= 49.
    const u64 shifted = (static_cast<u64>(a >> 64) << (64 - shift)) | (static_cast<u64>(a) >> shift);
    const u64 estimate = high(shifted, wide_barrett);
    return reduce_once(reduce_once(static_cast<u64>(a) - estimate * p, 2 * p), p);
  }
};

inline Factor make_factor(u64 value, u64 p) {
  return {value, static_cast<u64>((static_cast<u128>(value) << 64) / p)};
}

// The functions below divide and branch: they see public values only (primes and roots).

inline u64 multiply_public(u64 a, u64 b, u64 p) {
  return static_cast<u64>(static_cast<u128>(a) * b % p);
}

inline u64 power_public(u64 base, u64 exponent, u64 p) {
  u64 result = 1;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result = multiply_public(result, base, p);
    base = multiply_public(base, base, p);
  }
  return result;
}

inline u64 invert_public(u64 value, u64 p) { return power_public(value % p, p - 2, p); }

inline Modulus make_modulus(u64 p) {
  Modulus result;
  result.p = p;
  result.barrett = static_cast<u64>((static_cast<u128>(1) << 64) / p);
  while ((p >> result.shift) > 1) ++result.shift;
  result.wide_barrett = static_cast<u64>((static_cast<u128>(1) << (64 + result.shift)) / p);
  const u64 two64 = static_cast<u64>((static_cast<u128>(1) << 64) % p);
  result.inverse64 = make_factor(invert_public(two64, p), p);
  return result;
}

}  // namespace moiety
