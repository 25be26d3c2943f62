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

// The layout of one image. Slices, tiles and groups of tiles are numbered in the order of the anchors they cover.
struct ImagePlan {
  std::vector<WorkerSlice> slices;
  std::vector<unsigned> tiles;   // tiles that hold slices
  std::vector<Range> tileSlices; // which slices each of these tiles holds
  std::vector<Range> groups;     // which of these tiles each group holds; empty when the tiles are few
  std::size_t entriesPerSlice;   // greatest number of scores in a slice, rounded up to even
  unsigned answerTile;
};

// Positions of entries within a slice are kept in 16 bits.
constexpr std::size_t maxEntriesPerSlice = 65536;

// With fewer finalists than this every worker compares them all by itself. One more superstep would cost more.
constexpr std::size_t maxFinalistsWithoutGroups = 12;

// A worker is not worth its record when it has less to do than this.
constexpr std::size_t minEntriesPerSlice = 4;

inline std::size_t ceilDiv(std::size_t a, std::size_t b) { return (a + b - 1) / b; }

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
  const std::size_t tilesUsed = plan.tiles.size();
  if (tilesUsed > maxFinalistsWithoutGroups) {
    // Two steps of comparisons, as equal as they get: the square root of the number of tiles in each.
    std::size_t groupSize = 1;
    while (groupSize * groupSize < tilesUsed)
      ++groupSize;
    for (std::size_t i = 0; i < tilesUsed; i += groupSize)
      plan.groups.push_back({i, std::min(tilesUsed, i + groupSize)});
  }
  return plan;
}

} // namespace nms
