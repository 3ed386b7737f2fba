#include "sampling.hpp"

#include <atomic>

#include "parallel.hpp"
#include "paths.hpp"

namespace moiety {

bool uniform(u64* out, const u64* words, const Tables& tables, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads) {
  const Path& path = active_path();
  std::atomic<bool> enough{true};
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const PrimeTable& table = tables.table(row % tables.primes());
    if (!path.uniform(out + row * length, words + row * given, given, length, table)) {
      enough = false;
    }
  });
  return enough;
}

bool ternary(i64* out, const unsigned char* bytes, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads) {
  const Path& path = active_path();
  std::atomic<bool> enough{true};
  parallel_for(count, threads, [&](std::size_t row) {
    if (!path.ternary(out + row * length, bytes + row * given, given, length)) enough = false;
  });
  return enough;
}

void gaussian(i64* out, const u64* words, const u64* thresholds, std::size_t count,
              std::size_t entries, std::size_t threads) {
  const Path& path = active_path();
  parallel_ranges(count, threads, [&](std::size_t begin, std::size_t end) {
    path.gaussian(out + begin, words + begin, end - begin, thresholds, entries);
  });
}

}  // namespace moiety
