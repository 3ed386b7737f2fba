// Bindings and argument checks; the work is in the other files.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "encoding.hpp"
#include "sampling.hpp"
#include "transform.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace moiety {
namespace {

template <typename T, int Dimensions>
using Array = nb::ndarray<T, nb::numpy, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <typename T, int Dimensions>
using Input = nb::ndarray<const T, nb::numpy, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

template <typename T>
Array<T, 2> make(std::size_t a, std::size_t b) {
  T* data = new T[a * b];
  return Array<T, 2>(data, {a, b}, nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); }));
}
template <typename T>
Array<T, 3> make(std::size_t a, std::size_t b, std::size_t c) {
  T* data = new T[a * b * c];
  return Array<T, 3>(data, {a, b, c}, nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); }));
}
template <typename T>
Array<T, 4> make(std::size_t a, std::size_t b, std::size_t c, std::size_t d) {
  T* data = new T[a * b * c * d];
  return Array<T, 4>(data, {a, b, c, d}, nb::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); }));
}

std::size_t checked_threads(std::size_t threads) {
  require(threads >= 1 && threads <= 1024, "threads must be from 1 to 1024");
  return threads;
}

template <typename A>
void check_polynomials(const Tables& tables, const A& array) {
  const std::size_t length = array.shape(2);
  require(array.shape(1) == tables.primes(), "polynomials must have shape (count, primes, length)");
  require(length >= 1 && length <= tables.degree() && (length & (length - 1)) == 0,
          "the length must be a power of two, at most the degree");
}

int checked_last(std::size_t length, int first, std::optional<int> last) {
  int levels = 0;
  while ((std::size_t{1} << levels) < length) ++levels;
  const int end = last.value_or(levels);
  require(first >= 0 && first <= end && end <= levels, "levels must be 0 <= first <= last <= log2(length)");
  return end;
}

using Polynomials = Array<u64, 3>;
using ConstPolynomials = Input<u64, 3>;

void forward(const Tables& tables, Polynomials x, int first, std::optional<int> last, std::size_t threads) {
  check_polynomials(tables, x);
  const int end = checked_last(x.shape(2), first, last);
  checked_threads(threads);
  nb::gil_scoped_release release;
  tables.forward(x.data(), x.shape(0), x.shape(2), first, end, threads);
}

void inverse(const Tables& tables, Polynomials x, int first, std::optional<int> last, std::size_t threads) {
  check_polynomials(tables, x);
  const int end = checked_last(x.shape(2), first, last);
  checked_threads(threads);
  nb::gil_scoped_release release;
  tables.inverse(x.data(), x.shape(0), x.shape(2), first, end, threads);
}

void multiply_accumulate(const Tables& tables, Polynomials sum, ConstPolynomials left, Input<u64, 2> right,
                         std::size_t threads) {
  check_polynomials(tables, sum);
  require(left.shape(0) == sum.shape(0) && left.shape(1) == sum.shape(1) && left.shape(2) == sum.shape(2) &&
              right.shape(0) == sum.shape(1) && right.shape(1) == sum.shape(2),
          "shapes must be (count, primes, length), the same, and (primes, length)");
  checked_threads(threads);
  nb::gil_scoped_release release;
  tables.multiply_accumulate(sum.data(), left.data(), right.data(), sum.shape(0), sum.shape(2), threads);
}

void check_same(const Tables& tables, const Polynomials& sum, const ConstPolynomials& other) {
  check_polynomials(tables, sum);
  require(other.shape(0) == sum.shape(0) && other.shape(1) == sum.shape(1) && other.shape(2) == sum.shape(2),
          "both arrays must have the same shape");
}

void add(const Tables& tables, Polynomials sum, ConstPolynomials other) {
  check_same(tables, sum, other);
  nb::gil_scoped_release release;
  tables.add(sum.data(), other.data(), sum.shape(0), sum.shape(2));
}

void subtract(const Tables& tables, Polynomials sum, ConstPolynomials other) {
  check_same(tables, sum, other);
  nb::gil_scoped_release release;
  tables.subtract(sum.data(), other.data(), sum.shape(0), sum.shape(2));
}

Array<u64, 4> subring_product(const Tables& tables, Input<u64, 4> multipliers, Input<u64, 4> ciphertexts,
                              std::size_t threads) {
  const std::size_t groups = multipliers.shape(0), blocks = multipliers.shape(1);
  const std::size_t column = multipliers.shape(3), length = ciphertexts.shape(3);
  require(multipliers.shape(2) == tables.primes() && ciphertexts.shape(2) == tables.primes() &&
              ciphertexts.shape(0) == blocks && ciphertexts.shape(1) == 2,
          "shapes must be (groups, blocks, primes, M) and (blocks, 2, primes, length)");
  require(column >= 1 && length <= tables.degree() && length % column == 0, "M must divide the length");
  require(blocks < (std::size_t{1} << 28), "too many blocks for one sum");
  checked_threads(threads);
  auto out = make<u64>(groups, 2, tables.primes(), length);
  nb::gil_scoped_release release;
  tables.subring_product(out.data(), multipliers.data(), ciphertexts.data(), groups, blocks, column, length, threads);
  return out;
}

Polynomials lift_values(const Tables& tables, Input<i64, 2> values, std::size_t threads) {
  checked_threads(threads);
  auto out = make<u64>(values.shape(0), tables.primes(), values.shape(1));
  nb::gil_scoped_release release;
  lift(out.data(), values.data(), tables, values.shape(0), values.shape(1), threads);
  return out;
}

void add_small_values(const Tables& tables, Polynomials sum, Input<i64, 2> values, std::size_t threads) {
  check_polynomials(tables, sum);
  require(values.shape(0) == sum.shape(0) && values.shape(1) == sum.shape(2),
          "shapes must be (count, primes, length) and (count, length)");
  checked_threads(threads);
  nb::gil_scoped_release release;
  add_small(sum.data(), values.data(), tables, sum.shape(0), sum.shape(2), threads);
}

Polynomials encode_messages(const Tables& tables, Input<u64, 2> messages, std::size_t threads) {
  checked_threads(threads);
  auto out = make<u64>(messages.shape(0), tables.primes(), messages.shape(1));
  nb::gil_scoped_release release;
  encode(out.data(), messages.data(), tables, messages.shape(0), messages.shape(1), threads);
  return out;
}

Array<u64, 2> rounded_shares(const Tables& tables, ConstPolynomials x, std::size_t threads) {
  check_polynomials(tables, x);
  checked_threads(threads);
  auto out = make<u64>(x.shape(0), x.shape(2));
  nb::gil_scoped_release release;
  round_to_share(out.data(), x.data(), tables, x.shape(0), x.shape(2), threads);
  return out;
}

std::size_t width_of(const Tables& tables) {
  std::size_t width = 0;
  for (std::size_t prime = 0; prime < tables.primes(); ++prime) {
    while (width < 8 && (tables.table(prime).modulus.p >> (8 * width)) != 0) ++width;
  }
  return width;
}

Array<unsigned char, 4> packed(const Tables& tables, ConstPolynomials x, std::size_t threads) {
  check_polynomials(tables, x);
  checked_threads(threads);
  const std::size_t width = width_of(tables);
  auto out = make<unsigned char>(x.shape(0), x.shape(1), x.shape(2), width);
  nb::gil_scoped_release release;
  pack(out.data(), x.data(), x.size(), width, threads);
  return out;
}

Polynomials unpacked(const Tables& tables, Input<unsigned char, 4> bytes, std::size_t threads) {
  require(bytes.shape(1) == tables.primes() && bytes.shape(3) == width_of(tables),
          "bytes must have shape (count, primes, length, width)");
  checked_threads(threads);
  auto out = make<u64>(bytes.shape(0), bytes.shape(1), bytes.shape(2));
  bool good = false;
  {
    nb::gil_scoped_release release;
    good = unpack(out.data(), bytes.data(), tables, bytes.shape(0), bytes.shape(2), bytes.shape(3), threads);
  }
  require(good, "a residue is not below its prime");
  return out;
}

Polynomials uniform_residues(const Tables& tables, ConstPolynomials words, std::size_t length, std::size_t threads) {
  require(words.shape(1) == tables.primes() && length <= words.shape(2),
          "words must have shape (count, primes, length + spare)");
  checked_threads(threads);
  auto out = make<u64>(words.shape(0), words.shape(1), length);
  bool enough = false;
  {
    nb::gil_scoped_release release;
    enough = uniform(out.data(), words.data(), tables, words.shape(0), words.shape(2), length, threads);
  }
  require(enough, "too many words were rejected");
  return out;
}

Array<i64, 2> ternary_values(Input<unsigned char, 2> bytes, std::size_t length, std::size_t threads) {
  require(length <= bytes.shape(1), "bytes must have shape (count, length + spare)");
  checked_threads(threads);
  auto out = make<i64>(bytes.shape(0), length);
  bool enough = false;
  {
    nb::gil_scoped_release release;
    enough = ternary(out.data(), bytes.data(), bytes.shape(0), bytes.shape(1), length, threads);
  }
  require(enough, "too many bytes were rejected");
  return out;
}

Array<i64, 2> gaussian_values(Input<u64, 2> words, Input<u64, 1> thresholds, std::size_t threads) {
  checked_threads(threads);
  auto out = make<i64>(words.shape(0), words.shape(1));
  nb::gil_scoped_release release;
  gaussian(out.data(), words.data(), thresholds.data(), words.size(), thresholds.shape(0), threads);
  return out;
}

template <typename T>
Array<u64, 2> ring_matmul(Input<T, 2> left, Input<u64, 2> right, std::size_t threads) {
  require(left.shape(1) == right.shape(0), "shapes must be (n, d) and (d, k)");
  checked_threads(threads);
  auto out = make<u64>(left.shape(0), right.shape(1));
  nb::gil_scoped_release release;
  matmul<T>(out.data(), left.data(), right.data(), left.shape(0), left.shape(1), right.shape(1), threads);
  return out;
}

nb::tuple roots(const Tables& tables) {
  nb::list list;
  for (std::size_t i = 0; i < tables.primes(); ++i) list.append(tables.table(i).root);
  return nb::tuple(list);
}

nb::tuple primes(const Tables& tables) {
  nb::list list;
  for (std::size_t i = 0; i < tables.primes(); ++i) list.append(tables.table(i).modulus.p);
  return nb::tuple(list);
}

}  // namespace
}  // namespace moiety

NB_MODULE(_native, m) {
  using namespace moiety;
  nb::class_<Tables>(m, "Transform")
      .def(nb::init<std::size_t, const std::vector<u64>&>(), "degree"_a, "primes"_a)
      .def_prop_ro("degree", &Tables::degree)
      .def_prop_ro("primes", &primes)
      .def_prop_ro("roots", &roots)
      .def("forward", &forward, "polynomials"_a.noconvert(), nb::kw_only(), "first"_a = 0, "last"_a = nb::none(), "threads"_a = 1)
      .def("inverse", &inverse, "polynomials"_a.noconvert(), nb::kw_only(), "first"_a = 0, "last"_a = nb::none(), "threads"_a = 1)
      .def("multiply_accumulate", &multiply_accumulate, "accumulator"_a.noconvert(), "left"_a.noconvert(),
           "right"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("add", &add, "accumulator"_a.noconvert(), "other"_a.noconvert())
      .def("subtract", &subtract, "accumulator"_a.noconvert(), "other"_a.noconvert())
      .def("subring_product", &subring_product, "multipliers"_a.noconvert(), "ciphertexts"_a.noconvert(),
           nb::kw_only(), "threads"_a = 1)
      .def("add_small", &add_small_values, "accumulator"_a.noconvert(), "values"_a.noconvert(), nb::kw_only(),
           "threads"_a = 1)
      .def("lift", &lift_values, "values"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("encode", &encode_messages, "messages"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("round_to_share", &rounded_shares, "polynomials"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("pack", &packed, "polynomials"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("unpack", &unpacked, "packed"_a.noconvert(), nb::kw_only(), "threads"_a = 1)
      .def("uniform", &uniform_residues, "words"_a.noconvert(), nb::kw_only(), "length"_a, "threads"_a = 1);
  m.def("ternary", &ternary_values, "stream"_a.noconvert(), nb::kw_only(), "length"_a, "threads"_a = 1);
  m.def("gaussian", &gaussian_values, "words"_a.noconvert(), "thresholds"_a.noconvert(), nb::kw_only(), "threads"_a = 1);
  m.def("matmul", &ring_matmul<std::int16_t>, "left"_a.noconvert(), "right"_a.noconvert(), nb::kw_only(), "threads"_a = 1);
  m.def("matmul", &ring_matmul<i64>, "left"_a.noconvert(), "right"_a.noconvert(), nb::kw_only(), "threads"_a = 1);
}
