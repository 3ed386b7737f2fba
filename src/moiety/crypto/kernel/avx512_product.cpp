// The sub-ring product: at each frequency a matrix of multipliers times a matrix of residues.
#include "avx512.hpp"
#include "avx512_path.hpp"
#include "portable.hpp"

namespace moiety {
namespace {

constexpr std::size_t kRows = 4;     // sums of one inner loop: four rows by two vectors of columns,
constexpr std::size_t kColumns = 2;  // low and high halves in 16 registers
constexpr std::size_t kPanelWords = 1 << 16;  // packed columns of some frequencies: half a MiB
// Low halves are below 2^52: so many fit in 64 bits beside what is left of the sum before.
constexpr std::size_t kLongestLowSum = (std::size_t{1} << 12) - 1;

// std::min would be a function of its own, see avx512.hpp.
inline std::size_t smaller(std::size_t a, std::size_t b) { return a < b ? a : b; }

// The sum high 2^52 + low of at most kLongestSum products of residues, modulo p, for low below 2^52.
// high is below 2^13 * 2^48: it is taken apart at 52 bits again.
class WideReduction {
 public:
  explicit WideReduction(const Prime52& prime)
      : prime_(prime),
        two52_(broadcast(prime.two52)),
        two104_(broadcast(prime.two104)),
        barrett_(all(prime.barrett)) {}

  Lanes reduce(Lanes low, Lanes high) const {
    const Lanes top = cleared(prime_.multiply(_mm512_srli_epi64(high, 52), two104_));
    const Lanes middle = cleared(prime_.multiply(high, two52_));
    const Lanes sum = plus(plus(prime_.reduce(low, barrett_), top), middle);  // below 5p
    const Lanes below_4p = reduce_lanes(sum, plus(prime_.twice, prime_.twice));
    return reduce_lanes(reduce_lanes(below_4p, prime_.twice), prime_.p);
  }

 private:
  LanePrime prime_;
  LaneFactor two52_;
  LaneFactor two104_;
  Lanes barrett_;
};

struct Sums {
  Lanes low[kRows][kColumns];
  Lanes high[kRows][kColumns];
};

// sums += rows [block][kRows] times columns [block][kColumns vectors], both read in order. At most
// kLongestLowSum blocks; what the low halves carry goes over to the high ones. The loop works on a
// copy: it stays in registers.
template <std::size_t kUsed>
inline void multiply_panels(Sums& sums, const u64* rows, const u64* columns, std::size_t blocks) {
  Sums local = sums;
  for (const u64* end = rows + kRows * blocks; rows != end;
       rows += kRows, columns += kColumns * kLanes) {
    const Lanes column[] = {load(columns), load(columns + kLanes)};
#pragma GCC unroll 4
    for (std::size_t g = 0; g < kUsed; ++g) {
      const Lanes factor = all(rows[g]);
#pragma GCC unroll 2
      for (std::size_t v = 0; v < kColumns; ++v) {
        local.low[g][v] = add_low(local.low[g][v], factor, column[v]);
        local.high[g][v] = add_high(local.high[g][v], factor, column[v]);
      }
    }
  }
#pragma GCC unroll 4
  for (std::size_t g = 0; g < kUsed; ++g) {
#pragma GCC unroll 2
    for (std::size_t v = 0; v < kColumns; ++v) {
      sums.high[g][v] = plus(local.high[g][v], _mm512_srli_epi64(local.low[g][v], 52));
      sums.low[g][v] = cleared(local.low[g][v]);
    }
  }
}

// How the scratch of a task is used, in words: packed rows of all its frequencies, packed columns of
// some of them.
struct Layout {
  explicit Layout(const ProductShape& shape)
      : slots(shape.length / shape.column_length),
        column_words(2 * slots * shape.blocks),
        row_words((shape.groups + kRows - 1) / kRows * kRows * shape.blocks),
        together(kPanelWords / column_words) {
    if (together < 1) together = 1;
    if (together > kFrequencies) together = kFrequencies;
  }

  std::size_t slots;
  std::size_t column_words;  // of one frequency; a multiple of a cache line, as slots is one
  std::size_t row_words;     // of one frequency
  std::size_t together;      // frequencies whose columns are packed at a time
};

// Vectors of fewer columns than lanes, or tasks of fewer frequencies, are left to plain C++.
bool is_left_over(const ProductShape& shape) {
  return shape.column_length < kFrequencies || shape.length < kLanes * shape.column_length;
}

// One task. Panels of rows hold [block][kRows], of columns [block][kColumns vectors].
class FrequencyProduct {
 public:
  FrequencyProduct(u64* out, const u64* multipliers, const u64* ciphertexts,
                   const PrimeTable& table, const ProductShape& shape, std::size_t prime,
                   u64* scratch)
      : out_(out + prime * shape.length),
        multipliers_(multipliers + prime * shape.column_length),
        ciphertexts_(ciphertexts + prime * shape.length),
        shape_(shape),
        reduction_(table.words52),
        layout_(shape),
        side_words_(shape.primes * shape.length),
        columns_(scratch),
        rows_(scratch + layout_.together * layout_.column_words) {}

  void run(std::size_t first, std::size_t last) {
    pack_rows(first);
    for (std::size_t begin = first; begin < last; begin += layout_.together) {
      const std::size_t end = smaller(begin + layout_.together, last);
      pack_columns(begin, end);
      for (std::size_t frequency = begin; frequency < end; ++frequency) {
        multiply(frequency, rows_ + (frequency - first) * layout_.row_words,
                 columns_ + (frequency - begin) * layout_.column_words);
      }
    }
  }

 private:
  const u64* multiplier(std::size_t group, std::size_t block) const {
    // A last panel that is not full repeats its last row; nothing of it is used.
    const std::size_t row = smaller(group, shape_.groups - 1) * shape_.blocks + block;
    return multipliers_ + row * shape_.primes * shape_.column_length;
  }

  // Four rows of eight frequencies are transposed at a time.
  void pack_rows(std::size_t first) {
    for (std::size_t group = 0; group < shape_.groups; group += kRows) {
      u64* target = rows_ + group * shape_.blocks;
      for (std::size_t b = 0; b < shape_.blocks; ++b, target += kRows) {
        Lanes rows[kRows];
        for (std::size_t g = 0; g < kRows; ++g) rows[g] = load(multiplier(group + g, b) + first);
        store_transposed(target, rows);
      }
    }
  }

  void store_transposed(u64* target, const Lanes (&rows)[kRows]) const {
    const Lanes lower = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const Lanes upper = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    const Lanes even[] = {_mm512_unpacklo_epi64(rows[0], rows[1]),
                          _mm512_unpacklo_epi64(rows[2], rows[3])};
    const Lanes odd[] = {_mm512_unpackhi_epi64(rows[0], rows[1]),
                         _mm512_unpackhi_epi64(rows[2], rows[3])};
    store_pair(target, 0, _mm512_permutex2var_epi64(even[0], lower, even[1]));
    store_pair(target, 1, _mm512_permutex2var_epi64(odd[0], lower, odd[1]));
    store_pair(target, 4, _mm512_permutex2var_epi64(even[0], upper, even[1]));
    store_pair(target, 5, _mm512_permutex2var_epi64(odd[0], upper, odd[1]));
  }

  // The four rows at `frequency` and at `frequency` + 2.
  void store_pair(u64* target, std::size_t frequency, Lanes pair) const {
    target += frequency * layout_.row_words;
    _mm256_store_si256(reinterpret_cast<__m256i*>(target), _mm512_castsi512_si256(pair));
    target += 2 * layout_.row_words;
    _mm256_store_si256(reinterpret_cast<__m256i*>(target), _mm512_extracti64x4_epi64(pair, 1));
  }

  // Of each ciphertext the columns of all these frequencies lie side by side.
  void pack_columns(std::size_t begin, std::size_t end) {
    for (std::size_t b = 0; b < shape_.blocks; ++b) {
      for (std::size_t side = 0; side < 2; ++side) {
        const u64* source = ciphertexts_ + (2 * b + side) * side_words_ + begin * layout_.slots;
        for (std::size_t frequency = begin; frequency < end; ++frequency) {
          u64* target = columns_ + (frequency - begin) * layout_.column_words;
          pack_side(target + b * kColumns * kLanes, source, side);
          source += layout_.slots;
        }
      }
    }
  }

  // Two vectors to each panel; of eight slots, each side is half a panel.
  void pack_side(u64* target, const u64* source, std::size_t side) const {
    const std::size_t panel = kColumns * kLanes * shape_.blocks;
    if (layout_.slots == kLanes) return store(target + side * kLanes, load(source));
    target += side * layout_.slots * shape_.blocks;
    for (std::size_t slot = 0; slot < layout_.slots; slot += kColumns * kLanes, target += panel) {
      store(target, load(source + slot));
      store(target + kLanes, load(source + slot + kLanes));
    }
  }

  void multiply(std::size_t frequency, const u64* rows, const u64* columns) {
    for (std::size_t column = 0; column < 2 * layout_.slots; column += kColumns * kLanes) {
      const u64* panel = columns + column * shape_.blocks;
      for (std::size_t group = 0; group < shape_.groups; group += kRows) {
        const u64* used = rows + group * shape_.blocks;
        switch (shape_.groups - group) {
          case 1: multiply_tile<1>(frequency, column, group, used, panel); break;
          case 2: multiply_tile<2>(frequency, column, group, used, panel); break;
          case 3: multiply_tile<3>(frequency, column, group, used, panel); break;
          default: multiply_tile<kRows>(frequency, column, group, used, panel);
        }
      }
    }
  }

  template <std::size_t kUsed>
  void multiply_tile(std::size_t frequency, std::size_t column, std::size_t group, const u64* rows,
                     const u64* columns) {
    Sums sums{};
    for (std::size_t b = 0; b < shape_.blocks; b += kLongestLowSum) {
      const std::size_t blocks = smaller(kLongestLowSum, shape_.blocks - b);
      multiply_panels<kUsed>(sums, rows + b * kRows, columns + b * kColumns * kLanes, blocks);
    }
    for (std::size_t v = 0; v < kColumns; ++v) {
      const std::size_t here = column + v * kLanes;
      u64* target = out_ + 2 * group * side_words_ + here / layout_.slots * side_words_ +
                    frequency * layout_.slots + here % layout_.slots;
      for (std::size_t g = 0; g < kUsed; ++g, target += 2 * side_words_) {
        store(target, reduction_.reduce(sums.low[g][v], sums.high[g][v]));
      }
    }
  }

  u64* out_;
  const u64* multipliers_;
  const u64* ciphertexts_;
  const ProductShape& shape_;
  WideReduction reduction_;
  Layout layout_;
  std::size_t side_words_;  // one of the two polynomials of a ciphertext, all primes
  u64* columns_;
  u64* rows_;
};

}  // namespace

namespace avx512 {

std::size_t product_scratch(const ProductShape& shape) {
  if (is_left_over(shape)) return portable::product_scratch(shape);
  const Layout layout(shape);
  return layout.together * layout.column_words + kFrequencies * layout.row_words;
}

void product(u64* out, const u64* multipliers, const u64* ciphertexts, const PrimeTable& table,
             const ProductShape& shape, const ProductTask& task, u64* scratch) {
  if (is_left_over(shape)) {
    return portable::product(out, multipliers, ciphertexts, table, shape, task, scratch);
  }
  FrequencyProduct(out, multipliers, ciphertexts, table, shape, task.prime, scratch)
      .run(task.first, task.last);
}

}  // namespace avx512
}  // namespace moiety
