// SPDX-License-Identifier: Apache-2.0
// Tensors are lists of runs of elements; every operation makes another list.
#include <algorithm>
#include <numeric>

#include "poplar_model/graph_data.hpp"

namespace poplar_model {

namespace {

std::size_t product(const std::vector<std::size_t> &shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t(1), std::multiplies<std::size_t>());
}

void append(std::vector<Run> &runs, const Run &run) {
  if (run.size == 0)
    return;
  if (!runs.empty() && runs.back().variable == run.variable && runs.back().end() == run.begin)
    runs.back().size += run.size;
  else
    runs.push_back(run);
}

// Collects flat ranges of a tensor; ranges that rise are found without starting over.
class Picker {
public:
  explicit Picker(const std::vector<Run> &from) : from_(from) {}

  void pick(std::size_t begin, std::size_t end) {
    if (begin < offset_)
      run_ = offset_ = 0;
    while (begin < end) {
      while (begin >= offset_ + from_[run_].size)
        offset_ += from_[run_++].size;
      const Run &run = from_[run_];
      const std::size_t size = std::min(end, offset_ + run.size) - begin;
      append(picked, {run.variable, run.begin + begin - offset_, size});
      begin += size;
    }
  }

  std::vector<Run> picked;

private:
  const std::vector<Run> &from_;
  std::size_t run_ = 0, offset_ = 0;
};

} // namespace

poplar::Tensor Access::make(GraphData *graph, const poplar::Type &type, std::vector<std::size_t> shape,
                            std::vector<Run> runs) {
  poplar::Tensor tensor;
  tensor.graph_ = graph;
  tensor.type_ = type;
  tensor.shape_ = std::move(shape);
  tensor.runs_ = std::move(runs);
  return tensor;
}

} // namespace poplar_model

namespace poplar {

using poplar_model::Access;
using poplar_model::Picker;
using poplar_model::Run;
using poplar_model::typeSize;

Type Tensor::elementType() const { return type_; }
std::size_t Tensor::numElements() const { return graph_ ? poplar_model::product(shape_) : 0; }
std::vector<std::size_t> Tensor::shape() const { return shape_; }
unsigned Tensor::rank() const { return static_cast<unsigned>(shape_.size()); }
bool Tensor::valid() const { return graph_ != nullptr; }
bool Tensor::isContiguous() const { return runs_.size() <= 1; }

std::size_t Tensor::dim(unsigned dimension) const {
  if (dimension >= shape_.size())
    throw index_error("dimension " + std::to_string(dimension) + " of a tensor of shape " + shapeToString());
  return shape_[dimension];
}

std::string Tensor::shapeToString() const {
  std::string text = "{";
  for (std::size_t i = 0; i < shape_.size(); ++i)
    text += (i ? "," : "") + std::to_string(shape_[i]);
  return text + "}";
}

bool Tensor::containsAliases() const {
  std::vector<Run> sorted = runs_;
  std::sort(sorted.begin(), sorted.end(), [](const Run &a, const Run &b) {
    return a.variable != b.variable ? a.variable < b.variable : a.begin < b.begin;
  });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i].variable == sorted[i - 1].variable && sorted[i].begin < sorted[i - 1].end())
      return true;
  }
  return false;
}

bool Tensor::containsConstant() const {
  return std::any_of(runs_.begin(), runs_.end(),
                     [this](const Run &run) { return graph_->variables[run.variable]->constant; });
}

bool Tensor::isParallelWriteable() const { return !containsAliases() && !containsConstant(); }

Tensor Tensor::slice(std::size_t begin, std::size_t end, unsigned dimension) const {
  if (begin > end || end > dim(dimension))
    throw index_error("slice " + std::to_string(begin) + " to " + std::to_string(end) + " of dimension " +
                      std::to_string(dimension) + " of a tensor of shape " + shapeToString());
  std::size_t outer = 1, inner = 1;
  for (unsigned i = 0; i < dimension; ++i)
    outer *= shape_[i];
  for (unsigned i = dimension + 1; i < rank(); ++i)
    inner *= shape_[i];
  Picker picker(runs_);
  for (std::size_t i = 0; i < outer; ++i)
    picker.pick((i * shape_[dimension] + begin) * inner, (i * shape_[dimension] + end) * inner);
  std::vector<std::size_t> shape = shape_;
  shape[dimension] = end - begin;
  return Access::make(graph_, type_, shape, std::move(picker.picked));
}

Tensor Tensor::slice(std::size_t begin, std::size_t end) const { return slice(begin, end, 0); }
Tensor Tensor::slice(const Interval &interval, unsigned dimension) const {
  return slice(interval.begin(), interval.end(), dimension);
}

Tensor Tensor::slice(ArrayRef<std::size_t> begins, ArrayRef<std::size_t> ends) const {
  if (begins.size() != rank() || ends.size() != rank())
    throw index_error("as many slices as dimensions are needed for shape " + shapeToString());
  Tensor result = *this;
  for (unsigned i = 0; i < rank(); ++i)
    result = result.slice(begins[i], ends[i], i);
  return result;
}

std::vector<Tensor> Tensor::slices(ArrayRef<Interval> intervals, unsigned dimension) const {
  std::vector<Tensor> result;
  for (const Interval &interval : intervals)
    result.push_back(slice(interval, dimension));
  return result;
}

Tensor Tensor::operator[](std::size_t i) const {
  Tensor result = slice(i, i + 1, 0);
  result.shape_.erase(result.shape_.begin());
  return result;
}

Tensor Tensor::operator[](const Interval &interval) const { return slice(interval, 0); }

Tensor Tensor::index(ArrayRef<std::size_t> indices) const {
  Tensor result = *this;
  for (const std::size_t i : indices)
    result = result[i];
  return result;
}

Tensor Tensor::reshape(ArrayRef<std::size_t> shape) const {
  const std::vector<std::size_t> wanted(shape.begin(), shape.end());
  if (poplar_model::product(wanted) != numElements())
    throw poplar_error("reshape to another number of elements than that of shape " + shapeToString());
  return Access::make(graph_, type_, wanted, runs_);
}

Tensor Tensor::flatten() const { return Access::make(graph_, type_, {numElements()}, runs_); }

Tensor Tensor::flatten(unsigned dimBegin, unsigned dimEnd) const {
  if (dimBegin > dimEnd || dimEnd > rank())
    throw index_error("flatten beyond the dimensions of shape " + shapeToString());
  std::vector<std::size_t> shape(shape_.begin(), shape_.begin() + dimBegin);
  shape.push_back(poplar_model::product({shape_.begin() + dimBegin, shape_.begin() + dimEnd}));
  shape.insert(shape.end(), shape_.begin() + dimEnd, shape_.end());
  return Access::make(graph_, type_, shape, runs_);
}

Tensor Tensor::dimShuffle(ArrayRef<unsigned> permutation) const {
  std::vector<std::size_t> shape, strides(rank(), 1), step;
  for (std::size_t i = rank(); i-- > 1;)
    strides[i - 1] = strides[i] * shape_[i];
  for (const unsigned i : permutation) {
    shape.push_back(dim(i));
    step.push_back(strides[i]);
  }
  if (permutation.size() != rank() || poplar_model::product(shape) != numElements())
    throw index_error("not a permutation of the dimensions of shape " + shapeToString());
  Picker picker(runs_);
  std::vector<std::size_t> at(rank(), 0);
  for (std::size_t i = 0; i < numElements(); ++i) {
    const std::size_t flat = std::inner_product(at.begin(), at.end(), step.begin(), std::size_t(0));
    picker.pick(flat, flat + 1);
    for (std::size_t d = rank(); d-- > 0 && ++at[d] == shape[d];)
      at[d] = 0;
  }
  return Access::make(graph_, type_, shape, std::move(picker.picked));
}

Tensor Tensor::expand(ArrayRef<std::size_t> indices) const {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i <= rank(); ++i) {
    shape.insert(shape.end(), std::count(indices.begin(), indices.end(), i), 1);
    if (i < rank())
      shape.push_back(shape_[i]);
  }
  if (shape.size() != rank() + indices.size())
    throw index_error("expand beyond the dimensions of shape " + shapeToString());
  return Access::make(graph_, type_, shape, runs_);
}

Tensor Tensor::squeeze(ArrayRef<std::size_t> dims) const {
  std::vector<std::size_t> shape;
  for (std::size_t i = 0; i < rank(); ++i) {
    if (std::find(dims.begin(), dims.end(), i) == dims.end())
      shape.push_back(shape_[i]);
    else if (shape_[i] != 1)
      throw poplar_error("squeeze of a dimension that is not 1 in shape " + shapeToString());
  }
  return Access::make(graph_, type_, shape, runs_);
}

Tensor Tensor::broadcast(unsigned count, unsigned dimension) const {
  return concat(std::vector<Tensor>(count, *this), dimension);
}

Tensor Tensor::reinterpret(const Type &type) const {
  if (typeSize(type) != typeSize(type_))
    throw type_error("reinterpret " + type_.toString() + " as " + type.toString() + ", of another size");
  return Access::make(graph_, type, shape_, runs_);
}

Tensor concat(ArrayRef<Tensor> tensors, unsigned dimension) {
  if (tensors.empty())
    throw poplar_error("concat of nothing");
  const Tensor &first = tensors[0];
  std::size_t outer = 1;
  for (unsigned i = 0; i < dimension; ++i)
    outer *= first.dim(i);
  std::vector<std::size_t> shape = first.shape();
  first.dim(dimension); // throws when there is none
  shape[dimension] = 0;
  for (const Tensor &tensor : tensors) {
    std::vector<std::size_t> other = tensor.shape();
    if (tensor.elementType() != first.elementType())
      throw type_error("concat of " + first.elementType().toString() + " and " + tensor.elementType().toString());
    if (other.size() != shape.size())
      throw poplar_error("concat of shapes " + first.shapeToString() + " and " + tensor.shapeToString());
    shape[dimension] += other[dimension];
    other[dimension] = first.dim(dimension);
    if (other != first.shape())
      throw poplar_error("concat of shapes " + first.shapeToString() + " and " + tensor.shapeToString());
  }
  std::vector<Run> runs;
  for (std::size_t i = 0; i < outer; ++i) {
    for (const Tensor &tensor : tensors) {
      const std::size_t size = tensor.numElements() / outer;
      Picker picker(Access::runs(tensor));
      picker.pick(i * size, (i + 1) * size);
      for (const Run &run : picker.picked)
        poplar_model::append(runs, run);
    }
  }
  return Access::make(Access::graph(first), first.elementType(), shape, std::move(runs));
}

Tensor concat(const Tensor &first, const Tensor &second, unsigned dimension) {
  return concat(std::vector<Tensor>{first, second}, dimension);
}

} // namespace poplar
