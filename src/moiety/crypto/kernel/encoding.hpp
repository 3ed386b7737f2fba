// Between ring integers, small integers, residues and bytes.
#pragma once

#include "transform.hpp"

namespace moiety {

// Signed integers to residues.
void lift(u64* out, const i64* values, const Tables& tables, std::size_t count, std::size_t length,
          std::size_t threads);

// sum += values modulo each prime, for |value| <= 2^20.
void add_small(u64* sum, const i64* values, const Tables& tables, std::size_t count,
               std::size_t length, std::size_t threads);

// m -> round(m q / 2^64) modulo each prime.
void encode(u64* out, const u64* messages, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t threads);

// x modulo q -> floor(x 2^64 / q + 1/2) modulo 2^64.
void round_to_share(u64* out, const u64* residues, const Tables& tables, std::size_t count,
                    std::size_t length, std::size_t threads);

// x modulo q -> x 2^(8 width) / q rounded, modulo 2^(8 width), in `width` little-endian bytes: the topmost
// bytes of sum of y floor(2^208 / p), with y = x (q / p)^-1 mod p, after half a unit is added. The sum is
// below x 2^208 / q by less than 2^50 for each prime.
void cut(unsigned char* out, const u64* residues, const Tables& tables, std::size_t count,
         std::size_t length, std::size_t width, std::size_t threads);

// m in `width` bytes -> floor(m q / 2^(8 width) + 1/2) modulo each prime.
void restore(u64* out, const unsigned char* bytes, const Tables& tables, std::size_t count,
             std::size_t length, std::size_t width, std::size_t threads);

// Residues below their primes to `width` little-endian bytes each.
void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width,
          std::size_t threads);

// Returns whether every residue is below its prime.
bool unpack(u64* out, const unsigned char* bytes, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t width, std::size_t threads);

}  // namespace moiety
