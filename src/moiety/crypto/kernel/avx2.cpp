#include "avx2_path.hpp"

namespace moiety {

const Path& avx2_path() {
  static const Path path = [] {
    Path result = portable_path();
    result.name = "avx2";
    result.forward = avx2::forward;
    result.inverse = avx2::inverse;
    return result;
  }();
  return path;
}

}  // namespace moiety
