// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <initializer_list>
#include <vector>

namespace poplar {

// A view of consecutive elements, valid within the full expression that makes it.
template <typename T> class ArrayRef {
public:
  ArrayRef() = default;
  ArrayRef(const T *data, std::size_t size) : data_(data), size_(size) {}
  ArrayRef(const std::vector<T> &from) : data_(from.data()), size_(from.size()) {}
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winit-list-lifetime" // the caller must not keep it, as said above
  ArrayRef(std::initializer_list<T> from) : data_(from.begin()), size_(from.size()) {}
#pragma GCC diagnostic pop

  const T *begin() const { return data_; }
  const T *end() const { return data_ + size_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T &operator[](std::size_t i) const { return data_[i]; }

private:
  const T *data_ = nullptr;
  std::size_t size_ = 0;
};

} // namespace poplar
