#include "sampling.hpp"

#include <atomic>

#include "parallel.hpp"

namespace moiety {

// A candidate is written before it is known to be accepted, and the place moves on only if it was:
// the place depends on rejected candidates alone, which are independent of the accepted ones.
bool uniform(u64* out, const u64* words, const Tables& tables, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads) {
  std::atomic<bool> enough{true};
  parallel_for(count * tables.primes(), threads, [&](std::size_t row) {
    const Modulus& modulus = tables.table(row % tables.primes()).modulus;
    const u64 limit = modulus.p * modulus.barrett;  // the largest multiple of p below 2^64
    std::size_t place = 0;
    for (std::size_t i = 0; i < given && place < length; ++i) {
      const u64 word = words[row * given + i];
      out[row * length + place] = modulus.reduce(word);
      place += static_cast<std::size_t>(word < limit);
    }
    if (place < length) enough = false;
  });
  return enough;
}

bool ternary(i64* out, const unsigned char* bytes, std::size_t count, std::size_t given,
             std::size_t length, std::size_t threads) {
  std::atomic<bool> enough{true};
  parallel_for(count, threads, [&](std::size_t row) {
    std::size_t place = 0;
    for (std::size_t i = 0; i < given && place < length; ++i) {
      const unsigned byte = bytes[row * given + i];
      const unsigned third = (byte * 171U) >> 9;  // floor(byte / 3) for byte < 256
      out[row * length + place] = static_cast<i64>(byte - 3 * third) - 1;
      place += static_cast<std::size_t>(byte < 255U);
    }
    if (place < length) enough = false;
  });
  return enough;
}

void gaussian(i64* out, const u64* words, const u64* thresholds, std::size_t count,
              std::size_t entries, std::size_t threads) {
  parallel_for(threads, threads, [&](std::size_t part) {
    for (std::size_t i = count * part / threads; i < count * (part + 1) / threads; ++i) {
      const u64 uniform_63 = words[i] >> 1;
      u64 magnitude = 0;
      // Both are below 2^63, so the top bit of the difference tells which is larger.
      for (std::size_t t = 0; t < entries; ++t) {
        magnitude += 1 - ((uniform_63 - thresholds[t]) >> 63);
      }
      const u64 sign = u64{0} - (words[i] & 1);
      out[i] = static_cast<i64>((magnitude ^ sign) - sign);
    }
  });
}

}  // namespace moiety
