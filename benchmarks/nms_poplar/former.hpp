// SPDX-License-Identifier: Apache-2.0
//
// The shape of the loop that this project's operator replaces, rebuilt without its mistakes, as something to compare an
// estimate with. Every iteration: arg-max over all anchors (four steps for D0), every tile contributes to the winner's
// box and class, the sum of the contributions (two steps), the winner is cleared and written, all anchors are
// suppressed; and a compute set for the condition. Generous where the original is not: it joins what the original does
// in separate compute sets (both sums, clearing and writing, counting and suppressing), does not empty the
// contributions in every iteration and has no copies in the loop. Images share the tiles.
#pragma once

#include "nms.hpp"

nms::Detections formerSuppress(poplar::Graph &graph, poplar::program::Sequence &prog, const nms::Candidates &in,
                               const nms::Options &options);
