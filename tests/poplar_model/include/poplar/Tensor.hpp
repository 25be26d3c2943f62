// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "poplar/ArrayRef.hpp"
#include "poplar/Interval.hpp"
#include "poplar/Type.hpp"

namespace poplar_model {
struct Access;
struct GraphData;

// Consecutive elements of one variable.
struct Run {
  unsigned variable;
  std::size_t begin, size;
  std::size_t end() const { return begin + size; }
};
} // namespace poplar_model

namespace poplar {

// A view: which elements of which variables, in which order, under which shape.
class Tensor {
public:
  Tensor() = default;

  Type elementType() const;
  std::size_t numElements() const;
  std::size_t dim(unsigned dimension) const;
  std::vector<std::size_t> shape() const;
  unsigned rank() const;
  bool valid() const;
  bool isContiguous() const;
  bool containsAliases() const;
  bool containsConstant() const;
  bool isParallelWriteable() const;
  std::string shapeToString() const;

  Tensor operator[](std::size_t i) const;
  Tensor operator[](const Interval &interval) const;
  Tensor slice(std::size_t begin, std::size_t end, unsigned dimension) const;
  Tensor slice(std::size_t begin, std::size_t end) const;
  Tensor slice(const Interval &interval, unsigned dimension = 0) const;
  Tensor slice(ArrayRef<std::size_t> begins, ArrayRef<std::size_t> ends) const;
  std::vector<Tensor> slices(ArrayRef<Interval> intervals, unsigned dimension = 0) const;
  Tensor index(ArrayRef<std::size_t> indices) const;
  Tensor flatten() const;
  Tensor flatten(unsigned dimBegin, unsigned dimEnd) const;
  Tensor reshape(ArrayRef<std::size_t> shape) const;
  Tensor dimShuffle(ArrayRef<unsigned> permutation) const;
  Tensor expand(ArrayRef<std::size_t> indices) const;
  Tensor squeeze(ArrayRef<std::size_t> dims) const;
  Tensor broadcast(unsigned count, unsigned dimension) const;
  Tensor reinterpret(const Type &type) const;

private:
  friend struct poplar_model::Access;
  Type type_;
  std::vector<std::size_t> shape_;
  std::vector<poplar_model::Run> runs_;
  poplar_model::GraphData *graph_ = nullptr;
};

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension = 0);
Tensor concat(const Tensor &first, const Tensor &second, unsigned dimension = 0);

} // namespace poplar
