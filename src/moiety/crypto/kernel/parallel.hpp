// Divides independent work among threads; results never depend on how.
#pragma once

#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace moiety {

// Calls body(i) for i in [0, count), in contiguous ranges, one range a thread.
template <typename Body>
void parallel_for(std::size_t count, std::size_t threads, const Body& body) {
  const std::size_t used = threads < count ? threads : count;
  const auto range = [&](std::size_t part) {
    for (std::size_t i = count * part / used; i < count * (part + 1) / used; ++i) body(i);
  };
  std::vector<std::thread> others;
  for (std::size_t part = 1; part < used; ++part) others.emplace_back(range, part);
  if (used != 0) range(0);
  for (auto& each : others) each.join();
}

}  // namespace moiety
