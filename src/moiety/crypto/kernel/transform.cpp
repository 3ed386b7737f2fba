#include "transform.hpp"

#include <algorithm>
#include <stdexcept>

#include "parallel.hpp"

namespace moiety {
namespace {

bool is_prime(u64 n) {
  if (n < 2 || n % 2 == 0) return n == 2;
  u64 odd = n - 1;
  int twos = 0;
  for (; odd % 2 == 0; odd /= 2) ++twos;
  // These bases decide primality for every n below 2^64 (Sinclair's set extended by primes).
  for (const u64 base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    if (n == base) return true;
    u64 x = power(base, odd, n);
    bool witness = x != 1 && x != n - 1;
    for (int i = 1; witness && i < twos; ++i) {
      x = static_cast<u64>(static_cast<u128>(x) * x % n);
      witness = x != n - 1;
    }
    if (witness) return false;
  }
  return true;
}

// The smallest primitive order-th root of unity; order is a power of two that divides p - 1.
u64 smallest_root(u64 p, u64 order) {
  u64 root = 0;
  for (u64 base = 2; root == 0; ++base) {
    const u64 candidate = power(base, (p - 1) / order, p);
    if (power(candidate, order / 2, p) == p - 1) root = candidate;
  }
  const u64 square = static_cast<u64>(static_cast<u128>(root) * root % p);
  u64 smallest = root;
  for (u64 i = 1; i < order / 2; ++i) {
    root = static_cast<u64>(static_cast<u128>(root) * square % p);
    smallest = std::min(smallest, root);
  }
  return smallest;
}

std::size_t reversed(std::size_t value, int bits) {
  std::size_t result = 0;
  for (int i = 0; i < bits; ++i) result |= ((value >> i) & 1) << (bits - 1 - i);
  return result;
}

int log2_of(std::size_t power_of_two) {
  int bits = 0;
  while ((std::size_t{1} << bits) < power_of_two) ++bits;
  return bits;
}

std::vector<Factor> powers(u64 root, std::size_t degree, u64 p) {
  std::vector<Factor> result(degree);
  u64 value = 1;
  for (std::size_t i = 0; i < degree; ++i) {
    result[reversed(i, log2_of(degree))] = make_factor(value, p);
    value = static_cast<u64>(static_cast<u128>(value) * root % p);
  }
  return result;
}

PrimeTable make_table(std::size_t degree, u64 p) {
  if (p <= (u64{1} << 20) || p >= (u64{1} << 50) || (p - 1) % (2 * degree) != 0 || !is_prime(p)) {
    throw std::invalid_argument("each modulus must be a prime in (2^20, 2^50) that is 1 modulo 2N");
  }
  PrimeTable table;
  table.modulus = make_modulus(p);
  table.root = smallest_root(p, 2 * degree);
  table.forward = powers(table.root, degree, p);
  table.inverse = powers(invert(table.root, p), degree, p);
  for (u64 k = 0, half = 1; k <= 14; ++k) {
    table.halves.push_back(make_factor(half, p));
    half = static_cast<u64>(static_cast<u128>(half) * ((p + 1) / 2) % p);
  }
  u64 remainder = 1;  // long division of 2^192 by p, limb by limb
  for (int limb = 2; limb >= 0; --limb) {
    const u128 dividend = static_cast<u128>(remainder) << 64;
    table.fraction[limb] = static_cast<u64>(dividend / p);
    remainder = static_cast<u64>(dividend % p);
  }
  return table;
}

// Applies a butterfly to every pair of a level. Small halves have loops of known length: at the last
// levels the loop would cost more than the butterflies.
template <std::size_t Half, typename Butterfly>
void for_each_short_pair(u64* x, std::size_t blocks, const Factor* twiddles, const Butterfly& butterfly) {
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[block];
    for (std::size_t i = 0; i < Half; ++i) {
      butterfly(x[2 * Half * block + i], x[2 * Half * block + Half + i], w);
    }
  }
}

template <typename Butterfly>
void for_each_pair(u64* x, std::size_t blocks, std::size_t half, const Factor* twiddles,
                   const Butterfly& butterfly) {
  if (half == 1) return for_each_short_pair<1>(x, blocks, twiddles, butterfly);
  if (half == 2) return for_each_short_pair<2>(x, blocks, twiddles, butterfly);
  if (half == 4) return for_each_short_pair<4>(x, blocks, twiddles, butterfly);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[block];
    u64* left = x + 2 * half * block;
    for (std::size_t i = 0; i < half; ++i) butterfly(left[i], left[half + i], w);
  }
}

// Harvey's butterflies: values stay below 4p < 2^52 between levels.
void forward_one(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const u64 p = table.modulus.p;
  for (int level = first; level < last; ++level) {
    const std::size_t blocks = std::size_t{1} << level;
    const std::size_t half = length >> (level + 1);
    const auto butterfly = [&](u64& left, u64& right, const Factor& w) {
      const u64 a = reduce_once(left, 2 * p);                 // below 2p
      const u64 b = table.modulus.multiply_lazy(right, w);    // below 2p
      left = a + b;                                           // below 4p
      right = a - b + 2 * p;                                  // below 4p
    };
    const Factor* twiddles = table.forward.data() + blocks;
    for_each_pair(x, blocks, half, twiddles, butterfly);
  }
  for (std::size_t i = 0; i < length; ++i) x[i] = reduce_once(reduce_once(x[i], 2 * p), p);
}

void inverse_one(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const u64 p = table.modulus.p;
  for (int level = last - 1; level >= first; --level) {
    const std::size_t blocks = std::size_t{1} << level;
    const std::size_t half = length >> (level + 1);
    const auto butterfly = [&](u64& left, u64& right, const Factor& w) {
      const u64 a = left;                                             // below 2p
      const u64 b = right;                                            // below 2p
      left = reduce_once(a + b, 2 * p);                               // below 2p
      right = table.modulus.multiply_lazy(a - b + 2 * p, w);          // below 2p
    };
    const Factor* twiddles = table.inverse.data() + blocks;
    for_each_pair(x, blocks, half, twiddles, butterfly);
  }
  const Factor scale = table.halves[static_cast<std::size_t>(last - first)];
  for (std::size_t i = 0; i < length; ++i) x[i] = table.modulus.multiply(x[i], scale);
}

// Two rows by two columns: four 128-bit sums are what the registers of x86-64 and aarch64 hold.
void product_2x2(u128 (&sums)[4], const u64* first, const u64* second, const u64* columns,
                 std::size_t stride, std::size_t blocks) {
  u128 s0 = 0, s1 = 0, s2 = 0, s3 = 0;
  for (std::size_t b = 0; b < blocks; ++b) {
    const u64 x = columns[b * stride], y = columns[b * stride + 1];
    s0 += static_cast<u128>(first[b]) * x;
    s1 += static_cast<u128>(first[b]) * y;
    s2 += static_cast<u128>(second[b]) * x;
    s3 += static_cast<u128>(second[b]) * y;
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

// One (prime, frequency): a (groups x blocks) by (blocks x 2 slots) matrix product, gathered from the
// strided arrays into contiguous ones first. Odd edges are padded with zeros.
class FrequencyProduct {
 public:
  FrequencyProduct(std::size_t groups, std::size_t blocks, std::size_t slots)
      : groups_(groups), blocks_(blocks), slots_(slots), stride_(2 * slots),
        multipliers_((groups + 1) / 2 * 2 * blocks), columns_(blocks * stride_) {}

  void gather(const u64* multipliers, std::size_t multiplier_stride, const u64* ciphertexts,
              std::size_t side_stride) {
    for (std::size_t i = 0; i < groups_ * blocks_; ++i) {
      multipliers_[i] = multipliers[i * multiplier_stride];
    }
    for (std::size_t b = 0; b < blocks_; ++b) {
      for (std::size_t side = 0; side < 2; ++side) {
        std::copy_n(ciphertexts + (2 * b + side) * side_stride, slots_,
                    columns_.data() + b * stride_ + side * slots_);
      }
    }
  }

  // 2 slots is even, so columns come in pairs; a pair never straddles rows of `out` wrongly because
  // each column finds its own side.
  void multiply(const Modulus& modulus, u64* out, std::size_t side_stride) const {
    u128 sums[4];
    for (std::size_t column = 0; column < stride_; column += 2) {
      for (std::size_t g = 0; g < groups_; g += 2) {
        const u64* first = multipliers_.data() + g * blocks_;
        product_2x2(sums, first, first + blocks_, columns_.data() + column, stride_, blocks_);
        for (std::size_t k = 0; k < 4; ++k) {
          const std::size_t row = g + k / 2, place = column + k % 2;
          if (row < groups_) {
            out[(2 * row + place / slots_) * side_stride + place % slots_] =
                modulus.reduce_wide(sums[k]);
          }
        }
      }
    }
  }

 private:
  std::size_t groups_, blocks_, slots_, stride_;
  std::vector<u64> multipliers_, columns_;
};

}  // namespace

Tables::Tables(std::size_t degree, const std::vector<u64>& primes) : degree_(degree) {
  if (degree < 8 || degree > 16384 || (degree & (degree - 1)) != 0) {
    throw std::invalid_argument("the degree must be a power of two from 8 to 16384");
  }
  if (primes.empty() || primes.size() > 8) throw std::invalid_argument("one to eight primes");
  for (const u64 p : primes) {
    if (std::count(primes.begin(), primes.end(), p) != 1) {
      throw std::invalid_argument("the primes must differ");
    }
    tables_.push_back(make_table(degree, p));
    modulus_low_ *= p;
  }
  for (auto& table : tables_) {
    const u64 p = table.modulus.p;
    u64 others = 1;
    for (const u64 other : primes) {
      if (other != p) others = static_cast<u64>(static_cast<u128>(others) * (other % p) % p);
    }
    table.crt_inverse = make_factor(invert(others, p), p);
  }
}

void Tables::forward(u64* data, std::size_t count, std::size_t length, int first, int last,
                     std::size_t threads) const {
  parallel_for(count * primes(), threads, [&](std::size_t i) {
    forward_one(data + i * length, tables_[i % primes()], length, first, last);
  });
}

void Tables::inverse(u64* data, std::size_t count, std::size_t length, int first, int last,
                     std::size_t threads) const {
  parallel_for(count * primes(), threads, [&](std::size_t i) {
    inverse_one(data + i * length, tables_[i % primes()], length, first, last);
  });
}

void Tables::multiply_accumulate(u64* sum, const u64* left, const u64* right, std::size_t count,
                                 std::size_t length, std::size_t threads) const {
  parallel_for(count * primes(), threads, [&](std::size_t row) {
    const Modulus& modulus = tables_[row % primes()].modulus;
    const u64* factor = right + (row % primes()) * length;
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t at = row * length + i;
      sum[at] = modulus.reduce_wide(static_cast<u128>(left[at]) * factor[i] + sum[at]);
    }
  });
}

void Tables::add(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    for (std::size_t i = row * length; i < (row + 1) * length; ++i) {
      sum[i] = reduce_once(sum[i] + other[i], p);
    }
  }
}

void Tables::subtract(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    for (std::size_t i = row * length; i < (row + 1) * length; ++i) {
      sum[i] = reduce_once(sum[i] + p - other[i], p);
    }
  }
}

void Tables::subring_product(u64* out, const u64* multipliers, const u64* ciphertexts,
                             std::size_t groups, std::size_t blocks, std::size_t column_length,
                             std::size_t length, std::size_t threads) const {
  const std::size_t slots = length / column_length;
  const std::size_t rows = primes() * column_length;  // one (prime, frequency) each
  const std::size_t parts = std::min(rows, 8 * threads);
  parallel_for(parts, threads, [&](std::size_t part) {
    FrequencyProduct product(groups, blocks, slots);
    for (std::size_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
      // Products are below 2^100, so 2^28 of them fit; the caller checks the number of blocks.
      const std::size_t place = row / column_length * length + row % column_length * slots;
      product.gather(multipliers + row, rows, ciphertexts + place, primes() * length);
      product.multiply(tables_[row / column_length].modulus, out + place, primes() * length);
    }
  });
}

}  // namespace moiety
