// SPDX-License-Identifier: Apache-2.0
//
// The operator as TensorFlow for the IPU loads it (custom operations, API level 5). NMS/tf and NMS/tf_multi include
// this file; they differ in the form of scores they take and in nothing else.
//
// Build takes scores [B, N], boxes [B, N, 4] and, optionally, classes [B, N]; or scores [B, N, C] and boxes. It returns
// indices, scores, boxes, classes and lengths as described in nms.hpp; without classes to report the fourth is left
// out.
//
// An executable may be cached under a hash of the graph, which covers the attributes but neither this library nor the
// codelets. The caller therefore puts a digest of both files into the attribute "buildId": after a rebuild it differs,
// and with it the hash. Leaving it out is an error, because the damage would show only later, as results of an older
// build.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <poputil/exceptions.hpp>

#include "attributes.hpp"

namespace nms {

enum class Form { oneScoreAnAnchor, oneScoreAClass };

inline void describe(bool &isElementwise, bool &isStateless, bool &isHashable) {
  isElementwise = false; // rows of the output do not belong to rows of the input
  isStateless = true;    // the same inputs give the same outputs
  isHashable = true;     // see above
}

inline poplar::program::Program build(poplar::Graph &graph, const std::vector<poplar::Tensor> &inputs,
                                      std::vector<poplar::Tensor> &outputs, const std::string &attributes,
                                      const std::string &debugPrefix, Form form) {
  const Attributes read = readAttributes(attributes);
  if (read.buildId.empty())
    throw poputil::poplibs_error(
        "NMS: the attribute buildId is missing. Give a digest of library and codelets, so that a "
        "cached executable is not used after they have been rebuilt.");
  const bool multi = form == Form::oneScoreAClass;
  if (multi ? inputs.size() != 2 : inputs.size() != 2 && inputs.size() != 3)
    throw poputil::poplibs_error(std::string("NMS: ") +
                                 (multi ? "scores and boxes" : "scores, boxes and perhaps classes") +
                                 " are needed, got " + std::to_string(inputs.size()) + " inputs.");
  if (inputs[0].rank() != (multi ? 3u : 2u))
    throw poputil::poplibs_error(std::string("NMS: this library takes scores ") + (multi ? "[B, N, C]" : "[B, N]") +
                                 ", got " + std::to_string(inputs[0].rank()) + " dimensions: use " +
                                 (multi ? "NMS/tf" : "NMS/tf_multi") + "/build/nms_custom_op.so for the other form.");
  Candidates candidates;
  candidates.scores = inputs[0];
  candidates.boxes = inputs[1];
  if (inputs.size() == 3)
    candidates.classes = inputs[2];

  poplar::program::Sequence prog;
  const Detections result = suppress(graph, prog, candidates, read.options, debugPrefix);
  outputs = {result.indices, result.scores, result.boxes};
  if (multi || candidates.classes.valid())
    outputs.push_back(result.classes);
  outputs.push_back(result.lengths);
  return prog;
}

} // namespace nms
