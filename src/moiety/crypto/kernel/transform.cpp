#include "transform.hpp"

#include "parallel.hpp"
#include "paths.hpp"

namespace moiety {
void Tables::forward(u64* data, std::size_t count, std::size_t length, int first, int last,
                     std::size_t threads) const {
  const Path& path = active_path();
  parallel_for(count * primes(), threads, [&](std::size_t i) {
    path.forward(data + i * length, tables_[i % primes()], length, first, last);
  });
}

void Tables::inverse(u64* data, std::size_t count, std::size_t length, int first, int last,
                     std::size_t threads) const {
  const Path& path = active_path();
  parallel_for(count * primes(), threads, [&](std::size_t i) {
    path.inverse(data + i * length, tables_[i % primes()], length, first, last);
  });
}

void Tables::multiply_accumulate(u64* sum, const u64* left, const u64* right, std::size_t count,
                                 std::size_t length, std::size_t threads) const {
  const Path& path = active_path();
  parallel_for(count * primes(), threads, [&](std::size_t row) {
    const std::size_t prime = row % primes();
    path.accumulate(sum + row * length, left + row * length, right + prime * length, length,
                    tables_[prime]);
  });
}

void Tables::add(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  const Path& path = active_path();
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    path.add(sum + row * length, other + row * length, length, p);
  }
}

void Tables::subtract(u64* sum, const u64* other, std::size_t count, std::size_t length) const {
  const Path& path = active_path();
  for (std::size_t row = 0; row < count * primes(); ++row) {
    const u64 p = tables_[row % primes()].modulus.p;
    path.subtract(sum + row * length, other + row * length, length, p);
  }
}

}  // namespace moiety
