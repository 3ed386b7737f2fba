#include <algorithm>

#include "portable.hpp"

namespace moiety {
namespace {

constexpr std::size_t kPackedWords = 1 << 16;  // packed multipliers of one task: half a MiB
constexpr std::size_t kFewestGroups = 16;      // fewer would pack the ciphertexts too often

// kRows by two sums of products, reduced. Kept out of line: on its own, all eight words of the four
// sums stay in registers; nothing is reduced before the end.
template <std::size_t kRows>
[[gnu::noinline]] void multiply_panels(u64 (&results)[kRows][2], const u64* rows,
                                       const u64* columns, std::size_t blocks,
                                       const Modulus& modulus) {
  u128 sums[kRows][2] = {};
  for (const u64* end = rows + 2 * blocks; rows != end; rows += 2, columns += 2) {
    for (std::size_t g = 0; g < kRows; ++g) {
      sums[g][0] += static_cast<u128>(rows[g]) * columns[0];
      sums[g][1] += static_cast<u128>(rows[g]) * columns[1];
    }
  }
  const Modulus local = modulus;
  for (std::size_t g = 0; g < kRows; ++g) {
    results[g][0] = local.reduce_wide(sums[g][0]);
    results[g][1] = local.reduce_wide(sums[g][1]);
  }
}

// One task: some frequencies of one prime. At each, a matrix (groups x blocks) times a matrix
// (blocks x 2 l). Both are first copied into panels of two rows or columns that the inner loop
// reads in order; a panel of rows holds [block][2], and so does a panel of columns.
class FrequencyProduct {
 public:
  FrequencyProduct(u64* out, const u64* multipliers, const u64* ciphertexts, const PrimeTable& table,
                   const ProductShape& shape, std::size_t prime, u64* scratch)
      : out_(out),
        multipliers_(multipliers),
        ciphertexts_(ciphertexts),
        table_(table),
        shape_(shape),
        prime_(prime),
        slots_(shape.length / shape.column_length),
        group_step_(group_step(shape)),
        offsets_(scratch),
        columns_(offsets_ + 2 * slots_),
        rows_(columns_ + 2 * slots_ * shape.blocks) {}

  static std::size_t scratch_words(const ProductShape& shape) {
    const std::size_t columns = 2 * (shape.length / shape.column_length);
    const std::size_t rows = std::min(group_step(shape), shape.groups) + 1;
    return columns + (columns + kFrequencies * rows) * shape.blocks;
  }

  void run(std::size_t first, std::size_t last) {
    for (std::size_t group = 0; group < shape_.groups; group += group_step_) {
      const std::size_t groups = std::min(group_step_, shape_.groups - group);
      pack_rows(first, last, group, groups);
      for (std::size_t frequency = first; frequency < last; ++frequency) {
        pack_columns(frequency);
        const u64* rows = rows_ + (frequency - first) * row_words(groups);
        multiply(table_.modulus, rows, group, groups);
      }
    }
  }

 private:
  static std::size_t group_step(const ProductShape& shape) {
    return std::max(kFewestGroups, kPackedWords / (kFrequencies * shape.blocks) / 2 * 2);
  }

  // Panels have two rows; a last odd row shares its panel with unused words.
  std::size_t row_words(std::size_t groups) const { return (groups + 1) / 2 * 2 * shape_.blocks; }

  void pack_rows(std::size_t first, std::size_t last, std::size_t group, std::size_t groups) {
    for (std::size_t g = 0; g < groups; ++g) {
      for (std::size_t b = 0; b < shape_.blocks; ++b) {
        const std::size_t polynomial = (group + g) * shape_.blocks + b;
        const u64* source =
            multipliers_ + (polynomial * shape_.primes + prime_) * shape_.column_length;
        u64* target = rows_ + (g / 2 * shape_.blocks + b) * 2 + g % 2;
        const std::size_t stride = row_words(groups);
        for (std::size_t f = first; f < last; ++f) target[(f - first) * stride] = source[f];
      }
    }
  }

  void pack_columns(std::size_t frequency) {
    for (std::size_t column = 0; column < 2 * slots_; ++column) {
      offsets_[column] = (column / slots_ * shape_.primes + prime_) * shape_.length +
                         frequency * slots_ + column % slots_;
    }
    const std::size_t ciphertext_words = 2 * shape_.primes * shape_.length;
    for (std::size_t b = 0; b < shape_.blocks; ++b) {
      const u64* source = ciphertexts_ + b * ciphertext_words;
      for (std::size_t column = 0; column < 2 * slots_; column += 2) {
        u64* target = columns_ + column * shape_.blocks + 2 * b;
        target[0] = source[offsets_[column]];
        target[1] = source[offsets_[column + 1]];
      }
    }
  }

  // Columns are the inner loop: results of one row lie side by side, while those of different rows
  // are a multiple of 4096 bytes apart and would push each other out of the caches.
  void multiply(const Modulus& modulus, const u64* rows, std::size_t group, std::size_t groups) {
    std::size_t g = 0;
    for (; g + 1 < groups; g += 2) {
      multiply_rows<2>(modulus, rows + g * shape_.blocks, group + g);
    }
    if (g < groups) multiply_rows<1>(modulus, rows + g * shape_.blocks, group + g);
  }

  template <std::size_t kRows>
  void multiply_rows(const Modulus& modulus, const u64* rows, std::size_t group) {
    const std::size_t ciphertext_words = 2 * shape_.primes * shape_.length;
    for (std::size_t column = 0; column < 2 * slots_; column += 2) {
      u64 results[kRows][2];
      const u64* columns = columns_ + column * shape_.blocks;
      multiply_panels<kRows>(results, rows, columns, shape_.blocks, modulus);
      for (std::size_t g = 0; g < kRows; ++g) {
        u64* target = out_ + (group + g) * ciphertext_words;
        target[offsets_[column]] = results[g][0];
        target[offsets_[column + 1]] = results[g][1];
      }
    }
  }

  u64* out_;
  const u64* multipliers_;
  const u64* ciphertexts_;
  const PrimeTable& table_;
  const ProductShape& shape_;
  std::size_t prime_;
  std::size_t slots_;
  std::size_t group_step_;
  u64* offsets_;  // of each column in a ciphertext
  u64* columns_;
  u64* rows_;
};

constexpr std::size_t kColumns = 8;  // sums of one row of the ring product held in registers

// `columns` neighbouring sums of one row of the ring product.
template <typename T>
void multiply_part(u64* out, const T* left, const u64* right, std::size_t d, std::size_t k,
                   std::size_t columns) {
  u64 sums[kColumns] = {};
  for (std::size_t j = 0; j < d; ++j, right += k) {
    const u64 factor = static_cast<u64>(static_cast<i64>(left[j]));
    for (std::size_t i = 0; i < columns; ++i) sums[i] += factor * right[i];
  }
  std::copy_n(sums, columns, out);
}

template <typename T>
void multiply_row(u64* out, const T* left, const u64* right, std::size_t d, std::size_t k) {
  std::size_t column = 0;
  for (; column + kColumns <= k; column += kColumns) {
    multiply_part(out + column, left, right + column, d, k, kColumns);
  }
  if (column < k) multiply_part(out + column, left, right + column, d, k, k - column);
}

}  // namespace

namespace portable {

std::size_t product_scratch(const ProductShape& shape) {
  return FrequencyProduct::scratch_words(shape);
}

void product(u64* out, const u64* multipliers, const u64* ciphertexts, const PrimeTable& table,
             const ProductShape& shape, const ProductTask& task, u64* scratch) {
  FrequencyProduct(out, multipliers, ciphertexts, table, shape, task.prime, scratch)
      .run(task.first, task.last);
}

void matmul_i64(u64* out, const i64* left, const u64* right, std::size_t d, std::size_t k) {
  multiply_row(out, left, right, d, k);
}

void matmul_i16(u64* out, const std::int16_t* left, const u64* right, std::size_t d,
                std::size_t k) {
  multiply_row(out, left, right, d, k);
}

}  // namespace portable
}  // namespace moiety
