#include <algorithm>

#include "portable.hpp"

namespace moiety {
namespace {

// Rows are functions of their own, with arguments by value: a store of 64-bit words could otherwise
// change what a reference leads to, and the compiler would load it again each time.
//
// A candidate is written before it is known to be accepted, and the place moves on only if it was:
// the place depends on rejected candidates alone, which are independent of the accepted ones.
bool uniform_row(u64* out, const u64* words, std::size_t given, std::size_t length,
                 Modulus modulus) {
  const u64 limit = modulus.p * modulus.barrett;  // the largest multiple of p below 2^64
  std::size_t place = 0;
  for (std::size_t i = 0; i < given && place < length; ++i) {
    const u64 word = words[i];
    out[place] = modulus.reduce(word);
    place += static_cast<std::size_t>(word < limit);
  }
  return place == length;
}

using Pair = u64 __attribute__((vector_size(16)));  // two lanes: SSE2 and NEON both have them
constexpr std::size_t kPairs = 4;                   // few enough to stay in registers
constexpr std::size_t kSamples = 2 * kPairs;

// u = word >> 1 is below 2^63 and a threshold t at most 2^63, so the top bit of u - t is set when
// u < t and else clear: no comparison and no branch.
void gaussian_tile(i64* out, const u64* words, const u64* thresholds, std::size_t entries) {
  Pair uniform_63[kPairs];
  Pair above[kPairs] = {};
  for (std::size_t i = 0; i < kPairs; ++i) {
    uniform_63[i] = Pair{words[2 * i], words[2 * i + 1]} >> 1;
  }
  for (std::size_t t = 0; t < entries; ++t) {
    const Pair threshold = {thresholds[t], thresholds[t]};
    for (std::size_t i = 0; i < kPairs; ++i) above[i] += (uniform_63[i] - threshold) >> 63;
  }
  for (std::size_t i = 0; i < kSamples; ++i) {
    const u64 sign = u64{0} - (words[i] & 1);
    out[i] = static_cast<i64>(((entries - above[i / 2][i % 2]) ^ sign) - sign);
  }
}

}  // namespace

namespace portable {

bool uniform(u64* out, const u64* words, std::size_t given, std::size_t length,
             const PrimeTable& table) {
  return uniform_row(out, words, given, length, table.modulus);
}

bool ternary(i64* out, const unsigned char* bytes, std::size_t given, std::size_t length) {
  std::size_t place = 0;
  for (std::size_t i = 0; i < given && place < length; ++i) {
    const unsigned byte = bytes[i];
    const unsigned third = (byte * 171U) >> 9;  // floor(byte / 3) for byte < 256
    out[place] = static_cast<i64>(byte - 3 * third) - 1;
    place += static_cast<std::size_t>(byte < 255U);
  }
  return place == length;
}

void gaussian(i64* out, const u64* words, std::size_t count, const u64* thresholds,
              std::size_t entries) {
  std::size_t i = 0;
  for (; i + kSamples <= count; i += kSamples) {
    gaussian_tile(out + i, words + i, thresholds, entries);
  }
  u64 rest[kSamples] = {};
  i64 samples[kSamples];
  std::copy_n(words + i, count - i, rest);
  gaussian_tile(samples, rest, thresholds, entries);
  std::copy_n(samples, count - i, out + i);
}

}  // namespace portable
}  // namespace moiety
