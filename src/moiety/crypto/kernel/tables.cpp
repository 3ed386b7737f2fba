#include <algorithm>
#include <stdexcept>

#include "transform.hpp"

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

// floor(floor(w 2^64 / p) / 2^12) is floor(w 2^52 / p).
Factor52 shorten(const Factor& factor) { return {factor.value, factor.quotient >> 12}; }

std::vector<Factor> powers(u64 root, std::size_t degree, u64 p) {
  std::vector<Factor> result(degree);
  u64 value = 1;
  for (std::size_t i = 0; i < degree; ++i) {
    result[reversed(i, log2_of(degree))] = make_factor(value, p);
    value = multiply_public(value, root, p);
  }
  return result;
}

Factors52 factors52(const std::vector<Factor>& factors) {
  Factors52 result;
  for (const Factor& factor : factors) {
    result.values.push_back(factor.value);
    result.quotients.push_back(shorten(factor).quotient);
  }
  return result;
}

// Exact values below 2^50, and ratios with an error of half a unit in the last place.
RealFactors real_factors(const std::vector<Factor>& factors, u64 p) {
  RealFactors result;
  for (const Factor& factor : factors) {
    result.values.push_back(static_cast<double>(factor.value));
    result.ratios.push_back(static_cast<double>(factor.value) / static_cast<double>(p));
  }
  return result;
}

Factor52 power_of_two52(u64 base, u64 exponent, u64 p) {
  return shorten(make_factor(power_public(base, exponent, p), p));
}

// Limbs of 52 bits of a 192-bit number.
std::array<u64, 4> limbs52(const Limbs& limbs) {
  const u64 mask = (u64{1} << 52) - 1;
  return {limbs[0] & mask, (limbs[0] >> 52 | limbs[1] << 12) & mask,
          (limbs[1] >> 40 | limbs[2] << 24) & mask, limbs[2] >> 28};
}

// floor(remainder 2^192 / p) for a remainder below p: long division, limb by limb.
Limbs divide(u64 remainder, u64 p) {
  Limbs quotient{};
  for (std::size_t limb = 3; limb-- > 0;) {
    const u128 dividend = static_cast<u128>(remainder) << 64;
    quotient[limb] = static_cast<u64>(dividend / p);
    remainder = static_cast<u64>(dividend % p);
  }
  return quotient;
}

void multiply_limbs(Limbs& number, u64 factor) {
  u128 carry = 0;
  for (u64& limb : number) {
    carry += static_cast<u128>(limb) * factor;
    limb = static_cast<u64>(carry);
    carry >>= 64;
  }
}

// All but what depends on the other primes.
Prime52 make_words52(const PrimeTable& table) {
  const u64 p = table.modulus.p;
  const u64 half = (p + 1) / 2;
  Prime52 result;
  result.p = p;
  result.barrett = (u64{1} << 52) / p;
  result.barrett64 = table.modulus.barrett;
  result.shift = table.modulus.shift;
  result.wide_barrett = table.modulus.wide_barrett >> 12;
  result.two52 = power_of_two52(2, 52, p);
  result.two104 = power_of_two52(2, 104, p);
  result.inverse64 = power_of_two52(half, 64, p);
  result.inverse12 = power_of_two52(half, 12, p);
  result.fraction = limbs52(table.fraction);
  result.fraction208 = limbs52(table.fraction208);
  result.restore = {power_of_two52(half, 156, p), power_of_two52(half, 104, p),
                    power_of_two52(half, 52, p)};
  result.forward = factors52(table.forward);
  result.inverse = factors52(table.inverse);
  result.halves = factors52(table.halves);
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
  table.fraction = divide(1, p);
  table.fraction208 = divide(u64{1} << 16, p);
  for (std::size_t limb = 0; limb < 3; ++limb) {
    table.restore[limb] = make_factor(power_public((p + 1) / 2, 192 - 64 * limb, p), p);
  }
  table.words52 = make_words52(table);
  table.reals = {real_factors(table.forward, p), real_factors(table.inverse, p),
                 real_factors(table.halves, p)};
  return table;
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
    multiply_limbs(modulus_, p);
  }
  for (auto& table : tables_) {
    const u64 p = table.modulus.p;
    u64 others = 1;
    for (const u64 other : primes) {
      if (other != p) others = multiply_public(others, (other % p), p);
    }
    table.crt_inverse = make_factor(invert_public(others, p), p);
    table.words52.crt_inverse = shorten(table.crt_inverse);
  }
}

}  // namespace moiety
