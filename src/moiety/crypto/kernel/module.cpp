// Bindings and argument checks; the work is in the other files.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "encoding.hpp"
#include "product.hpp"
#include "sampling.hpp"
#include "transform.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace moiety {
namespace {

using Bytes = unsigned char;
using Given = nb::ndarray<nb::ro, nb::device::cpu>;  // any type and shape; checked by view()
using InPlace = nb::ndarray<nb::device::cpu>;
template <typename T>
using Result = nb::ndarray<nb::numpy, T>;

void require(bool condition, const std::string& message) {
  if (!condition) throw std::invalid_argument(message);
}

template <typename T>
constexpr const char* type_name() {
  if constexpr (std::is_same_v<T, u64>) return "uint64";
  if constexpr (std::is_same_v<T, i64>) return "int64";
  if constexpr (std::is_same_v<T, std::int16_t>) return "int16";
  return "uint8";
}

template <typename Array>
bool is_contiguous(const Array& array) {
  std::int64_t expected = 1;
  for (std::size_t axis = array.ndim(); axis-- > 0;) {
    if (array.shape(axis) != 1 && array.stride(axis) != expected) return false;
    expected *= static_cast<std::int64_t>(array.shape(axis));
  }
  return true;
}

// A checked array: its data and shape.
template <typename T, std::size_t kAxes>
struct View {
  T* data = nullptr;
  std::array<std::size_t, kAxes> shape{};
};

// T is const for arrays that are only read. `axes` describes the shape in messages.
template <typename T, std::size_t kAxes, typename Array>
View<T, kAxes> view(const Array& array, const char* name, const char* axes) {
  using Value = std::remove_const_t<T>;
  const std::string message = std::string(name) + " must be a C-contiguous " +
                              type_name<Value>() + " array of shape " + axes;
  if (array.dtype() != nb::dtype<Value>()) throw nb::type_error(message.c_str());
  require(array.ndim() == kAxes && (array.size() == 0 || is_contiguous(array)), message);
  View<T, kAxes> result{static_cast<T*>(array.data()), {}};
  for (std::size_t axis = 0; axis < kAxes; ++axis) result.shape[axis] = array.shape(axis);
  return result;
}

// A new array from NumPy, not filled: every function writes every element. NumPy asks the system
// for huge pages, which makes the first write of a large result several times cheaper.
template <typename T, std::size_t kAxes>
Result<T> make(const std::array<std::size_t, kAxes>& shape) {
  nb::list extents;
  for (const std::size_t extent : shape) extents.append(extent);
  const nb::object empty = nb::module_::import_("numpy").attr("empty");
  return nb::cast<Result<T>>(empty(nb::tuple(extents), type_name<T>()));
}

std::size_t thread_count(i64 threads) {
  require(threads >= 1 && threads <= 256, "threads must be from 1 to 256");
  return static_cast<std::size_t>(threads);
}

std::size_t checked_length(i64 length) {
  require(length >= 1, "length must be at least 1");
  return static_cast<std::size_t>(length);
}

bool is_length(const Tables& tables, std::size_t length) {
  return length >= 1 && length <= tables.degree() && (length & (length - 1)) == 0;
}

// What is done coefficient by coefficient takes any length.
template <typename T, typename Array>
View<T, 3> residues_of(const Tables& tables, const Array& array, const char* name) {
  const auto result = view<T, 3>(array, name, "(count, primes, length)");
  require(result.shape[1] == tables.primes(), std::string(name) + " must have one row for each prime");
  return result;
}

template <typename T, typename Array>
View<T, 3> polynomials_of(const Tables& tables, const Array& array, const char* name) {
  const auto result = view<T, 3>(array, name, "(count, primes, length)");
  require(result.shape[1] == tables.primes() && is_length(tables, result.shape[2]),
          std::string(name) +
              " must have one row for each prime, of a power of two at most the degree");
  return result;
}

struct Levels {
  int first = 0;
  int last = 0;
};

Levels levels_of(std::size_t length, i64 first, std::optional<i64> last) {
  i64 levels = 0;
  while ((std::size_t{1} << levels) < length) ++levels;
  const i64 end = last.value_or(levels);
  require(first >= 0 && first <= end && end <= levels,
          "levels must satisfy 0 <= first <= last <= log2(length)");
  return {static_cast<int>(first), static_cast<int>(end)};
}

void forward(const Tables& tables, const InPlace& polynomials, i64 first, std::optional<i64> last,
             i64 threads) {
  const auto x = polynomials_of<u64>(tables, polynomials, "polynomials");
  const Levels levels = levels_of(x.shape[2], first, last);
  const std::size_t used = thread_count(threads);
  const nb::gil_scoped_release release;
  tables.forward(x.data, x.shape[0], x.shape[2], levels.first, levels.last, used);
}

void inverse(const Tables& tables, const InPlace& polynomials, i64 first, std::optional<i64> last,
             i64 threads) {
  const auto x = polynomials_of<u64>(tables, polynomials, "polynomials");
  const Levels levels = levels_of(x.shape[2], first, last);
  const std::size_t used = thread_count(threads);
  const nb::gil_scoped_release release;
  tables.inverse(x.data, x.shape[0], x.shape[2], levels.first, levels.last, used);
}

void multiply_accumulate(const Tables& tables, const InPlace& accumulator, const Given& left,
                         const Given& right, i64 threads) {
  const auto sum = polynomials_of<u64>(tables, accumulator, "accumulator");
  const auto x = polynomials_of<const u64>(tables, left, "left");
  const auto y = view<const u64, 2>(right, "right", "(primes, length)");
  require(x.shape == sum.shape, "accumulator and left must have the same shape");
  require(y.shape[0] == sum.shape[1] && y.shape[1] == sum.shape[2],
          "right must be one polynomial of the accumulator's primes and length");
  const std::size_t used = thread_count(threads);
  const nb::gil_scoped_release release;
  tables.multiply_accumulate(sum.data, x.data, y.data, sum.shape[0], sum.shape[2], used);
}

template <void (Tables::*kOperation)(u64*, const u64*, std::size_t, std::size_t) const>
void combine(const Tables& tables, const InPlace& accumulator, const Given& other) {
  const auto sum = residues_of<u64>(tables, accumulator, "accumulator");
  const auto x = residues_of<const u64>(tables, other, "other");
  require(x.shape == sum.shape, "accumulator and other must have the same shape");
  const nb::gil_scoped_release release;
  (tables.*kOperation)(sum.data, x.data, sum.shape[0], sum.shape[2]);
}

Result<u64> subring(const Tables& tables, const Given& multipliers, const Given& ciphertexts,
                    i64 threads) {
  const auto m = view<const u64, 4>(multipliers, "multipliers", "(groups, blocks, primes, M)");
  const auto c = view<const u64, 4>(ciphertexts, "ciphertexts", "(blocks, 2, primes, length)");
  const ProductShape shape{m.shape[0], m.shape[1], m.shape[3], c.shape[3], tables.primes()};
  require(m.shape[2] == tables.primes() && is_length(tables, shape.column_length),
          "multipliers must have one row for each prime, of a power of two at most the degree");
  require(c.shape[0] == shape.blocks && c.shape[1] == 2 && c.shape[2] == tables.primes() &&
              is_length(tables, shape.length) && shape.length >= shape.column_length,
          "ciphertexts must have shape (blocks, 2, primes, length) with the multipliers' blocks "
          "and a power of two from M to the degree");
  require(shape.blocks >= 1 && shape.blocks <= kLongestSum, "blocks must be from 1 to 8192");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 4>({shape.groups, 2, tables.primes(), shape.length});
  const nb::gil_scoped_release release;
  subring_product(out.data(), m.data, c.data, tables, shape, used);
  return out;
}

Result<u64> lifted(const Tables& tables, const Given& values, i64 threads) {
  const auto v = view<const i64, 2>(values, "values", "(count, length)");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 3>({v.shape[0], tables.primes(), v.shape[1]});
  const nb::gil_scoped_release release;
  lift(out.data(), v.data, tables, v.shape[0], v.shape[1], used);
  return out;
}

void add_small_values(const Tables& tables, const InPlace& accumulator, const Given& values,
                      i64 threads) {
  const auto sum = residues_of<u64>(tables, accumulator, "accumulator");
  const auto v = view<const i64, 2>(values, "values", "(count, length)");
  require(v.shape[0] == sum.shape[0] && v.shape[1] == sum.shape[2],
          "values must have the accumulator's count and length");
  const std::size_t used = thread_count(threads);
  const nb::gil_scoped_release release;
  add_small(sum.data, v.data, tables, sum.shape[0], sum.shape[2], used);
}

Result<u64> encoded(const Tables& tables, const Given& messages, i64 threads) {
  const auto m = view<const u64, 2>(messages, "messages", "(count, length)");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 3>({m.shape[0], tables.primes(), m.shape[1]});
  const nb::gil_scoped_release release;
  encode(out.data(), m.data, tables, m.shape[0], m.shape[1], used);
  return out;
}

Result<u64> rounded(const Tables& tables, const Given& polynomials, i64 threads) {
  const auto x = residues_of<const u64>(tables, polynomials, "polynomials");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 2>({x.shape[0], x.shape[2]});
  const nb::gil_scoped_release release;
  round_to_share(out.data(), x.data, tables, x.shape[0], x.shape[2], used);
  return out;
}

std::size_t checked_width(i64 width) {
  require(width >= 8 && width <= 19, "width must be from 8 to 19");
  return static_cast<std::size_t>(width);
}

Result<Bytes> cut_residues(const Tables& tables, const Given& polynomials, i64 wanted, i64 threads) {
  const auto x = residues_of<const u64>(tables, polynomials, "polynomials");
  const std::size_t width = checked_width(wanted);
  const std::size_t used = thread_count(threads);
  auto out = make<Bytes, 3>({x.shape[0], x.shape[2], width});
  const nb::gil_scoped_release release;
  cut(out.data(), x.data, tables, x.shape[0], x.shape[2], width, used);
  return out;
}

Result<u64> restored(const Tables& tables, const Given& given, i64 threads) {
  const auto b = view<const Bytes, 3>(given, "cut", "(count, length, width)");
  const std::size_t width = checked_width(static_cast<i64>(b.shape[2]));
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 3>({b.shape[0], tables.primes(), b.shape[1]});
  const nb::gil_scoped_release release;
  restore(out.data(), b.data, tables, b.shape[0], b.shape[1], width, used);
  return out;
}

std::size_t width_of(const Tables& tables) {
  std::size_t width = 0;
  for (std::size_t prime = 0; prime < tables.primes(); ++prime) {
    while ((tables.table(prime).modulus.p >> (8 * width)) != 0) ++width;
  }
  return width;
}

Result<Bytes> packed(const Tables& tables, const Given& polynomials, i64 threads) {
  const auto x = polynomials_of<const u64>(tables, polynomials, "polynomials");
  const std::size_t used = thread_count(threads);
  const std::size_t width = width_of(tables);
  auto out = make<Bytes, 4>({x.shape[0], x.shape[1], x.shape[2], width});
  const nb::gil_scoped_release release;
  pack(out.data(), x.data, x.shape[0] * x.shape[1] * x.shape[2], width, used);
  return out;
}

Result<u64> unpacked(const Tables& tables, const Given& given, i64 threads) {
  const auto b = view<const Bytes, 4>(given, "packed", "(count, primes, length, width)");
  const std::size_t width = width_of(tables);
  require(b.shape[1] == tables.primes() && is_length(tables, b.shape[2]) && b.shape[3] == width,
          "packed must have one row for each prime, of a power of two at most the degree, and " +
              std::to_string(width) + " bytes for each residue");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 3>({b.shape[0], b.shape[1], b.shape[2]});
  bool in_range = false;
  {
    const nb::gil_scoped_release release;
    in_range = unpack(out.data(), b.data, tables, b.shape[0], b.shape[2], width, used);
  }
  require(in_range, "packed holds a residue that is not below its prime");
  return out;
}

Result<u64> uniform_residues(const Tables& tables, const Given& words, i64 length, i64 threads) {
  const auto w = view<const u64, 3>(words, "words", "(count, primes, length + spare)");
  require(w.shape[1] == tables.primes(), "words must have one row for each prime");
  const std::size_t wanted = checked_length(length);
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 3>({w.shape[0], w.shape[1], wanted});
  bool enough = false;
  {
    const nb::gil_scoped_release release;
    enough = uniform(out.data(), w.data, tables, w.shape[0], w.shape[2], wanted, used);
  }
  require(enough, "words ran out in a row: too few, or too many rejected");
  return out;
}

Result<i64> ternary_values(const Given& stream, i64 length, i64 threads) {
  const auto b = view<const Bytes, 2>(stream, "stream", "(count, length + spare)");
  const std::size_t wanted = checked_length(length);
  const std::size_t used = thread_count(threads);
  auto out = make<i64, 2>({b.shape[0], wanted});
  bool enough = false;
  {
    const nb::gil_scoped_release release;
    enough = ternary(out.data(), b.data, b.shape[0], b.shape[1], wanted, used);
  }
  require(enough, "stream ran out in a row: too few, or too many rejected");
  return out;
}

Result<i64> gaussian_values(const Given& words, const Given& thresholds, i64 threads) {
  const auto w = view<const u64, 2>(words, "words", "(count, length)");
  const auto t = view<const u64, 1>(thresholds, "thresholds", "(entries)");
  const u64 limit = u64{1} << 63;
  require(std::all_of(t.data, t.data + t.shape[0], [&](u64 each) { return each <= limit; }),
          "thresholds must be at most 2^63");
  const std::size_t used = thread_count(threads);
  auto out = make<i64, 2>({w.shape[0], w.shape[1]});
  const nb::gil_scoped_release release;
  gaussian(out.data(), w.data, t.data, w.shape[0] * w.shape[1], t.shape[0], used);
  return out;
}

template <typename T>
Result<u64> ring_product(const View<const T, 2>& left, const Given& right, i64 threads) {
  const auto r = view<const u64, 2>(right, "right", "(d, k)");
  require(left.shape[1] == r.shape[0], "left must have as many columns as right has rows");
  const std::size_t used = thread_count(threads);
  auto out = make<u64, 2>({left.shape[0], r.shape[1]});
  const nb::gil_scoped_release release;
  matmul(out.data(), left.data, r.data, left.shape[0], left.shape[1], r.shape[1], used);
  return out;
}

Result<u64> ring_matmul(const Given& left, const Given& right, i64 threads) {
  if (left.dtype() == nb::dtype<std::int16_t>()) {
    return ring_product(view<const std::int16_t, 2>(left, "left", "(n, d)"), right, threads);
  }
  return ring_product(view<const i64, 2>(left, "left", "(n, d), or int16"), right, threads);
}

template <typename Field>
nb::tuple of_each_prime(const Tables& tables, const Field& field) {
  nb::list list;
  for (std::size_t i = 0; i < tables.primes(); ++i) list.append(field(tables.table(i)));
  return nb::tuple(list);
}

nb::tuple primes(const Tables& tables) {
  return of_each_prime(tables, [](const PrimeTable& table) { return table.modulus.p; });
}

nb::tuple roots(const Tables& tables) {
  return of_each_prime(tables, [](const PrimeTable& table) { return table.root; });
}

nb::tuple instruction_sets() {
  nb::list names;
  for (std::size_t place = 0; place < path_count(); ++place) names.append(path_at(place).name);
  return nb::tuple(names);
}

void use_instruction_set(const std::string& name) {
  std::size_t place = 0;
  while (place < path_count() && path_at(place).name != name) ++place;
  require(place < path_count(), "name must be one of instruction_sets()");
  choose_path(place);
}

}  // namespace
}  // namespace moiety

NB_MODULE(_native, module) {
  // The tables of a parameter set are cached until the process ends; that is no leak worth a warning.
  nb::set_leak_warnings(false);
  using namespace moiety;
  // Wrong types are refused, never converted: a converted copy would swallow in-place results.
  nb::class_<Tables>(module, "Transform")
      .def(nb::init<std::size_t, const std::vector<u64>&>(), "degree"_a, "primes"_a)
      .def_prop_ro("degree", &Tables::degree)
      .def_prop_ro("primes", &primes)
      .def_prop_ro("roots", &roots)
      .def("forward", &forward, "polynomials"_a.noconvert(), nb::kw_only(), "first"_a = 0,
           "last"_a = nb::none(), "threads"_a = 1)
      .def("inverse", &inverse, "polynomials"_a.noconvert(), nb::kw_only(), "first"_a = 0,
           "last"_a = nb::none(), "threads"_a = 1)
      .def("multiply_accumulate", &multiply_accumulate, "accumulator"_a.noconvert(),
           "left"_a.noconvert(), "right"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("add", &combine<&Tables::add>, "accumulator"_a.noconvert(), "other"_a.noconvert())
      .def("subtract", &combine<&Tables::subtract>, "accumulator"_a.noconvert(),
           "other"_a.noconvert())
      .def("add_small", &add_small_values, "accumulator"_a.noconvert(), "values"_a.noconvert(),
           nb::kw_only(), "threads"_a = 1)
      .def("subring_product", &subring, "multipliers"_a.noconvert(), "ciphertexts"_a.noconvert(),
           nb::kw_only(), "threads"_a = 1)
      .def("lift", &lifted, "values"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("encode", &encoded, "messages"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("round_to_share", &rounded, "polynomials"_a.noconvert(), nb::kw_only(),
           "threads"_a = 1)
      .def("cut", &cut_residues, "polynomials"_a.noconvert(), nb::kw_only(), "width"_a,
           "threads"_a = 1)
      .def("restore", &restored, "cut"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("pack", &packed, "polynomials"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("unpack", &unpacked, "packed"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("uniform", &uniform_residues, "words"_a.noconvert(), nb::kw_only(), "length"_a,
           "threads"_a = 1);
  module.def("instruction_sets", &instruction_sets);
  module.def("use_instruction_set", &use_instruction_set, "name"_a);
  module.def("ternary", &ternary_values, "stream"_a.noconvert(), nb::kw_only(), "length"_a,
             "threads"_a = 1);
  module.def("gaussian", &gaussian_values, "words"_a.noconvert(), "thresholds"_a.noconvert(),
             nb::kw_only(), "threads"_a = 1);
  module.def("matmul", &ring_matmul, "left"_a.noconvert(), "right"_a.noconvert(), nb::kw_only(),
             "threads"_a = 1);
}
