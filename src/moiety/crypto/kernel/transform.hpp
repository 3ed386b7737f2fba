// The negacyclic number-theoretic transform and what is done point by point in its domain.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "modular.hpp"

namespace moiety {

using Limbs = std::array<u64, 3>;  // a 192-bit number, low limb first

struct PrimeTable {
  Modulus modulus;
  u64 root = 0;                  // smallest primitive 2N-th root of unity
  std::vector<Factor> forward;   // psi^bitrev(j)
  std::vector<Factor> inverse;   // psi^-bitrev(j)
  std::vector<Factor> halves;    // 2^-k
  Factor crt_inverse;            // (q / p)^-1 mod p
  Limbs fraction{};              // floor(2^192 / p)
};

// Tables for one degree and a list of primes. Polynomials: (count, primes, length), row-major.
class Tables {
 public:
  Tables(std::size_t degree, const std::vector<u64>& primes);

  std::size_t degree() const { return degree_; }
  std::size_t primes() const { return tables_.size(); }
  const PrimeTable& table(std::size_t prime) const { return tables_[prime]; }
  u64 modulus_low() const { return modulus_low_; }

  // Levels first..last-1 of the transform of each polynomial, in place; reduced in, reduced out.
  void forward(u64* data, std::size_t count, std::size_t length, int first, int last,
               std::size_t threads) const;
  void inverse(u64* data, std::size_t count, std::size_t length, int first, int last,
               std::size_t threads) const;
  // sum += left right, where right is one polynomial for all.
  void multiply_accumulate(u64* sum, const u64* left, const u64* right, std::size_t count,
                           std::size_t length, std::size_t threads) const;
  void add(u64* sum, const u64* other, std::size_t count, std::size_t length) const;
  void subtract(u64* sum, const u64* other, std::size_t count, std::size_t length) const;

 private:
  std::size_t degree_;
  std::vector<PrimeTable> tables_;
  u64 modulus_low_ = 1;  // q mod 2^64
};

}  // namespace moiety
