// The negacyclic number-theoretic transform and what is done point by point in its domain.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "modular.hpp"

namespace moiety {

using Limbs = std::array<u64, 3>;  // a 192-bit number, low limb first

// A constant factor w < p with floor(w 2^52 / p).
struct Factor52 {
  u64 value = 0;
  u64 quotient = 0;
};

// The same factors in two rows, for loads of several at once.
struct Factors52 {
  std::vector<u64> values;
  std::vector<u64> quotients;
};

// One prime's constants for paths that multiply 52 bits.
struct Prime52 {
  u64 p = 0;
  u64 barrett = 0;       // floor(2^52 / p)
  u64 barrett64 = 0;     // floor(2^64 / p)
  u64 wide_barrett = 0;  // floor(2^(52 + shift) / p), below 2^52; shift as in Modulus
  unsigned shift = 0;
  Factor52 two52;        // 2^52 mod p
  Factor52 two104;       // 2^104 mod p
  Factor52 inverse64;    // 2^-64 mod p
  Factor52 inverse12;    // 2^-12 mod p
  Factor52 crt_inverse;  // (q / p)^-1 mod p
  std::array<u64, 4> fraction{};     // floor(2^192 / p) in limbs of 52 bits, low limb first
  std::array<u64, 4> fraction208{};  // floor(2^208 / p), the same
  std::array<Factor52, 3> restore{};  // 2^-156, 2^-104 and 2^-52 mod p
  Factors52 forward;
  Factors52 inverse;
  Factors52 halves;
};

// The same factors as doubles, with factor / p.
struct RealFactors {
  std::vector<double> values;
  std::vector<double> ratios;
};

struct RealTables {
  RealFactors forward;
  RealFactors inverse;
  RealFactors halves;
};

struct PrimeTable {
  Modulus modulus;
  u64 root = 0;                  // smallest primitive 2N-th root of unity
  std::vector<Factor> forward;   // psi^bitrev(j)
  std::vector<Factor> inverse;   // psi^-bitrev(j)
  std::vector<Factor> halves;    // 2^-k
  Factor crt_inverse;            // (q / p)^-1 mod p
  Limbs fraction{};              // floor(2^192 / p)
  Limbs fraction208{};           // floor(2^208 / p), below 2^188
  std::array<Factor, 3> restore;  // 2^-192, 2^-128 and 2^-64 mod p
  Prime52 words52;
  RealTables reals;
};

// Tables for one degree and a list of primes. Polynomials: (count, primes, length), row-major.
class Tables {
 public:
  Tables(std::size_t degree, const std::vector<u64>& primes);

  std::size_t degree() const { return degree_; }
  std::size_t primes() const { return tables_.size(); }
  const PrimeTable& table(std::size_t prime) const { return tables_[prime]; }
  u64 modulus_low() const { return modulus_[0]; }
  const Limbs& modulus() const { return modulus_; }

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
  Limbs modulus_{1, 0, 0};  // q mod 2^192
};

}  // namespace moiety
