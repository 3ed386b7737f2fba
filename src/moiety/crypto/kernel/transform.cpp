#include "transform.hpp"

#include <algorithm>
#include <stdexcept>

#include "parallel.hpp"

namespace moiety {
namespace {

// Miller-Rabin for odd n > 37: these bases decide every n below 2^64.
bool is_prime(u64 n) {
  u64 odd = n - 1;
  int twos = 0;
  for (; odd % 2 == 0; odd /= 2) ++twos;
  for (const u64 base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    u64 x = power_public(base, odd, n);
    bool witness = x != 1 && x != n - 1;
    for (int i = 1; witness && i < twos; ++i) {
      x = multiply_public(x, x, n);
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
    const u64 candidate = power_public(base, (p - 1) / order, p);
    if (power_public(candidate, order / 2, p) == p - 1) root = candidate;
  }
  const u64 square = multiply_public(root, root, p);
  u64 smallest = root;
  for (u64 i = 1; i < order / 2; ++i) {
    root = multiply_public(root, square, p);
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
    value = multiply_public(value, root, p);
  }
  return result;
}

PrimeTable make_table(std::size_t degree, u64 p) {
  if (p <= (u64{1} << 20) || p >= (u64{1} << 50) || (p - 1) % (2 * degree) != 0 || !is_prime(p)) {
    throw std::invalid_argument(
        "primes must each be a prime number in (2^20, 2^50) that is 1 modulo twice the degree");
  }
  PrimeTable table;
  table.modulus = make_modulus(p);
  table.root = smallest_root(p, 2 * degree);
  table.forward = powers(table.root, degree, p);
  table.inverse = powers(invert_public(table.root, p), degree, p);
  for (u64 k = 0, half = 1; k <= 14; ++k) {
    table.halves.push_back(make_factor(half, p));
    half = multiply_public(half, ((p + 1) / 2), p);
  }
  u64 remainder = 1;  // long division of 2^192 by p, limb by limb
  for (std::size_t limb = 3; limb-- > 0;) {
    const u128 dividend = static_cast<u128>(remainder) << 64;
    table.fraction[limb] = static_cast<u64>(dividend / p);
    remainder = static_cast<u64>(dividend % p);
  }
  return table;
}

// Cooley-Tukey butterflies that never reduce between levels. The product is below 2p whatever its
// operand, so a level adds less than 2p to every value: after at most 14 levels all are below 29p,
// which is below 2^55 and one call of reduce away from [0, p).
void forward_butterfly(u64& left, u64& right, const Factor& w, const Modulus& modulus) {
  const u64 product = modulus.multiply_lazy(right, w);  // below 2p
  right = left + 2 * modulus.p - product;
  left += product;
}

void forward_level(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length, int level) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t half = length >> (level + 1);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    u64* left = x + 2 * half * block;
    for (std::size_t i = 0; i < half; ++i) forward_butterfly(left[i], left[half + i], w, modulus);
  }
}

// Two levels in one pass: four values are loaded and stored once for four butterflies. Unrolled, the
// multiplications of one quadruple fill the waits of the other.
void forward_two_levels(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length,
                        int level) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t quarter = length >> (level + 2);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    const Factor low = twiddles[2 * (blocks + block)];
    const Factor high = twiddles[2 * (blocks + block) + 1];
    u64* first = x + 4 * quarter * block;
#pragma GCC unroll 2
    for (u64* end = first + quarter; first != end; ++first) {
      u64 a = first[0], b = first[quarter], c = first[2 * quarter], d = first[3 * quarter];
      forward_butterfly(a, c, w, modulus);
      forward_butterfly(b, d, w, modulus);
      forward_butterfly(a, b, low, modulus);
      forward_butterfly(c, d, high, modulus);
      first[0] = a;
      first[quarter] = b;
      first[2 * quarter] = c;
      first[3 * quarter] = d;
    }
  }
}

void forward_one(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const Modulus modulus = table.modulus;
  const Factor* twiddles = table.forward.data();
  int level = first;
  if ((last - first) % 2 != 0) forward_level(x, twiddles, modulus, length, level++);
  for (; level < last; level += 2) forward_two_levels(x, twiddles, modulus, length, level);
  for (std::size_t i = 0; i < length; ++i) x[i] = modulus.reduce(x[i]);
}

// Gentleman-Sande butterflies, lazy as well. A sum at most doubles the bound and a product is below
// 2p: after k levels all values are below 2^k p, at most 2^14 p < 2^64, so nothing wraps. The last
// multiplication takes any 64-bit value and reduces. `bound` is of the values that enter.
void inverse_butterfly(u64& left, u64& right, const Factor& w, u64 bound, const Modulus& modulus) {
  const u64 difference = left + bound - right;
  left += right;
  right = modulus.multiply_lazy(difference, w);
}

void inverse_level(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length, int level,
                   u64 bound) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t half = length >> (level + 1);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    u64* left = x + 2 * half * block;
    for (std::size_t i = 0; i < half; ++i) {
      inverse_butterfly(left[i], left[half + i], w, bound, modulus);
    }
  }
}

// Level + 1, then level, in one pass.
void inverse_two_levels(u64* x, const Factor* twiddles, Modulus modulus, std::size_t length,
                        int level, u64 bound) {
  const std::size_t blocks = std::size_t{1} << level;
  const std::size_t quarter = length >> (level + 2);
  for (std::size_t block = 0; block < blocks; ++block) {
    const Factor w = twiddles[blocks + block];
    const Factor low = twiddles[2 * (blocks + block)];
    const Factor high = twiddles[2 * (blocks + block) + 1];
    u64* first = x + 4 * quarter * block;
#pragma GCC unroll 2
    for (u64* end = first + quarter; first != end; ++first) {
      u64 a = first[0], b = first[quarter], c = first[2 * quarter], d = first[3 * quarter];
      inverse_butterfly(a, b, low, bound, modulus);
      inverse_butterfly(c, d, high, bound, modulus);
      inverse_butterfly(a, c, w, 2 * bound, modulus);
      inverse_butterfly(b, d, w, 2 * bound, modulus);
      first[0] = a;
      first[quarter] = b;
      first[2 * quarter] = c;
      first[3 * quarter] = d;
    }
  }
}

void inverse_one(u64* x, const PrimeTable& table, std::size_t length, int first, int last) {
  const Modulus modulus = table.modulus;
  const Factor* twiddles = table.inverse.data();
  u64 bound = modulus.p;
  int level = last;
  for (; level - first >= 2; bound *= 4) {
    level -= 2;
    inverse_two_levels(x, twiddles, modulus, length, level, bound);
  }
  if (level > first) inverse_level(x, twiddles, modulus, length, first, bound);
  const Factor scale = table.halves[static_cast<std::size_t>(last - first)];
  for (std::size_t i = 0; i < length; ++i) x[i] = modulus.multiply(x[i], scale);
}

// Rows are functions of their own, with arguments by value: a store of 64-bit words could otherwise
// change what a reference leads to, and the compiler would load it again each time.
void accumulate_row(u64* sum, const u64* left, const u64* right, std::size_t length,
                    Modulus modulus) {
  for (std::size_t i = 0; i < length; ++i) {
    sum[i] = modulus.reduce_wide(static_cast<u128>(left[i]) * right[i] + sum[i]);
  }
}

void add_row(u64* sum, const u64* other, std::size_t length, u64 p) {
  for (std::size_t i = 0; i < length; ++i) sum[i] = reduce_once(sum[i] + other[i], p);
}

void subtract_row(u64* sum, const u64* other, std::size_t length, u64 p) {
  for (std::size_t i = 0; i < length; ++i) sum[i] = reduce_once(sum[i] + p - other[i], p);
}

}  // namespace

Tables::Tables(std::size_t degree, const std::vector<u64>& primes) : degree_(degree) {
  if (degree < 8 || degree > 16384 || (degree & (degree - 1)) != 0) {
    throw std::invalid_argument("degree must be a power of two from 8 to 16384");
  }
  if (primes.empty() || primes.size() > 8) {
    throw std::invalid_argument("primes must hold one to eight primes");
  }
  for (const u64 p : primes) {
    if (std::count(primes.begin(), primes.end(), p) != 1) {
      throw std::invalid_argument("primes must be distinct");
    }
    tables_.push_back(make_table(degree, p));
    modulus_low_ *= p;
  }
  for (auto& table : tables_) {
    const u64 p = table.modulus.p;
    u64 others = 1;
    for (const u64 other : primes) {
      if (other != p) others = multiply_public(others, (other % p), p);
    }
    table.crt_inverse = make_factor(invert_public(others, p), p);
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
    const std::size_t prime = row % primes();
    accumulate_row(sum + row * length, left + row * length, right + prime * length, length,
                   tables_[prime].modulus);
  });
}

void Tables::add(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    add_row(sum + row * length, other + row * length, length, p);
  }
}

void Tables::subtract(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    subtract_row(sum + row * length, other + row * length, length, p);
  }
}

}  // namespace moiety
