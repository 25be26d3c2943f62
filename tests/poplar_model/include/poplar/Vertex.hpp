// SPDX-License-Identifier: Apache-2.0
// The codelet side: fields are pointers that the model sets before it calls compute().
#pragma once

#include <cstddef>

namespace poplar_model {
struct FieldAccess;
}

namespace poplar {

enum class VectorLayout { SPAN, SHORT_SPAN, ONE_PTR, SCALED_PTR32, SCALED_PTR64, SCALED_PTR128, COMPACT_PTR };

class Vertex {};

template <typename T, VectorLayout Layout = VectorLayout::SPAN, unsigned MinAlign = alignof(T),
          bool Interleaved = false>
struct Vector {};

// Access to one element, or to the elements of a Vector: const for Input, not for the others.
template <typename T, typename Element> class ScalarField {
public:
  Element &operator*() const { return *data_; }
  operator T() const { return *data_; }

private:
  friend struct poplar_model::FieldAccess;
  Element *data_;
};

template <typename Element, VectorLayout Layout> class VectorField {
public:
  Element &operator[](std::size_t i) const { return data_[i]; }
  Element *begin() const { return data_; }
  Element *end() const { return data_ + size(); }
  unsigned size() const {
    static_assert(Layout == VectorLayout::SPAN || Layout == VectorLayout::SHORT_SPAN,
                  "this layout does not know its size");
    return size_;
  }

private:
  friend struct poplar_model::FieldAccess;
  Element *data_;
  unsigned size_;
};

template <typename T> class Input : public ScalarField<T, const T> {};
template <typename T> class Output : public ScalarField<T, T> {
public:
  Output &operator=(T value) { return **this = value, *this; }
};
template <typename T> class InOut : public ScalarField<T, T> {
public:
  InOut &operator=(T value) { return **this = value, *this; }
};
template <typename T, VectorLayout L, unsigned A, bool I>
class Input<Vector<T, L, A, I>> : public VectorField<const T, L> {};
template <typename T, VectorLayout L, unsigned A, bool I>
class Output<Vector<T, L, A, I>> : public VectorField<T, L> {};
template <typename T, VectorLayout L, unsigned A, bool I> class InOut<Vector<T, L, A, I>> : public VectorField<T, L> {};

} // namespace poplar
