// Residues to and from integers, shares and bytes, eight at a time; what is left of a row is done in
// plain C++.
#include "avx512.hpp"
#include "avx512_path.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

// Bytes 0..width-1 of each lane side by side, and back; what the indices of the rest are is no matter.
struct ByteOrders {
  explicit ByteOrders(std::size_t width) {
    alignas(64) unsigned char packed[64] = {};
    alignas(64) unsigned char spread[64] = {};
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      for (std::size_t byte = 0; byte < width; ++byte) {
        packed[lane * width + byte] = static_cast<unsigned char>(8 * lane + byte);
        spread[8 * lane + byte] = static_cast<unsigned char>(lane * width + byte);
      }
    }
    pack = _mm512_load_si512(packed);
    unpack = _mm512_load_si512(spread);
    const __mmask64 lane_bytes = (__mmask64{1} << width) - 1;
    for (std::size_t lane = 0; lane < kLanes; ++lane) used |= lane_bytes << (8 * lane);
  }

  Lanes pack;
  Lanes unpack;
  __mmask64 used = 0;  // bytes of a word that hold something
};

// y floor(2^192 / p) added to limbs of 52 bits that are never carried: with at most eight primes and
// two terms a limb they stay below 2^56. What exceeds 2^208 is dropped.
inline void add_multiple(Lanes (&limbs)[4], Lanes y, const Lanes (&fraction)[4]) {
#pragma GCC unroll 4
  for (int limb = 0; limb < 4; ++limb) limbs[limb] = add_low(limbs[limb], y, fraction[limb]);
#pragma GCC unroll 3
  for (int limb = 0; limb < 3; ++limb) limbs[limb + 1] = add_high(limbs[limb + 1], y, fraction[limb]);
}

// Bits 128 to 191 of the sum, rounded by bit 127, which is bit 23 of the limb from 104 on.
inline Lanes integer_part(const Lanes (&limbs)[4]) {
  const Lanes second = plus(limbs[1], _mm512_srli_epi64(limbs[0], 52));
  const Lanes third = plus(limbs[2], _mm512_srli_epi64(second, 52));
  const Lanes whole = plus(_mm512_srli_epi64(third, 24), _mm512_slli_epi64(limbs[3], 28));
  return plus(whole, _mm512_and_si512(_mm512_srli_epi64(third, 23), all(1)));
}

constexpr std::size_t kVectors = kRounded / kLanes;

struct TileSums {
  Lanes limbs[kVectors][4];
};

void add_prime(TileSums& sums, const u64* residues, std::size_t vectors, const Prime52& words52) {
  const LanePrime prime(words52);
  const LaneFactor inverse = broadcast(words52.crt_inverse);
  const Lanes fraction[4] = {all(words52.fraction[0]), all(words52.fraction[1]),
                             all(words52.fraction[2]), all(words52.fraction[3])};
  for (std::size_t v = 0; v < vectors; ++v) {
    const Lanes product = prime.multiply(load(residues + v * kLanes), inverse);
    add_multiple(sums.limbs[v], reduce_lanes(cleared(product), prime.p), fraction);
  }
}

}  // namespace

namespace avx512 {

void lift(u64* out, const i64* values, std::size_t length, const PrimeTable& table) {
  const LanePrime prime(table.words52);
  const Lanes barrett64 = all(table.words52.barrett64);
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const Lanes value = _mm512_loadu_si512(values + i);
    const Lanes reduced = prime.reduce_word(_mm512_abs_epi64(value), barrett64);
    // p - 0 = p is reduced again.
    const Lanes negated = _mm512_mask_sub_epi64(reduced, _mm512_movepi64_mask(value), prime.p, reduced);
    store(out + i, reduce_lanes(negated, prime.p));
  }
  portable::lift(out + i, values + i, length - i, table);
}

// u 2^-64 is the sum of its low 52 bits times 2^-64 and its high 12 times 2^-12.
void encode(u64* out, const u64* messages, std::size_t length, u64 modulus_low,
            const PrimeTable& table) {
  const LanePrime prime(table.words52);
  const LaneFactor low = broadcast(table.words52.inverse64);
  const LaneFactor high = broadcast(table.words52.inverse12);
  const Lanes q = all(modulus_low);
  std::size_t i = 0;
  for (; i + kLanes <= length; i += kLanes) {
    const Lanes u = _mm512_mullo_epi64(load(messages + i), q);
    const Lanes sum = plus(cleared(prime.multiply(u, low)),
                          cleared(prime.multiply(_mm512_srli_epi64(u, 52), high)));
    const Lanes scaled = reduce_lanes(reduce_lanes(sum, prime.twice), prime.p);
    const Lanes rounded = plus(minus(prime.p, scaled), _mm512_srli_epi64(u, 63));
    store(out + i, reduce_lanes(rounded, prime.p));
  }
  portable::encode(out + i, messages + i, length - i, modulus_low, table);
}

void round(u64* out, const u64* residues, std::size_t used, std::size_t stride,
           const PrimeTable* tables, std::size_t primes) {
  const std::size_t vectors = used / kLanes;
  TileSums sums{};
  for (std::size_t prime = 0; prime < primes; ++prime) {
    add_prime(sums, residues + prime * stride, vectors, tables[prime].words52);
  }
  for (std::size_t v = 0; v < vectors; ++v) store(out + v * kLanes, integer_part(sums.limbs[v]));
  const std::size_t done = vectors * kLanes;
  portable::round(out + done, residues + done, used - done, stride, tables, primes);
}

// A whole vector is stored and only `width` bytes a lane are meant: the next store covers the rest, and
// the last vectors, after which none comes, are done in plain C++.
void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width) {
  const ByteOrders orders(width);
  std::size_t i = 0;
  for (; (i + kLanes) * width + 64 <= count * width; i += kLanes) {
    const Lanes packed = _mm512_permutexvar_epi8(orders.pack, load(values + i));
    _mm512_storeu_si512(out + i * width, packed);
  }
  portable::pack(out + i * width, values + i, count - i, width);
}

bool unpack(u64* out, const unsigned char* bytes, std::size_t length, std::size_t width, u64 p) {
  const ByteOrders orders(width);
  Lanes in_range = all(~u64{0});
  std::size_t i = 0;
  for (; i * width + 64 <= length * width; i += kLanes) {
    const Lanes given = _mm512_loadu_si512(bytes + i * width);
    const Lanes value = _mm512_maskz_permutexvar_epi8(orders.used, orders.unpack, given);
    in_range = _mm512_and_si512(in_range, minus(value, all(p)));
    store(out + i, value);
  }
  const bool vectors = _mm512_movepi64_mask(in_range) == 0xFF;
  return portable::unpack(out + i, bytes + i * width, length - i, width, p) && vectors;
}

}  // namespace avx512
}  // namespace moiety
