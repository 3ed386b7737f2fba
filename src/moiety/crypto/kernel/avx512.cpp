#include "avx512_path.hpp"

namespace moiety {

const Path& avx512_path() {
  static const Path path = {
      "avx512",
      avx512::forward,
      avx512::inverse,
      avx512::accumulate,
      avx512::add,
      avx512::subtract,
      avx512::add_small,
      avx512::lift,
      avx512::encode,
      avx512::round,
      avx512::cut,
      avx512::restore,
      avx512::pack,
      avx512::unpack,
      avx512::uniform,
      avx512::ternary,
      avx512::gaussian,
      avx512::product_scratch,
      avx512::product,
      avx512::matmul_i64,
      avx512::matmul_i16,
  };
  return path;
}

}  // namespace moiety
