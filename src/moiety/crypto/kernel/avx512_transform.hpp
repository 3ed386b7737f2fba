// What the two directions of the transform share: all levels but the last three work on whole vectors,
// and those within pairs of vectors.
#pragma once

#include "avx512.hpp"

namespace moiety {
namespace {

// A "lazy" transform has p <= 2^47, so that 32p <= 2^52; a "tight" one has only 4p <= 2^52.
constexpr u64 kLargestLazy = u64{1} << 47;
constexpr int kTailLevels = 3;  // halves of 4, 2 and 1 lie within a vector

inline Lanes permuted(Lanes a, Lanes index, Lanes b) {
  return _mm512_permutex2var_epi64(a, index, b);
}

// Levels of the next pass where `left` are to be done.
inline int step_of(int left) { return left == 1 ? 1 : left == 2 || left == 4 ? 2 : 3; }

struct Twiddles {
  const u64* values;
  const u64* quotients;

  LaneFactor one(std::size_t place) const { return {all(values[place]), all(quotients[place])}; }
  LaneFactor eight(std::size_t place) const { return {load(values + place), load(quotients + place)}; }
  // Each of the first two or four factors for as many lanes as it has; what follows them is not used.
  LaneFactor spread(std::size_t place, Lanes index) const {
    return {_mm512_permutexvar_epi64(index, quarter(values + place)),
            _mm512_permutexvar_epi64(index, quarter(quotients + place))};
  }

 private:
  static Lanes quarter(const u64* from) {
    return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
};

// Where lanes go on the way from a pair of vectors a, b to the halves of each level and back; b has
// the numbers from 8. All level orders are such that twiddles lie in order.
struct Orders {
  Lanes fours_left = _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11);
  Lanes fours_right = _mm512_setr_epi64(4, 5, 6, 7, 12, 13, 14, 15);
  Lanes twos_left = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  Lanes twos_right = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  Lanes even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  Lanes odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  Lanes first = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  Lanes second = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  Lanes spread_fours = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
  Lanes spread_twos = _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3);
};

// a = left[lane 0], right[lane 0], ...: of each two lanes, one from each.
inline void exchange(Lanes& a, Lanes& b, Lanes to_a, Lanes to_b) {
  const Lanes old = a;
  a = permuted(old, to_a, b);
  b = permuted(old, to_b, b);
}

}  // namespace
}  // namespace moiety
