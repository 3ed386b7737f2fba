// Maps from random bytes, eight values at a time; what is left of a row is done in plain C++.
//
// Where a vector has a rejected candidate its other lanes are moved together. This shows in time, and so
// does the portable path: which candidates are rejected says nothing about the accepted ones.
#include "avx512.hpp"
#include "avx512_path.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

constexpr __mmask8 kEvery = 0xFF;

// Writes a whole vector, of which the accepted lanes come first and count.
inline std::size_t store_accepted(u64* out, Lanes values, __mmask8 accepted) {
  if (accepted == kEvery) {
    store(out, values);
    return kLanes;
  }
  store(out, _mm512_maskz_compress_epi64(accepted, values));
  return static_cast<std::size_t>(__builtin_popcount(accepted));
}

}  // namespace

namespace avx512 {

bool uniform(u64* out, const u64* words, std::size_t given, std::size_t length,
             const PrimeTable& table) {
  const LanePrime prime(table.words52);
  const Lanes barrett64 = all(table.words52.barrett64);
  const Lanes limit = all(table.modulus.p * table.modulus.barrett);
  std::size_t place = 0;
  std::size_t i = 0;
  for (; i + kLanes <= given && place + kLanes <= length; i += kLanes) {
    const Lanes word = load(words + i);
    const __mmask8 accepted = _mm512_cmplt_epu64_mask(word, limit);
    place += store_accepted(out + place, prime.reduce_word(word, barrett64), accepted);
  }
  return portable::uniform(out + place, words + i, given - i, length - place, table);
}

bool ternary(i64* out, const unsigned char* bytes, std::size_t given, std::size_t length) {
  u64* target = reinterpret_cast<u64*>(out);
  std::size_t place = 0;
  std::size_t i = 0;
  for (; i + kLanes <= given && place + kLanes <= length; i += kLanes) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes + i));
    const Lanes byte = _mm512_cvtepu8_epi64(eight);
    const Lanes third = _mm512_srli_epi64(_mm512_mul_epu32(byte, all(171)), 9);  // floor(byte / 3)
    const Lanes value = minus(minus(byte, plus(third, plus(third, third))), all(1));
    place += store_accepted(target + place, value, _mm512_cmpneq_epu64_mask(byte, all(255)));
  }
  return portable::ternary(out + place, bytes + i, given - i, length - place);
}

// Every comparison for every sample: nothing depends on what they come to.
void gaussian(i64* out, const u64* words, std::size_t count, const u64* thresholds,
              std::size_t entries) {
  std::size_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    Lanes passed[4] = {zero(), zero(), zero(), zero()};
    Lanes uniform_63[4];
    for (std::size_t v = 0; v < 4; ++v) {
      uniform_63[v] = _mm512_srli_epi64(load(words + i + v * kLanes), 1);
    }
    for (std::size_t t = 0; t < entries; ++t) {
      const Lanes threshold = all(thresholds[t]);
#pragma GCC unroll 4
      for (std::size_t v = 0; v < 4; ++v) {
        const __mmask8 reached = _mm512_cmpge_epu64_mask(uniform_63[v], threshold);
        passed[v] = _mm512_mask_add_epi64(passed[v], reached, passed[v], all(1));
      }
    }
    for (std::size_t v = 0; v < 4; ++v) {
      const __mmask8 negative = _mm512_test_epi64_mask(load(words + i + v * kLanes), all(1));
      _mm512_storeu_si512(out + i + v * kLanes,
                          _mm512_mask_sub_epi64(passed[v], negative, zero(), passed[v]));
    }
  }
  portable::gaussian(out + i, words + i, count - i, thresholds, entries);
}

}  // namespace avx512
}  // namespace moiety
