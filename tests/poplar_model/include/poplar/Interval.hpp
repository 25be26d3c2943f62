// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace poplar {

// Half open: begin belongs to it, end does not.
template <typename T> class GenericInterval {
public:
  GenericInterval() = default;
  GenericInterval(T begin, T end) : begin_(begin), end_(end) {}
  T begin() const { return begin_; }
  T end() const { return end_; }
  T size() const { return end_ - begin_; }

private:
  T begin_{}, end_{};
};

using Interval = GenericInterval<std::size_t>;

} // namespace poplar
