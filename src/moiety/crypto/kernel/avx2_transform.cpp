// The transform in floating point, four values at a time, for primes up to 2^47.
//
// Values are signed integers below 16p <= 2^51 in doubles, and every operation is exact but the
// quotients. With x w / p off by less than 1/2 and then rounded, x w - q p is below p: as an integer
// below 2^53 it is exact in two fused steps, although x w alone is not.
#include <immintrin.h>

#include "avx2_path.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

using Reals = __m256d;
constexpr std::size_t kReals = 4;
constexpr u64 kLargest = u64{1} << 47;
constexpr int kTailLevels = 2;  // halves of 2 and 1 lie within a vector
constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

inline Reals load(const u64* from) { return _mm256_loadu_pd(reinterpret_cast<const double*>(from)); }
inline Reals load(const double* from) { return _mm256_loadu_pd(from); }
inline void store(u64* to, Reals value) { _mm256_storeu_pd(reinterpret_cast<double*>(to), value); }
inline Reals all(double value) { return _mm256_set1_pd(value); }
inline Reals plus(Reals a, Reals b) { return _mm256_add_pd(a, b); }
inline Reals minus(Reals a, Reals b) { return _mm256_sub_pd(a, b); }

struct RealFactor {
  Reals value;
  Reals ratio;  // value / p
};

struct RealPrime {
  explicit RealPrime(u64 prime)
      : p(all(static_cast<double>(prime))), inverse(all(1.0 / static_cast<double>(prime))) {}

  Reals p;
  Reals inverse;

  // x w modulo p, below p in magnitude.
  Reals multiply(Reals x, const RealFactor& w) const {
    const Reals high = _mm256_mul_pd(x, w.value);
    const Reals low = _mm256_fmsub_pd(x, w.value, high);
    const Reals quotient = _mm256_round_pd(_mm256_mul_pd(x, w.ratio), kNearest);
    return plus(_mm256_fnmadd_pd(quotient, p, high), low);
  }

  // Modulo p, little more than p / 2 in magnitude.
  Reals reduce(Reals x) const {
    return _mm256_fnmadd_pd(_mm256_round_pd(_mm256_mul_pd(x, inverse), kNearest), p, x);
  }

  // Of a reduced value, the same in [0, p).
  Reals residue(Reals x) const {
    const Reals negative = _mm256_cmp_pd(x, _mm256_setzero_pd(), _CMP_LT_OQ);
    return plus(x, _mm256_and_pd(negative, p));
  }
};

// Integers below 2^52 are the low bits of 2^52 and themselves in a double.
const double kTwo52 = 4503599627370496.0;

inline Reals from_integers(Reals bits) {
  return minus(_mm256_or_pd(bits, all(kTwo52)), all(kTwo52));
}

inline Reals to_integers(Reals value) {
  return _mm256_xor_pd(plus(value, all(kTwo52)), all(kTwo52));
}

struct Twiddles {
  const double* values;
  const double* ratios;

  RealFactor one(std::size_t place) const { return {all(values[place]), all(ratios[place])}; }
  RealFactor four(std::size_t place) const { return {load(values + place), load(ratios + place)}; }
  RealFactor two_each(std::size_t place) const {
    return {twice(values + place), twice(ratios + place)};
  }

 private:
  static Reals twice(const double* from) {
    return _mm256_permute4x64_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from)), 0x50);
  }
};

// Every level adds less than p: after at most 14 all are below 15p.
inline void forward_butterfly(Reals& left, Reals& right, const RealFactor& w,
                              const RealPrime& prime) {
  const Reals product = prime.multiply(right, w);
  right = minus(left, product);
  left = plus(left, product);
}

// A sum of two magnitudes, and a product below p.
inline void inverse_butterfly(Reals& left, Reals& right, const RealFactor& w,
                              const RealPrime& prime) {
  const Reals difference = minus(left, right);
  left = plus(left, right);
  right = prime.multiply(difference, w);
}

// One or two levels in one pass. Of an inverse pass values below p enter, up to 4p arise, and what is
// a sum is reduced.
template <int kLevels, bool kForward>
void pass(u64* x, const RealPrime& prime, const Twiddles& twiddles, std::size_t length, int level) {
  const std::size_t part = length >> (level + kLevels);
  for (std::size_t block = std::size_t{1} << level; block < std::size_t{2} << level; ++block) {
    const RealFactor w = twiddles.one(block);
    if constexpr (kLevels == 1) {
      for (u64* end = x + part; x != end; x += kReals) {
        Reals a = load(x), b = load(x + part);
        if constexpr (kForward) forward_butterfly(a, b, w, prime);
        if constexpr (!kForward) inverse_butterfly(a, b, w, prime);
        store(x, kForward ? a : prime.reduce(a));
        store(x + part, b);
      }
      x += part;
    } else {
      const RealFactor low = twiddles.one(2 * block);
      const RealFactor high = twiddles.one(2 * block + 1);
      for (u64* end = x + part; x != end; x += kReals) {
        Reals a = load(x), b = load(x + part), c = load(x + 2 * part), d = load(x + 3 * part);
        if constexpr (kForward) {
          forward_butterfly(a, c, w, prime);
          forward_butterfly(b, d, w, prime);
          forward_butterfly(a, b, low, prime);
          forward_butterfly(c, d, high, prime);
        } else {
          inverse_butterfly(a, b, low, prime);
          inverse_butterfly(c, d, high, prime);
          inverse_butterfly(a, c, w, prime);
          inverse_butterfly(b, d, w, prime);
          a = prime.reduce(a);
          b = prime.reduce(b);
        }
        store(x, a);
        store(x + part, b);
        store(x + 2 * part, c);
        store(x + 3 * part, d);
      }
      x += 3 * part;
    }
  }
}

template <bool kForward>
void tail(u64* x, const RealPrime& prime, const Twiddles& twiddles, std::size_t length, int from,
          int to) {
  for (std::size_t place = 0; place < length; place += 2 * kReals) {
    const Reals first = load(x + place), second = load(x + place + kReals);
    // Halves of 2, then halves of 1 and back; an inverse goes there first and does its level of 2 last.
    Reals a = _mm256_permute2f128_pd(first, second, 0x20);
    Reals b = _mm256_permute2f128_pd(first, second, 0x31);
    const RealFactor twos = twiddles.two_each((length + place) / 4);
    if (kForward && from <= 0 && to > 0) forward_butterfly(a, b, twos, prime);
    Reals even = _mm256_unpacklo_pd(a, b), odd = _mm256_unpackhi_pd(a, b);
    if (from <= 1 && to > 1) {
      const RealFactor ones = twiddles.four((length + place) / 2);
      if constexpr (kForward) forward_butterfly(even, odd, ones, prime);
      if constexpr (!kForward) inverse_butterfly(even, odd, ones, prime);
    }
    a = _mm256_unpacklo_pd(even, odd);
    b = _mm256_unpackhi_pd(even, odd);
    if constexpr (!kForward) {
      if (from <= 0 && to > 0) inverse_butterfly(a, b, twos, prime);
      a = prime.reduce(a);
      b = prime.reduce(b);
    }
    store(x + place, _mm256_permute2f128_pd(a, b, 0x20));
    store(x + place + kReals, _mm256_permute2f128_pd(a, b, 0x31));
  }
}

void enter(u64* x, std::size_t length) {
  for (std::size_t i = 0; i < length; i += kReals) store(x + i, from_integers(load(x + i)));
}

}  // namespace

namespace avx2 {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const u64 p = table.modulus.p;
  if (length < 2 * kReals || p > kLargest) return portable::forward(x, table, length, first, last);
  const RealPrime prime(p);
  const Twiddles twiddles{table.reals.forward.values.data(), table.reals.forward.ratios.data()};
  const int vertical = __builtin_ctzll(length) - kTailLevels;
  const int end = last < vertical ? last : vertical;
  enter(x, length);
  int level = first;
  if (level < end && (end - level) % 2 != 0) pass<1, true>(x, prime, twiddles, length, level++);
  for (; level < end; level += 2) pass<2, true>(x, prime, twiddles, length, level);
  if (last > vertical) tail<true>(x, prime, twiddles, length, level - vertical, last - vertical);
  for (std::size_t i = 0; i < length; i += kReals) {
    store(x + i, to_integers(prime.residue(prime.reduce(load(x + i)))));
  }
}

void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const u64 p = table.modulus.p;
  if (length < 2 * kReals || p > kLargest) return portable::inverse(x, table, length, first, last);
  const RealPrime prime(p);
  const Twiddles twiddles{table.reals.inverse.values.data(), table.reals.inverse.ratios.data()};
  const Twiddles halves{table.reals.halves.values.data(), table.reals.halves.ratios.data()};
  const int vertical = __builtin_ctzll(length) - kTailLevels;
  enter(x, length);
  if (last > vertical) tail<false>(x, prime, twiddles, length, first - vertical, last - vertical);
  int level = last < vertical ? last : vertical;
  for (; level - first >= 2; level -= 2) pass<2, false>(x, prime, twiddles, length, level - 2);
  if (level > first) pass<1, false>(x, prime, twiddles, length, first);
  const RealFactor scale = halves.one(static_cast<std::size_t>(last - first));
  for (std::size_t i = 0; i < length; i += kReals) {
    const Reals scaled = prime.reduce(prime.multiply(load(x + i), scale));
    store(x + i, to_integers(prime.residue(scaled)));
  }
}

}  // namespace avx2
}  // namespace moiety
