// SPDX-License-Identifier: Apache-2.0
//
// Who does what on which tile: plain arithmetic, no Poplar in it.
//
// Every image gets a block of tiles of its own. Its anchors are cut into slices of consecutive anchors, one slice a
// worker, slices in rising order over workers and tiles. A slice never crosses an image, because images are cut one by
// one.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace nms {

struct Range {
  std::size_t begin, end; // half open
  std::size_t size() const { return end - begin; }
};

// One worker's part.
struct WorkerSlice {
  Range anchors;
  unsigned tile;
};

// The layout of one image. Slices, tiles and groups are numbered in the order of the anchors they cover.
struct ImagePlan {
  std::vector<WorkerSlice> slices;
  std::vector<unsigned> tiles;   // tiles that hold slices
  std::vector<Range> tileSlices; // which slices each of these tiles holds
  std::vector<std::vector<Range>>
      levels;                  // how the tiles' records are joined: each level groups those of the one before
  std::size_t entriesPerSlice; // greatest number of scores in a slice, rounded up to even
  unsigned answerTile;
};

// Positions of entries within a slice are kept in 16 bits.
constexpr std::size_t maxEntriesPerSlice = 65536;

// What one more level of groups takes (a superstep, starting a vertex, passing a record on), in comparisons of records.
constexpr std::size_t comparisonsPerLevel = 13;

// A worker is not worth its record when it has less to do than this.
constexpr std::size_t minEntriesPerSlice = 4;

inline std::size_t ceilDiv(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

// The least group size with which `steps` steps of joining reduce n records to one.
inline std::size_t groupSizeFor(std::size_t n, std::size_t steps) {
  for (std::size_t size = 1;; ++size) {
    std::size_t reach = 1;
    for (std::size_t i = 0; i < steps && reach < n; ++i)
      reach *= size;
    if (reach >= n)
      return size;
  }
}

// Groups of the records of n tiles, level by level. What the last level leaves is compared by every worker for itself,
// so that the winner is known a superstep earlier. As many levels as take the least time.
inline std::vector<std::vector<Range>> planLevels(std::size_t n) {
  std::size_t best = 0;
  const auto cost = [n](std::size_t levels) {
    return levels * comparisonsPerLevel + (levels + 1) * groupSizeFor(n, levels + 1);
  };
  while (cost(best + 1) < cost(best))
    ++best;
  const std::size_t size = groupSizeFor(n, best + 1);
  std::vector<std::vector<Range>> levels(best);
  for (std::vector<Range> &groups : levels) {
    for (std::size_t i = 0; i < n; i += size)
      groups.push_back({i, std::min(n, i + size)});
    n = groups.size();
  }
  return levels;
}

// image < batch; classes: scores an anchor, 1 except in the multi-class form, at most maxEntriesPerSlice; workers: of a
// tile.
inline ImagePlan planImage(std::size_t image, std::size_t batch, std::size_t anchors, std::size_t classes,
                           std::size_t numTiles, std::size_t workers) {
  // With more images than tiles they have to share, which costs time and nothing else.
  const std::size_t blockSize = std::max<std::size_t>(1, numTiles / batch);
  const std::size_t firstTile = image * blockSize % numTiles;
  // The answer is written while the workers suppress, so it gets a tile without slices where there is one to spare.
  const std::size_t sliceTiles = blockSize > 1 ? blockSize - 1 : 1;

  const std::size_t share = std::max(ceilDiv(anchors, sliceTiles * workers), ceilDiv(minEntriesPerSlice, classes));
  const std::size_t anchorsPerSlice = std::min(share, maxEntriesPerSlice / classes);
  const std::size_t numSlices = ceilDiv(anchors, anchorsPerSlice);
  const std::size_t slicesPerTile = std::max(workers, ceilDiv(numSlices, sliceTiles));

  ImagePlan plan;
  plan.entriesPerSlice = 2 * ceilDiv(anchorsPerSlice * classes, 2); // two workers must not share a 32-bit word
  plan.answerTile = static_cast<unsigned>(firstTile + blockSize - 1);
  for (std::size_t i = 0; i < numSlices; ++i) {
    const unsigned tile = static_cast<unsigned>(firstTile + i / slicesPerTile);
    plan.slices.push_back({{i * anchorsPerSlice, std::min(anchors, (i + 1) * anchorsPerSlice)}, tile});
    if (i % slicesPerTile == 0) {
      plan.tiles.push_back(tile);
      plan.tileSlices.push_back({i, std::min(numSlices, i + slicesPerTile)});
    }
  }
  plan.levels = planLevels(plan.tiles.size());
  return plan;
}

} // namespace nms
