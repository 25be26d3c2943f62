// SPDX-License-Identifier: Apache-2.0
// What the model knows about vertices. tests/poplar_model/popc writes, for every vertex it finds in a codelet file, code
// that fills in these structures; the fields' kinds and types come from the compiler, by way of member pointers.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "poplar/HalfFloat.hpp"
#include "poplar/Type.hpp"
#include "poplar/Vertex.hpp"

namespace poplar_model {

enum class Direction { input, output, inOut, value };

struct FieldType {
  std::string name;
  Direction direction;
  bool vector;
  poplar::Type type;
  unsigned stateBytes; // what the field takes in the vertex on a Mk2
  void (*set)(void *vertex, void *data, std::size_t size);
};

struct VertexType {
  std::string name;
  std::size_t size; // of the C++ object
  std::vector<FieldType> fields;
  void (*run)(void *vertex);
};

using Registry = std::map<std::string, VertexType>;

struct FieldAccess {
  template <typename T, typename E> static void set(poplar::ScalarField<T, E> &field, void *data, std::size_t) {
    field.data_ = static_cast<E *>(data);
  }
  template <typename E, poplar::VectorLayout L>
  static void set(poplar::VectorField<E, L> &field, void *data, std::size_t size) {
    field.data_ = static_cast<E *>(data);
    field.size_ = static_cast<unsigned>(size);
  }
};

template <typename F> struct FieldKind { // a plain member
  using Element = F;
  static constexpr Direction direction = Direction::value;
  static constexpr bool vector = false;
  static constexpr unsigned stateBytes = sizeof(F);
  static void set(const F &field, void *data, std::size_t) { std::memcpy(const_cast<F *>(&field), data, sizeof(F)); }
};

template <typename T, typename Field, Direction D> struct ConnectedKind {
  using Element = T;
  static constexpr Direction direction = D;
  static constexpr bool vector = false;
  static constexpr unsigned stateBytes = 4;
  static void set(Field &field, void *data, std::size_t size) { FieldAccess::set(field, data, size); }
};
template <typename T, poplar::VectorLayout L, typename Field, Direction D>
struct VectorKind : ConnectedKind<T, Field, D> {
  static constexpr bool vector = true;
  static constexpr unsigned stateBytes = L == poplar::VectorLayout::SPAN ? 8 : 4;
};

#define POPLAR_MODEL_KIND(Wrapper, direction)                                                                          \
  template <typename T> struct FieldKind<poplar::Wrapper<T>> : ConnectedKind<T, poplar::Wrapper<T>, direction> {};     \
  template <typename T, poplar::VectorLayout L, unsigned A, bool I>                                                    \
  struct FieldKind<poplar::Wrapper<poplar::Vector<T, L, A, I>>>                                                        \
      : VectorKind<T, L, poplar::Wrapper<poplar::Vector<T, L, A, I>>, direction> {};
POPLAR_MODEL_KIND(Input, Direction::input)
POPLAR_MODEL_KIND(Output, Direction::output)
POPLAR_MODEL_KIND(InOut, Direction::inOut)
#undef POPLAR_MODEL_KIND

template <typename V, typename M, M member> struct MemberSetter {
  static void set(void *vertex, void *data, std::size_t size) {
    auto &field = static_cast<V *>(vertex)->*member;
    FieldKind<typename std::remove_const<typename std::remove_reference<decltype(field)>::type>::type>::set(field, data,
                                                                                                            size);
  }
};

template <typename V, typename M, M member> FieldType makeField(const char *name) {
  using Field =
      typename std::remove_const<typename std::remove_reference<decltype(std::declval<V &>().*member)>::type>::type;
  using Kind = FieldKind<Field>;
  return {name,
          Kind::direction,
          Kind::vector,
          poplar::equivalent_device_type<typename Kind::Element>().value,
          Kind::stateBytes,
          &MemberSetter<V, M, member>::set};
}
#define POPLAR_MODEL_FIELD(V, member) poplar_model::makeField<V, decltype(&V::member), &V::member>(#member)

template <typename V> void runVertex(void *vertex) { static_cast<V *>(vertex)->compute(); }

} // namespace poplar_model
