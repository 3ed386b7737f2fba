#include "portable.hpp"

namespace moiety {

const Path& portable_path() {
  static const Path path = {
      "portable",
      portable::forward,
      portable::inverse,
      portable::accumulate,
      portable::add,
      portable::subtract,
      portable::add_small,
      portable::lift,
      portable::encode,
      portable::round,
      portable::cut,
      portable::restore,
      portable::pack,
      portable::unpack,
      portable::uniform,
      portable::ternary,
      portable::gaussian,
      portable::product_scratch,
      portable::product,
      portable::matmul_i64,
      portable::matmul_i16,
  };
  return path;
}

}  // namespace moiety
