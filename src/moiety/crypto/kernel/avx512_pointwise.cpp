// What is done point by point, eight residues at a time.
#include "avx512.hpp"
#include "avx512_path.hpp"
#include "portable.hpp"

namespace moiety::avx512 {

void add(u64* sum, const u64* other, std::size_t length, u64 p) {
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    store(sum + i, reduce_lanes(plus(load(sum + i), load(other + i)), all(p)));
  }
  portable::add(sum + i, other + i, length - i, p);
}

// sum - other, which wraps where it is negative and is then larger than with p added.
void subtract(u64* sum, const u64* other, std::size_t length, u64 p) {
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const Lanes difference = minus(load(sum + i), load(other + i));
    store(sum + i, _mm512_min_epu64(difference, plus(difference, all(p))));
  }
  portable::subtract(sum + i, other + i, length - i, p);
}

void add_small(u64* sum, const i64* values, std::size_t length, u64 p) {
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const Lanes value = _mm512_loadu_si512(values + i);
    const Lanes lifted = _mm512_mask_add_epi64(value, _mm512_movepi64_mask(value), value, all(p));
    store(sum + i, reduce_lanes(plus(load(sum + i), lifted), all(p)));
  }
  portable::add_small(sum + i, values + i, length - i, p);
}

// A product and one residue, below 2^(2 shift + 2), over p: as in Modulus::reduce_wide, the estimate
// loses less than 3, and all that is below 3p < 2^52 is right in the low 52 bits.
void accumulate(u64* sum, const u64* left, const u64* right, std::size_t length,
                const PrimeTable& table) {
  const LanePrime prime(table.words52);
  const Lanes barrett = all(table.words52.wide_barrett);
  const unsigned shift = table.words52.shift;
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const Lanes a = load(left + i);
    const Lanes b = load(right + i);
    const Lanes low = add_low(load(sum + i), a, b);
    const Lanes high = _mm512_slli_epi64(add_high(zero(), a, b), 52 - shift);
    const Lanes shifted = plus(high, _mm512_srli_epi64(low, shift));
    const Lanes estimate = add_high(zero(), shifted, barrett);
    const Lanes left_over = cleared(add_low(low, estimate, prime.negated));
    store(sum + i, reduce_lanes(reduce_lanes(left_over, prime.twice), prime.p));
  }
  portable::accumulate(sum + i, left + i, right + i, length - i, table);
}

}  // namespace moiety::avx512
