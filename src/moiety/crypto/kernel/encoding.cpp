#include "encoding.hpp"

#include <algorithm>
#include <atomic>

#include "parallel.hpp"

namespace moiety {
namespace {

// Little-endian words of `width` bytes. All but the last are moved as eight bytes, of which the next word
// overwrites what is too much.
void store(unsigned char* out, u64 value, std::size_t width) {
  for (std::size_t byte = 0; byte < width; ++byte) {
    out[byte] = static_cast<unsigned char>(value >> (8 * byte));
  }
}

u64 load(const unsigned char* bytes, std::size_t width) {
  u64 value = 0;
  for (std::size_t byte = 0; byte < width; ++byte) value |= static_cast<u64>(bytes[byte]) << (8 * byte);
  return value;
}

// A signed 64-bit integer modulo p, without a branch: |v| reduced, then negated where v < 0.
u64 residue(i64 value, const Modulus& modulus) {
  const u64 sign = u64{0} - (static_cast<u64>(value) >> 63);
  const u64 magnitude = (static_cast<u64>(value) ^ sign) - sign;
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

  void add_multiple(u64 y, const u64 (&limbs)[3]) {
    const u128 first = static_cast<u128>(y) * limbs[0];
    const u128 second = static_cast<u128>(y) * limbs[1] + static_cast<u64>(first >> 64);
    add(static_cast<u64>(first), static_cast<u64>(second),
        y * limbs[2] + static_cast<u64>(second >> 64));
  }
};

}  // namespace

void lift(u64* out, const i64* values, const Tables& tables, std::size_t count, std::size_t length,
          std::size_t threads) {
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const Modulus& modulus = tables.table(row % tables.primes()).modulus;
    const i64* source = values + (row / tables.primes()) * length;
    for (std::size_t i = 0; i < length; ++i) out[row * length + i] = residue(source[i], modulus);
  });
}

void add_small(u64* sum, const i64* values, const Tables& tables, std::size_t count,
               std::size_t length, std::size_t threads) {
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const u64 p = tables.table(row % tables.primes()).modulus.p;
    const i64* source = values + (row / tables.primes()) * length;
    for (std::size_t i = 0; i < length; ++i) {
      const u64 value = static_cast<u64>(source[i]);
      const u64 lifted = value + (p & (u64{0} - (value >> 63)));  // in [0, p) for |v| < p
      sum[row * length + i] = reduce_once(sum[row * length + i] + lifted, p);
    }
  });
}

// m q is 0 modulo p, so (m q - centred) / 2^64 is -centred 2^-64, with centred = m q in [-2^63, 2^63).
void encode(u64* out, const u64* messages, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t threads) {
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const Modulus& modulus = tables.table(row % tables.primes()).modulus;
    const u64* source = messages + (row / tables.primes()) * length;
    for (std::size_t i = 0; i < length; ++i) {
      // centred = u - 2^64 sign, so -centred 2^-64 is sign - u 2^-64.
      const u64 u = source[i] * tables.modulus_low();
      const u64 negated = modulus.p - modulus.multiply(u, modulus.inverse64);  // in [1, p]
      out[row * length + i] = reduce_once(negated + (u >> 63), modulus.p);
    }
  });
}

void round_to_share(u64* out, const u64* residues, const Tables& tables, std::size_t count,
                    std::size_t length, std::size_t threads) {
  const std::size_t primes = tables.primes();
  parallel_for(count, threads, [&](std::size_t polynomial) {
    for (std::size_t i = 0; i < length; ++i) {
      Fixed sum;
      for (std::size_t prime = 0; prime < primes; ++prime) {
        const PrimeTable& table = tables.table(prime);
        const u64 x = residues[(polynomial * primes + prime) * length + i];
        sum.add_multiple(table.modulus.multiply(x, table.crt_inverse), table.fraction);
      }
      out[polynomial * length + i] = sum.integer + (sum.fraction_high >> 63);
    }
  });
}

void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width,
          std::size_t threads) {
  parallel_for(threads, threads, [&](std::size_t part) {
    const std::size_t end = count * (part + 1) / threads;
    std::size_t i = count * part / threads;
    // Eight bytes may only be written where the eight lie within this part.
    for (; (i + 2) <= end && (end - i) * width >= 8; ++i) store(out + i * width, values[i], 8);
    for (; i < end; ++i) store(out + i * width, values[i], width);
  });
}

bool unpack(u64* out, const unsigned char* bytes, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t width, std::size_t threads) {
  std::atomic<bool> in_range{true};
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const u64 p = tables.table(row % tables.primes()).modulus.p;
    const u64 mask = ~u64{0} >> (64 - 8 * width);
    const std::size_t end = (row + 1) * length;
    std::size_t i = row * length;
    bool good = true;
    for (; (end - i) * width >= 8; ++i) {
      out[i] = load(bytes + i * width, 8) & mask;
      good &= out[i] < p;
    }
    for (; i < end; ++i) {
      out[i] = load(bytes + i * width, width);
      good &= out[i] < p;
    }
    if (!good) in_range = false;
  });
  return in_range;
}

template <typename T>
void matmul(u64* out, const T* left, const u64* right, std::size_t n, std::size_t d, std::size_t k,
            std::size_t threads) {
  parallel_for(n, threads, [&](std::size_t row) {
    u64* target = out + row * k;
    std::fill_n(target, k, u64{0});
    for (std::size_t j = 0; j < d; ++j) {
      const u64 factor = static_cast<u64>(static_cast<i64>(left[row * d + j]));
      for (std::size_t i = 0; i < k; ++i) target[i] += factor * right[j * k + i];
    }
  });
}

template void matmul<i64>(u64*, const i64*, const u64*, std::size_t, std::size_t, std::size_t,
                          std::size_t);
template void matmul<std::int16_t>(u64*, const std::int16_t*, const u64*, std::size_t, std::size_t,
                                   std::size_t, std::size_t);

}  // namespace moiety
