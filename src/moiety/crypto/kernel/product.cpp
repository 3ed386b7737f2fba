#include "product.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>

#include "parallel.hpp"
#include "paths.hpp"

namespace moiety {
namespace {

constexpr std::size_t kCacheLine = 64;

// Words that are not filled, aligned to a cache line.
class Scratch {
 public:
  explicit Scratch(std::size_t words)
      : memory_(new unsigned char[words * sizeof(u64) + kCacheLine]) {
    void* start = memory_.get();
    std::size_t space = words * sizeof(u64) + kCacheLine;
    words_ = static_cast<u64*>(std::align(kCacheLine, words * sizeof(u64), start, space));
  }

  u64* words() const { return words_; }

 private:
  std::unique_ptr<unsigned char[]> memory_;
  u64* words_;
};

}  // namespace

void subring_product(u64* out, const u64* multipliers, const u64* ciphertexts,
                     const Tables& tables, const ProductShape& shape, std::size_t threads) {
  const std::size_t tiles = (shape.column_length + kFrequencies - 1) / kFrequencies;
  const Path& path = active_path();
  parallel_ranges(tables.primes() * tiles, threads, [&](std::size_t begin, std::size_t end) {
    const Scratch scratch(path.product_scratch(shape));
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t first = i % tiles * kFrequencies;
      const std::size_t last = std::min(first + kFrequencies, shape.column_length);
      const ProductTask task{i / tiles, first, last};
      path.product(out, multipliers, ciphertexts, tables.table(task.prime), shape, task,
                   scratch.words());
    }
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
