// Eight residues at a time with the 52-bit multiplications of AVX-512 IFMA.
//
// These multiply the low 52 bits of each lane and ignore the rest. So a value below 2^52 may carry
// anything above its low 52 bits: additions keep it right modulo 2^52, and `cleared` takes the rest
// away where the value itself counts. "Loose" below says that a result is of this kind.
//
// Everything is in an unnamed namespace: these files are compiled for more instructions than others
// may use, so none of their functions may stand in for one of the same name elsewhere.
#pragma once

#include <immintrin.h>

#include "transform.hpp"

namespace moiety {
namespace {

using Lanes = __m512i;
constexpr std::size_t kLanes = 8;

inline Lanes load(const u64* from) { return _mm512_loadu_si512(from); }
inline void store(u64* to, Lanes value) { _mm512_storeu_si512(to, value); }
inline Lanes all(u64 value) { return _mm512_set1_epi64(static_cast<long long>(value)); }
inline Lanes zero() { return _mm512_setzero_si512(); }
inline Lanes plus(Lanes a, Lanes b) { return _mm512_add_epi64(a, b); }
inline Lanes minus(Lanes a, Lanes b) { return _mm512_sub_epi64(a, b); }
inline Lanes add_low(Lanes sum, Lanes a, Lanes b) { return _mm512_madd52lo_epu64(sum, a, b); }
inline Lanes add_high(Lanes sum, Lanes a, Lanes b) { return _mm512_madd52hi_epu64(sum, a, b); }
inline Lanes cleared(Lanes a) { return _mm512_and_si512(a, all((u64{1} << 52) - 1)); }

// a - bound if a >= bound, else a: otherwise the difference wraps and is the larger one.
inline Lanes reduce_lanes(Lanes a, Lanes bound) {
  return _mm512_min_epu64(a, minus(a, bound));
}

struct LaneFactor {
  Lanes value;
  Lanes quotient;
};

inline LaneFactor broadcast(const Factor52& factor) {
  return {all(factor.value), all(factor.quotient)};
}

struct LanePrime {
  explicit LanePrime(const Prime52& prime)
      : p(all(prime.p)), twice(all(2 * prime.p)), negated(all((u64{1} << 52) - prime.p)) {}

  Lanes p;
  Lanes twice;
  Lanes negated;  // modulo 2^52

  // a w mod p in [0, 2p), loose, for loose a below 2^52: Shoup's multiplication.
  Lanes multiply(Lanes a, const LaneFactor& w) const {
    const Lanes estimate = add_high(zero(), a, w.quotient);
    return add_low(add_low(zero(), a, w.value), estimate, negated);
  }

  // a mod p for loose a below 2^52, with barrett = floor(2^52 / p).
  Lanes reduce(Lanes a, Lanes barrett) const {
    const Lanes estimate = add_high(zero(), a, barrett);
    return reduce_lanes(cleared(add_low(a, estimate, negated)), p);
  }

  // Any 64-bit a modulo p, with barrett64 = floor(2^64 / p). The estimate of a / p loses less than 1
  // each by dropping 12 bits of a, by the floor in barrett64 and by its own: what is left is below
  // 4p <= 2^52.
  Lanes reduce_word(Lanes a, Lanes barrett64) const {
    const Lanes estimate = add_high(zero(), _mm512_srli_epi64(a, 12), barrett64);
    const Lanes left = cleared(add_low(a, estimate, negated));
    return reduce_lanes(reduce_lanes(left, twice), p);
  }
};

}  // namespace
}  // namespace moiety
