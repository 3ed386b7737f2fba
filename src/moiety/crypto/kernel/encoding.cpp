#include "encoding.hpp"

#include <algorithm>
#include <atomic>

#include "parallel.hpp"
#include "paths.hpp"

namespace moiety {
void lift(u64* out, const i64* values, const Tables& tables, std::size_t count, std::size_t length,
          std::size_t threads) {
  const Path& path = active_path();
  const std::size_t primes = tables.primes();
  parallel_for(count * primes, threads, [&](std::size_t row) {
    path.lift(out + row * length, values + row / primes * length, length,
              tables.table(row % primes));
  });
}

void add_small(u64* sum, const i64* values, const Tables& tables, std::size_t count,
               std::size_t length, std::size_t threads) {
  const Path& path = active_path();
  const std::size_t primes = tables.primes();
  parallel_for(count * primes, threads, [&](std::size_t row) {
    const u64 p = tables.table(row % primes).modulus.p;
    path.add_small(sum + row * length, values + row / primes * length, length, p);
  });
}

void encode(u64* out, const u64* messages, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t threads) {
  const Path& path = active_path();
  const std::size_t primes = tables.primes();
  parallel_for(count * primes, threads, [&](std::size_t row) {
    path.encode(out + row * length, messages + row / primes * length, length,
                tables.modulus_low(), tables.table(row % primes));
  });
}

void round_to_share(u64* out, const u64* residues, const Tables& tables, std::size_t count,
                    std::size_t length, std::size_t threads) {
  const Path& path = active_path();
  const std::size_t tiles = (length + kRounded - 1) / kRounded;
  parallel_for(count * tiles, threads, [&](std::size_t task) {
    const std::size_t polynomial = task / tiles;
    const std::size_t begin = task % tiles * kRounded;
    path.round(out + polynomial * length + begin,
               residues + polynomial * tables.primes() * length + begin,
               std::min(kRounded, length - begin), length, &tables.table(0), tables.primes());
  });
}

void cut(unsigned char* out, const u64* residues, const Tables& tables, std::size_t count,
         std::size_t length, std::size_t width, std::size_t threads) {
  const Path& path = active_path();
  const std::size_t tasks = (length + kCutTask - 1) / kCutTask;
  parallel_for(count * tasks, threads, [&](std::size_t task) {
    const std::size_t polynomial = task / tasks;
    const std::size_t begin = task % tasks * kCutTask;
    path.cut(out + (polynomial * length + begin) * width,
             residues + polynomial * tables.primes() * length + begin,
             std::min(kCutTask, length - begin), length, tables, width);
  });
}

void restore(u64* out, const unsigned char* bytes, const Tables& tables, std::size_t count,
             std::size_t length, std::size_t width, std::size_t threads) {
  const Path& path = active_path();
  const std::size_t tasks = (length + kCutTask - 1) / kCutTask;
  parallel_for(count * tasks, threads, [&](std::size_t task) {
    const std::size_t polynomial = task / tasks;
    const std::size_t begin = task % tasks * kCutTask;
    path.restore(out + polynomial * tables.primes() * length + begin,
                 bytes + (polynomial * length + begin) * width, std::min(kCutTask, length - begin),
                 length, tables, width);
  });
}

void pack(unsigned char* out, const u64* values, std::size_t count, std::size_t width,
          std::size_t threads) {
  const Path& path = active_path();
  parallel_ranges(count, threads, [&](std::size_t begin, std::size_t end) {
    path.pack(out + begin * width, values + begin, end - begin, width);
  });
}

bool unpack(u64* out, const unsigned char* bytes, const Tables& tables, std::size_t count,
            std::size_t length, std::size_t width, std::size_t threads) {
  std::atomic<bool> in_range{true};
  const Path& path = active_path();
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const u64 p = tables.table(row % tables.primes()).modulus.p;
    const unsigned char* source = bytes + row * length * width;
    if (!path.unpack(out + row * length, source, length, width, p)) in_range = false;
  });
  return in_range;
}

}  // namespace moiety
