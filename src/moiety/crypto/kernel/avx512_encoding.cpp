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

// The topmost `width` bytes of eight sums of 26 bytes, side by side. Of each lane's sum, `first` holds the
// bytes 8 to 15, `second` 16 to 23, and `third` 24, 25 and 7 in the places 0, 1 and 7.
struct CutOrders {
  explicit CutOrders(std::size_t width) : width(width), vectors((width + 7) / 8) {
    alignas(64) unsigned char pair[kMost * 64] = {};
    alignas(64) unsigned char other[kMost * 64] = {};
    for (std::size_t at = 0; at < 8 * width; ++at) {
      const std::size_t place = kCutBytes - width + at % width;
      const std::size_t lane = at / width;
      const bool in_pair = place >= 8 && place < 24;
      if (in_pair) pair[at] = static_cast<unsigned char>(place / 8 * 64 - 64 + 8 * lane + place % 8);
      if (!in_pair) other[at] = static_cast<unsigned char>(8 * lane + place % 8);
      if (!in_pair) from_third[at / 64] |= __mmask64{1} << at % 64;
    }
    for (std::size_t v = 0; v < vectors; ++v) {
      from_pair[v] = _mm512_load_si512(pair + 64 * v);
      from_other[v] = _mm512_load_si512(other + 64 * v);
    }
  }

  void write(unsigned char* out, Lanes first, Lanes second, Lanes third) const {
    for (std::size_t v = 0; v < vectors; ++v) {
      const Lanes bytes = _mm512_permutex2var_epi8(first, from_pair[v], second);
      _mm512_storeu_si512(out + 64 * v,
                          _mm512_mask_permutexvar_epi8(bytes, from_third[v], from_other[v], third));
    }
  }

  static constexpr std::size_t kMost = 3;
  std::size_t width;
  std::size_t vectors;  // stored for eight lanes; what runs over is covered by the next store
  Lanes from_pair[kMost];
  Lanes from_other[kMost];
  __mmask64 from_third[kMost] = {};
};

// Adds half a unit, carries, and writes; no bit of the sum below byte 7 is ever wanted.
void write_cut(unsigned char* out, const Lanes (&limbs)[4], const Lanes (&half)[4],
               const CutOrders& orders) {
  const Lanes low = plus(limbs[0], half[0]);
  const Lanes second = plus(plus(limbs[1], half[1]), _mm512_srli_epi64(low, 52));
  const Lanes third = plus(plus(limbs[2], half[2]), _mm512_srli_epi64(second, 52));
  const Lanes top = plus(plus(limbs[3], half[3]), _mm512_srli_epi64(third, 52));
  const Lanes cleared_second = cleared(second);
  const Lanes cleared_third = cleared(third);
  const Lanes first_word = plus(_mm512_srli_epi64(cleared_second, 12), _mm512_slli_epi64(third, 40));
  const Lanes second_word = plus(_mm512_srli_epi64(cleared_third, 24), _mm512_slli_epi64(top, 28));
  const Lanes ends = _mm512_ternarylogic_epi64(
      all(u64{0xFF} << 56), _mm512_slli_epi64(second, 52), _mm512_srli_epi64(top, 36), 0xCA);
  orders.write(out, first_word, second_word, ends);
}

// Limbs of 52 bits of the numbers in eight records of `width` bytes: bits from 0, 52 and 104 on.
struct RestoreOrders {
  explicit RestoreOrders(std::size_t width) {
    constexpr std::size_t kStarts[3] = {0, 6, 13};  // bytes; the limb from bit 52 is shifted by four
    for (std::size_t limb = 0; limb < 3; ++limb) {
      alignas(64) unsigned char places[64] = {};
      for (std::size_t at = 0; at < 64; ++at) {
        const std::size_t byte = kStarts[limb] + at % 8;
        const std::size_t place = at / 8 * width + byte;
        if (byte >= width) continue;
        places[at] = static_cast<unsigned char>(place % 128);
        (place < 128 ? from_pair : from_third)[limb] |= __mmask64{1} << at;
      }
      order[limb] = _mm512_load_si512(places);
    }
  }

  Lanes read(std::size_t limb, const Lanes (&given)[3]) const {
    const Lanes bytes =
        _mm512_maskz_permutex2var_epi8(from_pair[limb], given[0], order[limb], given[1]);
    return _mm512_mask_permutexvar_epi8(bytes, from_third[limb], order[limb], given[2]);
  }

  Lanes order[3];
  __mmask64 from_pair[3] = {};
  __mmask64 from_third[3] = {};
};

// m q' modulo 2^156 in limbs of 52 bits, for m and q' in such limbs, loose.
struct Product156 {
  Product156(const Lanes (&m)[3], const Lanes (&q)[3]) {
    limbs[0] = cleared(add_low(zero(), m[0], q[0]));
    const Lanes middle = add_low(add_low(add_high(zero(), m[0], q[0]), m[0], q[1]), m[1], q[0]);
    Lanes top = add_high(add_high(_mm512_srli_epi64(middle, 52), m[0], q[1]), m[1], q[0]);
    top = add_low(add_low(add_low(top, m[0], q[2]), m[1], q[1]), m[2], q[0]);
    limbs[1] = cleared(middle);
    limbs[2] = cleared(top);
  }

  Lanes limbs[3];
};

// s - u 2^-156 modulo p, s the topmost bit of u.
Lanes restored_residues(const Product156& u, const Prime52& words52) {
  const LanePrime prime(words52);
  Lanes sum = zero();
  for (std::size_t limb = 0; limb < 3; ++limb) {
    sum = plus(sum, cleared(prime.multiply(u.limbs[limb], broadcast(words52.restore[limb]))));
  }
  sum = reduce_lanes(reduce_lanes(sum, plus(prime.twice, prime.twice)), prime.twice);
  const Lanes reduced = reduce_lanes(sum, prime.p);
  return reduce_lanes(plus(minus(prime.p, reduced), _mm512_srli_epi64(u.limbs[2], 51)), prime.p);
}

// q 2^(156 - 8 width) modulo 2^156 in limbs of 52 bits.
void shifted_modulus(Lanes (&out)[3], const Limbs& modulus, std::size_t width) {
  const std::size_t shift = 156 - 8 * width;
  for (std::size_t limb = 0; limb < 3; ++limb) {
    u64 value = 0;
    for (std::size_t bit = 0; bit < 52; ++bit) {
      const std::size_t place = 52 * limb + bit;
      if (place < shift) continue;
      value |= (modulus[(place - shift) / 64] >> (place - shift) % 64 & 1) << bit;
    }
    out[limb] = all(value);
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

void cut(unsigned char* out, const u64* residues, std::size_t used, std::size_t stride,
         const Tables& tables, std::size_t width) {
  const CutOrders orders(width);
  const std::size_t bit = 8 * (kCutBytes - width) - 1;
  Lanes half[4] = {zero(), zero(), zero(), zero()};
  half[bit / 52] = all(u64{1} << bit % 52);
  std::size_t i = 0;
  for (; i * width + 64 * orders.vectors <= used * width && i + kLanes <= used; i += kLanes) {
    Lanes limbs[4] = {zero(), zero(), zero(), zero()};
    for (std::size_t p = 0; p < tables.primes(); ++p) {
      const Prime52& words52 = tables.table(p).words52;
      const LanePrime prime(words52);
      const Lanes product = prime.multiply(load(residues + p * stride + i), broadcast(words52.crt_inverse));
      const Lanes fraction[4] = {all(words52.fraction208[0]), all(words52.fraction208[1]),
                                 all(words52.fraction208[2]), all(words52.fraction208[3])};
      add_multiple(limbs, reduce_lanes(cleared(product), prime.p), fraction);
    }
    write_cut(out + i * width, limbs, half, orders);
  }
  portable::cut(out + i * width, residues + i, used - i, stride, tables, width);
}

void restore(u64* out, const unsigned char* bytes, std::size_t used, std::size_t stride,
             const Tables& tables, std::size_t width) {
  const RestoreOrders orders(width);
  Lanes modulus[3];
  shifted_modulus(modulus, tables.modulus(), width);
  std::size_t i = 0;
  for (; i * width + 192 <= used * width; i += kLanes) {
    const unsigned char* from = bytes + i * width;
    const Lanes given[3] = {_mm512_loadu_si512(from), _mm512_loadu_si512(from + 64),
                            _mm512_loadu_si512(from + 128)};
    const Lanes m[3] = {orders.read(0, given), _mm512_srli_epi64(orders.read(1, given), 4),
                        orders.read(2, given)};
    const Product156 u(m, modulus);
    for (std::size_t p = 0; p < tables.primes(); ++p) {
      store(out + p * stride + i, restored_residues(u, tables.table(p).words52));
    }
  }
  portable::restore(out + i, bytes + i * width, used - i, stride, tables, width);
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
