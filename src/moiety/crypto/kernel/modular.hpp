// Arithmetic modulo one prime below 2^50. No branch and no index depends on a value.
#pragma once

#include <cstdint>

namespace moiety {

using u64 = std::uint64_t;
using i64 = std::int64_t;
using u128 = unsigned __int128;

inline u64 high(u64 a, u64 b) { return static_cast<u64>((static_cast<u128>(a) * b) >> 64); }

// a - bound if a >= bound, else a; for a, bound < 2^63.
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
  u64 barrett = 0;    // floor(2^64 / p)
  Factor two64;       // 2^64 mod p
  Factor inverse64;   // 2^-64 mod p

  // Any 64-bit a, result below p. The estimate floor(a barrett / 2^64) is at most 1 too small.
  u64 reduce(u64 a) const { return reduce_once(a - high(a, barrett) * p, p); }

  // a w mod p in [0, 2p) for any 64-bit a.
  u64 multiply_lazy(u64 a, const Factor& w) const { return a * w.value - high(a, w.quotient) * p; }

  u64 multiply(u64 a, const Factor& w) const { return reduce_once(multiply_lazy(a, w), p); }

  // Any 128-bit sum: high half times 2^64 in [0, 2p), low half in [0, p): below 3p < 2^52.
  u64 reduce_wide(u128 a) const {
    const u64 sum = multiply_lazy(static_cast<u64>(a >> 64), two64) + reduce(static_cast<u64>(a));
    return reduce_once(reduce_once(sum, 2 * p), p);
  }

  u64 multiply(u64 a, u64 b) const { return reduce_wide(static_cast<u128>(a) * b); }
};

inline Factor make_factor(u64 value, u64 p) {
  return {value, static_cast<u64>((static_cast<u128>(value) << 64) / p)};
}

inline u64 power(u64 base, u64 exponent, u64 p) {
  u64 result = 1;
  for (; exponent != 0; exponent >>= 1) {
    if (exponent & 1) result = static_cast<u64>(static_cast<u128>(result) * base % p);
    base = static_cast<u64>(static_cast<u128>(base) * base % p);
  }
  return result;
}

inline u64 invert(u64 value, u64 p) { return power(value % p, p - 2, p); }

inline Modulus make_modulus(u64 p) {
  const u64 two64 = static_cast<u64>((static_cast<u128>(1) << 64) % p);
  return {p, static_cast<u64>((static_cast<u128>(1) << 64) / p), make_factor(two64, p),
          make_factor(invert(two64, p), p)};
}

}  // namespace moiety
