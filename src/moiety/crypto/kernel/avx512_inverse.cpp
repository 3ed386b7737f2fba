// The inverse transform.
#include "avx512_path.hpp"
#include "avx512_transform.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

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

void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  if (length < 2 * kLanes || first == last) return portable::inverse(x, table, length, first, last);
  const Prime52& words52 = table.words52;
  if (words52.p <= kLargestLazy) return inverse_row<false>(x, words52, length, first, last);
  inverse_row<true>(x, words52, length, first, last);
}

}  // namespace avx512
}  // namespace moiety
