#include "product.hpp"

#include <algorithm>
#include <type_traits>

#include "parallel.hpp"
#include "paths.hpp"

namespace moiety {

void subring_product(u64* out, const u64* multipliers, const u64* ciphertexts,
                     const Tables& tables, const ProductShape& shape, std::size_t threads) {
  const std::size_t tiles = (shape.column_length + kFrequencies - 1) / kFrequencies;
  const Path& path = active_path();
  parallel_for(tables.primes() * tiles, threads, [&](std::size_t i) {
    const std::size_t first = i % tiles * kFrequencies;
    const std::size_t last = std::min(first + kFrequencies, shape.column_length);
    const ProductTask task{i / tiles, first, last};
    path.product(out, multipliers, ciphertexts, tables.table(task.prime), shape, task);
  });
}

template <typename T>
void matmul(u64* out, const T* left, const u64* right, std::size_t n, std::size_t d, std::size_t k,
            std::size_t threads) {
  const Path& path = active_path();
  parallel_for(n, threads, [&](std::size_t row) {
    if constexpr (std::is_same_v<T, i64>) {
      path.matmul_i64(out + row * k, left + row * d, right, d, k);
    } else {
      path.matmul_i16(out + row * k, left + row * d, right, d, k);
    }
  });
}

template void matmul<i64>(u64*, const i64*, const u64*, std::size_t, std::size_t, std::size_t,
                          std::size_t);
template void matmul<std::int16_t>(u64*, const std::int16_t*, const u64*, std::size_t, std::size_t,
                                   std::size_t, std::size_t);

}  // namespace moiety
