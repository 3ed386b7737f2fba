// The negacyclic number-theoretic transform, and products in its domain.
#pragma once

#include <cstddef>
#include <vector>

#include "modular.hpp"

namespace moiety {

struct PrimeTable {
  Modulus modulus;
  u64 root = 0;                  // smallest primitive 2N-th root of unity
  std::vector<Factor> forward;   // psi^bitrev(j)
  std::vector<Factor> inverse;   // psi^-bitrev(j)
  std::vector<Factor> halves;    // 2^-k
  Factor crt_inverse;            // (q / p)^-1 mod p
  u64 fraction[3] = {0, 0, 0};   // floor(2^192 / p), low limb first
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
  void multiply_accumulate(u64* sum, const u64* left, const u64* right, std::size_t count,
                           std::size_t length, std::size_t threads) const;
  void add(u64* sum, const u64* other, std::size_t count, std::size_t length) const;
  void subtract(u64* sum, const u64* other, std::size_t count, std::size_t length) const;

  // out[g,c,p,f l + i] = sum over b of multipliers[g,b,p,f] ciphertexts[b,c,p,f l + i].
  void subring_product(u64* out, const u64* multipliers, const u64* ciphertexts, std::size_t groups,
                       std::size_t blocks, std::size_t column_length, std::size_t length,
                       std::size_t threads) const;

 private:
  std::size_t degree_;
  std::vector<PrimeTable> tables_;
  u64 modulus_low_ = 1;  // q mod 2^64
};

}  // namespace moiety
