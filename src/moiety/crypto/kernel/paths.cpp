#include "paths.hpp"

#include <atomic>
#include <vector>

namespace moiety {
namespace {

std::vector<const Path*> find_paths() {
  std::vector<const Path*> paths;
#ifdef MOIETY_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512ifma")) {
    paths.push_back(&avx512_path());
  }
#endif
#ifdef MOIETY_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) paths.push_back(&avx2_path());
#endif
  paths.push_back(&portable_path());
  return paths;
}

const std::vector<const Path*>& paths() {
  static const std::vector<const Path*> found = find_paths();
  return found;
}

std::atomic<const Path*>& active() {
  static std::atomic<const Path*> path{paths().front()};
  return path;
}

}  // namespace

std::size_t path_count() { return paths().size(); }

const Path& path_at(std::size_t place) { return *paths().at(place); }

const Path& active_path() { return *active().load(); }

void choose_path(std::size_t place) { active().store(&path_at(place)); }

}  // namespace moiety
