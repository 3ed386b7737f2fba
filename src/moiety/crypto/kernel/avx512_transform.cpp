// The transform with all levels but the last three on whole vectors, and those within pairs of vectors.
#include "avx512.hpp"
#include "avx512_path.hpp"
#include "portable.hpp"

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

// Lazy: every level adds less than 2p, so after at most 14 levels all are below 29p < 2^52.
// Tight: values below 4p, of which the left one is brought below 2p first.
template <bool kTight>
inline void forward_butterfly(Lanes& left, Lanes& right, const LaneFactor& w,
                              const LanePrime& prime) {
  const Lanes product = prime.multiply(right, w);
  if constexpr (kTight) {
    left = reduce_lanes(cleared(left), prime.twice);
    right = minus(plus(left, prime.twice), cleared(product));
    left = plus(left, cleared(product));
  } else {
    right = minus(plus(left, prime.twice), product);
    left = plus(left, product);
  }
}

// kLevels levels in one pass: all their butterflies between one load and one store of each value.
template <int kLevels, bool kTight>
void forward_pass(u64* x, const LanePrime& prime, const Twiddles& twiddles, std::size_t length,
                  int level) {
  constexpr std::size_t kParts = std::size_t{1} << kLevels;
  const std::size_t part = length >> (level + kLevels);
  for (std::size_t block = std::size_t{1} << level; block < std::size_t{2} << level; ++block) {
    LaneFactor w[kParts];
#pragma GCC unroll 8
    for (std::size_t i = 1; i < kParts; ++i) {
      const int depth = 63 - __builtin_clzll(i);
      w[i] = twiddles.one((block << depth) + i - (std::size_t{1} << depth));
    }
    for (u64* end = x + part; x != end; x += kLanes) {
      Lanes v[kParts];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kParts; ++i) v[i] = load(x + i * part);
#pragma GCC unroll 3
      for (int depth = 0; depth < kLevels; ++depth) {
        const std::size_t half = kParts >> (depth + 1);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kParts / 2; ++i) {
          const std::size_t left = i / half * 2 * half + i % half;
          forward_butterfly<kTight>(v[left], v[left + half], w[(std::size_t{1} << depth) + i / half],
                                    prime);
        }
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kParts; ++i) store(x + i * part, v[i]);
    }
    x += (kParts - 1) * part;
  }
}

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

// Those of the last three levels (4, 2, 1) that are wanted, and the reduction to [0, p).
template <bool kTight>
void forward_tail(u64* x, const LanePrime& prime, const Twiddles& twiddles, Lanes barrett,
                  std::size_t length, int from, int to) {
  const Orders orders;
  for (std::size_t place = 0; place < length; place += 2 * kLanes) {
    Lanes a = load(x + place);
    Lanes b = load(x + place + kLanes);
    exchange(a, b, orders.fours_left, orders.fours_right);
    if (from <= 0 && to > 0) {
      const LaneFactor w = twiddles.spread((length + place) / 8, orders.spread_fours);
      forward_butterfly<kTight>(a, b, w, prime);
    }
    exchange(a, b, orders.twos_left, orders.twos_right);
    if (from <= 1 && to > 1) {
      const LaneFactor w = twiddles.spread((length + place) / 4, orders.spread_twos);
      forward_butterfly<kTight>(a, b, w, prime);
    }
    const Lanes left = _mm512_unpacklo_epi64(a, b);
    b = _mm512_unpackhi_epi64(a, b);
    a = left;
    if (from <= 2 && to > 2) forward_butterfly<kTight>(a, b, twiddles.eight((length + place) / 2), prime);
    exchange(a, b, orders.first, orders.second);
    store(x + place, prime.reduce(a, barrett));
    store(x + place + kLanes, prime.reduce(b, barrett));
  }
}

template <bool kTight>
void forward_row(u64* x, const Prime52& words52, std::size_t length, int first, int last) {
  const LanePrime prime(words52);
  const Twiddles twiddles{words52.forward.values.data(), words52.forward.quotients.data()};
  const int levels = __builtin_ctzll(length);
  const int vertical = last < levels - kTailLevels ? last : levels - kTailLevels;
  int level = first;
  while (level < vertical) {
    const int step = step_of(vertical - level);
    if (step == 3) forward_pass<3, kTight>(x, prime, twiddles, length, level);
    if (step == 2) forward_pass<2, kTight>(x, prime, twiddles, length, level);
    if (step == 1) forward_pass<1, kTight>(x, prime, twiddles, length, level);
    level += step;
  }
  const Lanes barrett = all(words52.barrett);
  if (last > levels - kTailLevels) {
    forward_tail<kTight>(x, prime, twiddles, barrett, length, level - (levels - kTailLevels),
                         last - (levels - kTailLevels));
  } else {
    for (std::size_t i = 0; i < length; i += kLanes) store(x + i, prime.reduce(load(x + i), barrett));
  }
}

// Values below 2^k 2p, loose, to below 2p.
inline Lanes halved(Lanes a, int k, const LanePrime& prime) {
  a = cleared(a);
  while (k-- > 0) a = reduce_lanes(a, _mm512_slli_epi64(prime.twice, static_cast<unsigned>(k)));
  return a;
}

// For values below `bound`, at most 2^51: a sum below twice that (tight: reduced again) and a product
// below 2p.
template <bool kTight>
inline void inverse_butterfly(Lanes& left, Lanes& right, const LaneFactor& w, Lanes bound,
                              const LanePrime& prime) {
  const Lanes difference = minus(plus(left, bound), right);
  left = plus(left, right);
  if constexpr (kTight) left = halved(left, 1, prime);
  right = prime.multiply(difference, w);
  if constexpr (kTight) right = cleared(right);
}

// What to do with values that leave a pass: a sum of 2^sums values is brought below 2p again; the
// last pass multiplies everything by 2^-levels instead and reduces to [0, p).
template <bool kTight, bool kLast>
inline Lanes finished(Lanes a, int sums, const LaneFactor& scale, const LanePrime& prime) {
  if constexpr (kLast) return reduce_lanes(cleared(prime.multiply(a, scale)), prime.p);
  return kTight || sums == 0 ? a : halved(a, sums, prime);
}

// Values below 2p enter, so after `done` levels of a lazy pass they are below
// 2^done 2p, at most 8p before the last.
template <int kLevels, bool kTight, bool kLast>
void inverse_pass(u64* x, const LanePrime& prime, const Twiddles& twiddles, const LaneFactor& scale,
                  std::size_t length, int level) {
  constexpr std::size_t kParts = std::size_t{1} << kLevels;
  const std::size_t part = length >> (level + kLevels);
  for (std::size_t block = std::size_t{1} << level; block < std::size_t{2} << level; ++block) {
    LaneFactor w[kParts];
#pragma GCC unroll 8
    for (std::size_t i = 1; i < kParts; ++i) {
      const int depth = 63 - __builtin_clzll(i);
      w[i] = twiddles.one((block << depth) + i - (std::size_t{1} << depth));
    }
    for (u64* end = x + part; x != end; x += kLanes) {
      Lanes v[kParts];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kParts; ++i) v[i] = load(x + i * part);
#pragma GCC unroll 3
      for (int done = 0; done < kLevels; ++done) {
        const int depth = kLevels - 1 - done;
        const std::size_t half = kParts >> (depth + 1);
        const unsigned doublings = kTight ? 0U : static_cast<unsigned>(done);
        const Lanes bound = _mm512_slli_epi64(prime.twice, doublings);
#pragma GCC unroll 4
        for (std::size_t i = 0; i < kParts / 2; ++i) {
          const std::size_t left = i / half * 2 * half + i % half;
          inverse_butterfly<kTight>(v[left], v[left + half], w[(std::size_t{1} << depth) + i / half],
                                    bound, prime);
        }
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < kParts; ++i) {
        // Since its last product, at the highest bit set, a value was a sum at each level.
        const int sums = i == 0 ? kLevels : kLevels - 64 + __builtin_clzll(i);
        store(x + i * part, finished<kTight, kLast>(v[i], sums, scale, prime));
      }
    }
    x += (kParts - 1) * part;
  }
}

// Those of the last three levels that are wanted, in the order 1, 2, 4.
template <bool kTight, bool kLast>
void inverse_tail(u64* x, const LanePrime& prime, const Twiddles& twiddles, const LaneFactor& scale,
                  std::size_t length, int from, int to) {
  const Orders orders;
  const Lanes bounds[] = {prime.twice, _mm512_slli_epi64(prime.twice, kTight ? 0 : 1),
                          _mm512_slli_epi64(prime.twice, kTight ? 0 : 2)};
  for (std::size_t place = 0; place < length; place += 2 * kLanes) {
    Lanes a = load(x + place);
    Lanes b = load(x + place + kLanes);
    exchange(a, b, orders.even, orders.odd);
    if (from <= 2 && to > 2) {
      const LaneFactor w = twiddles.eight((length + place) / 2);
      inverse_butterfly<kTight>(a, b, w, bounds[0], prime);
    }
    const Lanes left = _mm512_unpacklo_epi64(a, b);
    b = _mm512_unpackhi_epi64(a, b);
    a = left;
    if (from <= 1 && to > 1) {
      const LaneFactor w = twiddles.spread((length + place) / 4, orders.spread_twos);
      inverse_butterfly<kTight>(a, b, w, bounds[1], prime);
    }
    exchange(a, b, orders.twos_left, orders.twos_right);
    if (from <= 0 && to > 0) {
      const LaneFactor w = twiddles.spread((length + place) / 8, orders.spread_fours);
      inverse_butterfly<kTight>(a, b, w, bounds[2], prime);
    }
    a = finished<kTight, kLast>(a, kTailLevels, scale, prime);
    b = finished<kTight, kLast>(b, from <= 0 ? 0 : kTailLevels, scale, prime);
    exchange(a, b, orders.fours_left, orders.fours_right);
    store(x + place, a);
    store(x + place + kLanes, b);
  }
}

template <bool kTight, bool kLast>
int inverse_step(u64* x, const LanePrime& prime, const Twiddles& twiddles, const LaneFactor& scale,
                 std::size_t length, int level, int step) {
  level -= step;
  if (step == 3) inverse_pass<3, kTight, kLast>(x, prime, twiddles, scale, length, level);
  if (step == 2) inverse_pass<2, kTight, kLast>(x, prime, twiddles, scale, length, level);
  if (step == 1) inverse_pass<1, kTight, kLast>(x, prime, twiddles, scale, length, level);
  return level;
}

template <bool kTight>
void inverse_row(u64* x, const Prime52& words52, std::size_t length, int first, int last) {
  const LanePrime prime(words52);
  const Twiddles twiddles{words52.inverse.values.data(), words52.inverse.quotients.data()};
  const Twiddles halves{words52.halves.values.data(), words52.halves.quotients.data()};
  const LaneFactor scale = halves.one(static_cast<std::size_t>(last - first));
  const int vertical = __builtin_ctzll(length) - kTailLevels;
  const int from = first - vertical;
  if (from >= 0) return inverse_tail<kTight, true>(x, prime, twiddles, scale, length, from, last - vertical);
  if (last > vertical) {
    inverse_tail<kTight, false>(x, prime, twiddles, scale, length, from, last - vertical);
  }
  int level = last < vertical ? last : vertical;
  while (level > first) {
    const int step = step_of(level - first);
    if (level - step > first) {
      level = inverse_step<kTight, false>(x, prime, twiddles, scale, length, level, step);
    } else {
      level = inverse_step<kTight, true>(x, prime, twiddles, scale, length, level, step);
    }
  }
}

}  // namespace

namespace avx512 {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  if (length < 2 * kLanes) return portable::forward(x, table, length, first, last);
  const Prime52& words52 = table.words52;
  if (words52.p <= kLargestLazy) return forward_row<false>(x, words52, length, first, last);
  forward_row<true>(x, words52, length, first, last);
}

void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  if (length < 2 * kLanes || first == last) return portable::inverse(x, table, length, first, last);
  const Prime52& words52 = table.words52;
  if (words52.p <= kLargestLazy) return inverse_row<false>(x, words52, length, first, last);
  inverse_row<true>(x, words52, length, first, last);
}

}  // namespace avx512
}  // namespace moiety
