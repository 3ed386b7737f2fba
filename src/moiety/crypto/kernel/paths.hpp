// Loops that exist for more than one instruction set, and the choice among them at run time.
//
// Every path gives the same integers: residues are fully reduced wherever a function returns.
#pragma once

#include <cstddef>
#include <cstdint>

#include "transform.hpp"

namespace moiety {

struct ProductShape {
  std::size_t groups = 0;         // rows of the left matrix
  std::size_t blocks = 0;         // length of the sum, at most kLongestSum
  std::size_t column_length = 0;  // frequencies M
  std::size_t length = 0;         // M l
  std::size_t primes = 0;
};

// Some frequencies of one prime of a sub-ring product.
struct ProductTask {
  std::size_t prime = 0;
  std::size_t first = 0;
  std::size_t last = 0;  // at most kFrequencies after first
};

constexpr std::size_t kRounded = 64;     // most coefficients of one tile of round
constexpr std::size_t kCutTask = 2048;   // coefficients of one task of cut and restore
constexpr std::size_t kCutBytes = 26;    // of the number whose topmost bytes cut keeps
constexpr std::size_t kFrequencies = 8;  // of one task: multipliers of one cache line

// One row, tile or task at a time; what they mean is said where the functions of all threads are
// declared. Output never overlaps input, but for pointwise functions called in place.
struct Path {
  const char* name;
  void (*forward)(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
  void (*inverse)(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
  void (*accumulate)(u64* sum, const u64* left, const u64* right, std::size_t length,
                     const PrimeTable& table);
  void (*add)(u64* sum, const u64* other, std::size_t length, u64 p);
  void (*subtract)(u64* sum, const u64* other, std::size_t length, u64 p);
  void (*add_small)(u64* sum, const i64* values, std::size_t length, u64 p);
  void (*lift)(u64* out, const i64* values, std::size_t length, const PrimeTable& table);
  void (*encode)(u64* out, const u64* messages, std::size_t length, u64 modulus_low,
                 const PrimeTable& table);
  // `used` coefficients of one polynomial, whose residue rows are `stride` words apart.
  void (*round)(u64* out, const u64* residues, std::size_t used, std::size_t stride,
                const PrimeTable* tables, std::size_t primes);
  // As round: `used` coefficients, residue rows `stride` words apart.
  void (*cut)(unsigned char* out, const u64* residues, std::size_t used, std::size_t stride,
              const Tables& tables, std::size_t width);
  void (*restore)(u64* out, const unsigned char* bytes, std::size_t used, std::size_t stride,
                  const Tables& tables, std::size_t width);
  void (*pack)(unsigned char* out, const u64* values, std::size_t count, std::size_t width);
  bool (*unpack)(u64* out, const unsigned char* bytes, std::size_t length, std::size_t width,
                 u64 p);
  bool (*uniform)(u64* out, const u64* words, std::size_t given, std::size_t length,
                  const PrimeTable& table);
  bool (*ternary)(i64* out, const unsigned char* bytes, std::size_t given, std::size_t length);
  void (*gaussian)(i64* out, const u64* words, std::size_t count, const u64* thresholds,
                   std::size_t entries);
  // `scratch` has as many words as product_scratch says and is aligned to a cache line.
  std::size_t (*product_scratch)(const ProductShape& shape);
  void (*product)(u64* out, const u64* multipliers, const u64* ciphertexts,
                  const PrimeTable& table, const ProductShape& shape, const ProductTask& task,
                  u64* scratch);
  void (*matmul_i64)(u64* out, const i64* left, const u64* right, std::size_t d, std::size_t k);
  void (*matmul_i16)(u64* out, const std::int16_t* left, const u64* right, std::size_t d,
                     std::size_t k);
};

const Path& portable_path();
const Path& avx2_path();    // these two only where the build has them
const Path& avx512_path();

// Paths that this build and this processor have, the fastest first; the last is the portable one.
std::size_t path_count();
const Path& path_at(std::size_t place);

// The path in use: the fastest, unless choose_path was called (by tests only; not while others work).
const Path& active_path();
void choose_path(std::size_t place);

}  // namespace moiety
