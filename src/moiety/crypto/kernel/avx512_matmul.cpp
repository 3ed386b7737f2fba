// The ring's matrix product, one row at a time.
#include "avx512.hpp"
#include "avx512_path.hpp"

namespace moiety {
namespace {

constexpr std::size_t kVectors = 4;  // sums of one row held in registers

// 32 neighbouring sums of one row.
template <typename T>
void multiply_wide(u64* out, const T* left, const u64* right, std::size_t d, std::size_t k) {
  Lanes sums[kVectors] = {zero(), zero(), zero(), zero()};
  for (std::size_t j = 0; j < d; ++j, right += k) {
    const Lanes factor = all(static_cast<u64>(static_cast<i64>(left[j])));
#pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[v] = plus(sums[v], _mm512_mullo_epi64(factor, load(right + v * kLanes)));
    }
  }
#pragma GCC unroll 4
  for (std::size_t v = 0; v < kVectors; ++v) store(out + v * kLanes, sums[v]);
}

// The sums of one row at the places of `used`.
template <typename T>
void multiply_narrow(u64* out, const T* left, const u64* right, std::size_t d, std::size_t k,
                     __mmask8 used) {
  Lanes sum = zero();
  for (std::size_t j = 0; j < d; ++j, right += k) {
    const Lanes factor = all(static_cast<u64>(static_cast<i64>(left[j])));
    sum = plus(sum, _mm512_mullo_epi64(factor, _mm512_maskz_loadu_epi64(used, right)));
  }
  _mm512_mask_storeu_epi64(out, used, sum);
}

template <typename T>
void multiply_row(u64* out, const T* left, const u64* right, std::size_t d, std::size_t k) {
  std::size_t column = 0;
  for (; column + kVectors * kLanes <= k; column += kVectors * kLanes) {
    multiply_wide(out + column, left, right + column, d, k);
  }
  for (; column < k; column += kLanes) {
    const std::size_t lanes = k - column < kLanes ? k - column : kLanes;
    const __mmask8 used = static_cast<__mmask8>((1U << lanes) - 1);
    multiply_narrow(out + column, left, right + column, d, k, used);
  }
}

}  // namespace

namespace avx512 {

void matmul_i64(u64* out, const i64* left, const u64* right, std::size_t d, std::size_t k) {
  multiply_row(out, left, right, d, k);
}

void matmul_i16(u64* out, const std::int16_t* left, const u64* right, std::size_t d,
                std::size_t k) {
  multiply_row(out, left, right, d, k);
}

}  // namespace avx512
}  // namespace moiety
