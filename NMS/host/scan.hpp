// SPDX-License-Identifier: Apache-2.0
//
// Passes over many numbers that find the few that matter. They run at the speed of memory: plain loops that the
// compiler turns into vector code, compiled for several instruction sets where one can be chosen when the library is
// loaded.
#pragma once

#include "types.hpp"

#include <cstddef>

namespace nms_host {

// `values` is [groups, size]. Returns the first group at or after `start` that may hold a value above the limit: every
// group that holds one is found; in the 16-bit types a group is also found for a NaN. `groups` when there is none.
std::size_t firstGroupAbove(const float *values, std::size_t groups, std::size_t size, std::size_t start, float limit);
std::size_t firstGroupAbove(const Half *values, std::size_t groups, std::size_t size, std::size_t start, float limit);
std::size_t firstGroupAbove(const BFloat16 *values, std::size_t groups, std::size_t size, std::size_t start,
                            float limit);
// The limit is one of stored integers, see `storedLimit`.
std::size_t firstGroupAbove(const Int8 *values, std::size_t groups, std::size_t size, std::size_t start, float limit);

// The limit for stored values that does what `limit` does for what they stand for: for integers the greatest that stands
// for no more, -129 where all stand for more.
template <typename T> inline float storedLimit(const T *, float limit, const Quantisation &) { return limit; }
inline float storedLimit(const Int8 *, float limit, const Quantisation &quantisation) {
  std::int32_t stored = 127;
  while (stored >= -128 && valueOf(Int8{static_cast<std::int8_t>(stored)}, quantisation) > limit)
    --stored;
  return static_cast<float>(stored);
}

// What nms_core::argMax returns, ties and NaNs included, faster. `count` is at least 1.
std::size_t fastArgMax(const float *row, std::size_t count);
std::size_t fastArgMax(const Half *row, std::size_t count);
std::size_t fastArgMax(const BFloat16 *row, std::size_t count);
std::size_t fastArgMax(const Int8 *row, std::size_t count);

// Calls onRow(row) for the rows of [rows, size] that may hold a value above the limit, in order. Rows without one are
// passed over in blocks; the callee still has to test, it may be called for rows that hold none.
template <typename T, typename OnRow>
void forEachRowAbove(const T *values, std::size_t rows, std::size_t size, float limit, OnRow onRow) {
  constexpr std::size_t blockValues = 256; // small enough that one hit costs little, large enough for vector code
  const std::size_t rowsPerBlock = size < blockValues ? blockValues / size : 1;
  const std::size_t blocks = rows / rowsPerBlock, blockSize = rowsPerBlock * size;
  const bool searchWithin = size >= 16 && rowsPerBlock > 1;
  const auto visit = [&](std::size_t first, std::size_t count) {
    if (!searchWithin) {
      for (std::size_t row = first; row < first + count; ++row)
        onRow(row);
      return;
    }
    const T *block = values + first * size;
    for (std::size_t row = firstGroupAbove(block, count, size, 0, limit); row < count;
         row = firstGroupAbove(block, count, size, row + 1, limit))
      onRow(first + row);
  };
  for (std::size_t block = firstGroupAbove(values, blocks, blockSize, 0, limit); block < blocks;
       block = firstGroupAbove(values, blocks, blockSize, block + 1, limit))
    visit(block * rowsPerBlock, rowsPerBlock);
  if (blocks * rowsPerBlock < rows)
    visit(blocks * rowsPerBlock, rows - blocks * rowsPerBlock);
}

} // namespace nms_host
