// The portable path, in plain C++. The other paths end their rows with it, and their tests compare.
#pragma once

#include "paths.hpp"

namespace moiety::portable {

void forward(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
void inverse(u64* x, const PrimeTable& table, std::size_t length, int first, int last);
void accumulate(u64* sum, const u64* left, const u64* right, std::size_t length,
                const PrimeTable& table);
void add(u64* sum, const u64* other, std::size_t length, u64 p);
void subtract(u64* sum, const u64* other, std::size_t length, u64 p);
void add_small(u64* sum, const i64* values, std::size_t length, u64 p);
void lift(u64* out, const i64* values, std::size_t length, const PrimeTable& table);
void encode(u64* out, const u64* messages, std::size_t length, u64 modulus_low,
            const PrimeTable& table);
void round(u64* out, const u64* residues, std::size_t used, std::size_t stride,
           const PrimeTable* tables, std::size_t primes);
void cut(unsigned char* out, const u64* residues, std::size_t used, std::size_t stride,
         const Tables& tables, std::size_t width);
void restore(u64* out, const unsigned char* bytes, std::size_t used, std::size_t stride,
             const Tables& tables, std::size_t width);
void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width);
bool unpack(u64* out, const unsigned char* bytes, std::size_t length, std::size_t width, u64 p);
bool uniform(u64* out, const u64* words, std::size_t given, std::size_t length,
             const PrimeTable& table);
bool ternary(i64* out, const unsigned char* bytes, std::size_t given, std::size_t length);
void gaussian(i64* out, const u64* words, std::size_t count, const u64* thresholds,
              std::size_t entries);
std::size_t product_scratch(const ProductShape& shape);
void product(u64* out, const u64* multipliers, const u64* ciphertexts, const PrimeTable& table,
             const ProductShape& shape, const ProductTask& task, u64* scratch);
void matmul_i64(u64* out, const i64* left, const u64* right, std::size_t d, std::size_t k);
void matmul_i16(u64* out, const std::int16_t* left, const u64* right, std::size_t d,
                std::size_t k);

}  // namespace moiety::portable
