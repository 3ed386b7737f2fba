// The forward transform.
#include "avx512_path.hpp"
#include "avx512_transform.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

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

}  // namespace

namespace avx512 {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  if (length < 2 * kLanes) return portable::forward(x, table, length, first, last);
  const Prime52& words52 = table.words52;
  if (words52.p <= kLargestLazy) return forward_row<false>(x, words52, length, first, last);
  forward_row<true>(x, words52, length, first, last);
}

}  // namespace avx512
}  // namespace moiety
