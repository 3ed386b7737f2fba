#include <type_traits>

#include "portable.hpp"

namespace moiety {
namespace {

// A signed 64-bit integer modulo p, without a branch: |v| reduced, then negated where v < 0.
u64 residue(i64 value, const Modulus& modulus) {
  const u64 sign = u64{0} - (static_cast<u64>(value) >> 63);
  const u64 magnitude = (static_cast<u64>(value) ^ sign) - sign;  // at most 2^63
  const u64 reduced = modulus.reduce(magnitude);
  return reduce_once((reduced & ~sign) + ((modulus.p - reduced) & sign), modulus.p);
}

// y floor(2^192 / p) in limbs: 64 integer bits of y 2^64 / p, then 128 fraction bits. Adding the
// product modulo 2^192 drops what exceeds 2^64, which the ring drops too. The floor costs less than
// y < 2^50 units of 2^-128: 78 correct fraction bits.
struct Fixed {
  u64 fraction_low = 0;
  u64 fraction_high = 0;
  u64 integer = 0;

  void add(u64 low, u64 middle, u64 top) {
    u128 sum = static_cast<u128>(fraction_low) + low;
    fraction_low = static_cast<u64>(sum);
    sum = (sum >> 64) + fraction_high + middle;
    fraction_high = static_cast<u64>(sum);
    integer += top + static_cast<u64>(sum >> 64);
  }

  void add_multiple(u64 y, const Limbs& limbs) {
    const u128 first = static_cast<u128>(y) * limbs[0];
    const u128 second = static_cast<u128>(y) * limbs[1] + static_cast<u64>(first >> 64);
    add(static_cast<u64>(first), static_cast<u64>(second),
        y * limbs[2] + static_cast<u64>(second >> 64));
  }
};

// Calls body with the width as a compile-time constant, which turns byte loops into single moves.
// A prime of 21 to 50 bits takes 3 to 7 bytes.
template <typename Body>
void with_width(std::size_t width, const Body& body) {
  switch (width) {
    case 3: return body(std::integral_constant<std::size_t, 3>{});
    case 4: return body(std::integral_constant<std::size_t, 4>{});
    case 5: return body(std::integral_constant<std::size_t, 5>{});
    case 6: return body(std::integral_constant<std::size_t, 6>{});
    default: return body(std::integral_constant<std::size_t, 7>{});
  }
}

// Rows are functions of their own, with arguments by value: a store of 64-bit words could otherwise
// change what a reference leads to, and the compiler would load it again each time.
void lift_row(u64* out, const i64* values, std::size_t length, Modulus modulus) {
  for (std::size_t i = 0; i < length; ++i) out[i] = residue(values[i], modulus);
}

// With u = m q mod 2^64 and s = u >> 63, round(m q / 2^64) is (m q - u + 2^64 s) / 2^64, and m q is 0
// modulo p: what is left is s - u 2^-64.
void encode_row(u64* out, const u64* messages, std::size_t length, u64 modulus_low,
                Modulus modulus) {
  for (std::size_t i = 0; i < length; ++i) {
    const u64 u = messages[i] * modulus_low;
    const u64 negated = modulus.p - modulus.multiply(u, modulus.inverse64);  // in [1, p]
    out[i] = reduce_once(negated + (u >> 63), modulus.p);
  }
}

// `used` coefficients of one polynomial, whose residue rows are `stride` words apart. With
// y = x (q / p)^-1 mod p, the sum of y 2^64 / p over the primes is x 2^64 / q modulo 2^64.
void round_tile(u64* out, const u64* residues, std::size_t used, std::size_t stride,
                const PrimeTable* tables, std::size_t primes) {
  Fixed sums[kRounded];  // each residue row is read in order
  for (std::size_t prime = 0; prime < primes; ++prime) {
    const PrimeTable& table = tables[prime];
    const Modulus modulus = table.modulus;
    const Factor inverse = table.crt_inverse;
    const Limbs limbs = table.fraction;
    const u64* row = residues + prime * stride;
    for (std::size_t i = 0; i < used; ++i) {
      sums[i].add_multiple(modulus.multiply(row[i], inverse), limbs);
    }
  }
  for (std::size_t i = 0; i < used; ++i) out[i] = sums[i].integer + (sums[i].fraction_high >> 63);
}

// The sum that `cut` takes bytes of: 208 bits and what runs over.
struct Sum208 {
  u64 words[4] = {};

  // y limbs is below 2^208.
  void add_multiple(u64 y, const Limbs& limbs) {
    u128 carry = 0;
    for (std::size_t limb = 0; limb < 3; ++limb) {
      // At most (2^64 - 1)^2 + 2 (2^64 - 1): that is just what 128 bits hold.
      carry += static_cast<u128>(y) * limbs[limb] + words[limb];
      words[limb] = static_cast<u64>(carry);
      carry >>= 64;
    }
    words[3] += static_cast<u64>(carry);
  }

  void add_bit(std::size_t bit) {
    u128 carry = u128{1} << bit % 64;
    for (std::size_t word = bit / 64; word < 4; ++word) {
      carry += words[word];
      words[word] = static_cast<u64>(carry);
      carry >>= 64;
    }
  }

  unsigned char byte(std::size_t place) const {
    return static_cast<unsigned char>(words[place / 8] >> (8 * (place % 8)));
  }
};

void add_to_sums(Sum208* sums, const u64* row, std::size_t used, Modulus modulus, Factor inverse,
                 Limbs fraction) {
  for (std::size_t i = 0; i < used; ++i) {
    sums[i].add_multiple(modulus.multiply(row[i], inverse), fraction);
  }
}

template <std::size_t kWidth>
void cut_tile(unsigned char* out, const u64* residues, std::size_t used, std::size_t stride,
              const Tables& tables) {
  constexpr std::size_t kSkipped = kCutBytes - kWidth;
  Sum208 sums[kRounded];
  for (std::size_t prime = 0; prime < tables.primes(); ++prime) {
    const PrimeTable& table = tables.table(prime);
    add_to_sums(sums, residues + prime * stride, used, table.modulus, table.crt_inverse,
                table.fraction208);
  }
  for (std::size_t i = 0; i < used; ++i) {
    sums[i].add_bit(8 * kSkipped - 1);
    for (std::size_t byte = 0; byte < kWidth; ++byte) {
      out[i * kWidth + byte] = sums[i].byte(kSkipped + byte);
    }
  }
}

// Words of m q 2^(64 kWords - 8 kWidth), modulo 2^(64 kWords): m q modulo 2^(8 kWidth) at the top.
template <std::size_t kWidth>
struct Restored {
  static constexpr std::size_t kWords = (kWidth + 7) / 8;
  static constexpr std::size_t kShift = 64 * kWords - 8 * kWidth;  // below 64

  explicit Restored(const Limbs& modulus) {
    for (std::size_t word = 0; word < kWords; ++word) {
      shifted[word] = modulus[word] << kShift;
      if (kShift != 0 && word > 0) shifted[word] |= modulus[word - 1] >> (64 - kShift) % 64;
    }
  }

  void read(u64* u, const unsigned char* bytes) const {
    u64 m[kWords] = {};
    for (std::size_t byte = 0; byte < kWidth; ++byte) {
      m[byte / 8] |= static_cast<u64>(bytes[byte]) << (8 * (byte % 8));
    }
    for (std::size_t word = 0; word < kWords; ++word) u[word] = 0;
    for (std::size_t left = 0; left < kWords; ++left) {
      u128 carry = 0;
      for (std::size_t right = 0; left + right < kWords; ++right) {
        carry += static_cast<u128>(m[left]) * shifted[right] + u[left + right];
        u[left + right] = static_cast<u64>(carry);
        carry >>= 64;
      }
    }
  }

  // As in encode_row, with R = 2^(64 kWords): what is left is s - u / R. `factors` ends with those of 2^-128
  // and 2^-64.
  static void reduce(u64* out, const u64* u, std::size_t used, Modulus modulus,
                     std::array<Factor, 3> factors) {
    for (std::size_t i = 0; i < used; ++i, u += kWords) {
      u64 sum = 0;  // below 6p < 2^53
      for (std::size_t word = 0; word < kWords; ++word) {
        sum += modulus.multiply_lazy(u[word], factors[3 - kWords + word]);
      }
      sum = reduce_once(reduce_once(sum, 4 * modulus.p), 2 * modulus.p);
      const u64 negated = modulus.p - reduce_once(sum, modulus.p);
      out[i] = reduce_once(negated + (u[kWords - 1] >> 63), modulus.p);
    }
  }

  u64 shifted[kWords];
};

template <std::size_t kWidth>
void restore_tile(u64* out, const unsigned char* bytes, std::size_t used, std::size_t stride,
                  const Tables& tables) {
  const Restored<kWidth> restored(tables.modulus());
  u64 u[kRounded * Restored<kWidth>::kWords];
  for (std::size_t i = 0; i < used; ++i) {
    restored.read(u + i * Restored<kWidth>::kWords, bytes + i * kWidth);
  }
  for (std::size_t prime = 0; prime < tables.primes(); ++prime) {
    const PrimeTable& table = tables.table(prime);
    Restored<kWidth>::reduce(out + prime * stride, u, used, table.modulus, table.restore);
  }
}

// Calls body with each tile's start and size, and the width as a compile-time constant.
template <std::size_t kWidth = 8, typename Body>
void with_cut_width(std::size_t width, std::size_t used, const Body& body) {
  if constexpr (kWidth < 19) {
    if (width != kWidth) return with_cut_width<kWidth + 1>(width, used, body);
  }
  for (std::size_t i = 0; i < used; i += kRounded) {
    body(std::integral_constant<std::size_t, kWidth>{}, i, used - i < kRounded ? used - i : kRounded);
  }
}

template <std::size_t kWidth>
void pack_range(unsigned char* out, const u64* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const u64 value = values[i];
    for (std::size_t byte = 0; byte < kWidth; ++byte) {
      out[i * kWidth + byte] = static_cast<unsigned char>(value >> (8 * byte));
    }
  }
}

template <std::size_t kWidth>
bool unpack_row(u64* out, const unsigned char* bytes, std::size_t length, u64 p) {
  u64 in_range = 1;
  for (std::size_t i = 0; i < length; ++i) {
    u64 value = 0;
    for (std::size_t byte = 0; byte < kWidth; ++byte) {
      value |= static_cast<u64>(bytes[i * kWidth + byte]) << (8 * byte);
    }
    in_range &= (value - p) >> 63;
    out[i] = value;
  }
  return in_range != 0;
}

}  // namespace

namespace portable {

void lift(u64* out, const i64* values, std::size_t length, const PrimeTable& table) {
  lift_row(out, values, length, table.modulus);
}

void encode(u64* out, const u64* messages, std::size_t length, u64 modulus_low,
            const PrimeTable& table) {
  encode_row(out, messages, length, modulus_low, table.modulus);
}

void round(u64* out, const u64* residues, std::size_t used, std::size_t stride,
           const PrimeTable* tables, std::size_t primes) {
  round_tile(out, residues, used, stride, tables, primes);
}

void cut(unsigned char* out, const u64* residues, std::size_t used, std::size_t stride,
         const Tables& tables, std::size_t width) {
  with_cut_width(width, used, [&](auto constant, std::size_t first, std::size_t count) {
    cut_tile<decltype(constant)::value>(out + first * width, residues + first, count, stride, tables);
  });
}

void restore(u64* out, const unsigned char* bytes, std::size_t used, std::size_t stride,
             const Tables& tables, std::size_t width) {
  with_cut_width(width, used, [&](auto constant, std::size_t first, std::size_t count) {
    restore_tile<decltype(constant)::value>(out + first, bytes + first * width, count, stride, tables);
  });
}

void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width) {
  with_width(width, [=](auto constant) { pack_range<decltype(constant)::value>(out, values, count); });
}

bool unpack(u64* out, const unsigned char* bytes, std::size_t length, std::size_t width, u64 p) {
  bool in_range = false;
  with_width(width, [&](auto constant) {
    in_range = unpack_row<decltype(constant)::value>(out, bytes, length, p);
  });
  return in_range;
}

}  // namespace portable
}  // namespace moiety
