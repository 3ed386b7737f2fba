// Divides independent work among threads; results never depend on how.
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace moiety {

// Calls body(begin, end) for contiguous ranges that cover [0, count), one a thread. The first
// exception is thrown again here, after every thread has ended.
template <typename Body>
void parallel_ranges(std::size_t count, std::size_t threads, const Body& body) {
  const std::size_t parts = std::min(threads, count);
  std::vector<std::exception_ptr> failures(parts);
  const auto run = [&](std::size_t part) {
    try {
      body(count * part / parts, count * (part + 1) / parts);
    } catch (...) {
      failures[part] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(parts);
  std::size_t started = 1;
  try {
    for (; started < parts; ++started) others.emplace_back(run, started);
  } catch (const std::system_error&) {
    // The system has no more threads: this one does the parts that are left.
  }
  if (parts != 0) run(0);
  for (std::size_t part = started; part < parts; ++part) run(part);
  for (auto& each : others) each.join();
  for (const auto& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
}

// Calls body(i) for i in [0, count).
template <typename Body>
void parallel_for(std::size_t count, std::size_t threads, const Body& body) {
  parallel_ranges(count, threads, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace moiety
