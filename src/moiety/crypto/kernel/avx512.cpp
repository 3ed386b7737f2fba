#include "avx512_path.hpp"
#include "portable.hpp"

namespace moiety {

const Path& avx512_path() {
  static const Path path = {
      "avx512",          avx512::forward,   avx512::inverse,   portable::accumulate,
      portable::lift,    portable::encode,  portable::round,   portable::pack,
      portable::unpack,  portable::uniform, portable::ternary, portable::gaussian,
      avx512::product, portable::matmul_i64, portable::matmul_i16,
  };
  return path;
}

}  // namespace moiety
