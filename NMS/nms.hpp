// SPDX-License-Identifier: Apache-2.0
//
// Non-maximum suppression as a Poplar program, for float and half, for any batch: images do not influence each other.
#pragma once

#include <poplar/DebugContext.hpp>
#include <poplar/Graph.hpp>
#include <poplar/Program.hpp>
#include <poplar/Tensor.hpp>

#include "nms_core.hpp"

namespace nms {

// What is to be suppressed. Read only: neither the values nor the tile mapping of these tensors change.
struct Candidates {
  // [B, N]: one score an anchor. [B, N, C]: one score a class, every class of an anchor is a candidate of its own.
  poplar::Tensor scores;  // FLOAT or HALF
  poplar::Tensor boxes;   // [B, N, 4], y1 x1 y2 x2, the type of the scores
  poplar::Tensor classes; // [B, N], INT or UNSIGNED_INT; not valid() when there are none
};

struct Options : nms_core::Options {
  // Let boxes suppress boxes of other classes. Without classes they always do; with [B, N, C] scores they never do.
  bool acrossClasses = false;
};

// K = Options::maxDetections rows an image, best first. Rows from `lengths` on are unused.
struct Detections {
  poplar::Tensor indices; // [B, K] INT: anchor, or anchor * C + class with [B, N, C] scores; unused rows: -1
  poplar::Tensor scores;  // [B, K], the type of the scores; 0
  poplar::Tensor boxes;   // [B, K, 4], the type of the boxes; 0
  poplar::Tensor classes; // [B, K] INT, zero-based as given; largest int32. Used rows hold 0 when there were no classes
  poplar::Tensor lengths; // [B] INT: used rows
};

// Append the suppression to `prog`; the codelets must have been added to the graph. Throws poputil::poplibs_error when
// shapes, types or options do not fit.
Detections suppress(poplar::Graph &graph, poplar::program::Sequence &prog, const Candidates &in, const Options &options,
                    const poplar::DebugContext &debugContext = {});

} // namespace nms
